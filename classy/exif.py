"""
What a picture's file tells beside its pixels: its SHA-256, and from EXIF when and where it was taken.

It reads the nine tags that say so and follows no other directory. Nonsense counts as absent: 0/0, numbers that are
none, places that are not on the Earth, a place without its hemisphere, and the point 0°, 0°, which is what devices
write that don't know. No picture, however odd, makes it raise.

Source: EXIF 2.32 (CIPA DC-008), 4.6.5 D (DateTimeOriginal, OffsetTimeOriginal, SubSecTimeOriginal) and 4.6.6 (GPS).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from classy.exif_block import exif_block
from classy.pictures.webp import plain_webp
from classy.records.values import Place
from graphpipe_fn.values import dataclass

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAKEN, _OFFSET, _FRACTION = 0x9003, 0x9011, 0x9291
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)
_BYTE, _ASCII, _LONG, _RATIONAL = 1, 2, 4, 5
_SIZES = {_BYTE: 1, _ASCII: 1, _LONG: 4, _RATIONAL: 8}
_ENTRIES = 1_000  # of one directory; cameras write fewer than 100
_VALUE_BYTES = 64  # of one value; the longest that is wanted has 24
_FIRST_PHOTO = 1826  # Niépce's view from a window; an earlier year is a clock that was never set
_LAST_YEAR = 9998  # the end of 9999 is in no year in UTC, as far as datetime goes
_OFFSET_MAX = timedelta(hours=14)
_ALTITUDES_M = (-11_000.0, 100_000.0)  # from the deepest sea to where space begins
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_OFFSET_TEXT = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class About:
    """
    What a file tells.

    Args:
        sha256: Of its bytes, in hex; "" where nobody said.
        taken_at: Naive where the file does not say how far the camera's clock was from UTC; None for no time at all.
        place: None for none.
        thumbnail: A WebP of pixels only, where one was asked for and made; b"" for none.
    """

    sha256: str = ""
    taken_at: datetime | None = None
    place: Place | None = None
    thumbnail: bytes = b""


def about(picture: bytes) -> About:
    """Return what a file tells, a picture or not."""
    taken_at, place = _read(exif_block(picture))
    return About(hashlib.sha256(picture).hexdigest(), taken_at, place)


def about_line(picture: bytes, thumbnail: bytes = b"") -> str:
    """Return what a file tells, and its thumbnail, as one line of JSON between stages; see parse_about()."""
    told = about(picture)
    value: dict[str, Any] = {"sha256": told.sha256}
    if told.taken_at:
        value["taken_at"] = told.taken_at.isoformat()
    if told.place:
        value["latitude_deg"], value["longitude_deg"] = told.place.latitude_deg, told.place.longitude_deg
        if told.place.altitude_m is not None:
            value["altitude_m"] = told.place.altitude_m
    if thumbnail:
        value["thumbnail"] = base64.b64encode(thumbnail).decode("ascii")
    return json.dumps(value)


def parse_about(text: str) -> About:
    """
    Read lines that stages wrote back.

    Args:
        text: Each line a JSON object; later ones count where two say the same. What can't be read is left out: a
            stage may be another's.
    """
    value: dict[str, Any] = {}
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            value.update(said)
    sha256, taken_at = value.get("sha256"), None
    with suppress(TypeError, ValueError):
        taken_at = datetime.fromisoformat(value.get("taken_at", ""))
    try:
        place = Place(value["latitude_deg"], value["longitude_deg"], value.get("altitude_m"))
    except (KeyError, TypeError, ValueError):
        place = None
    if not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
        sha256 = ""
    thumbnail = b""
    with suppress(TypeError, ValueError):
        thumbnail = base64.b64decode(value.get("thumbnail", ""), validate=True)
    return About(
        sha256,
        taken_at if taken_at and _FIRST_PHOTO <= taken_at.year <= _LAST_YEAR else None,
        place,
        thumbnail if plain_webp(thumbnail) else b"",
    )


def _read(block: bytes) -> tuple[datetime | None, Place | None]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return None, None
    (start,) = struct.unpack_from(order + "L", block, 4)
    pointers = _directory(block, order, start, {_EXIF_IFD, _GPS_IFD})
    return (
        _taken_at(_directory(block, order, _pointed(pointers, _EXIF_IFD), {_TAKEN, _OFFSET, _FRACTION})),
        _place(_directory(block, order, _pointed(pointers, _GPS_IFD), set(range(_LATITUDE_REF, _ALTITUDE + 1)))),
    )


def _pointed(pointers: dict[int, Any], tag: int) -> int:
    value = pointers.get(tag)
    return value[0] if isinstance(value, tuple) and isinstance(value[0], int) else 0


def _directory(block: bytes, order: str, start: int, wanted: set[int]) -> dict[int, Any]:
    """Return the wanted tags of a directory: texts, and tuples of numbers; the first where a tag is there twice."""
    values: dict[int, Any] = {}
    if not 8 <= start <= len(block) - 2:
        return values
    (count,) = struct.unpack_from(order + "H", block, start)
    for place in range(min(count, _ENTRIES)):
        at = start + 2 + 12 * place
        if at + 12 > len(block):
            break
        tag, kind, length = struct.unpack_from(order + "HHL", block, at)
        size = _SIZES.get(kind, 0) * length
        if tag not in wanted or tag in values or not 0 < size <= _VALUE_BYTES:
            continue
        (offset,) = struct.unpack_from(order + "L", block, at + 8)
        offset = at + 8 if size <= 4 else offset
        if offset + size <= len(block):
            values[tag] = _value(block[offset : offset + size], order, kind)
    return values


def _value(data: bytes, order: str, kind: int) -> Any:
    if kind == _ASCII:
        return data.partition(b"\0")[0].decode("ascii", "replace").strip()
    if kind == _RATIONAL:
        numbers = struct.unpack(f"{order}{len(data) // 4}L", data)
        return tuple(
            above / below if below else math.nan for above, below in zip(numbers[::2], numbers[1::2], strict=True)
        )
    return struct.unpack(f"{order}{len(data) // _SIZES[kind]}{'L' if kind == _LONG else 'B'}", data)


def _taken_at(tags: dict[int, Any]) -> datetime | None:
    match = _TIME.fullmatch(_text(tags, _TAKEN))
    if match is None or not _FIRST_PHOTO <= int(match[1]) <= _LAST_YEAR:
        return None
    digits = _text(tags, _FRACTION)
    fraction_us = int(digits[:6].ljust(6, "0")) if digits.isascii() and digits.isdigit() else 0
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        taken_at = datetime(year, month, day, hour, minute, second, fraction_us)  # noqa: DTZ001 - as the camera wrote it
    except ValueError:  # the 31st of February; a leap second
        return None
    offset = _offset(_text(tags, _OFFSET))
    return taken_at if offset is None else taken_at.replace(tzinfo=timezone(offset))


def _offset(text: str) -> timedelta | None:
    match = _OFFSET_TEXT.fullmatch(text)
    if match is None or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return None if offset > _OFFSET_MAX else -offset if match[1] == "-" else offset


def _text(tags: dict[int, Any], tag: int) -> str:
    value = tags.get(tag, "")
    return value if isinstance(value, str) else ""


def _place(tags: dict[int, Any]) -> Place | None:
    latitude_deg = _degrees(tags, _LATITUDE, _LATITUDE_REF, "NS")
    longitude_deg = _degrees(tags, _LONGITUDE, _LONGITUDE_REF, "EW")
    if latitude_deg is None or longitude_deg is None or latitude_deg == longitude_deg == 0:
        return None
    try:
        return Place(latitude_deg, longitude_deg, _altitude_m(tags))
    except ValueError:
        return None


def _degrees(tags: dict[int, Any], tag: int, ref_tag: int, directions: str) -> float | None:
    """Return degrees, minutes and seconds as degrees, negative in the second of the two directions."""
    parts, ref = tags.get(tag), _text(tags, ref_tag).upper()
    if not isinstance(parts, tuple) or len(parts) != 3 or ref not in tuple(directions):
        return None
    degrees, minutes, seconds = parts
    if not (math.isfinite(degrees) and 0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    value: float = (degrees * 3600 + minutes * 60 + seconds) / 3600
    return -value if ref == directions[1] else value


def _altitude_m(tags: dict[int, Any]) -> float | None:
    parts = tags.get(_ALTITUDE)
    ref = tags.get(_ALTITUDE_REF, (0,))  # absent means above sea level
    if not isinstance(parts, tuple) or len(parts) != 1 or not isinstance(ref, tuple) or ref[0] not in (0, 1, 2, 3):
        return None
    altitude_m: float = -parts[0] if ref[0] % 2 else parts[0]  # 1 and 3 are below: the sea, or the ellipsoid
    return altitude_m if _ALTITUDES_M[0] <= altitude_m <= _ALTITUDES_M[1] else None
