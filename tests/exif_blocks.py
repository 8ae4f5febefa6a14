"""EXIF blocks of every kind, written by hand, and pictures that hold them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
ORIENTATION = 0x0112
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
TAKEN, OFFSET, FRACTION = 0x9003, 0x9011, 0x9291
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")

Value = tuple[int, int, bytes]


def text(value: str) -> Value:
    """Return an ASCII value, NUL at its end."""
    data = value.encode("utf-8") + b"\0"
    return ASCII, len(data), data


def byte(value: int) -> Value:
    """Return a BYTE value."""
    return BYTE, 1, bytes([value])


def rationals(*pairs: tuple[int, int], order: str = "<") -> Value:
    """Return RATIONAL values."""
    return RATIONAL, len(pairs), b"".join(struct.pack(order + "LL", *pair) for pair in pairs)


def degrees(whole: int, minutes: int, seconds_100: int, order: str = "<") -> Value:
    """Return degrees, minutes and hundredths of a second as three RATIONALs."""
    return rationals((whole, 1), (minutes, 1), (seconds_100, 100), order=order)


def block(
    exif: Mapping[int, Value] | None = None,
    gps: Mapping[int, Value] | None = None,
    *,
    order: str = "<",
    orientation: int | None = None,
) -> bytes:
    """Return an EXIF block: a TIFF header, IFD0, and the two directories it points to."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    pointers = [(tag, tags) for tag, tags in ((EXIF_IFD, exif), (GPS_IFD, gps)) if tags is not None]
    count = len(pointers) + (orientation is not None)
    at = 8 + 2 + 12 * count + 4
    ifd0, rest = struct.pack(order + "H", count), b""
    if orientation is not None:  # the tags of a directory are in their order
        ifd0 += struct.pack(order + "HHLHH", ORIENTATION, SHORT, 1, orientation, 0)
    for tag, tags in pointers:
        ifd0 += struct.pack(order + "HHLL", tag, LONG, 1, at + len(rest))
        rest += _directory(tags, at + len(rest), order)
    return head + ifd0 + struct.pack(order + "L", 0) + rest


def _directory(tags: Mapping[int, Value], at: int, order: str) -> bytes:
    entries, values = struct.pack(order + "H", len(tags)), b""
    at += 2 + 12 * len(tags) + 4
    for tag, (kind, count, data) in sorted(tags.items()):
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack(order + "L", at + len(values))
            values += data + b"\0" * (len(data) & 1)
        entries += struct.pack(order + "HHL", tag, kind, count) + field
    return entries + struct.pack(order + "L", 0) + values


def picture(format_name: str, exif: bytes = b"", **options: Any) -> bytes:
    """Return a small picture with an EXIF block, saved by Pillow."""
    into = io.BytesIO()
    if exif and format_name == "JPEG":
        exif = b"Exif\0\0" + exif
    Image.new("RGB", (48, 32), (10, 100, 200)).save(into, format_name, **({"exif": exif} if exif else {}), **options)
    return into.getvalue()
