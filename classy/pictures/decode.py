"""
A planned picture to the pixels that a model looks at: decoded, upright, over white, resized and cropped.

Beside its thumbnail the only module that meets Pillow. It takes the plug-ins one by one, because Image.open loads
all that Pillow has, and it lets no error but ours out. Colour profiles are ignored, as in the training of the models
that we know.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module

from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile

from classy.errors import PictureTooCostly, PictureTooLarge, UnreadablePicture
from classy.models.manifest import InputSpec
from classy.pictures.plan import PictureLimits, Plan, check_memory, check_size
from classy.pictures.png import check_rows
from classy.pictures.thumbnail import thumbnail
from classy.pictures.tiff import check_tiff, value_range
from graphpipe_fn.errors import GraphPipeError

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}
_WHITE = (255, 255, 255)
_FROM_RIGHT, _FROM_BELOW = {2, 3, 6, 7}, {3, 4, 7, 8}  # turns that put the stored first column or row last
_ORIENTATION = 0x0112
_OVERSIZE = 2  # JPEGs are decoded at no less than this many times the target; once leaves three times the error
_WHOLE_PX = 4_000_000  # of a resized picture; beyond it (sides of 60:1 and more) only the crop is resized


@dataclass(frozen=True, slots=True)
class Rendered:
    """
    One picture, decoded.

    Args:
        image: Of mode "RGB", or "L" where every channel is the same or the spec wants one, of the spec's size.
        thumbnail: A WebP of all that there is to see, b"" where none was asked for or can be made.
    """

    image: Image.Image
    thumbnail: bytes = b""


def render(
    plan: Plan,
    spec: InputSpec,
    *,
    limits: PictureLimits,
    exact: bool = False,
    thumbnail_px: int = 0,
    on_size: Callable[[int], None] = lambda px: None,
) -> Rendered:
    """
    Decode one picture at the model's size.

    JPEGs are decoded at a half, a quarter or an eighth of their size where that leaves twice the target, and then
    only the crop is resized. Anything else, and every picture with `exact` or for "nearest", is resized as a whole
    and then cropped: resizing the crop alone saves 8 of 90 ms at 2 Mpx and is off by up to 20 grey levels in some
    pixels, because Pillow's boxes are 32-bit floats and its order of passes follows the shape.

    Args:
        plan: From classy.pictures.guard.inspect, with the same limits.
        spec: The model's input.
        exact: Decode JPEGs at full size.
        thumbnail_px: Of the thumbnail's longer side; 0 for none.
        on_size: Is told the number of pixels before any is decoded.

    Raises:
        UnreadablePicture: cut short, damaged, or of a kind that is not read.
        PictureTooLarge: too many pixels, where only the decoder could tell.
        PictureTooCostly: it would take too much time or memory.
    """
    with _translated(plan.format):
        reduction = 1 if exact or plan.format != "JPEG" else _reduction(plan, spec)
        check_memory(plan, limits, reduction=reduction)
        opened = _opened(plan)
        if not plan.px:
            _check_opened(opened, limits)
        on_size(opened.width * opened.height)
        if plan.format == "JPEG" and not exact:
            mode = "L" if spec.channel_order == "L" else None
            opened.draft(mode, (plan.width_px // reduction, plan.height_px // reduction))
        turn = _turn(opened, plan)
        image = _flattened(opened, plan, spec)
        del opened  # what follows is a chain of copies, each as large as the picture: hold one at a time
        if plan.frame:
            image = _on_canvas(image, plan)
        if turn in _TURNS:
            image = image.transpose(_TURNS[turn])
        size_px = image.size
        if reduction > 1:
            size_px = (plan.height_px, plan.width_px) if turn >= 5 else (plan.width_px, plan.height_px)
        fitted, whole = _fitted(image, spec, size_px=size_px, reduction=reduction, turn=turn)
        return Rendered(fitted, thumbnail(image, whole, thumbnail_px) if thumbnail_px else b"")


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn everything that Pillow raises into our own errors; this is the one place that does."""
    try:
        yield
    except GraphPipeError:
        raise
    except Image.DecompressionBombError as exc:
        raise PictureTooLarge(f"this {name} is over Pillow's own limit ({exc}); send a smaller picture") from exc
    except MemoryError as exc:
        raise PictureTooCostly(f"there is not enough memory to decode this {name}; send a smaller picture") from exc
    except Exception as exc:  # plug-ins let OSError, SyntaxError, ValueError, struct.error and many others out
        detail = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise UnreadablePicture(
            f"this {name} can't be decoded ({detail}): it is cut short, damaged or of a kind that is not read; "
            "send the whole file or save it as a JPEG or PNG"
        ) from exc


def _opened(plan: Plan) -> ImageFile:
    module, name = _PLUGINS[plan.format]
    plugin: Callable[[io.BytesIO], ImageFile] = getattr(import_module(f"PIL.{module}"), name)
    return plugin(io.BytesIO(plan.data))


def _check_opened(image: ImageFile, limits: PictureLimits) -> None:
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(image, TiffImageFile):
        check_tiff(image, limits)
    else:
        check_size(*image.size, limits)


def _turn(image: ImageFile, plan: Plan) -> int:
    if plan.format != "AVIF":  # Pillow turns TIFFs itself while it loads them
        return plan.orientation
    turn = image.getexif().get(_ORIENTATION, 1)  # made of AVIF's own properties irot and imir
    return turn if isinstance(turn, int) else 1


