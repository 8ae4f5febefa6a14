"""
WebP's chunks: the canvas, the orientation, and the first frame.

It reads chunks and the frames' first bytes, never pixels. What it hands on is a WebP of one frame and no metadata.
Lossless data, which alpha is made of too, can ask for memory that no header tells of (a Huffman table for every few
pixels), so all but short ones are decoded in a process of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from classy.errors import PictureTooCostly, UnreadablePicture
from classy.pictures.orientation import orientation
from classy.pictures.plan import PictureLimits, Plan, check_size

PLAIN_BYTES = 64_000  # of a thumbnail; pure noise of 160 × 160 px comes to about 20,000
_CHUNKS = 10_000
_ANIMATION, _ALPHA = 0x02, 0x10  # flags of VP8X
_LOSSLESS_BYTES = 8_192  # of lossless data that are decoded in this process
_SAVE = "save it as a WebP again"

# CPU time and memory of libwebp 1.6 under Pillow 13, measured on one core of an AMD EPYC (bench/pictures.py --costs)
_BYTE_S = 40e-9
_PX_S = 40e-9
_PX_BYTES = 16  # two canvases of 4 bytes, a copy, and Pillow's picture


def inspect_webp(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Walk a WebP's chunks up to its first frame.

    Raises:
        UnreadablePicture: cut short, damaged, or without a frame.
        PictureTooLarge: too many pixels, or too long a side.
        PictureTooCostly: more chunks than any program writes.

    Source: RFC 9649, sections 2 and 3.
    """
    canvas: tuple[int, int] | None = None
    frame: tuple[int, ...] = ()
    alpha = pixels = exif = xmp = b""
    for kind, body in _chunks(picture, 12):
        if kind == b"VP8X" and len(body) >= 10 and canvas is None:
            canvas = _triple(body, 4) + 1, _triple(body, 7) + 1
        elif kind == b"ANMF" and len(body) >= 16 and not pixels and not frame:
            frame = 2 * _triple(body, 0), 2 * _triple(body, 3), _triple(body, 6) + 1, _triple(body, 9) + 1
            for inner, data in _chunks(body, 16):
                alpha = data if inner == b"ALPH" and not pixels else alpha
                pixels = pixels or (_chunk(inner, data) if inner in (b"VP8 ", b"VP8L") else b"")
        elif kind == b"ALPH" and not pixels:
            alpha = body
        elif kind in (b"VP8 ", b"VP8L") and not pixels:
            pixels = _chunk(kind, body)
        elif kind == b"EXIF":
            exif = exif or body
        elif kind == b"XMP ":
            xmp = xmp or body
    width_px, height_px = _size(pixels)
    lossless = pixels.startswith(b"VP8L")
    alpha = b"" if lossless else alpha
    if canvas is None or (not frame and canvas == (width_px, height_px)):
        canvas = width_px, height_px
    elif frame[2:] != (width_px, height_px) or frame[0] + width_px > canvas[0] or frame[1] + height_px > canvas[1]:
        raise UnreadablePicture(f"this WebP's frame does not fit its canvas; {_SAVE}")
    check_size(*canvas, limits)
    chunks = pixels
    if alpha:
        size = struct.pack("<L", width_px - 1)[:3] + struct.pack("<L", height_px - 1)[:3]
        chunks = _chunk(b"VP8X", bytes([_ALPHA, 0, 0, 0]) + size) + _chunk(b"ALPH", alpha) + pixels
    px = canvas[0] * canvas[1]
    return Plan(
        format="WebP",
        width_px=canvas[0],
        height_px=canvas[1],
        data=b"RIFF" + struct.pack("<L", 4 + len(chunks)) + b"WEBP" + chunks,
        orientation=orientation(exif, xmp),
        untrusted=(len(pixels) if lossless else len(alpha)) > _LOSSLESS_BYTES,
        cost_s=len(chunks) * _BYTE_S + px * _PX_S,
        fixed_bytes=3 * len(chunks),
        px_bytes=_PX_BYTES + (4 if alpha or lossless or frame else 0),
        frame=() if canvas == (width_px, height_px) else frame,
    )


def plain_webp(data: bytes) -> bool:
    """
    Return whether this is a small WebP of one lossy frame and nothing else, as our thumbnails are.

    The simple form has no room for metadata or a second frame, so what a stranger calls a thumbnail is none of that.

    Source: RFC 9649, 2.5.
    """
    if not 30 <= len(data) <= PLAIN_BYTES or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8 ":
        return False
    whole, frame = int.from_bytes(data[4:8], "little"), int.from_bytes(data[16:20], "little")
    return whole == len(data) - 8 and frame + (frame & 1) == len(data) - 20


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(_CHUNKS):
        if at + 8 > len(data):
            return
        kind, (length,) = data[at : at + 4], struct.unpack_from("<L", data, at + 4)
        if at + 8 + length > len(data):
            if kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
                raise UnreadablePicture("this WebP is cut short; send the whole file")
            return  # metadata after the picture may be missing
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    raise PictureTooCostly(f"this WebP has more than {_CHUNKS:,} chunks; {_SAVE}")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<L", len(body)) + body + b"\0" * (len(body) & 1)


def _triple(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _size(chunk: bytes) -> tuple[int, int]:
    """Return a frame's width and height as its own first bytes say them."""
    kind, body = chunk[:4], chunk[8:18]
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a" and not body[0] & 1:
        wide, high = struct.unpack_from("<HH", body, 6)
        return wide & 0x3FFF, high & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        (bits,) = struct.unpack_from("<L", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise UnreadablePicture(f"this WebP holds no frame, or a damaged one; send the whole file or {_SAVE}")
