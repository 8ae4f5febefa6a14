"""
Hostile pictures, made from a seed: files that lie, loop, blow up, stop short or are none at all.

Each attack is one function; what it yields is one class. A file is either refused, with one of our errors, or read
right: `right` holds its pixels where reading is allowed, ANY where any pixels will do (a flipped bit in the data is a
picture too). Nothing else counts as an answer.
"""

from __future__ import annotations

import functools
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from classy.errors import PictureTooCostly, PictureTooLarge, UnreadablePicture
from pictures import boxes, writers
from pictures.odd import exif, rgb, saved, smooth, tiff_rgb

REFUSED: Final = "refused"
ANY: Final = "any"
Right = str | np.ndarray


@dataclass(frozen=True)
class Hostile:
    """
    One file and what may come of it.

    Args:
        attack: Its class.
        right: REFUSED, ANY, or the pixels that it shows.
        errors: The errors that it may be refused with.
        heavy: It may take up to 5 s, because the picture is as large as is allowed.
    """

    attack: str
    name: str
    file: bytes
    right: Right = REFUSED
    errors: tuple[type[Exception], ...] = (UnreadablePicture, PictureTooLarge, PictureTooCostly)
    heavy: bool = False


Yield = tuple[str, bytes] | tuple[str, bytes, dict[str, Any]]
_ATTACKS: dict[str, Callable[[random.Random], Iterable[Yield]]] = {}
NOT_READ = {"errors": (UnreadablePicture,)}
TOO_LARGE = {"errors": (PictureTooLarge,)}
TOO_COSTLY = {"errors": (PictureTooCostly,)}
LARGEST = (7_300, 5_400)  # 39.4 Mpx, just inside the limit
MB = 1_000_000


def attack(function: Callable[[random.Random], Iterable[Yield]]) -> Callable[[random.Random], Iterable[Yield]]:
    """Enter a function into the list of attacks, by its name."""
    _ATTACKS[function.__name__.replace("_", "-")] = function
    return function


def corpus(seed: int = 0, *, heavy: bool = False, most_each: int | None = None) -> Iterator[Hostile]:
    """
    Make the corpus.

    Args:
        seed: The same one makes the same files.
        heavy: Only the heavy ones; else only the others.
        most_each: Pictures of one class, at most.
    """
    for name, make in _ATTACKS.items():
        if name.startswith("heavy-") == heavy:
            for made in itertools.islice(make(random.Random(f"{seed} {name}")), most_each):
                more: dict[str, Any] = made[2] if len(made) == 3 else {}
                yield Hostile(name, made[0], made[1], heavy=heavy, **more)


def attacks() -> list[str]:
    """Return the names of all classes."""
    return list(_ATTACKS)


def _ramp() -> np.ndarray:
    return smooth(13, 19)


