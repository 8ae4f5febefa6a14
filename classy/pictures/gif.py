"""
GIF's blocks: the screen, the first frame, its palette and its transparent colour.

It reads blocks, never pixels. What it hands on is a GIF of one frame as large as its screen: no comment, no second
frame and no frame that reaches over the edge gets to the decoder.
"""

from __future__ import annotations

import struct

from classy.errors import PictureTooCostly, UnreadablePicture
from classy.pictures.plan import PictureLimits, Plan, check_size

_BLOCKS = 100_000  # before the first frame; an XMP packet of 64 KB takes about 1,500
_BYTE_S = 20e-9
_PX_S = 15e-9
_GRAPHIC_CONTROL = b"\xf9\x04"


def inspect_gif(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Walk a GIF's blocks up to its first frame.

    Raises:
        UnreadablePicture: cut short, damaged, or without a frame.
        PictureTooLarge: too many pixels, or too long a side.
        PictureTooCostly: more blocks before the first frame than any program writes.

    Source: GIF89a specification, sections 17 to 26.
    """
    if len(picture) < 13:
        raise _cut_short()
    screen_px, flags = struct.unpack_from("<HH", picture, 6), picture[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    palette, size_bits = picture[13:at], flags & 0x87
    at, control = _to_first_frame(picture, at)
    if len(picture) < at + 11:
        raise _cut_short()
    left, top, width_px, height_px, flags = struct.unpack_from("<HHHHB", picture, at + 1)
    at += 10
    if flags & 0x80:
        end = at + (3 << (flags & 7) + 1)
        palette, size_bits = picture[at:end], flags & 0x87
        at = end
    if not 1 <= (picture[at] if at < len(picture) else 0) <= 8:
        raise UnreadablePicture("this GIF's first frame is damaged; send the whole file or save it again")
    if not width_px or not height_px:
        raise UnreadablePicture("this GIF's first frame has no pixels; send one that holds a picture")
    canvas = max(screen_px[0], left + width_px), max(screen_px[1], top + height_px)
    check_size(*canvas, limits)
    size = struct.pack("<HH", width_px, height_px)
    head = b"GIF89a" + size + bytes([size_bits, 0, 0]) + palette + control
    data = head + b",\0\0\0\0" + size + bytes([flags & 0x40]) + picture[at:]
    return Plan(
        format="GIF",
        width_px=canvas[0],
        height_px=canvas[1],
        data=data,
        cost_s=len(data) * _BYTE_S + canvas[0] * canvas[1] * _PX_S,
        fixed_bytes=len(data),
        px_bytes=9 if control else 5,
        frame=() if canvas == (width_px, height_px) else (left, top, width_px, height_px),
    )


def _to_first_frame(picture: bytes, at: int) -> tuple[int, bytes]:
    """Return where the first frame starts, and the extension that names its transparent colour, if any does."""
    control, inside = b"", False
    for _ in range(_BLOCKS):
        if at >= len(picture):
            raise _cut_short()
        kind = picture[at]
        if inside:  # an extension's sub-blocks: a length and so many bytes, up to one of length 0
            inside, at = kind > 0, at + 1 + kind
        elif kind == 0x2C:  # ","
            return at, control
        elif kind == 0x3B:  # ";"
            raise UnreadablePicture("this GIF has no frame; send one that holds a picture")
        elif kind == 0x21:  # "!"
            if picture[at + 1 : at + 3] == _GRAPHIC_CONTROL and picture[at + 3 : at + 7]:
                has_key, key = picture[at + 3] & 1, picture[at + 6 : at + 7]
                control = b"!" + _GRAPHIC_CONTROL + b"\x01\0\0" + key + b"\0" if has_key else b""
            inside, at = True, at + 2
        else:
            at += 1  # stray bytes between blocks are common
    raise PictureTooCostly(f"this GIF has more than {_BLOCKS:,} blocks before its picture; save it again")


def _cut_short() -> UnreadablePicture:
    return UnreadablePicture("this GIF is cut short; send the whole file")
