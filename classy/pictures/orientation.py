"""
The orientation that cameras write beside the pixels: EXIF's tag 0x0112, or the same in XMP.

It reads that one number and nothing else of the metadata, so no directory is followed and no value copied; rubbish
means "as stored". The other tags are classy.exif's concern.
"""

from __future__ import annotations

import re
import struct

_TAG = 0x0112
_ENTRIES = 1_000  # of IFD0; cameras write about 15
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_XMP_BYTES = 1_000_000


def orientation(exif: bytes = b"", xmp: bytes = b"") -> int:
    """
    Return how the stored rows and columns are to be turned.

    Args:
        exif: An EXIF block: a small TIFF file, with or without "Exif" and two zeros before it.
        xmp: An XMP packet; it counts only where the EXIF block does not name an orientation.

    Returns:
        1 to 8 as in EXIF; 1, as stored, for anything that can't be read.

    Source: EXIF 2.32, 4.6.4 A; TIFF 6.0, section 2.
    """
    value = _in_exif(exif)
    if value is None and (found := _XMP.search(xmp[:_XMP_BYTES])):
        value = int(found[1])
    return value if value is not None and 1 <= value <= 8 else 1


def _in_exif(exif: bytes) -> int | None:
    for _ in range(2):  # some software writes the prefix twice
        exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(order + "L", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, start)
    for place in range(min(count, _ENTRIES)):
        at = start + 2 + 12 * place
        if at + 12 > len(exif):
            return None
        tag, kind, values = struct.unpack_from(order + "HHL", exif, at)
        if tag == _TAG:
            short, long = kind == 3 and 1 <= values <= 2, kind == 4 and values == 1
            if not short and not long:
                return 1
            value: int = struct.unpack_from(order + ("H" if short else "L"), exif, at + 8)[0]
            return value
    return None