def _image(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(smooth(height, width).astype(np.uint8))


def _bases() -> dict[str, bytes]:
    """Return one good file per format and kind, to be cut and flipped."""
    image = _image()
    alpha = image.copy()
    alpha.putalpha(image.getchannel(0))
    return {
        "jpeg": saved(image, "JPEG"), "jpeg-progressive": saved(image, "JPEG", progressive=True),
        "png": saved(image, "PNG"), "png-interlaced": writers.png(smooth(48, 64), colour=2, interlaced=True),
        "gif": saved(image.quantize(64), "GIF"), "bmp": saved(image, "BMP"),
        "webp": saved(image, "WEBP"), "webp-lossless": saved(image, "WEBP", lossless=True),
        "webp-alpha": saved(alpha, "WEBP"), "tiff": tiff_rgb(smooth(48, 64)),
        "tiff-lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": saved(image, "TIFF", compression="jpeg"), "avif": saved(image, "AVIF"),
    }  # fmt: skip


# ---------------------------------------------------------------- no picture at all


@attack
def nothing(_: random.Random) -> Iterator[Yield]:
    yield "empty", b"", NOT_READ
    yield "one byte", b"\xff", NOT_READ
    yield "zeros", bytes(1000), NOT_READ


@attack
def texts(_: random.Random) -> Iterator[Yield]:
    yield "text", b"Dear sir or madam,\n", NOT_READ
    yield "html", b"\n <!DOCTYPE html><html><body>404</body></html>", NOT_READ
    yield "json", b'{"error": "not found"}', NOT_READ
    yield "utf-16", "not a picture".encode("utf-16"), NOT_READ
    yield "html after a GIF's name", b"GIF89a=1;<script>alert(1)</script>", NOT_READ


@attack
def random_bytes(rng: random.Random) -> Iterator[Yield]:
    for size in (10, 1_000, MB):
        yield f"{size}", rng.randbytes(size), NOT_READ


@attack
def magic_and_nothing(rng: random.Random) -> Iterator[Yield]:
    for name, base in _bases().items():
        yield f"{name} noise", base[:16] + rng.randbytes(5_000), {}
    for length, (name, base) in itertools.product((12, 26), _bases().items()):
        yield f"{name} {length}", base[:length], NOT_READ


@attack
def other_formats(_: random.Random) -> Iterator[Yield]:
    image = _image()
    for name in (
        "PPM",
        "TGA",
        "PCX",
        "ICO",
        "JPEG2000",
        "SGI",
        "DDS",
        "PDF",
        "EPS",
        "MSP",
        "XBM",
        "ICNS",
        "QOI",
    ):
        picture = image.convert("1") if name in ("MSP", "XBM") else image.resize((32, 32))
        yield name, saved(picture, name), NOT_READ
    for name, start in {
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "film": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
        "HEIF without AV1": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "PSD": b"8BPS\0\1", "ZIP": b"PK\3\4",
        "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n", "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "gzip": b"\x1f\x8b\x08",
        "BigTIFF, big-endian": b"MM\0+\0\x08\0\0",
    }.items():  # fmt: skip
        yield name, start + bytes(100), NOT_READ


@attack
def too_many_bytes(_: random.Random) -> Iterator[Yield]:
    yield "jpeg", saved(_image(), "JPEG").ljust(20 * MB + 1, b"\0"), TOO_LARGE
    yield "text", b"x" * (20 * MB + 1), TOO_LARGE


# ---------------------------------------------------------------- any format, cut or flipped


@attack
def cut_short(rng: random.Random) -> Iterator[Yield]:
    for part, (name, base) in itertools.product((0.7, 0.4, 0.9, rng.random()), _bases().items()):
        most = len(base) - (10 if name in ("gif", "avif") else 40)
        yield f"{name} {part:.2f}", base[: max(30, min(int(len(base) * part), most))], {}


@attack
def flipped_bits(rng: random.Random) -> Iterator[Yield]:
    for turn, (name, base) in itertools.product(range(3), _bases().items()):
        file = bytearray(base)
        for _ in range(1 << 2 * turn):
            file[rng.randrange(len(file))] ^= 1 << rng.randrange(8)
        yield f"{name} {turn}", bytes(file), {"right": ANY}


@attack
def flipped_header_bytes(rng: random.Random) -> Iterator[Yield]:
    for turn, (name, base) in itertools.product(range(3), _bases().items()):
        file = bytearray(base)
        file[rng.randrange(8, min(len(file), 120))] = rng.choice([0, 1, 127, 128, 254, 255])
        yield f"{name} {turn}", bytes(file), {"right": ANY}


@attack
def spliced(rng: random.Random) -> Iterator[Yield]:
    bases = _bases()
    for name, base in bases.items():
        other = bases[rng.choice(list(bases))]
        at = rng.randrange(20, len(base))
        yield f"{name}", base[:at] + other[rng.randrange(len(other)) :], {"right": ANY}


# ---------------------------------------------------------------- JPEG


def _jpeg_parts(file: bytes) -> tuple[bytes, int, int]:
    """Return a JPEG, where its frame header starts and where its first scan header starts."""
    frame = max(file.find(b"\xff\xc0\0\x11\x08"), file.find(b"\xff\xc2\0\x11\x08"))
    return file, frame, file.index(b"\xff\xda", frame)


def _sized_jpeg(width: int, height: int, **options: Any) -> bytes:
    file, frame, _ = _jpeg_parts(saved(_image(), "JPEG", **options))
    return file[: frame + 5] + struct.pack(">HH", height, width) + file[frame + 9 :]


def scan_bomb(width: int, height: int, scans: int, kind: str) -> bytes:
    """
    Return a progressive JPEG of one colour with scans that say nothing, each over the whole picture.

    Args:
        kind: "first" and "refine" go over the AC coefficients in runs of 32,767 blocks; "dc" takes a bit per block.
    """
    file = saved(Image.new("L", (width, height), 128), "JPEG", progressive=True, quality=50)
    blocks = -(-width // 8) * -(-height // 8)
    if kind == "dc":
        table, data, scan = b"", bytes(-(-blocks // 8)), (0, 0, 0x10)
    else:
        table = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1] + [0] * 15) + b"\xe0"
        bits = ("0" + "1" * 14) * -(-blocks // 32_767)
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        scan = (1, 63, 0x01 if kind == "first" else 0x10)
    header = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, *scan)
    return file[:-2] + table + (header + data) * scans + b"\xff\xd9"


@attack
def jpeg_huge_sizes(_: random.Random) -> Iterator[Yield]:
    for width, height in ((65_500, 65_500), (40_000, 40_000), (6_400, 6_400), (65_500, 610)):
        yield f"{width} × {height}", _sized_jpeg(width, height), TOO_LARGE
    yield "a long side", _sized_jpeg(20_001, 8), TOO_LARGE


@attack
def jpeg_no_size(_: random.Random) -> Iterator[Yield]:
    yield "no width", _sized_jpeg(0, 48), NOT_READ
    yield "no height (DNL)", _sized_jpeg(64, 0), NOT_READ


@attack
def jpeg_little_data_for_its_size(_: random.Random) -> Iterator[Yield]:
    for width, height in ((7_000, 5_600), (20_000, 2_000), (3_000, 3_000)):
        yield f"baseline {width}", _sized_jpeg(width, height), NOT_READ
        yield f"progressive {width}", _sized_jpeg(width, height, progressive=True), NOT_READ


@attack
def jpeg_scan_bomb(_: random.Random) -> Iterator[Yield]:
    for kind in ("first", "refine"):
        yield f"{kind}, 4 Mpx", scan_bomb(2_000, 2_000, 900, kind), TOO_COSTLY
        yield f"{kind}, 39 Mpx", scan_bomb(*LARGEST, 150, kind), TOO_COSTLY
    yield "dc, 4 Mpx", scan_bomb(2_000, 2_000, 900, "dc"), TOO_COSTLY
    yield "100,000 scans", scan_bomb(64, 64, 100_000, "first"), TOO_COSTLY
    yield "few scans", scan_bomb(640, 480, 90, "refine"), {"right": rgb(np.full((480, 640), 128))}


@attack
def jpeg_repeated_baseline_scans(_: random.Random) -> Iterator[Yield]:
    file, _, scan = _jpeg_parts(saved(Image.new("RGB", (3_000, 2_000), "red"), "JPEG"))
    one = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(30_000)
    yield "of one channel", file[:scan] + one * 600 + b"\xff\xd9", TOO_COSTLY


@attack
def jpeg_kinds_not_read(_: random.Random) -> Iterator[Yield]:
    file, frame, _ = _jpeg_parts(saved(_image(), "JPEG"))
    for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF):
        yield f"{marker:x}", file[: frame + 1] + bytes([marker]) + file[frame + 2 :], NOT_READ
    yield "12 bits", file[: frame + 4] + b"\x0c" + file[frame + 5 :], NOT_READ


@attack
def jpeg_odd_frames(_: random.Random) -> Iterator[Yield]:
    file, frame, scan = _jpeg_parts(saved(_image(), "JPEG"))
    for count in (0, 2, 5, 255):
        yield f"{count} channels", file[: frame + 9] + bytes([count]) + file[frame + 10 :], NOT_READ
    for factors in (0x00, 0x51, 0x15, 0xFF):
        yield f"sampling {factors:x}", file[: frame + 11] + bytes([factors]) + file[frame + 12 :], NOT_READ
    head = file[frame:scan]
    yield "two frames", file[:scan] + head + file[scan:], NOT_READ
    yield "two names alike", file[: frame + 13] + b"\1" + file[frame + 14 :], NOT_READ
    yield "scan before frame", file[:frame] + file[scan:], NOT_READ
    yield "frame of two bytes", file[: frame + 2] + b"\0\2" + file[scan:], NOT_READ
    yield "large chroma", file[: frame + 11] + b"\x11\0\2\x44" + file[frame + 15 :], {"right": ANY}


@attack
def jpeg_segments(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(), "JPEG")
    yield "five million", file[:2] + b"\xff\xe5\0\2" * 4_900_000 + file[2:], TOO_COSTLY
    yield "fill bytes", file[:2] + b"\xff" * 19 * MB + file[2:], {"right": ANY}
    yield "escaped junk", file[:2] + b"\xff\0" * 9_500_000 + file[2:], {"right": ANY}
    yield "longer than the file", file[:2] + b"\xff\xe5\xff\xff" + file[2:400], NOT_READ
    yield "length 0", file[:2] + b"\xff\xe5\0\0" + file[2:], NOT_READ
    yield "ends before its picture", file[:20] + b"\xff\xd9", NOT_READ
    yield "starts only", b"\xff\xd8" * 1_000_000, {}


@attack
def jpeg_tables(rng: random.Random) -> Iterator[Yield]:
    file, _, scan = _jpeg_parts(saved(_image(), "JPEG"))
    for name, mark in (("no quantisation", b"\xff\xdb"), ("no codes", b"\xff\xc4")):
        bare = file
        while mark in bare[:scan]:
            at = bare.index(mark)
            bare = bare[:at] + bare[at + 2 + int.from_bytes(bare[at + 2 : at + 4], "big") :]
        yield (
            name,
            bare,
            {"right": ANY} if name == "no codes" else NOT_READ,
        )  # the codes that all cameras use stand in
    at = file.index(b"\xff\xc4")
    for turn in range(3):
        lengths = bytes(rng.randrange(256) for _ in range(16))
        yield f"codes that overflow {turn}", file[: at + 5] + lengths + file[at + 21 :], {}


@attack
def jpeg_metadata(rng: random.Random) -> Iterator[Yield]:
    image = _image()
    shown = {"right": ANY}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, 8) for tag in range(5_000))
    giant = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 5_000) + entries
    yield "exif of 5,000 entries", saved(image, "JPEG", exif=giant), shown
    itself = (
        b"Exif\0\0II*\0" + struct.pack("<LHHHLL", 8, 2, 0x8769, 4, 1, 8) + struct.pack("<HHLLL", 0x8825, 4, 1, 8, 8)
    )
    yield "exif that points to itself", saved(image, "JPEG", exif=itself), shown
    huge = b"Exif\0\0MM\0*" + struct.pack(">LHHHLL", 8, 1, 0x0112, 3, 0xFFFFFFFF, 0xFFFFFFFF)
    yield "exif with a value of 8 GB", saved(image, "JPEG", exif=huge), shown
    yield "exif of noise", saved(image, "JPEG", exif=b"Exif\0\0II*\0" + rng.randbytes(60_000)), shown
    file = saved(image, "JPEG")
    photoshop = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5_000
    segment = b"\xff\xed" + struct.pack(">H", 2 + len(photoshop)) + photoshop
    yield "photoshop blocks", file[:2] + segment * 250 + file[2:], shown
    part = b"ICC_PROFILE\0\1\xff" + bytes(60_000)
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(part)) + part
    yield "profile in parts all named 1", file[:2] + segment * 250 + file[2:], shown
    packet = b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation" * 3_000
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(packet)) + packet
    yield "xmp", file[:2] + segment * 250 + file[2:], shown
    mpo = b"MPF\0II*\0" + struct.pack("<LHHHLLHHLLL", 8, 2, 0xB001, 4, 1, 65_535, 0xB002, 7, 16 * 65_535, 8, 0)
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(mpo)) + mpo
    yield "65,535 pictures in one", file[:2] + segment + file[2:], shown


