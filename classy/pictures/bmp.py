"""
BMP's headers: the size, the packing, and whether the file is long enough for its pixels.

It reads headers, never pixels; run-length packed files go to a process of their own, because Pillow unpacks them
byte by byte in Python.
"""

from __future__ import annotations

import struct

from classy.errors import UnreadablePicture
from classy.pictures.plan import PictureLimits, Plan, check_size

_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_RGB, _RLE8, _RLE4, _BITFIELDS = range(4)
_BITS = {_RGB: (1, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (16, 24, 32)}
_PX_S = 15e-9
_PACKED_BYTE_S, _PACKED_PX_S = 0.6e-6, 0.15e-6
_SAVE = "save it as an uncompressed BMP or a PNG"


def inspect_bmp(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Read a BMP's headers.

    Raises:
        UnreadablePicture: cut short, damaged, or a kind of BMP that is not read.
        PictureTooLarge: too many pixels, or too long a side.
    """
    start, header = struct.unpack_from("<LL", picture, 10) if len(picture) >= 26 else (0, 0)
    if header not in _HEADERS or len(picture) < 14 + header:
        raise UnreadablePicture(f"this BMP's header is damaged or cut short; send the whole file or {_SAVE}")
    if header == 12:
        width_px, height_px, planes, bits = struct.unpack_from("<HHHH", picture, 18)
        packing = colours = 0
    else:
        width_px, height_px, planes, bits, packing = struct.unpack_from("<llHHL", picture, 18)
        (colours,) = struct.unpack_from("<L", picture, 46)
    height_px = abs(height_px)  # negative: the top row comes first
    if bits not in _BITS.get(packing, ()) or width_px < 0 or (bits <= 8 and colours > 256) or planes > 1:
        raise UnreadablePicture(f"this BMP is of a kind that is not read ({bits} bits, packing {packing}); {_SAVE}")
    check_size(width_px, height_px, limits)
    packed = packing in (_RLE8, _RLE4)
    row_bytes = (width_px * bits + 31) // 32 * 4
    if not packed and len(picture) - start < row_bytes * height_px:
        raise UnreadablePicture("this BMP is cut short: rows are missing; send the whole file")
    px = width_px * height_px
    return Plan(
        format="BMP",
        width_px=width_px,
        height_px=height_px,
        data=picture,
        untrusted=packed,
        cost_s=len(picture) * _PACKED_BYTE_S + px * _PACKED_PX_S if packed else px * _PX_S,
        px_bytes=8 if bits == 32 else 5,
    )
