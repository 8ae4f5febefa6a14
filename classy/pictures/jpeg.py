"""
JPEG's markers: the size, the orientation, and how often the decoder will have to go through the picture.

It reads markers, never pixels. What it hands on holds the tables, the frame and the scans only, so no thumbnail,
second picture (MPO), profile or comment reaches the decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classy.errors import PictureTooCostly, UnreadablePicture
from classy.pictures.orientation import orientation
from classy.pictures.plan import PictureLimits, Plan, check_size

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xE0, 0xE1, 0xEE
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, all of Huffman codes
_OTHER_FRAMES = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded", 0xCD: "hierarchical",
    0xCE: "hierarchical", 0xCF: "hierarchical",
}  # fmt: skip
_BARE = {0x01, _SOI, *range(0xD0, 0xD8)}  # markers without a length
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SEGMENTS = 5_000  # before the first scan; a 16 MB profile takes 255
_SCANS = 1_000  # jpegtran writes 10, and few programs more than 20

# CPU time of libjpeg-turbo 3.2 under Pillow 13, measured on one core of an AMD EPYC (bench/pictures.py --costs)
_BYTE_S = 20e-9
_PX_S = 8e-9
_BLOCK_S = 70e-9  # one visit of one 8 × 8 block by one scan, at worst


@dataclass(frozen=True, slots=True)
class _Frame:
    progressive: bool
    width_px: int
    height_px: int
    blocks: dict[int, int]  # component id → 8 × 8 blocks


def inspect_jpeg(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Walk a JPEG's markers.

    Raises:
        UnreadablePicture: cut short, damaged, or a kind of JPEG that is not read.
        PictureTooLarge: too many pixels, or too long a side.
        PictureTooCostly: more segments or scans than any program writes.
    """
    kept = [b"\xff\xd8"]
    frame: _Frame | None = None
    exif = xmp = b""
    at = 2
    for _ in range(_SEGMENTS):
        found = _MARKER.search(picture, at)
        if found is None:
            break
        marker, at = picture[found.end() - 1], found.end()
        if marker in _BARE:
            continue
        if marker == _EOI:
            raise UnreadablePicture("this JPEG ends before its picture; send the whole file")
        length = int.from_bytes(picture[at : at + 2], "big")
        if length < 2 or at + length > len(picture):
            break
        body = picture[at + 2 : at + length]
        if marker in _OTHER_FRAMES:
            raise UnreadablePicture(f"this is a {_OTHER_FRAMES[marker]} JPEG, which is not read; {_SAVE}")
        if marker in _FRAMES:
            if frame is not None:
                raise UnreadablePicture(f"this JPEG has two frames; {_SAVE}")
            frame = _frame(body, progressive=marker == 0xC2)
            check_size(frame.width_px, frame.height_px, limits)
        elif marker == _SOS:
            if frame is None:
                raise UnreadablePicture(f"this JPEG's first scan comes before its frame; {_SAVE}")
            kept.append(picture[at - 2 :])
            return _plan(picture, at - 2, frame, b"".join(kept), orientation(exif, xmp))
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == _APP1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
        if (
            marker in (_DQT, _DHT, _DRI)
            or marker in _FRAMES
            or (marker == _APP0 and body.startswith(b"JFIF"))
            or (marker == _APP14 and body.startswith(b"Adobe"))
        ):
            kept.append(picture[at - 2 : at + length])
        at += length
    else:
        raise PictureTooCostly(f"this JPEG has more than {_SEGMENTS:,} segments before its picture; {_SAVE}")
    raise UnreadablePicture("this JPEG is cut short in its header; send the whole file")


_SAVE = "save it as a baseline or progressive JPEG"


def _frame(body: bytes, *, progressive: bool) -> _Frame:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise UnreadablePicture("this JPEG's frame is damaged; send the whole file")
    if body[0] != 8:
        raise UnreadablePicture(f"this JPEG has {body[0]} bits per sample, and 8 are read; {_SAVE}")
    height_px, width_px = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[5] not in (1, 3, 4):
        raise UnreadablePicture(f"this JPEG has {body[5]} channels, and 1, 3 or 4 are read; {_SAVE}")
    components = [(body[at], body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, 6 + 3 * body[5], 3)]
    if any(not 1 <= factor <= 4 for _, *factors in components for factor in factors):
        raise UnreadablePicture(f"this JPEG's sampling factors are damaged; {_SAVE}")
    widest, highest = max(wide for _, wide, _ in components), max(high for *_, high in components)
    blocks = {
        name: -(-width_px * wide // (8 * widest)) * -(-height_px * high // (8 * highest))
        for name, wide, high in components
    }
    if len(blocks) < len(components):
        raise UnreadablePicture(f"two channels of this JPEG have the same name; {_SAVE}")
    return _Frame(progressive, width_px, height_px, blocks)


def _plan(picture: bytes, at: int, frame: _Frame, data: bytes, turn: int) -> Plan:
    px = frame.width_px * frame.height_px
    several = frame.progressive or picture[at + 4 : at + 5] != bytes([len(frame.blocks)])
    every_block = sum(frame.blocks.values())
    # The shortest code of a block is one bit for DC and, outside progressive scans, one for "no AC".
    if len(picture) - at < every_block * (1 if several else 2) // 8:
        raise UnreadablePicture(
            f"this JPEG is cut short: {len(picture):,} bytes can't hold {frame.width_px:,} × {frame.height_px:,} px; "
            "send the whole file"
        )
    visits = _visits(picture, at, frame) if several else 0
    return Plan(
        format="JPEG",
        width_px=frame.width_px,
        height_px=frame.height_px,
        data=data,
        orientation=turn,
        cost_s=len(picture) * _BYTE_S + px * _PX_S + visits * _BLOCK_S,
        # With several scans libjpeg keeps every coefficient, 16 bits each, until the last one.
        fixed_bytes=len(data) + (every_block * 64 * 2 if several else 0),
        px_bytes=8 if len(frame.blocks) == 4 else 4,
    )


def _visits(picture: bytes, at: int, frame: _Frame) -> int:
    """Return how many blocks the scans visit, all together; they are what a scan bomb multiplies."""
    visits = scans = 0
    while found := _END_OF_SCAN.search(picture, at):
        marker, at = picture[found.end() - 1], found.end()
        if marker == _EOI:
            break
        if marker in _BARE:
            continue
        length = int.from_bytes(picture[at : at + 2], "big")
        if marker == _SOS:
            scans += 1
            if scans > _SCANS:
                raise PictureTooCostly(f"this JPEG has more than {_SCANS:,} scans; {_SAVE}")
            names = picture[at + 3 : at + 3 + 2 * picture[at + 2] : 2] if at + 2 < len(picture) else b""
            visits += sum(frame.blocks.get(name, 0) for name in set(names))
        at += max(length, 2)
    return visits