@attack
def jpeg_inside(rng: random.Random) -> Iterator[Yield]:
    file, _, scan = _jpeg_parts(saved(_image(640, 480), "JPEG", restart_marker_blocks=2))
    head, data = file[: scan + 14], file[scan + 14 : -2]
    yield "restarts out of order", head + data.replace(b"\xff\xd0", b"\xff\xd5") + b"\xff\xd9", {"right": ANY}
    yield "noise", head + rng.randbytes(200_000).replace(b"\xff", b"") + b"\xff\xd9", {"right": ANY}
    yield "restarts only", head + b"\xff\xd0" * 100_000 + b"\xff\xd9", {"right": ANY}
    yield "lengths in the data", head + b"\xff\xdc\xff\xff" * 1_000 + data, {"right": ANY}


@attack
def jpeg_progressions(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(), "JPEG", progressive=True)
    first = file.index(b"\xff\xda")
    scans = [at for at in range(first, len(file) - 1) if file[at : at + 2] == b"\xff\xda"]
    for name, fields in {"from 64 to 255": b"\x40\xff\0", "backwards": b"\x3f\x01\0", "bits": b"\0\0\xff"}.items():
        at = scans[1] + 4 + 2 * file[scans[1] + 4] + 1
        yield name, file[:at] + fields + file[at + 3 :], {"right": ANY}
    yield "without the first scan", file[:first] + file[scans[1] :], {"right": ANY}
    yield "ends after the first scan", file[: scans[1]] + b"\xff\xd9", {"right": ANY}
    yield (
        "backwards scans",
        file[:first] + file[scans[-1] : -2] + file[first : scans[-1]] + b"\xff\xd9",
        {"right": ANY},
    )


@attack
def polyglots(_: random.Random) -> Iterator[Yield]:
    ramp, script = _ramp(), b"*/alert(1);/*"
    page = b"<html><script>" + script + b"</script></html>"
    yield "png and zip", _png_with() + b"PK\5\6" + bytes(18), {"right": ramp}
    yield "gif and script", _gif()[:-1] + b"!\xfe\x0d" + script + b"\0;" + script, {"right": _GIF_SHOWN}
    file = saved(ramp, "JPEG", quality=100, subsampling=0, comment=page)
    yield "jpeg and page", file + page, {"right": ANY}
    yield (
        "bmp and page",
        writers.bmp(bytes(60 * 13), width=19, height=13, bits=24) + page,
        {"right": np.zeros((13, 19, 3))},
    )
    yield "pdf and jpeg", b"%PDF-1.7\n" + file, NOT_READ
    yield "space and jpeg", b" " + file, NOT_READ


# ---------------------------------------------------------------- PNG


def _raw_png(
    width: int, height: int, bits: int, colour: int, data: bytes, *more: bytes, interlaced: int = 0
) -> bytes:
    head = writers.png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, interlaced))
    chunks = [*more, writers.png_chunk(b"IDAT", data), writers.png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks)


