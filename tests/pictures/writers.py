"""
Small encoders: PNG, BMP, GIF and TIFF from arrays, with every switch that the formats have.

They know the formats' specifications and nothing of Pillow or Classy. JPEG, WebP and AVIF come from Pillow's own
encoders, in `odd` and `hostile`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


# ---------------------------------------------------------------- PNG


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def png_rows(samples: np.ndarray, bits: int, filters: Sequence[int] = (0,)) -> bytes:
    """Return rows as PNG packs them, each with its filter byte; `filters` are taken in turn."""
    height, _, depth = samples.shape
    if bits == 16:
        packed = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    elif bits == 8:
        packed = samples.astype(np.uint8).reshape(height, -1)
    else:
        one = (samples[:, :, 0, np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
        packed = np.packbits(one.reshape(height, -1).astype(np.uint8), axis=1)
    step = max(1, depth * bits // 8)
    rows, above = [], np.zeros(packed.shape[1], np.int16)
    for place, row in enumerate(packed.astype(np.int16)):
        left = np.concatenate([np.zeros(step, np.int16), row[:-step]])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int16), above[:-step]])[: len(row)]
        guess = left + above - corner
        near = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
        paeth = np.choose(near.argmin(axis=0), [left, above, corner])
        kind = filters[place % len(filters)]
        coded = row - [0 * row, left, above, (left + above) // 2, paeth][kind]
        rows.append(bytes([kind]) + (coded & 255).astype(np.uint8).tobytes())
        above = row
    return b"".join(rows)


def png(
    samples: np.ndarray,
    *,
    colour: int,
    bits: int = 8,
    palette: bytes = b"",
    transparent: bytes = b"",
    interlaced: bool = False,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    filters: Sequence[int] = (0, 1, 2, 3, 4),
    piece_bytes: int = 1 << 30,
) -> bytes:
    """
    Write a PNG.

    Args:
        samples: (height, width, samples per pixel) of 0 to 2 ** bits − 1.
        colour: PNG's colour type.
        before, after: Whole chunks around the data.
        piece_bytes: Of one IDAT.
    """
    height, width, _ = samples.shape
    if interlaced:
        parts = [samples[top::down, left::across] for left, top, across, down in ADAM7]
        rows = b"".join(png_rows(part, bits, filters) for part in parts if part.size)
    else:
        rows = png_rows(samples, bits, filters)
    data = zlib.compress(rows, 6)
    chunks = [png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, interlaced))]
    chunks += [png_chunk(b"PLTE", palette)] if palette else []
    chunks += [png_chunk(b"tRNS", transparent)] if transparent else []
    chunks += before
    chunks += [png_chunk(b"IDAT", data[at : at + piece_bytes]) for at in range(0, len(data), piece_bytes)]
    chunks += after
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


# ---------------------------------------------------------------- BMP


def packed_rows(numbers: np.ndarray, bits: int, multiple: int) -> bytes:
    """Return rows of numbers in `bits` bits each, filled up to a multiple of so many bytes."""
    one = (numbers[:, :, np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(one.reshape(len(numbers), -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % multiple))).tobytes()


def bmp(
    pixels: bytes,
    *,
    width: int,
    height: int,
    bits: int,
    packing: int = 0,
    palette: bytes = b"",
    masks: Sequence[int] = (),
    header: int = 40,
) -> bytes:
    """
    Write a BMP.

    Args:
        pixels: Rows as they go into the file, bottom row first; a negative height means top row first.
        palette: BGR0 per colour, or BGR for the 12-byte header.
        masks: Red, green, blue, alpha for packing 3.
    """
    if header == 12:
        info = struct.pack("<LHHHH", 12, width, height, 1, bits)
    else:
        colours = len(palette) // 4
        info = struct.pack(
            "<LllHHLLllLL", header, width, height, 1, bits, packing, len(pixels), 2835, 2835, colours, 0
        )
        info += struct.pack(f"<{len(masks)}L", *masks)
        info = info[:header].ljust(header, b"\0") + (info[header:] if header == 40 else b"")
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sLHHL", b"BM", start + len(pixels), 0, 0, start) + info + palette + pixels


def bmp_rle(numbers: np.ndarray, bits: int) -> bytes:
    """Return rows, bottom first, in BMP's run lengths: encoded and absolute runs in turn."""
    out = bytearray()
    for row in numbers[::-1]:
        for at in range(0, len(row), 6):
            piece = row[at : at + 6]
            if at % 12 and len(piece) > 2:
                body = packed_rows(piece[np.newaxis], bits, 1)
                out += bytes([0, len(piece)]) + body + b"\0" * (len(body) & 1)
            else:
                for value in piece:
                    out += bytes([1, int(value) if bits == 8 else int(value) << 4])
        out += b"\0\0"
    return bytes(out + b"\0\1")


# ---------------------------------------------------------------- GIF


