"""
Odd but legal pictures, each with the pixels that it must come to.

The expected pixels are worked out from the array that was written, never from what a decoder made of it. Where an
encoder loses something (JPEG, lossy WebP, AVIF) the arrays are smooth and the tolerance says how much.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pictures import writers

# What EXIF's orientation does to the stored array to make it upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@dataclass(frozen=True)
class Odd:
    """A file, the RGB pixels that it shows, and by how many grey levels a pixel may be off."""

    name: str
    file: bytes
    pixels: np.ndarray
    tolerance: float = 0.0


def smooth(height: int, width: int, channels: int = 3, top: int = 255) -> np.ndarray:
    """Return a ramp that differs in every direction and channel, so that no turn or swap goes unnoticed."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x / max(width - 1, 1), y / max(height - 1, 1), (x + 2 * y) / max(width + 2 * height - 3, 1)]
    planes.append((planes[0] + 1 - planes[1]) / 2)
    return np.rint(np.stack(planes[:channels], axis=-1) * top).astype(np.uint16)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colours over white; both arrays in 0 to 1."""
    return np.rint(255 * (colour * alpha + 1 - alpha))


def rgb(values: np.ndarray) -> np.ndarray:
    """Return grey (H, W) or (H, W, 1) as three equal channels."""
    return np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)


def exif(orientation: int, *, order: str = "<", kind: int = 3, values: int = 1) -> bytes:
    """Return an EXIF block that holds the orientation and nothing else."""
    value = struct.pack(order + ("HH" if kind == 3 else "L"), *((orientation, 0) if kind == 3 else (orientation,)))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHL", 0x0112, kind, values) + value
    return b"Exif\0\0" + mark + struct.pack(order + "LH", 8, 1) + entry + b"\0\0\0\0"


def saved(pixels: np.ndarray | Image.Image, format_name: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels.astype(np.uint8))
    image.save(file, format_name, **options)
    return file.getvalue()


def pngs() -> Iterator[Odd]:
    """PNG: every colour type and depth, plain, interlaced and with a transparent colour."""
    for bits in (1, 2, 4, 8, 16):
        top = (1 << bits) - 1
        for interlaced in (False, True):
            grey = smooth(13, 19, 1, top)
            shown = np.rint(grey / top * 255)
            name = f"png-grey{bits}" + "-interlaced" * interlaced
            yield Odd(name, writers.png(grey, colour=0, bits=bits, interlaced=interlaced), rgb(shown))
        key = int(grey[6, 9, 0])
        keyed = np.where(grey == key, 255, shown)
        transparent = struct.pack(">H", key)
        yield Odd(f"png-grey{bits}-key", writers.png(grey, colour=0, bits=bits, transparent=transparent), rgb(keyed))
    for bits in (1, 2, 4, 8):
        numbers = smooth(13, 19, 1, (1 << bits) - 1)
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
        alphas = np.linspace(0, 255, 1 << bits).round().astype(int)[::-1]
        palette, alpha = colours.astype(np.uint8).tobytes(), alphas.astype(np.uint8).tobytes()
        shown = colours[numbers[..., 0]]
        yield Odd(f"png-palette{bits}", writers.png(numbers, colour=3, bits=bits, palette=palette), shown)
        file = writers.png(numbers, colour=3, bits=bits, palette=palette, transparent=alpha, interlaced=True)
        blended = over_white(shown / 255, alphas[numbers[..., 0]][..., np.newaxis] / 255)
        yield Odd(f"png-palette{bits}-alphas", file, blended, 1)
        file = writers.png(numbers, colour=3, bits=bits, palette=palette, transparent=b"\0")
        shown = np.where(numbers == 0, 255, shown)
        yield Odd(f"png-palette{bits}-one-clear", file, shown)
    for bits in (8, 16):
        top = (1 << bits) - 1
        grainy = np.random.default_rng(3).integers(0, top + 1, (11, 7, 4)).astype(np.uint16)
        for colour, depth in ((2, 3), (4, 2), (6, 4)):
            samples = grainy[..., :depth]
            part = samples / top
            if colour == 2:
                shown = np.rint(part * 255)
            elif colour == 4:
                shown = rgb(over_white(part[..., :1], part[..., 1:]))
            else:
                shown = over_white(part[..., :3], part[..., 3:])
            for interlaced in (False, True):
                file = writers.png(samples, colour=colour, bits=bits, interlaced=interlaced)
                yield Odd(f"png-colour{colour}-{bits}" + "-interlaced" * interlaced, file, shown, bits // 16 * 2)
        samples = grainy[..., :3].copy()
        samples[2:5, 1:4] = samples[0, 0]
        samples[8, :, 2] = samples[0, 0, 2] ^ 1  # all but the lowest bit of one channel
        samples[8, :, :2] = samples[0, 0, :2]
        transparent = struct.pack(">HHH", *samples[0, 0])
        clear = (samples == samples[0, 0]).all(axis=-1, keepdims=True)
        shown = np.where(clear, 255, np.rint(samples / top * 255))
        file = writers.png(samples, colour=2, bits=bits, transparent=transparent)
        yield Odd(f"png-colour2-{bits}-key", file, shown, bits // 16)
    ramp = smooth(13, 19)
    yield Odd("png-small-pieces", writers.png(ramp, colour=2, piece_bytes=7), ramp)
    text = writers.png_chunk(b"tEXt", b"Comment\0hello")
    yield Odd("png-text-before-and-after", writers.png(ramp, colour=2, before=[text] * 3, after=[text] * 3), ramp)
    broken = writers.png_chunk(b"zTXt", b"Comment\0\0rubbish") + writers.png_chunk(b"iCCP", b"sRGB\0\0rubbish")
    yield Odd("png-broken-text-and-profile", writers.png(ramp, colour=2, before=[broken]), ramp)
    frames = [Image.fromarray(ramp.astype(np.uint8)), Image.new("RGB", (19, 13), "red")]
    yield Odd("png-animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), ramp)
    yield Odd("png-cut-after-its-data", writers.png(ramp, colour=2)[:-10], ramp)
    gamma = writers.png_chunk(b"gAMA", struct.pack(">L", 100_000))
    yield Odd("png-gamma-is-ignored", writers.png(ramp, colour=2, before=[gamma]), ramp)


def bmps() -> Iterator[Odd]:
    """BMP: every depth and packing, top down and bottom up, and the headers of thirty years."""
    for bits in (1, 4, 8):
        numbers = smooth(11, 13, 1, (1 << bits) - 1)[..., 0].astype(np.int64)
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
        palette = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
        up, down = writers.packed_rows(numbers[::-1], bits, 4), writers.packed_rows(numbers, bits, 4)
        size: dict[str, Any] = {"width": 13, "height": 11, "bits": bits}
        yield Odd(f"bmp{bits}", writers.bmp(up, **size, palette=palette), colours[numbers])
        file = writers.bmp(down, **{**size, "height": -11}, palette=palette)
        yield Odd(f"bmp{bits}-top-down", file, colours[numbers])
        triples = colours[:, ::-1].astype(np.uint8).tobytes()
        yield Odd(f"bmp{bits}-os2", writers.bmp(up, **size, palette=triples, header=12), colours[numbers])
        if bits > 1:
            file = writers.bmp(writers.bmp_rle(numbers, bits), **size, packing=3 - bits // 4, palette=palette)
            yield Odd(f"bmp{bits}-run-lengths", file, colours[numbers])
        grey = np.linspace(0, 255, 1 << bits).round().astype(int)
        palette = np.pad(rgb(grey[:, np.newaxis])[:, 0], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
        yield Odd(f"bmp{bits}-grey-palette", writers.bmp(up, **size, palette=palette), rgb(grey[numbers]))
    ramp = smooth(11, 13).astype(np.int64)
    rows = np.pad(ramp[::-1, :, ::-1].reshape(11, -1), ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    size = {"width": 13, "height": 11}
    for header in (12, 40, 52, 56, 64, 108, 124):
        yield Odd(f"bmp24-header{header}", writers.bmp(rows, **size, bits=24, header=header), ramp)
    words = (ramp[::-1, :, 0] >> 3 << 10) | (ramp[::-1, :, 1] >> 3 << 5) | (ramp[::-1, :, 2] >> 3)
    packed = np.pad(words, ((0, 0), (0, 1))).astype("<u2").tobytes()
    yield Odd("bmp16-555", writers.bmp(packed, **size, bits=16), np.rint((ramp >> 3) / 31 * 255), 1)
    words = (ramp[::-1, :, 0] >> 3 << 11) | (ramp[::-1, :, 1] >> 2 << 5) | (ramp[::-1, :, 2] >> 3)
    packed = np.pad(words, ((0, 0), (0, 1))).astype("<u2").tobytes()
    file = writers.bmp(packed, **size, bits=16, packing=3, masks=(0xF800, 0x7E0, 0x1F))
    shown = np.stack([np.rint((ramp[..., c] >> s) / m * 255) for c, (s, m) in enumerate(((3, 31), (2, 63), (3, 31)))])
    yield Odd("bmp16-565", file, np.moveaxis(shown, 0, -1), 1)
    for name, alpha in (("alpha", smooth(11, 13, 1)), ("zero-alpha", np.zeros((11, 13, 1), np.int64))):
        four = np.concatenate([ramp[..., ::-1], alpha], axis=-1)[::-1].astype(np.uint8).tobytes()
        shown = over_white(ramp / 255, alpha / 255) if alpha.any() else ramp
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        file = writers.bmp(four, **size, bits=32, packing=3, masks=masks, header=124)
        yield Odd(f"bmp32-{name}", file, shown, 1)
        yield Odd(f"bmp32-plain-{name}", writers.bmp(four, **size, bits=32), ramp)


def gifs() -> Iterator[Odd]:
    """GIF: depths, palettes, frames that are not the screen, and what comes after the first one."""
    colours = np.random.default_rng(9).integers(0, 256, (256, 3))
    for bits in (1, 2, 4, 8):
        numbers = smooth(13, 19, 1, (1 << bits) - 1)[..., 0]
        palette = colours[: 1 << bits].astype(np.uint8).tobytes()
        shown = colours[numbers]
        frame = writers.gif_frame(numbers, bits=bits)
        yield Odd(f"gif{bits}", writers.gif((19, 13), [frame], palette=palette), shown)
        frame = writers.gif_frame(numbers, bits=bits, palette=palette, interlaced=True)
        yield Odd(f"gif{bits}-own-palette-interlaced", writers.gif((19, 13), [frame], version=b"87a"), shown)
        frame = writers.gif_frame(numbers, bits=bits, transparent=1)
        shown = np.where((numbers == 1)[..., np.newaxis], 255, shown)
        yield Odd(f"gif{bits}-clear", writers.gif((19, 13), [frame], palette=palette), shown)
    numbers, palette = smooth(5, 7, 1)[..., 0], colours.astype(np.uint8).tobytes()
    frame, shown = writers.gif_frame(numbers), colours[numbers]
    placed = np.full((13, 19, 3), 255)
    placed[4:9, 3:10] = shown
    at = writers.gif_frame(numbers, at=(3, 4))
    yield Odd("gif-frame-in-a-larger-screen", writers.gif((19, 13), [at], palette=palette), placed)
    yield Odd("gif-frame-over-the-edge", writers.gif((8, 6), [at], palette=palette), placed[:9, :10])
    yield Odd("gif-no-screen", writers.gif((0, 0), [frame], palette=palette), shown)
    second = writers.gif_frame(255 - numbers)
    yield Odd("gif-two-frames", writers.gif((7, 5), [frame, second], palette=palette), shown)
    cut = writers.gif((7, 5), [frame, second], palette=palette)[:-20]
    yield Odd("gif-second-frame-cut", cut, shown)
    notes = b"!\xfe\x05hello\x03abc\0" + b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0" + b"\0\0"
    yield Odd("gif-extensions-and-stray-bytes", writers.gif((7, 5), [notes + frame], palette=palette), shown)
    grey = writers.gif((7, 5), [frame], palette=bytes(i for v in range(256) for i in (v, v, v)))
    yield Odd("gif-grey", grey, rgb(numbers))


def _turned(file_of: Any, name: str, tolerance: float = 0.0, *, height: int = 13, width: int = 19) -> Iterator[Odd]:
    ramp = smooth(height, width)
    for orientation, upright in UPRIGHT.items():
        yield Odd(f"{name}-orientation{orientation}", file_of(ramp, orientation), upright(ramp), tolerance)


def orientations() -> Iterator[Odd]:
    """Every orientation in every format that can carry one."""
    yield from _turned(lambda a, o: writers.png(a, colour=2, before=[writers.png_chunk(b"eXIf", exif(o)[6:])]), "png")
    yield from _turned(
        lambda a, o: writers.png(a, colour=2, after=[writers.png_chunk(b"eXIf", exif(o, order=">")[6:])]), "png-after"
    )
    options: dict[str, Any] = {"quality": 100, "subsampling": 0}
    yield from _turned(lambda a, o: saved(a, "JPEG", exif=exif(o), **options), "jpeg", 4)
    yield from _turned(lambda a, o: saved(a, "WEBP", exif=exif(o), lossless=True), "webp")
    yield from _turned(lambda a, o: saved(a, "AVIF", exif=exif(o), quality=100, subsampling="4:4:4"), "avif", 4)
    yield from _turned(lambda a, o: tiff_rgb(a, {274: (3, [o])}), "tiff")
    yield from _turned(lambda a, o: tiff_rgb(a, {274: (3, [o])}, packing=8), "tiff-deflate")
    ramp = smooth(13, 19)
    for name, block, orientation in (
        ("long", exif(6, kind=4), 6), ("twice", b"Exif\0\0" + exif(3), 3), ("big-endian", exif(8, order=">"), 8),
        ("nine", exif(9), 1), ("zero", exif(0), 1), ("as-bytes", exif(6, kind=1), 1), ("rubbish", b"Exif\0\0rub", 1),
        ("cut", exif(6)[:20], 1), ("offset-too-far", exif(6)[:10] + b"\xff\xff\xff\x7f" + exif(6)[14:], 1),
    ):  # fmt: skip
        upright = UPRIGHT[orientation](ramp)
        yield Odd(f"jpeg-exif-{name}", saved(ramp, "JPEG", exif=block, **options), upright, 4)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield Odd("jpeg-xmp", saved(ramp, "JPEG", xmp=xmp, **options), UPRIGHT[6](ramp), 4)
    yield Odd("jpeg-exif-before-xmp", saved(ramp, "JPEG", exif=exif(3), xmp=xmp, **options), UPRIGHT[3](ramp), 4)
    for packed in (False, True):
        text = b"\1\0\0\0" + zlib.compress(xmp) if packed else b"\0\0\0\0" + xmp
        chunk = writers.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + text)
        yield Odd("png-xmp" + "-packed" * packed, writers.png(ramp, colour=2, before=[chunk]), UPRIGHT[6](ramp))
    digits = exif(8).hex()
    lines = f"\nexif\n{len(exif(8)):8}\n" + "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72)) + "\n"
    chunk = writers.png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(lines.encode()))
    yield Odd("png-raw-profile", writers.png(ramp, colour=2, before=[chunk]), UPRIGHT[8](ramp))


def tiff_rgb(ramp: np.ndarray, tags: dict[int, Any] | None = None, *, packing: int = 1, **options: Any) -> bytes:
    """Return an 8-bit RGB TIFF of one strip."""
    height, width, _ = ramp.shape
    data = ramp.astype(np.uint8).tobytes()
    data = zlib.compress(data) if packing == 8 else writers.packbits(data) if packing == 32773 else data
    every = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [8, 8, 8]), 259: (3, [packing]), 262: (3, [2]),
        277: (3, [3]), 278: (3, [height]), **(tags or {}),
    }  # fmt: skip
    return writers.tiff([data], every, **options)


def tiffs() -> Iterator[Odd]:
    """TIFF: depths, byte orders, strips, tiles, planes and packings, black or white for zero."""
    ramp = smooth(13, 19)
    for order in "<>":
        name = "little" if order == "<" else "big"
        yield Odd(f"tiff-{name}", tiff_rgb(ramp, order=order), ramp)
        for bits in (1, 2, 4, 8, 16):
            top = (1 << bits) - 1
            grey = smooth(13, 19, 1, top)
            if bits == 16:
                data = grey.astype(order + "u2").tobytes()
            else:
                data = writers.packed_rows(grey[..., 0].astype(np.int64), bits, 1)
            for zero in (0, 1):
                tags = {256: (3, [19]), 257: (3, [13]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [zero])}
                shown = np.rint((grey if zero else top - grey) / top * 255)
                file = writers.tiff([data], tags, order=order)
                if bits == 16 and zero == 0 and order == ">":
                    continue  # Pillow knows no such pixels; it is among the hostile ones, as refused
                yield Odd(f"tiff-{name}-grey{bits}-{'black' if zero else 'white'}-is-zero", file, rgb(shown))
        deep = np.random.default_rng(5).integers(0, 65536, (13, 19, 3))
        data = deep.astype(order + "u2").tobytes()
        tags = {256: (3, [19]), 257: (3, [13]), 258: (3, [16] * 3), 259: (3, [1]), 262: (3, [2]), 277: (3, [3])}
        yield Odd(f"tiff-{name}-rgb16", writers.tiff([data], tags, order=order), np.rint(deep / 257), 1)
        tags[259] = (3, [8])
        packed = writers.tiff([zlib.compress(data)], tags, order=order)
        yield Odd(f"tiff-{name}-rgb16-deflate", packed, np.rint(deep / 257), 1)
    yield Odd("tiff-bigtiff", tiff_rgb(ramp, big=True), ramp)
    strips = [ramp[at : at + 4].astype(np.uint8).tobytes() for at in range(0, 13, 4)]
    base: dict[int, Any] = {256: (3, [19]), 257: (3, [13]), 258: (3, [8] * 3), 262: (3, [2]), 277: (3, [3])}
    for packing, pack in ((1, bytes), (5, writers.lzw), (8, zlib.compress), (32773, writers.packbits)):
        tags = {**base, 259: (3, [packing]), 278: (3, [4])}
        yield Odd(f"tiff-strips-packing{packing}", writers.tiff([pack(s) for s in strips], tags), ramp)
        padded = np.pad(ramp, ((0, 3), (0, 13), (0, 0))).astype(np.uint8)
        tiles = [padded[:16, left : left + 16].tobytes() for left in (0, 16)]
        tags = {**base, 259: (3, [packing]), 322: (3, [16]), 323: (3, [16])}
        yield Odd(f"tiff-tiles-packing{packing}", writers.tiff([pack(t) for t in tiles], tags, tiled=True), ramp)
        planes = [pack(ramp[..., c].astype(np.uint8).tobytes()) for c in range(3)]
        tags = {**base, 259: (3, [packing]), 278: (3, [13]), 284: (3, [2])}
        yield Odd(f"tiff-planes-packing{packing}", writers.tiff(planes, tags), ramp)
    steps = np.diff(ramp.astype(np.int16), axis=1, prepend=0).astype(np.uint8).tobytes()
    tags = {**base, 259: (3, [8]), 317: (3, [2])}
    yield Odd("tiff-predictor", writers.tiff([zlib.compress(steps)], tags), ramp)
    colours = np.random.default_rng(4).integers(0, 256, (256, 3))
    numbers = smooth(13, 19, 1)[..., 0]
    tags = {
        256: (3, [19]),
        257: (3, [13]),
        258: (3, [8]),
        262: (3, [3]),
        320: (3, (colours.T * 257).ravel().tolist()),
    }
    yield Odd("tiff-palette", writers.tiff([numbers.astype(np.uint8).tobytes()], tags), colours[numbers])
    tags = {**base, 262: (3, [6]), 530: (3, [1, 1])}
    yield Odd("tiff-ycbcr", writers.tiff([_ycbcr(ramp)], tags), ramp, 2)
    tags[259] = (3, [8])
    yield Odd("tiff-ycbcr-deflate", writers.tiff([zlib.compress(_ycbcr(ramp))], tags), ramp, 2)
    four = smooth(13, 19, 4)
    part = four / 255
    base = {256: (3, [19]), 257: (3, [13]), 258: (3, [8] * 4), 277: (3, [4])}
    data = four.astype(np.uint8).tobytes()
    tags = {**base, 262: (3, [2]), 338: (3, [2])}
    yield Odd("tiff-rgba", writers.tiff([data], tags), over_white(part[..., :3], part[..., 3:]), 1)
    tags = {**base, 262: (3, [2]), 338: (3, [0])}
    yield Odd("tiff-rgb-and-something", writers.tiff([data], tags), ramp)
    tied = np.concatenate([np.rint(four[..., :3] * part[..., 3:]), four[..., 3:]], axis=-1)
    tags = {**base, 262: (3, [2]), 338: (3, [1])}
    shown = over_white(part[..., :3], part[..., 3:])
    yield Odd("tiff-rgb-times-alpha", writers.tiff([tied.astype(np.uint8).tobytes()], tags), shown, 2)
    tags = {**base, 262: (3, [5])}
    shown = np.rint(255 * (1 - part[..., :3]) * (1 - part[..., 3:]))
    yield Odd("tiff-cmyk", writers.tiff([data], tags), shown, 2)
    tags = {256: (3, [19]), 257: (3, [13]), 258: (3, [8] * 2), 262: (3, [1]), 277: (3, [2]), 338: (3, [2])}
    two = smooth(13, 19, 2)
    shown = rgb(over_white(two[..., :1] / 255, two[..., 1:] / 255))
    yield Odd("tiff-grey-alpha", writers.tiff([two.astype(np.uint8).tobytes()], tags), shown, 1)
    yield Odd("tiff-fill-order", _fill_order(), rgb(smooth(13, 19, 1, 1)[..., 0] * 255))
    yield Odd("tiff-jpeg", saved(ramp, "TIFF", compression="jpeg", quality=100), ramp, 6)
    yield Odd("tiff-group4", saved(_bilevel(), "TIFF", compression="group4"), rgb(np.asarray(_bilevel()) * 255))
    pages = [Image.fromarray(ramp.astype(np.uint8)), Image.new("RGB", (5, 5), "red")]
    yield Odd("tiff-two-pages", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]), ramp)
    itself = tiff_rgb(ramp)
    loop = tiff_rgb(ramp, next_ifd=struct.unpack_from("<L", itself, 4)[0])
    yield Odd("tiff-directory-loop", loop, ramp)


def _ycbcr(ramp: np.ndarray) -> bytes:
    y = ramp @ np.array([0.299, 0.587, 0.114])
    planes = [y, (ramp[..., 2] - y) * 0.564 + 128, (ramp[..., 0] - y) * 0.713 + 128]
    return np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8).tobytes()


def _bilevel() -> Image.Image:
    return Image.fromarray(smooth(13, 19, 1)[..., 0] > 100)


def _fill_order() -> bytes:
    bits = np.packbits(smooth(13, 19, 1, 1)[..., 0].astype(np.uint8), axis=1, bitorder="little")
    tags = {256: (3, [19]), 257: (3, [13]), 258: (3, [1]), 259: (3, [1]), 262: (3, [1]), 266: (3, [2])}
    return writers.tiff([bits.tobytes()], tags)


def jpegs() -> Iterator[Odd]:
    """JPEG: colour spaces, samplings, scans, and what phones and printers put around them."""
    ramp = smooth(21, 35)
    for name, options in {
        "baseline": {}, "progressive": {"progressive": True}, "420": {"subsampling": 2}, "422": {"subsampling": 1},
        "restarts": {"restart_marker_blocks": 1}, "rgb": {"keep_rgb": True}, "optimised": {"optimize": True},
    }.items():  # fmt: skip
        file = saved(ramp, "JPEG", **{"quality": 100, "subsampling": 0, **options})
        yield Odd(f"jpeg-{name}", file, ramp, 12 if "subsampling" in options else 4)
    grey = smooth(21, 35, 1)[..., 0]
    yield Odd("jpeg-grey", saved(grey, "JPEG", quality=100), rgb(grey), 2)
    yield Odd("jpeg-grey-progressive", saved(grey, "JPEG", quality=100, progressive=True), rgb(grey), 2)
    four = smooth(21, 35, 4)
    shown = np.rint((1 - four[..., :3] / 255) * (255 - four[..., 3:]))
    cmyk = Image.frombytes("CMYK", (35, 21), four.astype(np.uint8).tobytes())
    yield Odd("jpeg-cmyk-adobe", saved(cmyk, "JPEG", quality=100, subsampling=0), shown, 6)
    yield Odd("jpeg-ycck", _ycck(four), shown, 8)
    plain = saved(ramp, "JPEG", quality=100, subsampling=0)
    yield Odd("jpeg-junk-after-its-end", plain + b"\xff\xd8\xff\xda" * 500, ramp, 4)
    yield Odd("jpeg-fill-bytes", plain[:2] + b"\xff" * 100 + plain[2:], ramp, 4)
    segment = b"\xff\xe5\x00\x10" + b"\xff\xd9\xff\xda" * 3 + b"\xff\xd9"
    yield Odd("jpeg-odd-segments", plain[:2] + segment * 9 + plain[2:], ramp, 4)
    second = Image.new("RGB", (9, 9), "red")
    first = Image.fromarray(ramp.astype(np.uint8))
    mpo = saved(first, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    yield Odd("jpeg-mpo", mpo, ramp, 4)
    broken = mpo.replace(b"MPF\0II", b"MPF\0XX")
    yield Odd("jpeg-broken-mpo", broken, ramp, 4)
    profile = bytes(100_000)
    yield Odd("jpeg-profile", saved(ramp, "JPEG", quality=100, subsampling=0, icc_profile=profile), ramp, 4)
    no_jfif = plain[:2] + plain[4 + int.from_bytes(plain[4:6], "big") :]
    yield Odd("jpeg-without-jfif", no_jfif, ramp, 4)


def _ycck(four: np.ndarray) -> bytes:
    """Return a JPEG whose CMY is stored as YCbCr and whose K is stored inverted, as Photoshop does it."""
    red, green, blue = (four[..., c].astype(float) for c in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - y) * 0.564 + 128, (red - y) * 0.713 + 128
    stored = np.stack([y, cb, cr, 255.0 - four[..., 3]], axis=-1)
    given = Image.frombytes(
        "CMYK", (four.shape[1], four.shape[0]), (255 - np.rint(stored)).astype(np.uint8).tobytes()
    )
    file = bytearray(saved(given, "JPEG", quality=100, subsampling=0))
    file[file.index(b"Adobe") + 11] = 2
    return bytes(file)


def webps() -> Iterator[Odd]:
    """WebP: lossy and lossless, with alpha, animated, with metadata."""
    ramp, four = smooth(13, 19), smooth(13, 19, 4)
    blended = over_white(four[..., :3] / 255, four[..., 3:] / 255)
    clear = Image.fromarray(four.astype(np.uint8))
    yield Odd("webp-lossy", saved(ramp, "WEBP", quality=100), ramp, 14)
    yield Odd("webp-lossless", saved(ramp, "WEBP", lossless=True), ramp)
    yield Odd("webp-lossy-alpha", saved(clear, "WEBP", quality=100, exact=True), blended, 14)
    yield Odd("webp-lossless-alpha", saved(clear, "WEBP", lossless=True, exact=True), blended, 1)
    second = Image.new("RGB", (19, 13), "red")
    for name, options in (("lossless", {"lossless": True}), ("lossy", {"quality": 100})):
        first = Image.fromarray(ramp.astype(np.uint8))
        file = saved(first, "WEBP", save_all=True, append_images=[second], **options)
        yield Odd(f"webp-animated-{name}", file, ramp, 0 if name == "lossless" else 14)
    file = saved(ramp, "WEBP", lossless=True, exif=exif(1), xmp=b"<x/>", icc_profile=bytes(1000))
    yield Odd("webp-metadata", file, ramp)
    yield Odd("webp-metadata-cut", file[:-3], ramp)
    yield Odd("webp-frame-in-a-larger-canvas", _webp_placed(ramp), _placed(ramp))


def _placed(ramp: np.ndarray) -> np.ndarray:
    canvas = np.full((20, 30, 3), 255)
    canvas[4:17, 6:25] = ramp
    return canvas


def _webp_placed(ramp: np.ndarray) -> bytes:
    frame = saved(ramp, "WEBP", lossless=True)[12:]

    def triple(value: int) -> bytes:
        return value.to_bytes(3, "little")

    body = triple(3) + triple(2) + triple(18) + triple(12) + triple(100) + b"\0" + frame
    chunks = b"VP8X" + struct.pack("<L", 10) + b"\x02\0\0\0" + triple(29) + triple(19)
    chunks += b"ANIM" + struct.pack("<LLH", 6, 0, 0) + b"ANMF" + struct.pack("<L", len(body)) + body
    return b"RIFF" + struct.pack("<L", 4 + len(chunks)) + b"WEBP" + chunks


def avifs() -> Iterator[Odd]:
    """AVIF: with alpha, grey, animated."""
    ramp, four = smooth(14, 20), smooth(14, 20, 4)
    yield Odd("avif", saved(ramp, "AVIF", quality=100, subsampling="4:4:4"), ramp, 4)
    yield Odd("avif-420", saved(ramp, "AVIF", quality=100), ramp, 14)
    blended = over_white(four[..., :3] / 255, four[..., 3:] / 255)
    clear = Image.fromarray(four.astype(np.uint8))
    yield Odd("avif-alpha", saved(clear, "AVIF", quality=100, subsampling="4:4:4"), blended, 6)
    grey = smooth(14, 20, 1)[..., 0]
    yield Odd("avif-grey", saved(grey, "AVIF", quality=100), rgb(grey), 4)
    second = Image.new("RGB", (20, 14), "red")
    first = Image.fromarray(ramp.astype(np.uint8))
    file = saved(first, "AVIF", save_all=True, append_images=[second], quality=100, subsampling="4:4:4")
    yield Odd("avif-animated", file, ramp, 4)


def sizes() -> Iterator[Odd]:
    """The smallest pictures and the longest, in every format that does not lose pixels."""
    for height, width in ((1, 1), (1, 300), (300, 1), (2, 3), (7, 1000), (1000, 7)):
        ramp = smooth(height, width)
        name = f"{width}x{height}"
        yield Odd(f"png-{name}", writers.png(ramp, colour=2), ramp)
        rows = np.pad(ramp[::-1, :, ::-1].reshape(height, -1), ((0, 0), (0, -width * 3 % 4))).astype(np.uint8)
        yield Odd(f"bmp-{name}", writers.bmp(rows.tobytes(), width=width, height=height, bits=24), ramp)
        yield Odd(f"webp-{name}", saved(ramp, "WEBP", lossless=True), ramp)
        yield Odd(f"jpeg-{name}", saved(ramp, "JPEG", quality=100, subsampling=0), ramp, 6)
        grey = smooth(height, width, 1)[..., 0]
        palette = bytes(i for v in range(256) for i in (v, 255 - v, 7))
        shown = np.stack([grey, 255 - grey, np.full_like(grey, 7)], axis=-1)
        yield Odd(f"gif-{name}", writers.gif((width, height), [writers.gif_frame(grey)], palette=palette), shown)
    for height, width in ((1, 1), (1, 300), (300, 1)):
        ramp = smooth(height, width)
        yield Odd(f"tiff-{width}x{height}", tiff_rgb(ramp), ramp)
        yield Odd(f"avif-{width}x{height}", saved(ramp, "AVIF", quality=100, subsampling="4:4:4"), ramp, 6)


def every() -> list[Odd]:
    """Return all of them."""
    families = (pngs, bmps, gifs, orientations, tiffs, jpegs, webps, avifs, sizes)
    return [odd for family in families for odd in family()]