@functools.cache
def _zeros(count: int) -> bytes:
    """Return `count` zeros, deflated."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(MB, count - at))) for at in range(0, count, MB)]
    return b"".join(parts) + packer.flush()


def _png_with(*before: bytes, after: Iterable[bytes] = ()) -> bytes:
    return writers.png(_ramp(), colour=2, before=before, after=after)


@attack
def png_huge_sizes(_: random.Random) -> Iterator[Yield]:
    for width, height in ((10_000, 10_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (20_001, 1), (1, 40_000)):
        yield f"{width} × {height}", _raw_png(width, height, 8, 2, _zeros(100)), TOO_LARGE
    yield "no width", _raw_png(0, 10, 8, 2, _zeros(100)), NOT_READ


@attack
def png_bombs_beside_the_picture(_: random.Random) -> Iterator[Yield]:
    shown = {"right": _ramp()}
    bomb = _zeros(100 * MB)
    yield "text", _png_with(writers.png_chunk(b"zTXt", b"Comment\0\0" + bomb)), shown
    yield "international text", _png_with(writers.png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb)), shown
    yield "profile", _png_with(writers.png_chunk(b"iCCP", b"sRGB\0\0" + bomb)), shown
    packed = _zeros(5 * MB)
    many = [writers.png_chunk(b"zTXt", b"Comment\0\0" + packed)] * 2_000
    yield "2,000 texts", _png_with(*many), shown
    many = [writers.png_chunk(b"zTXt", b"Raw profile type exif\0\0" + packed)] * 2_000
    yield "2,000 texts that may hold an orientation", _png_with(after=many), shown
    many = [writers.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)] * 2_000
    yield "2,000 packed XMPs", _png_with(after=many), shown


@attack
def png_exif(rng: random.Random) -> Iterator[Yield]:
    for name, body in {
        "prefixes": b"Exif\0\0" * 2_000_000, "noise": b"II*\0" + rng.randbytes(2 * MB),
        "itself": exif(1)[6:14] + b"\xff\xff" + exif(1)[16:], "empty": b"",
    }.items():  # fmt: skip
        yield name, _png_with(writers.png_chunk(b"eXIf", body)), {"right": _ramp()}


@attack
def png_chunks(_: random.Random) -> Iterator[Yield]:
    yield "1.6 million, empty", _png_with(*[writers.png_chunk(b"teSt", b"")] * 1_600_000), TOO_COSTLY
    empty = writers.png_chunk(b"IDAT", b"")
    yield "1.6 million empty pieces of data", _png_with(after=[empty] * 1_600_000), TOO_COSTLY
    file = _png_with()
    at = file.index(b"IDAT") - 4
    yield "data of 4 GB", file[:at] + b"\xff\xff\xff\xff" + file[at + 4 :], NOT_READ
    yield "text of 4 GB", file[:at] + b"\xff\xff\xff\xfftEXt" + file[at:], NOT_READ
    yield "no data", file[:at] + writers.png_chunk(b"IEND", b""), NOT_READ
    yield "data before the header", file[:8] + file[at:], NOT_READ
    yield "two headers", file[:33] + file[8:], {"right": ANY}
    yield "Apple's own", file[:8] + writers.png_chunk(b"CgBI", b"\x50\0\x20\2") + file[8:], NOT_READ
    yield "wrong checksum", file[:29] + bytes(4) + file[33:], NOT_READ


@attack
def png_headers(_: random.Random) -> Iterator[Yield]:
    for bits, colour in ((3, 0), (16, 3), (4, 2), (1, 6), (8, 1), (8, 5), (8, 7), (0, 0), (255, 255)):
        yield f"{bits} bits, colour type {colour}", _raw_png(4, 4, bits, colour, _zeros(1_000)), NOT_READ
    yield "interlacing 2", _raw_png(4, 4, 8, 2, _zeros(1_000), interlaced=2), NOT_READ


@attack
def png_missing_rows(_: random.Random) -> Iterator[Yield]:
    row = b"\0" + b"\x40" * 57
    for count in (0, 1, 12):
        yield f"{count} of 13", _raw_png(19, 13, 8, 2, zlib.compress(row * count)), NOT_READ
    yield "half a row", _raw_png(19, 13, 8, 2, zlib.compress(row * 12 + row[:20])), NOT_READ
    yield "interlaced", _raw_png(19, 13, 8, 2, zlib.compress(row * 3), interlaced=1), NOT_READ
    yield "5,000 × 5,000", _raw_png(5_000, 5_000, 8, 2, _zeros(15 * MB)), NOT_READ
    yield "black to the end", _raw_png(19, 13, 8, 2, zlib.compress(bytes(58 * 13))), {"right": np.zeros((13, 19, 3))}


@attack
def png_spoilt_data(rng: random.Random) -> Iterator[Yield]:
    rows = b"".join(b"\0" + rng.randbytes(57) for _ in range(13))
    packed = zlib.compress(rows)
    for at in (2, 30, 300):
        spoilt = packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]
        yield f"at {at}", _raw_png(19, 13, 8, 2, spoilt), {"right": ANY}
    for kind in (5, 99, 255):
        yield f"filter {kind}", _raw_png(19, 13, 8, 2, zlib.compress(bytes([kind]) + rows[1:])), NOT_READ
    yield "no zlib", _raw_png(19, 13, 8, 2, rng.randbytes(700)), NOT_READ


@attack
def png_slack(rng: random.Random) -> Iterator[Yield]:
    rows = writers.png_rows(_ramp(), 8)
    shown = {"right": _ramp()}
    yield "more rows", _raw_png(19, 13, 8, 2, zlib.compress(rows + bytes(100 * MB))), shown
    yield "bytes after the data", _raw_png(19, 13, 8, 2, zlib.compress(rows) + rng.randbytes(15 * MB)), shown
    empty = b"\0\0\0\xff\xff" * 3_000_000  # stored blocks of nothing
    yield "empty blocks before", _raw_png(19, 13, 8, 2, b"\x78\x01" + empty + zlib.compress(rows)[2:]), shown
    yield "bytes after the end", _png_with() + rng.randbytes(15 * MB), shown


@attack
def png_palettes(_: random.Random) -> Iterator[Yield]:
    numbers = smooth(13, 19, 1)
    yield "none", writers.png(numbers, colour=3), NOT_READ
    yield "too short", writers.png(numbers, colour=3, palette=b"\1\2\3"), {"right": ANY}
    yield "not in threes", writers.png(numbers, colour=3, palette=b"\1\2\3\4"), {"right": ANY}
    yield "too long", writers.png(numbers, colour=3, palette=bytes(3 * 5_000)), {"right": ANY}
    alphas = writers.png(numbers, colour=3, palette=bytes(768), transparent=bytes(5_000))
    yield "too many alphas", alphas, NOT_READ
    late = writers.png(numbers, colour=3, after=[writers.png_chunk(b"PLTE", bytes(768))])
    yield "after the data", late, NOT_READ
    key = writers.png(_ramp(), colour=2, transparent=b"\0")
    yield "half a transparent colour", key, {"right": _ramp()}


@attack
def png_animations(_: random.Random) -> Iterator[Yield]:
    control = struct.pack(">LLLLLHHBB", 0, 19, 13, 2**31, 2**31, 1, 100, 0, 0)
    acts = writers.png_chunk(b"acTL", struct.pack(">LL", 2**31 - 1, 0)), writers.png_chunk(b"fcTL", control)
    yield "a frame far outside", _png_with(*acts), {"right": _ramp()}
    yield "2 billion frames", _png_with(acts[0]), {"right": _ramp()}


# ---------------------------------------------------------------- GIF


def _gif(numbers: np.ndarray | None = None, **options: Any) -> bytes:
    frame = writers.gif_frame(smooth(13, 19, 1)[..., 0] if numbers is None else numbers, **options)
    return writers.gif((19, 13), [frame], palette=_PALETTE)


_PALETTE: Final = bytes(value for number in range(256) for value in (number, 255 - number, 7))
_GIF_SHOWN: Final = np.stack(
    [smooth(13, 19, 1)[..., 0], 255 - smooth(13, 19, 1)[..., 0], np.full((13, 19), 7)], axis=-1
)


@attack
def gif_huge_sizes(_: random.Random) -> Iterator[Yield]:
    frame = writers.gif_frame(smooth(13, 19, 1)[..., 0])
    yield "screen", writers.gif((65_535, 65_535), [frame], palette=_PALETTE), TOO_LARGE
    wide = frame[:5] + struct.pack("<HH", 65_535, 65_535) + frame[9:]
    yield "frame", writers.gif((19, 13), [wide], palette=_PALETTE), TOO_LARGE
    yield "frame far away", _gif(at=(65_000, 65_000)), TOO_LARGE
    none = frame[:5] + bytes(4) + frame[9:]
    yield "no frame size", writers.gif((19, 13), [none], palette=_PALETTE), NOT_READ


@attack
def gif_codes(rng: random.Random) -> Iterator[Yield]:
    head = _gif()[: 13 + 768 + 10]
    for bits in (0, 9, 12, 255):
        yield f"{bits} bits", head + bytes([bits]) + b"\x05abcde\0;", NOT_READ
    for name, codes in {
        "end at once": [256, 257], "end in the middle": [256, *range(100), 257], "never used": [256, 1, 400],
        "no clear": [5, 6, 7], "clears only": [256] * 100_000,
    }.items():  # fmt: skip
        yield name, head + b"\x08" + writers.gif_packed(codes, 9) + b"\0;", {}
    yield "noise", head + b"\x08" + b"".join(b"\xff" + rng.randbytes(255) for _ in range(50)) + b"\0;", {"right": ANY}
    yield "no block", head + b"\x08\0;", NOT_READ
    yield "no data", head + b"\x08", NOT_READ


@attack
def gif_blocks(_: random.Random) -> Iterator[Yield]:
    whole = _gif()
    head, frame = whole[: 13 + 768], whole[13 + 768 :]
    yield "ten million in a comment", head + b"!\xfe" + b"\1a" * 9_900_000 + b"\0" + frame, TOO_COSTLY
    yield "five million comments", head + b"!\xfe\1a\0" * 3_900_000 + frame, TOO_COSTLY
    yield "stray bytes", head + bytes(19 * MB) + frame, TOO_COSTLY
    yield "no frame", head + b";", NOT_READ
    yield "a comment without end", head + b"!\xfe" + b"\xff" * 5_000, NOT_READ
    yield "cut in the palette", whole[:300], NOT_READ
    own = writers.gif((19, 13), [writers.gif_frame(smooth(13, 19, 1)[..., 0], palette=_PALETTE)])
    yield "cut in the frame's palette", own[:300], NOT_READ


@attack
def gif_odd_frames(_: random.Random) -> Iterator[Yield]:
    numbers = smooth(13, 19, 1)[..., 0]
    yield "transparent colour that it has not", _gif(numbers % 200, transparent=255), {"right": ANY}
    tail = writers.gif_frame(smooth(300, 300, 1)[..., 0]) * 20
    yield "many more frames", _gif()[:-1] + tail + b";", {"right": _GIF_SHOWN}
    yield "noise after the frame", _gif()[:-1] + bytes(range(1, 256)) * 50_000, {"right": _GIF_SHOWN}


# ---------------------------------------------------------------- BMP


@attack
def bmp_sizes(_: random.Random) -> Iterator[Yield]:
    for width, height in ((-19, 13), (2**31 - 1, 1), (1, -(2**31)), (40_000, 40_000), (0, 0), (20_001, 1)):
        yield f"{width} × {height}", writers.bmp(bytes(1_000), width=width, height=height, bits=24), {}


@attack
def bmp_headers(_: random.Random) -> Iterator[Yield]:
    good = writers.bmp(bytes(60 * 13), width=19, height=13, bits=24)
    for size in (0, 11, 13, 41, 2**31, 2**32 - 1):
        yield f"header of {size} bytes", good[:14] + struct.pack("<L", size) + good[18:], NOT_READ
    for bits in (0, 2, 3, 12, 48, 64, 65_535):
        yield f"{bits} bits", good[:28] + struct.pack("<H", bits) + good[30:], NOT_READ
    for packing in (4, 5, 6, 11, 2**32 - 1):
        yield f"packing {packing}", good[:30] + struct.pack("<L", packing) + good[34:], NOT_READ
    for start in (2**32 - 1, len(good)):
        yield f"pixels at {start}", good[:10] + struct.pack("<L", start) + good[14:], NOT_READ
    yield "cut short", good[:-1], NOT_READ
    one = writers.bmp(bytes(13 * 20), width=19, height=13, bits=8, palette=bytes(1_024))
    yield "4 billion colours", one[:46] + struct.pack("<L", 2**32 - 1) + one[50:], NOT_READ
    masks = (0x123, 0x456, 0x789, 0)
    yield "odd masks", writers.bmp(bytes(76 * 13), width=19, height=13, bits=32, packing=3, masks=masks), NOT_READ


@attack
def bmp_run_lengths(rng: random.Random) -> Iterator[Yield]:
    palette = bytes(1_024)

    def packed(data: bytes, *, bits: int = 8, width: int = 19, height: int = 13) -> bytes:
        return writers.bmp(data, width=width, height=height, bits=bits, packing=3 - bits // 4, palette=palette)

    yield "twenty million bytes of runs", packed(b"\1\7" * 9_900_000, width=6_000, height=6_000), {}
    yield "runs of four bits", packed(b"\xff\x12" * 200_000, bits=4, width=6_000, height=6_000), {}
    yield "ends of line", packed(b"\0\0" * 7_000, width=6_000, height=6_000), {}
    yield "one pixel and an end of line", packed(b"\1\7\0\0" * 6_000, width=6_000, height=6_000), {}
    yield "jumps", packed(b"\0\2\xff\xff" * 100_000, width=6_000, height=6_000), {"right": ANY}
    yield "cut", packed(b"\5\7\0\x20abc"), {}
    yield "ends at once", packed(b"\0\1"), {}
    yield "noise", packed(rng.randbytes(3_000)), {"right": ANY}
    yield "runs over the edge", packed(b"\xff\7" * 13 + b"\0\1"), {"right": ANY}


# ---------------------------------------------------------------- WebP


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP of these chunks."""
    body = b"".join(k + struct.pack("<L", len(b)) + b + b"\0" * (len(b) & 1) for k, b in chunks)
    return b"RIFF" + struct.pack("<L", 4 + len(body)) + b"WEBP" + body


