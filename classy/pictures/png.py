"""
PNG's chunks: the size, the orientation, the transparent colour, and the data in one piece.

It reads chunks, never pixels. What it hands on holds the header, the palette and the picture's data only: no text,
profile or animation frame, however much they would inflate to, reaches the decoder.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from classy.errors import PictureTooCostly, UnreadablePicture
from classy.pictures.orientation import orientation
from classy.pictures.plan import PictureLimits, Plan, check_size

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type → samples per pixel
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7
_CHUNKS = 50_000  # libpng writes one per 8 KB
_TEXTS = {b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0", b"iTXt": b"XML:com.adobe.xmp\0"}
_TEXTS_READ = 4  # of those that can hold an orientation
_TEXT_BYTES = 1_000_000  # that a compressed text may inflate to

# CPU time of Pillow 13 (zlib-ng 2.3), measured on one core of an AMD EPYC (bench/pictures.py --costs)
_BYTE_S = 17e-9
_ROW_BYTE_S = 5e-9
_PX_S = 15e-9

_SAVE = "save it as a PNG again"


def inspect_png(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Walk a PNG's chunks.

    Raises:
        UnreadablePicture: cut short, damaged, or a combination that PNG does not have.
        PictureTooLarge: too many pixels, or too long a side.
        PictureTooCostly: more chunks than any program writes.
    """
    head = picture[8:33]
    if len(head) < 25 or head[4:8] != b"IHDR" or head[:4] != b"\0\0\0\x0d":
        raise UnreadablePicture(f"this PNG does not start with its header; send the whole file or {_SAVE}")
    width_px, height_px, bits, colour, packing, filters, interlace = struct.unpack(">LLBBBBB", head[8:21])
    if bits not in _BITS.get(colour, ()) or packing or filters or interlace > 1:
        raise UnreadablePicture(f"this PNG's header is damaged; {_SAVE}")
    check_size(width_px, height_px, limits)
    kept, data, exif, xmp, key = [_SIGNATURE + head], [], b"", b"", b""
    palette = False
    texts = 0
    for kind, start, end in _chunks(picture):
        if kind == b"IDAT":
            data.append(picture[start:end])
        elif kind == b"PLTE" and not data and not palette:
            palette = True
            kept.append(picture[start - 8 : end + 4])
        elif kind == b"tRNS" and not data:
            if colour == 3:
                kept.append(picture[start - 8 : end + 4])
            else:
                key = picture[start:end]
        elif kind == b"eXIf":
            exif = exif or picture[start:end]
        elif kind in _TEXTS and picture.startswith(_TEXTS[kind], start) and texts < _TEXTS_READ:
            texts += 1
            exif, xmp = _text(kind, picture[start:end], exif, xmp)
    if colour == 3 and not palette:
        raise UnreadablePicture(f"this PNG has colour numbers but no palette; {_SAVE}")
    joined = b"".join(data)
    kept += [len(joined).to_bytes(4, "big"), b"IDAT", joined, b"\0\0\0\0", b"\0\0\0\0IEND\xaeB`\x82"]
    rows_bytes = _rows_bytes(width_px, height_px, bits * _SAMPLES[colour], interlaced=bool(interlace))
    px = width_px * height_px
    samples = {0: 1, 2: 3}.get(colour, 0)  # the colour types that have a transparent colour
    keyed = samples > 0 and len(key) >= 2 * samples
    return Plan(
        format="PNG",
        width_px=width_px,
        height_px=height_px,
        data=b"".join(kept),
        orientation=orientation(exif, xmp),
        cost_s=len(joined) * _BYTE_S + rows_bytes * _ROW_BYTE_S * (3 if keyed and bits == 16 else 1) + px * _PX_S,
        fixed_bytes=2 * len(joined),
        px_bytes=(12 if keyed else 0) + (9 if colour == 3 else 8 if colour > 3 else 5 if bits == 16 else 4),
        key=struct.unpack(f">{samples}H", key[: 2 * samples]) if keyed else (),
        sample_bits=bits,
        rows_bytes=rows_bytes,
        interlaced=bool(interlace),
    )


def _chunks(picture: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk the chunks after the header: type, and where the data starts and ends."""
    at, started = 33, False
    for _ in range(_CHUNKS):
        start, kind = at + 8, picture[at + 4 : at + 8]
        end = start + int.from_bytes(picture[at : at + 4], "big")
        if len(kind) < 4 or kind == b"IEND" or end > len(picture):
            if started and kind != b"IDAT":
                return  # what comes after the data may be missing
            raise UnreadablePicture("this PNG is cut short; send the whole file")
        started = started or kind == b"IDAT"
        yield kind, start, end
        at = end + 4
    raise PictureTooCostly(f"this PNG has more than {_CHUNKS:,} chunks; {_SAVE}")


def _text(kind: bytes, body: bytes, exif: bytes, xmp: bytes) -> tuple[bytes, bytes]:
    """Return EXIF and XMP, either replaced by what this text chunk holds of it."""
    rest = body.partition(b"\0")[2]
    if kind == b"iTXt":
        words = rest[2:].split(b"\0", 2)
        return exif, _inflated(words[-1]) if rest[:1] == b"\x01" else words[-1]
    # Older ImageMagick's: "\nexif\n    length\nhexadecimal digits"
    text = _inflated(rest[1:]) if kind == b"zTXt" else rest
    digits = b"".join(text[:_TEXT_BYTES].split(b"\n", 3)[3:]).replace(b"\n", b"")
    try:
        return exif or bytes.fromhex(digits.decode("ascii")), xmp
    except ValueError:
        return exif, xmp


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _TEXT_BYTES)
    except zlib.error:
        return b""


def _rows_bytes(width_px: int, height_px: int, bits: int, *, interlaced: bool) -> int:
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width_px - left) // across), -(-(height_px - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def check_rows(plan: Plan) -> None:
    """
    Inflate a PNG's data and count it, because Pillow takes missing rows for black ones.

    Raises:
        UnreadablePicture: there is less than the header promises.
    """
    at = plan.data.index(b"IDAT") + 4
    inflater, count = zlib.decompressobj(), 0
    while at < len(plan.data) and count < plan.rows_bytes and not inflater.eof:
        try:
            count += len(inflater.decompress(plan.data[at : at + 16_384]))
        except zlib.error as exc:
            raise UnreadablePicture(f"this PNG's data is damaged ({exc}); send the whole file") from exc
        at += 16_384
    if count < plan.rows_bytes:
        raise UnreadablePicture("this PNG is cut short: rows are missing; send the whole file")
