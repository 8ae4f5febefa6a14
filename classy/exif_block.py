"""
Where a picture's EXIF block lies: one small TIFF file inside a JPEG, PNG, WebP or AVIF, or a TIFF as a whole.

It walks containers in bounded time and copies nothing but the block. Pillow isn't asked: for a TIFF or an AVIF it
parses the whole file in one call, which hostile ones turn into minutes (the reason for classy's decoding process),
and this is called in the process that has many pictures' bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

BLOCK_BYTES = 1 << 20  # a JPEG's block has 64 KB at most, and the others' hold no more than a thumbnail beside it
_STEPS = 20_000  # segments, chunks or boxes that are walked; a 100 MB PNG of 8 KB chunks has 12,000
_ITEMS = 2_000  # of an AVIF; a picture of many tiles has some hundred
_EXTENTS = 64  # of one item of an AVIF; Exif's is in one piece as a rule
_PREFIX = b"Exif\0\0"
_MARKER = re.compile(rb"\xff++([^\xff])", re.DOTALL)  # a segment's; any number of fill bytes may come before it


def exif_block(picture: bytes) -> bytes:
    """
    Return a picture's EXIF block from its byte order mark on; b"" where there is none that can be found.

    Args:
        picture: A whole file, which may be anything at all.
    """
    try:
        block = _found(picture)
    except (struct.error, IndexError):  # a length or an offset that leads out of the file
        return b""
    for _ in range(2):  # some software writes the prefix twice, or where it does not belong
        block = block.removeprefix(_PREFIX)
    return block if block[:2] in (b"II", b"MM") else b""


def _found(picture: bytes) -> bytes:
    if picture.startswith(b"\xff\xd8"):
        return _in_jpeg(picture)
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return next((picture[at : at + length] for kind, at, length in _png(picture) if kind == b"eXIf"), b"")
    if picture.startswith(b"RIFF") and picture.startswith(b"WEBP", 8):
        return next((picture[at : at + length] for kind, at, length in _riff(picture) if kind == b"EXIF"), b"")
    if picture.startswith((b"II*\0", b"MM\0*")):
        return picture  # not copied: a slice of a whole is the whole
    if picture.startswith(b"ftyp", 4):
        return _in_avif(picture)
    return b""


def _in_jpeg(picture: bytes) -> bytes:
    at = 2
    for _ in range(_STEPS):
        found = _MARKER.match(picture, at)
        if found is None:
            break
        marker, at = found[1], found.end()
        (length,) = struct.unpack_from(">H", picture, at)
        if marker == b"\xe1" and picture.startswith(_PREFIX, at + 2):
            return picture[at + 2 : at + length]
        if marker in (b"\xda", b"\xd9") or length < 2:  # the scan begins, or the picture ends
            break
        at += length
    return b""


def _png(picture: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 8
    for _ in range(_STEPS):
        length, kind = struct.unpack_from(">L4s", picture, at)
        if kind == b"IEND":
            return
        if length <= BLOCK_BYTES:
            yield kind, at + 8, length
        at += 12 + length


def _riff(picture: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_STEPS):
        if at >= len(picture):
            return
        kind, length = struct.unpack_from("<4sL", picture, at)
        if length <= BLOCK_BYTES:
            yield kind, at + 8, length
        at += 8 + length + (length & 1)


def _in_avif(picture: bytes) -> bytes:
    """
    Return the item of type "Exif".

    Source: ISO/IEC 14496-12, 8.11.1 (meta), 8.11.3 (iloc), 8.11.6 (iinf); ISO/IEC 23008-12, A.2.1 (Exif).
    """
    boxes = {kind: (start, end) for kind, start, end in _boxes(picture, 0, len(picture))}
    start, end = boxes.get(b"meta", (0, 0))
    inner = {kind: (start, end) for kind, start, end in _boxes(picture, start + 4, end)}
    if b"iinf" not in inner or b"iloc" not in inner:
        return b""
    item = _exif_item(picture, *inner[b"iinf"])
    if item is None:
        return b""
    idat = inner.get(b"idat", (0, 0))[0]
    data = bytearray()
    for method, at, length in _extents(picture, inner[b"iloc"][0], item):
        at += idat if method == 1 else 0
        data += picture[at : at + min(length, BLOCK_BYTES - len(data))]
    (skipped,) = struct.unpack_from(">L", data)  # how far the TIFF header is from here
    return bytes(data[4 + skipped :])


def _boxes(picture: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Walk boxes: type, and where the content starts and ends."""
    for _ in range(_STEPS):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">L4s", picture, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", picture, start)
            start += 8
        elif length == 0:  # to the end of the file
            length = end - at
        if at + length > end or at + length < start:
            return
        yield kind, start, at + length
        at += length


def _exif_item(picture: bytes, at: int, end: int) -> int | None:
    """Return the id of the first item whose type is "Exif"."""
    wide = picture[at] > 0
    for place, (kind, start, _) in enumerate(_boxes(picture, at + (8 if wide else 6), end)):
        version = picture[start]
        if kind == b"infe" and version in (2, 3):
            item, _, item_type = struct.unpack_from(">HH4s" if version == 2 else ">LH4s", picture, start + 4)
            if item_type == b"Exif":
                return int(item)
        if place > _ITEMS:
            break
    return None


def _extents(picture: bytes, at: int, wanted: int) -> list[tuple[int, int, int]]:
    """Return an item's pieces: construction method, offset and length of each."""
    version, sizes, more = picture[at], picture[at + 4], picture[at + 5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version in (1, 2) else 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(picture):
            raise IndexError("the list of items is cut short")
        at += size
        return int.from_bytes(picture[at - size : at], "big")

    at += 6
    id_size = 2 if version < 2 else 4
    for _ in range(min(number(id_size), _ITEMS)):
        item = number(id_size)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # the data reference: 0, this file
        base = number(base_size)
        count = number(2)
        if item != wanted:
            at += count * (index_size + offset_size + length_size)
            continue
        extents = []
        for _ in range(min(count, _EXTENTS)):
            number(index_size)
            offset, length = number(offset_size), number(length_size)
            extents.append((method, base + offset, length))
        return extents
    return []
