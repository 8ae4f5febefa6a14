"""
Pictures to classifier inputs: bytes in, the float tensor that a model takes out.

Pure: it opens no file and no socket and keeps nothing between calls. What a picture may be and cost is decided by
classy.pictures.guard, what Pillow does with it by classy.pictures.decode, and pictures that can't be trusted to keep
to their budget are decoded in a process of their own (classy.pictures.worker). Here pixels become numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from classy.models.manifest import InputSpec
from classy.pictures.decode import render
from classy.pictures.guard import inspect
from classy.pictures.plan import PATIENCE, PictureLimits
from classy.pictures.worker import render_apart
from graphpipe_fn.errors import GraphPipeError, TimedOut
from graphpipe_fn.values import dataclass

__all__ = ["PictureLimits", "Prepared", "classifier_input", "classifier_inputs", "prepared", "prepared_all"]

_CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "L": (0,)}
_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    What comes out of one picture.

    Args:
        values: float32 of the spec's `row_shape`; (value − mean) / deviation per channel, in the spec's channel
            order, of values 0 to 255: upright as EXIF says, alpha over white, 16 bits scaled to 8, colour profiles
            ignored.
        thumbnail: A WebP of the whole picture, upright and without metadata; b"" where none was asked for.
    """

    values: np.ndarray
    thumbnail: bytes = b""


def classifier_input(
    picture: bytes,
    spec: InputSpec,
    *,
    limits: PictureLimits = _LIMITS,
    exact: bool = False,
    deadline_s: float | None = None,
) -> np.ndarray:
    """Return the `values` of prepared(); arguments and errors are the same."""
    return prepared(picture, spec, limits=limits, exact=exact, deadline_s=deadline_s).values


def classifier_inputs(
    pictures: Sequence[bytes],
    spec: InputSpec,
    *,
    limits: PictureLimits = _LIMITS,
    exact: bool = False,
    deadline_s: float | None = None,
) -> list[np.ndarray | GraphPipeError]:
    """Return the `values` of prepared_all(), or the errors; arguments are the same."""
    rows = prepared_all(pictures, spec, limits=limits, exact=exact, deadline_s=deadline_s)
    return [row if isinstance(row, GraphPipeError) else row.values for row in rows]


def prepared(
    picture: bytes,
    spec: InputSpec,
    *,
    limits: PictureLimits = _LIMITS,
    exact: bool = False,
    thumbnail_px: int = 0,
    deadline_s: float | None = None,
) -> Prepared:
    """
    Decode one picture into one classifier input.

    Args:
        picture: A whole JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file; of several frames or pages the first counts.
        spec: How the model was trained to see a picture.
        limits: What the picture may cost.
        exact: Decode JPEGs at full size. Without it they are decoded at a half, a quarter or an eighth where that
            leaves twice the target: three to five times faster at 12 Mpx, and 0.2 of 255 off in the mean.
        thumbnail_px: Of the longer side of a thumbnail, made of the pixels decoded for the model; 0 for none.
        deadline_s: When the caller stops waiting, on `time.monotonic()`'s scale; None for never.

    Raises:
        UnreadablePicture: no picture, cut short, damaged, or of a kind that is not read.
        PictureTooLarge: too many bytes or pixels.
        PictureTooCostly: decoding it would take, or took, too much time or memory.
        TimedOut: the deadline passed, or would have.
    """
    plan = inspect(picture, limits)
    remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
    if remaining_s is not None and plan.cost_s >= remaining_s:
        raise TimedOut("there is no time left to decode this picture; send fewer at once or allow more time")
    if plan.untrusted or plan.cost_s > PATIENCE * limits.time_s:
        channels, pixels, thumbnail = render_apart(
            picture, spec, limits=limits, exact=exact, thumbnail_px=thumbnail_px, timeout_s=remaining_s
        )
        shape = (spec.height_px, spec.width_px, channels)
        return Prepared(_normalised(np.frombuffer(pixels, np.uint8).reshape(shape), spec), thumbnail)
    rendered = render(plan, spec, limits=limits, exact=exact, thumbnail_px=thumbnail_px)
    image = np.asarray(rendered.image)
    return Prepared(_normalised(image if image.ndim == 3 else image[..., np.newaxis], spec), rendered.thumbnail)


def prepared_all(
    pictures: Sequence[bytes],
    spec: InputSpec,
    *,
    limits: PictureLimits = _LIMITS,
    exact: bool = False,
    thumbnail_px: int = 0,
    deadline_s: float | None = None,
) -> list[Prepared | GraphPipeError]:
    """
    Decode pictures side by side, one thread per processor; Pillow works without the interpreter's lock.

    Args:
        pictures, spec, limits, exact, thumbnail_px, deadline_s: As for prepared(); the limits hold for each picture.

    Returns:
        In the pictures' order, what came out of each or the error that it was refused with; one bad picture does not
        touch the others.
    """

    def outcome(picture: bytes) -> Prepared | GraphPipeError:
        try:
            return prepared(
                picture, spec, limits=limits, exact=exact, thumbnail_px=thumbnail_px, deadline_s=deadline_s
            )
        except GraphPipeError as error:
            return error

    threads = min(len(pictures), _processors())
    if threads < 2:
        return [outcome(picture) for picture in pictures]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
        return list(pool.map(outcome, pictures))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _normalised(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """
    Return pixels as the model takes them; one pass per channel, straight into its place.

    Args:
        pixels: uint8 (height, width, 1 or 3), RGB.
    """
    batch_row = np.empty(spec.row_shape, np.float32)
    for place, channel in enumerate(_CHANNELS[spec.channel_order]):
        plane = pixels[..., channel if pixels.shape[2] == 3 else 0]
        into = batch_row[place] if spec.layout == "NCHW" else batch_row[..., place]
        np.subtract(plane, np.float32(spec.mean[place]), out=into)
        np.divide(into, np.float32(spec.deviation[place]), out=into)
    return batch_row
