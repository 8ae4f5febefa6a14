"""
The door that every picture passes: which format it is, what its header promises, and whether that is allowed.

Nothing is decoded here. Each format's own module walks its container in bounded time and hands on a Plan; what is
no picture is refused in words that tell its sender what it is.
"""

from __future__ import annotations

from collections.abc import Callable

from classy.errors import PictureTooLarge, UnreadablePicture
from classy.pictures.bmp import inspect_bmp
from classy.pictures.gif import inspect_gif
from classy.pictures.jpeg import inspect_jpeg
from classy.pictures.plan import READ, PictureLimits, Plan, check_time
from classy.pictures.png import inspect_png
from classy.pictures.webp import inspect_webp

_WALKED: tuple[tuple[bytes, int, bytes, Callable[[bytes, PictureLimits], Plan]], ...] = (
    (b"\xff\xd8\xff", 0, b"", inspect_jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, b"", inspect_png),
    (b"RIFF", 8, b"WEBP", inspect_webp),
    (b"GIF87a", 0, b"", inspect_gif),
    (b"GIF89a", 0, b"", inspect_gif),
    (b"BM", 0, b"", inspect_bmp),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0")  # the last one is BigTIFF
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"MM\0+", "a big-endian BigTIFF"),
    (b"<svg", "an SVG drawing"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "compressed with gzip"),
)


def inspect(picture: bytes, limits: PictureLimits) -> Plan:
    """
    Read a picture's header and refuse what should not be decoded.

    Raises:
        UnreadablePicture: no picture, cut short, damaged, or a format that is not read.
        PictureTooLarge: too many bytes or pixels.
        PictureTooCostly: its container takes too long to walk, or its pixels to decode.
    """
    if not picture:
        raise UnreadablePicture(f"the picture is empty (0 bytes); send a file: {READ}")
    if len(picture) > limits.bytes:
        raise PictureTooLarge(
            f"{len(picture):,} bytes is over the limit of {limits.bytes / 1e6:g} MB; "
            "send a smaller file or raise CLASSY_LIMIT_BYTES"
        )
    for magic, at, second, walk in _WALKED:
        if picture.startswith(magic) and picture.startswith(second, at):
            plan = walk(picture, limits)
            check_time(plan, limits)
            return plan
    if picture.startswith(_TIFF):
        return Plan("TIFF", 0, 0, picture, untrusted=True)
    if picture[4:8] == b"ftyp":
        return _media(picture)
    raise _no_picture(picture)


def _media(picture: bytes) -> Plan:
    """Tell AVIF from its relatives by the brands of the first box (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(picture[:4], "big"), 1_024)
    brands = {picture[8:12], *(picture[at : at + 4] for at in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return Plan("AVIF", 0, 0, picture, untrusted=True)
    if brands & {b"heic", b"heix", b"hevc", b"heim", b"heis"}:
        raise UnreadablePicture(
            f"this is HEIC, which is not read; {READ} (iPhones: Settings, Camera, Most Compatible)"
        )
    raise UnreadablePicture(f"this is a film or another media file, no picture; {READ}")


def _no_picture(picture: bytes) -> UnreadablePicture:
    start = picture[:40].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _OTHERS:
        if picture.startswith(magic) or start.startswith(magic):
            return UnreadablePicture(f"this is {name}, which is not read; {READ}")
    if start and all(0x20 <= byte < 0x7F for byte in start[:9]):
        shown = repr(start[:9].decode("ascii")) + ("…" if len(start) > 9 else "")
    else:
        shown = "the bytes " + picture[:8].hex(" ")
    return UnreadablePicture(f"this is no picture (it starts with {shown}); {READ}")