def _triple(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + _triple(width - 1) + _triple(height - 1)


def _frame_of(file: bytes) -> tuple[bytes, bytes]:
    """Return the first chunk of a simple WebP."""
    return file[12:16], file[20 : 20 + int.from_bytes(file[16:20], "little")]


class _Bits:
    """Bits, the least first."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def put(self, value: int, count: int) -> None:
        """Append a number."""
        self.text.append(format(value, f"0{count}b")[::-1])

    def bytes(self) -> bytes:
        """Return all, filled up to whole bytes."""
        bits = "".join(self.text)
        bits += "0" * (-len(bits) % 8)
        return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")


def many_tables_webp(side: int, groups: int, kind: bytes = b"VP8L") -> tuple[bytes, bytes]:
    """Return a lossless chunk in which every 4 × 4 pixels have a group of five Huffman tables of their own."""
    bits = _Bits()
    if kind == b"VP8L":
        for value, count in ((0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 1), (0, 3)):
            bits.put(value, count)
    bits.put(0, 1)  # no transform
    bits.put(0, 1)  # no colour cache
    bits.put(1, 1)  # several groups of tables
    bits.put(0, 3)  # one per 4 × 4 pixels
    bits.put(0, 1)  # the map of groups: no colour cache
    for alphabet in (280, 256):  # green and red: 256 codes of 8 bits each
        bits.put(0, 1)
        bits.put(8, 4)  # 12 code length codes: for 17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7 and 8
        for symbol in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
            bits.put(1 if symbol in (0, 8) else 0, 3)
        bits.put(0, 1)  # all symbols
        bits.text.append("1" * 256 + "0" * (alphabet - 256))
    for _ in range(3):  # blue, alpha and distance: one symbol, 0
        bits.put(1, 4)
        bits.text[-1] = "1000"
    for tile in range((side // 4) ** 2):
        group = tile % groups
        bits.text.append(format(group & 255, "08b") + format(group >> 8, "08b"))
    bits.text.append("1000" * 5 * groups)
    return kind, bits.bytes()


@attack
def webp_sizes(_: random.Random) -> Iterator[Yield]:
    lossy, lossless = _frame_of(saved(_image(), "WEBP")), _frame_of(saved(_image(), "WEBP", lossless=True))
    yield "lossy", webp((b"VP8 ", lossy[1][:6] + b"\xff\x3f\xff\x3f" + lossy[1][10:])), TOO_LARGE
    yield "lossless", webp((b"VP8L", b"\x2f\xff\xff\xff\x0f" + lossless[1][5:])), TOO_LARGE
    yield "canvas", webp(_vp8x(2**24, 2**24), lossy), NOT_READ
    yield "canvas of another size", webp(_vp8x(65, 48), lossy), NOT_READ
    yield "larger frame in a small canvas", webp(_vp8x(4, 4), lossy), NOT_READ
    wide = webp((b"VP8 ", lossy[1][:6] + struct.pack("<HH", 7_000, 5_600) + lossy[1][10:]))
    yield "39 Mpx in 500 bytes", wide, {}


@attack
def webp_many_tables(_: random.Random) -> Iterator[Yield]:
    for side, groups in ((64, 256), (400, 10_000), (1_024, 65_536)):
        yield f"{groups}", webp(many_tables_webp(side, groups)), {"right": ANY}
    kind, body = many_tables_webp(1_024, 65_536, b"ALPH")
    lossy = _frame_of(saved(_image(1_024, 1_024), "WEBP"))
    yield "in alpha", webp(_vp8x(1_024, 1_024, 0x10), (kind, b"\1" + body), lossy), {"right": ANY}


@attack
def webp_chunks(rng: random.Random) -> Iterator[Yield]:
    lossy = _frame_of(saved(_image(), "WEBP"))
    yield "200,000", webp(_vp8x(64, 48), *[(b"abcd", b"")] * 200_000, lossy), TOO_COSTLY
    yield "no frame", webp(_vp8x(64, 48), (b"EXIF", exif(6))), NOT_READ
    file = webp(lossy)
    yield "frame of 4 GB", file[:16] + b"\xff\xff\xff\xff" + file[20:], NOT_READ
    yield "no start code", webp((b"VP8 ", lossy[1][:3] + b"abc" + lossy[1][6:])), NOT_READ
    yield "not a key frame", webp((b"VP8 ", bytes([lossy[1][0] | 1]) + lossy[1][1:])), NOT_READ
    yield "noise", webp((b"VP8 ", lossy[1][:10] + rng.randbytes(5_000))), {"right": ANY}
    yield "noise, lossless", webp((b"VP8L", b"\x2f\x3f\xc0\x0b\0" + rng.randbytes(5_000))), {"right": ANY}
    yield "exif of noise", webp(_vp8x(64, 48, 8), lossy, (b"EXIF", rng.randbytes(100_000))), {"right": ANY}


@attack
def webp_animations(_: random.Random) -> Iterator[Yield]:
    lossy = _frame_of(saved(_image(), "WEBP"))
    inner = lossy[0] + struct.pack("<L", len(lossy[1])) + lossy[1] + b"\0" * (len(lossy[1]) & 1)
    place = _triple(63) + _triple(47) + _triple(100) + b"\0"
    frame = b"ANMF", _triple(0) * 2 + place + inner
    screen, loop = _vp8x(64, 48, 2), (b"ANIM", bytes(6))
    yield "100,000 frames", webp(screen, loop, *[(b"ANMF", bytes(16))] * 100_000), {}
    yield "first frame far outside", webp(screen, loop, (b"ANMF", _triple(2**23) * 2 + place + inner)), NOT_READ
    yield "first frame empty", webp(screen, loop, (b"ANMF", bytes(16)), frame), NOT_READ
    wide = b"ANMF", _triple(0) * 2 + _triple(2**24 - 1) * 2 + _triple(100) + b"\0" + inner
    yield "first frame says that it is larger", webp(screen, loop, wide), NOT_READ
    nested = b"ANMF", _triple(0) * 2 + place + (b"ANMF" + struct.pack("<L", 16) + bytes(16)) * 9_000
    yield "frames in a frame", webp(screen, loop, nested), {}


@attack
def webp_alpha(rng: random.Random) -> Iterator[Yield]:
    lossy = _frame_of(saved(_image(), "WEBP"))
    screen = _vp8x(64, 48, 0x10)
    for method in (0, 1, 2, 3, 0xFF):
        yield (
            f"noise, method {method}",
            webp(screen, (b"ALPH", bytes([method]) + rng.randbytes(3_072)), lossy),
            {"right": ANY},
        )
    yield "too short", webp(screen, (b"ALPH", bytes(100)), lossy), {}
    yield "empty", webp(screen, (b"ALPH", b""), lossy), {"right": ANY}
    yield "twice", webp(screen, (b"ALPH", bytes(3_073)), (b"ALPH", bytes(10)), lossy), {"right": ANY}


@attack
def webp_partitions(_: random.Random) -> Iterator[Yield]:
    kind, body = _frame_of(saved(_image(), "WEBP"))
    for size in (0, 1, 2**19 - 1):
        head = int.from_bytes(body[:3], "little") & 0x1F | size << 5
        yield f"first partition of {size}", webp((kind, _triple(head) + body[3:])), {}
    for cut in (12, 60, len(body) - 20):
        yield f"{cut} bytes", webp((kind, body[:cut])), {"right": ANY}


# ---------------------------------------------------------------- TIFF


def _tiff(tags: dict[int, tuple[int, Any]], pieces: Iterable[bytes] | None = None, **options: Any) -> bytes:
    """Return an RGB TIFF of 19 × 13 with some of its tags replaced."""
    every: dict[int, tuple[int, Any]] = {
        256: (3, [19]), 257: (3, [13]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3]),
        278: (3, [13]), **tags,
    }  # fmt: skip
    data = [_ramp().astype(np.uint8).tobytes()] if pieces is None else list(pieces)
    return writers.tiff(data, every, **options)


@attack
def tiff_sizes(_: random.Random) -> Iterator[Yield]:
    for width, height in ((2**32 - 1, 2**32 - 1), (40_000, 40_000), (2**32 - 1, 1), (20_001, 1)):
        yield f"{width} × {height}", _tiff({256: (4, [width]), 257: (4, [height])}), TOO_LARGE
    yield "no pixels", _tiff({256: (4, [0])}), NOT_READ
    yield "no width", _tiff({256: (4, None)}), NOT_READ
    yield "width twice", _tiff({256: (4, [19, 20])}), {"right": ANY}
    yield "width as text", _tiff({256: (2, [b"1", b"9", b"\0", b"\0", b"\0"])}), NOT_READ


@attack
def tiff_directories(rng: random.Random) -> Iterator[Yield]:
    yield "past the end", b"II*\0\xff\xff\xff\x7f" + bytes(100), NOT_READ
    yield "itself", b"II*\0\0\0\0\0" + bytes(100), NOT_READ
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, 1) for tag in range(65_000))
    yield "65,000 tags", b"II*\0\x08\0\0\0" + struct.pack("<H", 65_000) + entries + bytes(4), NOT_READ
    huge = b"".join(struct.pack("<HHLL", tag, 4, 2**32 - 1, 8) for tag in range(256, 400))
    yield "values of 16 GB", b"II*\0\x08\0\0\0" + struct.pack("<H", 144) + huge + bytes(4), NOT_READ
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63)
    yield "BigTIFF of 2 ** 63 tags", big + bytes(1_000), NOT_READ
    yield "noise", b"II*\0\x08\0\0\0" + rng.randbytes(100_000), NOT_READ
    for tag in (330, 34_665, 34_853):
        yield f"tag {tag} points to itself", _tiff({tag: (4, [8])}), {"right": _ramp()}
    yield "a megabyte of text", _tiff({270: (2, [b"x"] * MB)}), {"right": _ramp()}
    yield "orientation 99", _tiff({274: (3, [99])}), {"right": _ramp()}
    yield "orientation as text", _tiff({274: (2, [b"6", b"\0"])}), {"right": ANY}


@attack
def tiff_overlapping_tags(_: random.Random) -> Iterator[Yield]:
    fat = bytearray(_tiff({}).ljust(19 * MB, b"\0"))
    entries = b"".join(struct.pack("<HHLL", tag, 1, 18 * MB, 8) for tag in range(40_000, 60_000))
    struct.pack_into("<L", fat, 4, len(fat))
    yield "20,000 values that share 18 MB", bytes(fat) + struct.pack("<H", 20_000) + entries + bytes(4), NOT_READ


@attack
def tiff_strips(_: random.Random) -> Iterator[Yield]:
    data = _ramp().astype(np.uint8).tobytes()
    yield "none", _tiff({273: (4, None)}), NOT_READ
    yield "missing", _tiff({278: (3, [4])}, [data[: 19 * 3 * 4]]), NOT_READ
    yield "cut", _tiff({})[:600], NOT_READ
    yield "rows per strip 2 ** 32 − 1", _tiff({278: (4, [2**32 - 1])}), {"right": _ramp()}
    yield "rows per strip 0", _tiff({278: (4, [0])}), NOT_READ
    yield "past the end", _tiff({273: (4, [2**31])}), NOT_READ
    yield "in themselves", _tiff({273: (4, [8] * 13), 279: (4, [57] * 13), 278: (3, [1])}), {"right": ANY}
    many = [8] * 300_000
    yield "300,000", _tiff({273: (4, many), 278: (3, [1])}), {"right": ANY}
    yield "300,000, packed", _tiff({259: (3, [8]), 273: (4, many), 278: (3, [1])}), {"right": ANY}


@attack
def tiff_tiles(_: random.Random) -> Iterator[Yield]:
    for name, wide, high in (
        ("huge", 65_520, 65_520),
        ("long", 2**31, 16),
        ("none", 0, 0),
        ("2 ** 32", 2**32 - 16, 16),
    ):
        for packing in (1, 5, 8):
            tags: dict[int, Any] = {322: (4, [wide]), 323: (4, [high]), 259: (3, [packing])}
            yield f"{name}, packing {packing}", _tiff(tags, [bytes(1_000)], tiled=True), {}
    yield "half missing", _tiff({322: (4, [16]), 323: (4, [16])}, [bytes(768)], tiled=True), NOT_READ


@attack
def tiff_packings_not_read(_: random.Random) -> Iterator[Yield]:
    for packing in (0, 6, 9, 32_766, 32_809, 34_676, 34_712, 34_887, 34_925, 50_000, 50_001, 50_002, 65_535):
        yield f"{packing}", _tiff({259: (3, [packing])}), NOT_READ


@attack
def tiff_pixels_not_read(_: random.Random) -> Iterator[Yield]:
    grey: dict[int, Any] = {262: (3, [1]), 277: (3, [1])}
    values = bytes(19 * 13 * 4)
    for name, bits, kind in (
        ("float", 32, 3),
        ("int", 32, 2),
        ("unsigned", 32, 1),
        ("short", 16, 2),
        ("double", 64, 3),
    ):
        yield name, _tiff({**grey, 258: (3, [bits]), 339: (3, [kind])}, [values * 2]), NOT_READ
    yield "Lab", _tiff({262: (3, [8])}), NOT_READ
    yield "subsampled YCbCr", _tiff({262: (3, [6])}), NOT_READ
    yield "65,535 channels", _tiff({277: (3, [65_535])}), NOT_READ
    yield "16 bits, white is zero, big-endian", _tiff({**grey, 258: (3, [16]), 262: (3, [0])}, order=">"), NOT_READ
    yield "palette too short", _tiff({**grey, 262: (3, [3]), 258: (3, [8]), 320: (3, [1, 2, 3])}), {"right": ANY}
    yield "no bits", _tiff({**grey, 258: (3, [0])}), NOT_READ


@attack
def tiff_packed_data(rng: random.Random) -> Iterator[Yield]:
    for packing in (2, 3, 4, 5, 7, 8, 32_773, 32_946):
        tags: dict[int, Any] = {259: (3, [packing])}
        if packing < 5:
            tags |= {258: (3, [1]), 262: (3, [0]), 277: (3, [1])}
        yield f"noise, packing {packing}", _tiff(tags, [rng.randbytes(3_000)]), {"right": ANY}
    yield "deflate bomb", _tiff({259: (3, [8])}, [_zeros(100 * MB)]), {"right": ANY}
    short = zlib.compress(_ramp().astype(np.uint8).tobytes()[:300])
    yield "deflate, rows missing", _tiff({259: (3, [8])}, [short]), NOT_READ
    yield "lzw, rows missing", _tiff({259: (3, [5])}, [writers.lzw(bytes(300))]), NOT_READ
    yield "packbits, rows missing", _tiff({259: (3, [32_773])}, [writers.packbits(bytes(300))]), NOT_READ


@attack
def tiff_of_jpegs(_: random.Random) -> Iterator[Yield]:
    grey: dict[int, Any] = {259: (3, [7]), 262: (3, [1]), 277: (3, [1]), 258: (3, [8])}
    bomb = scan_bomb(2_000, 2_000, 9_000, "refine")
    tags = {**grey, 256: (4, [2_000]), 257: (4, [2_000]), 278: (4, [2_000])}
    yield "scan bomb", _tiff(tags, [bomb]), {}
    small = {**grey, 278: (3, [13])}
    yield "strip of another size", _tiff(small, [saved(Image.new("L", (6_000, 6_000)), "JPEG", quality=1)]), {}
    yield "no JPEG", _tiff(small, [b"\xff\xd8\xff\xd9"]), NOT_READ
    tags = {**grey, 256: (4, [2_000]), 257: (4, [8_000]), 278: (4, [8])}
    file = _tiff({**tags, 273: (4, [8] * 1_000), 279: (4, [len(bomb)] * 1_000)}, [bomb])
    yield "a thousand strips that are one scan bomb", file, {}


# ---------------------------------------------------------------- AVIF


@attack
def avif_boxes(rng: random.Random) -> Iterator[Yield]:
    file = saved(_image(), "AVIF")
    start = file[:32]
    yield "box of size 0", start + bytes(4) + b"meta" + bytes(100), NOT_READ
    yield "box of size 1", start + b"\0\0\0\1meta" + b"\xff" * 8 + bytes(100), NOT_READ
    yield "box longer than the file", start + b"\x7f\xff\xff\xffmeta" + bytes(100), NOT_READ
    yield "boxes in boxes", start + boxes.nested(20_000), NOT_READ
    yield "empty boxes", start + b"\0\0\0\x08free" * 2_000_000 + file[32:], {"right": ANY}
    yield "noise", start + rng.randbytes(100_000), NOT_READ
    yield "other boxes first", boxes.with_brand(b"mif1") + file[32:], {"right": ANY}
    yield "nothing but the brand", start, NOT_READ


@attack
def avif_items(_: random.Random) -> Iterator[Yield]:
    yield "a million items", boxes.many_items(900_000), {}
    yield "3,000 items", boxes.many_items(3_000), {}
    yield "no item", boxes.many_items(0), NOT_READ


@attack
def avif_sizes(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(), "AVIF")
    at = file.index(b"ispe") + 8
    for width, height in ((2**31, 2**31), (30_000, 30_000), (0, 0), (20_001, 8), (6_000, 6_000)):
        shown = {"right": ANY} if width == 6_000 else {}  # the picture is enlarged to the size that the box tells
        yield f"{width} × {height}", file[:at] + struct.pack(">LL", width, height) + file[at + 8 :], shown


@attack
def avif_extents(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(640, 480), "AVIF")
    yield "past the end", boxes.with_extents(file, [(10 * MB, 1_000)]), NOT_READ
    yield "of 4 GB", boxes.with_extents(file, [(0, 2**32 - 1)]), NOT_READ
    whole = boxes.item_extent(file)
    yield "60,000 times the same picture", boxes.with_extents(file, [whole] * 60_000), {"right": ANY}
    fat = file + bytes(15 * MB)
    yield "60,000 times 15 MB", boxes.with_extents(fat, [(len(file), 15 * MB)] * 60_000), {}


@attack
def avif_many_frames(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(640, 480), "AVIF")
    for count in (10, 300, 3_000):
        yield f"{count} hidden frames", boxes.with_hidden_frames(file, count), {"right": ANY}


@attack
def avif_grids(_: random.Random) -> Iterator[Yield]:
    file = saved(_image(64, 64), "AVIF")
    for rows, columns, width, height in ((1, 1, 64, 64), (94, 94, 6_016, 6_016), (256, 255, 16_320, 16_384)):
        name = f"{rows} × {columns} cells for {width} × {height}"
        yield name, boxes.with_grid(file, rows, columns, width, height), {"right": ANY}
    yield "of nothing", boxes.with_grid(file, 1, 1, 0, 0), {}
    yield "that is its own cell", boxes.with_grid(file, 1, 1, 64, 64, cell=2), {}


# ---------------------------------------------------------------- as large as is allowed


def _flat(*colour: int) -> dict[str, Any]:
    """Return what the largest picture of one colour shows, without the memory of one."""
    return {"right": np.broadcast_to(np.array(colour), (LARGEST[1], LARGEST[0], 3))}


@attack
def heavy_jpegs(_: random.Random) -> Iterator[Yield]:
    width, height = LARGEST
    yield "scans inside the budget", scan_bomb(width, height, 40, "refine"), _flat(128)
    yield "scans over the budget", scan_bomb(width, height, 130, "refine"), TOO_COSTLY
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height // 2, width // 2, 3), dtype=np.uint8))
    image = noise.resize(LARGEST)
    for options in ({}, {"progressive": True}, {"progressive": True, "subsampling": 0}):
        yield f"{options}", saved(image, "JPEG", quality=40, **options), {"right": ANY}
    yield "CMYK", saved(image.convert("CMYK"), "JPEG", quality=30), {"right": ANY}
    yield "CMYK, progressive", saved(image.convert("CMYK"), "JPEG", quality=20, progressive=True), {"right": ANY}
    yield "turned", saved(image, "JPEG", quality=40, exif=exif(6)), {"right": ANY}


@attack
def heavy_pngs(_: random.Random) -> Iterator[Yield]:
    width, height = LARGEST
    for bits, colour, samples in ((1, 0, 1), (8, 2, 3), (8, 6, 4), (16, 2, 3), (16, 6, 4), (16, 0, 1), (8, 4, 2)):
        for interlaced in (0, 1):
            row = 1 + -(-width * samples * bits // 8)
            data = _zeros(row * height + interlaced * 40_000)
            file = _raw_png(width, height, bits, colour, data, interlaced=interlaced)
            yield f"{bits} bits, colour type {colour}, {interlaced}", file, _flat(255 if colour in (4, 6) else 0)
    paeth = zlib.compress((b"\4" + bytes(width * 8)) * height, 1)
    yield "16-bit RGBA with filters", _raw_png(width, height, 16, 6, paeth), _flat(255)
    key = writers.png_chunk(b"tRNS", bytes(6))
    file = _raw_png(width, height, 16, 2, _zeros((1 + width * 6) * height), key)
    yield "16-bit RGB with a transparent colour", file, TOO_COSTLY


@attack
def heavy_others(_: random.Random) -> Iterator[Yield]:
    width, height = LARGEST
    red = Image.new("RGB", LARGEST, "red")
    plain = Image.new("P", LARGEST)
    plain.putpalette([255, 0, 0])
    yield "gif", saved(plain, "GIF"), _flat(255, 0, 0)
    stripes = Image.fromarray(np.resize(np.arange(251, dtype=np.uint8), (height, width)))
    yield "gif, short runs", saved(stripes, "GIF"), {"right": ANY}
    yield "webp", saved(red, "WEBP", quality=1, method=0), {"right": ANY}
    smaller = red.resize((5_400, 4_300))
    yield "webp, 23 Mpx", saved(smaller, "WEBP", quality=1, method=0), {"right": ANY}
    yield "webp, lossless", saved(red, "WEBP", lossless=True, method=0), {"right": ANY}
    yield "avif", saved(red, "AVIF", quality=30, speed=10), {"right": ANY}
    alpha = red.copy()
    alpha.putalpha(128)
    yield "avif with alpha", saved(alpha, "AVIF", quality=30, speed=10), {"right": ANY}
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff, {packing}", saved(red, "TIFF", compression=packing), {"right": ANY}
    one = zlib.compress(bytes(width * 3))
    tags: dict[int, Any] = {
        256: (4, [width]), 257: (4, [height]), 278: (3, [1]), 259: (3, [8]),
        273: (4, [8] * height), 279: (4, [len(one)] * height),
    }  # fmt: skip
    yield "tiff, one strip for all rows", _tiff(tags, [one]), _flat(0)