def _reduction(plan: Plan, spec: InputSpec) -> int:
    """Return by how much the JPEG decoder may shrink both sides: 1, 2, 4 or 8."""
    if spec.interpolation == "nearest":
        return 1  # it takes single pixels, and a shrunk picture has none of them
    wanted_px = (spec.width_px, spec.height_px) if spec.resize == "squash" else (spec.resize_px, spec.resize_px)
    if plan.orientation >= 5:
        wanted_px = wanted_px[::-1]
    most = min(plan.width_px // (_OVERSIZE * wanted_px[0]), plan.height_px // (_OVERSIZE * wanted_px[1]))
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _flattened(image: Image.Image, plan: Plan, spec: InputSpec) -> Image.Image:
    """Load a picture and return it over white, as "RGB" or "L"."""
    image.load()
    if plan.format == "PNG" and _may_lack_rows(image, plan):
        check_rows(plan)
    clear = _clear(image, plan) if plan.key else None
    if image.mode == "P" and (image.has_transparency_data or spec.channel_order == "L"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;16"):
        image = _from_16_bits(image)
    elif image.mode in ("PA", "La"):
        image = image.convert("RGBA" if image.mode == "PA" else "LA")
    if image.mode == "LA":
        clear, image = ImageChops.invert(image.getchannel("A")), image.convert("L")
    if image.mode == "RGBA" and not (plan.format == "BMP" and image.getchannel("A").getextrema() == (0, 0)):
        # An alpha channel that is zero everywhere is how BMPs say that they have none.
        white = Image.new("RGB", image.size, _WHITE)
        white.paste(image, mask=image)
        image = white
    grey = image.mode in ("1", "L") or spec.channel_order == "L"
    if image.mode != ("L" if grey else "RGB"):
        image = image.convert("L" if grey else "RGB")
    if clear is not None:
        image.paste(255 if grey else _WHITE, mask=clear)
    return image


def _may_lack_rows(image: Image.Image, plan: Plan) -> bool:
    """Return whether the last row is empty, as missing ones are; in interlaced PNGs any row can be missing."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return plan.interlaced or last.getbbox(alpha_only=False) is None


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit grey, scaled; Pillow's own conversion clips it to white."""
    from PIL.TiffImagePlugin import TiffImageFile

    highest, inverted = value_range(image) if isinstance(image, TiffImageFile) else (0xFFFF, False)
    factor, offset = (-255 / highest, 255.5) if inverted else (255 / highest, 0.5)
    wide = image if image.mode == "I;16" else image.convert("I")
    return wide.point(lambda value: value * factor + offset).convert("L")


def _clear(image: Image.Image, plan: Plan) -> Image.Image:
    """Return a mask that is 255 where a PNG's pixels have its transparent colour, in all their bits."""
    if image.mode.startswith("I;16"):
        wide, (key,) = image.convert("I"), plan.key
        over, under = wide.point(lambda value: value * 1 - key), wide.point(lambda value: value * -1 + key)
        return ImageChops.lighter(over.convert("L"), under.convert("L")).point([255, *[0] * 255])
    if plan.sample_bits == 16:  # Pillow keeps the high bytes; reading the samples back to front gives the low ones
        low = _opened(plan)
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
        parts = [(image, [value >> 8 for value in plan.key]), (low, [value & 255 for value in plan.key])]
    else:
        highest = (1 << plan.sample_bits) - 1
        keys = [(value & highest) * 255 // highest for value in plan.key]
        parts = [(image.convert("L") if image.mode == "1" else image, keys)]
    masks = [
        band.point([255 if value == key else 0 for value in range(256)])
        for part, keys in parts
        for band, key in zip(part.split(), keys, strict=True)
    ]
    return reduce(ImageChops.darker, masks)


def _on_canvas(image: Image.Image, plan: Plan) -> Image.Image:
    """Return a frame at its place on a white canvas; a canvas has no colour of its own where no frame is."""
    canvas = Image.new(image.mode, (plan.width_px, plan.height_px), 255 if image.mode == "L" else _WHITE)
    canvas.paste(image, (plan.frame[0], plan.frame[1]))
    return canvas


def _fitted(
    image: Image.Image, spec: InputSpec, *, size_px: tuple[int, int], reduction: int, turn: int
) -> tuple[Image.Image, Image.Image | None]:
    """
    Resize and crop.

    Args:
        size_px: Width and height of the whole, upright picture before any reduction.
        reduction: By how much the decoder has shrunk it already; the last row and column are then a part of one only.
        turn: The orientation that was undone, which has carried these elsewhere.

    Returns:
        The crop, and the whole picture that it was cut from; None where only the crop was resized.
    """
    resample = _RESAMPLING[spec.interpolation]
    target_px = spec.width_px, spec.height_px
    if spec.resize == "short-side":
        scale = spec.resize_px / min(size_px)
        target_px = max(spec.width_px, round(size_px[0] * scale)), max(spec.height_px, round(size_px[1] * scale))
    left, top = (target_px[0] - spec.width_px) // 2, (target_px[1] - spec.height_px) // 2
    if reduction == 1 and target_px[0] * target_px[1] <= _WHOLE_PX:
        resized = image.resize(target_px, resample)
        return resized.crop((left, top, left + spec.width_px, top + spec.height_px)), resized
    wide, high = size_px[0] / reduction, size_px[1] / reduction
    start = (image.width - wide if turn in _FROM_RIGHT else 0.0, image.height - high if turn in _FROM_BELOW else 0.0)
    across, down = wide / target_px[0], high / target_px[1]
    right, bottom = start[0] + (left + spec.width_px) * across, start[1] + (top + spec.height_px) * down
    box = (start[0] + left * across, start[1] + top * down, min(right, image.width), min(bottom, image.height))
    return image.resize((spec.width_px, spec.height_px), resample, box=box), None
