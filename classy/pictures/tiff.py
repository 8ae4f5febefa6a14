"""
TIFF's tags: the ones that say how the pixels lie, checked before Pillow reads any.

It knows what Pillow gets wrong without a word (rows that are missing, white-is-zero in 16 bits, values without a
known range, subsampled YCbCr that is not packed) and refuses that, or says how to mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classy.errors import UnreadablePicture
from classy.pictures.plan import PictureLimits, check_size

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

_BITS, _PACKING, _PHOTOMETRIC, _STRIPS, _ROWS, _PLANAR = 258, 259, 262, 273, 278, 284
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _SUBSAMPLING = 277, 322, 323, 324, 530
_UNPACKED = 1
_PACKINGS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}  # none, CCITT, LZW, JPEG, Deflate, PackBits, old Deflate
_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B", "I;16L", "I;16N"}
_WHITE_IS_ZERO, _YCBCR = 0, 6
_SAVE = "save it as an 8-bit RGB TIFF with LZW, or as a PNG"


def check_tiff(image: TiffImageFile, limits: PictureLimits) -> None:
    """
    Refuse a TIFF that can't be read right.

    Raises:
        UnreadablePicture: a packing or a kind of pixel that is not read, or strips or tiles that are missing.
        PictureTooLarge: too many pixels, in the picture or in one tile.
    """
    tags = image.tag_v2
    width_px, height_px = image._tile_size
    check_size(width_px, height_px, limits)
    packing = tags.get(_PACKING, _UNPACKED)
    if packing not in _PACKINGS:
        raise UnreadablePicture(f"this TIFF is packed in a way that is not read ({packing}); {_SAVE}")
    if image.mode not in _MODES:
        raise UnreadablePicture(f"this TIFF's pixels ({image.mode}) have no known range of values; {_SAVE}")
    if packing == _UNPACKED and tags.get(_PHOTOMETRIC) == _YCBCR and tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        raise UnreadablePicture(f"this TIFF has unpacked, subsampled YCbCr, which is not read; {_SAVE}")
    tiled = _STRIPS not in tags
    wide, high = (tags.get(_TILE_WIDTH), tags.get(_TILE_HEIGHT)) if tiled else (width_px, tags.get(_ROWS, height_px))
    offsets = tags.get(_TILES if tiled else _STRIPS)
    if (
        not isinstance(wide, int)
        or not isinstance(high, int)
        or wide < 1
        or high < 1
        or not isinstance(offsets, tuple)
    ):
        raise UnreadablePicture(f"this TIFF does not say where its pixels are; {_SAVE}")
    if tiled:
        check_size(wide, high, limits)
    needed = -(-width_px // wide) * -(-height_px // high)
    if tags.get(_PLANAR, 1) == 2:
        needed *= tags.get(_SAMPLES, 1)
    if len(offsets) < needed:
        raise UnreadablePicture(f"this TIFF is damaged: {len(offsets):,} of {needed:,} strips or tiles; {_SAVE}")


def value_range(image: TiffImageFile) -> tuple[int, bool]:
    """Return a 16-bit TIFF's highest value, and whether that is black and not white, which Pillow leaves as it is."""
    bits = image.tag_v2.get(_BITS, (1,))[0]
    return (1 << min(bits, 16)) - 1, image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