def gif_codes(numbers: Iterable[int], bits: int) -> bytes:
    """Return LZW data that never learns: a clear code before the codes would grow."""
    clear, width = 1 << bits, bits + 1
    codes, since = [clear], 0
    for number in numbers:
        if since == (1 << bits) - 2:
            codes, since = [*codes, clear], 0
        codes.append(int(number))
        since += 1
    return gif_packed([*codes, clear + 1], width)


def gif_packed(codes: Iterable[int], width: int) -> bytes:
    """Return codes of one width as sub-blocks, least bit first, without the terminator."""
    number, filled, out = 0, 0, bytearray()
    for code in codes:
        number |= code << filled
        filled += width
        while filled >= 8:
            out.append(number & 255)
            number >>= 8
            filled -= 8
    if filled:
        out.append(number & 255)
    return b"".join(bytes([len(out[at : at + 255])]) + out[at : at + 255] for at in range(0, len(out), 255))


def gif_frame(
    numbers: np.ndarray,
    *,
    bits: int = 8,
    at: tuple[int, int] = (0, 0),
    palette: bytes = b"",
    transparent: int | None = None,
    interlaced: bool = False,
) -> bytes:
    """Write one frame with its graphic control, if it needs one."""
    height, width = numbers.shape
    if interlaced:
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        numbers = numbers[order]
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    flags = (0x40 if interlaced else 0) | (0x80 | (len(palette) // 3 - 1).bit_length() - 1 if palette else 0)
    head = b"," + struct.pack("<HHHHB", *at, width, height, flags) + palette
    return control + head + bytes([max(bits, 2)]) + gif_codes(numbers.ravel(), max(bits, 2)) + b"\0"


def gif(size: tuple[int, int], frames: Iterable[bytes], *, palette: bytes = b"", version: bytes = b"89a") -> bytes:
    """Write a GIF of frames; `size` is the screen's width and height."""
    flags = 0x80 | (len(palette) // 3 - 1).bit_length() - 1 if palette else 0
    return b"GIF" + version + struct.pack("<HHBBB", *size, flags, 0, 0) + palette + b"".join(frames) + b";"


# ---------------------------------------------------------------- TIFF

_KINDS = {1: "B", 2: "c", 3: "H", 4: "L", 5: "Q", 11: "f", 12: "d", 13: "L", 16: "Q"}


def tiff(
    pieces: Sequence[bytes],
    tags: Mapping[int, tuple[int, Sequence[Any]]],
    *,
    order: str = "<",
    big: bool = False,
    tiled: bool = False,
    next_ifd: int = 0,
) -> bytes:
    """
    Write a TIFF of one directory.

    Args:
        pieces: Strips or tiles, as they go into the file.
        tags: Number → (type, values); offsets and counts are added, and None takes a tag away.
        order: "<" for little-endian.
        big: BigTIFF.
    """
    size = "Q" if big else "L"
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 0) if big else struct.pack(order + "L", 0)
    body = bytearray(head)
    offsets = []
    for piece in pieces:
        offsets.append(len(body))
        body += piece + b"\0" * (len(piece) & 1)
    every: dict[int, tuple[int, Sequence[Any]]] = {324 if tiled else 273: (4, offsets)}
    every[325 if tiled else 279] = (4, [len(piece) for piece in pieces])
    every.update(tags)
    every = {tag: value for tag, value in every.items() if value[1] is not None}
    room = 8 if big else 4
    entries = b""
    for tag, (kind, values) in sorted(every.items()):
        raw = struct.pack(f"{order}{len(values)}{_KINDS.get(kind, 'B')}", *values)
        if len(raw) > room:
            place = struct.pack(order + size, len(body))
            body += raw + b"\0" * (len(raw) & 1)
        else:
            place = raw.ljust(room, b"\0")
        entries += struct.pack(order + "HH" + size, tag, kind, len(values)) + place
    at = len(body)
    body += struct.pack(order + ("Q" if big else "H"), len(every)) + entries + struct.pack(order + size, next_ifd)
    struct.pack_into(order + size, body, len(head) - room, at)
    return bytes(body)


def packbits(data: bytes) -> bytes:
    """Return PackBits made of literal runs."""
    return b"".join(bytes([len(data[at : at + 128]) - 1]) + data[at : at + 128] for at in range(0, len(data), 128))


def lzw(data: bytes) -> bytes:
    """Return TIFF's LZW that never learns: 9-bit codes, most significant bit first, cleared every 200."""
    number, count, since = 256, 1, 0
    for byte in data:
        if since == 200:
            number, count, since = number << 9 | 256, count + 1, 0
        number, count, since = number << 9 | byte, count + 1, since + 1
    number, count = number << 9 | 257, count + 1
    spare = -count * 9 % 8
    return (number << spare).to_bytes((count * 9 + spare) // 8, "big")
