"""
What is known of a picture before it is decoded, and what decoding it may cost.

It knows limits, units and the words of the refusals; it knows no format and opens nothing. Free of numpy and Pillow,
so that the process that decodes apart starts quickly.
"""

from __future__ import annotations

from dataclasses import dataclass

from classy.errors import PictureTooCostly, PictureTooLarge, UnreadablePicture

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are read"
HEAVY_PX = 40_000_000  # a picture of this size may take `HEAVY_SHARE` more time than a tiny one
HEAVY_SHARE = 1.5
PATIENCE = 0.5  # of the time limit: what is estimated to take longer is decoded apart, where it can be stopped


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """
    What one picture may cost.

    Args:
        bytes: Of the file.
        px: Width × height as the header says them, before anything is decoded.
        side_px: Width and height, each.
        time_s: CPU time of a small picture; large ones get in proportion more, 2.5 times as much at 40 Mpx.
        memory_bytes: What decoding may add to the process, at its peak.
    """

    bytes: int = 20_000_000
    px: int = 40_000_000
    side_px: int = 20_000
    time_s: float = 2.0
    memory_bytes: int = 400_000_000

    def budget_s(self, px: int) -> float:
        """Return the CPU time that a picture of so many pixels may take, in seconds."""
        return self.time_s * (1 + HEAVY_SHARE * px / HEAVY_PX)


@dataclass(frozen=True, slots=True)
class Plan:
    """
    One picture, its header read and its container walked, ready to be decoded.

    Args:
        format: As in READ.
        width_px, height_px: As stored, before the orientation; 0 where only the decoder can tell.
        data: A file of the same format that holds the first picture and nothing else: no text, profile, thumbnail,
            second page or animation; the whole file where the decoder reads the container itself.
        orientation: EXIF's, 1 to 8.
        untrusted: Its cost does not follow from its header, so it is decoded in a process that can be stopped.
        cost_s: Estimated CPU time, in seconds.
        fixed_bytes, px_bytes: Estimated memory, in all and per decoded pixel.
        frame: (x, y, width, height) of the part of the canvas that has pixels; () for all of it.
        key: The colour that stands for "transparent", in samples of `sample_bits`; () for none.
        sample_bits: Of one sample.
        rows_bytes: What a PNG's data must come to when it is inflated.
        interlaced: Of a PNG.
    """

    format: str
    width_px: int
    height_px: int
    data: bytes
    orientation: int = 1
    untrusted: bool = False
    cost_s: float = 0.0
    fixed_bytes: int = 0
    px_bytes: int = 4
    frame: tuple[int, ...] = ()
    key: tuple[int, ...] = ()
    sample_bits: int = 8
    rows_bytes: int = 0
    interlaced: bool = False

    @property
    def px(self) -> int:
        """Return the number of pixels, 0 where it is not known yet."""
        return self.width_px * self.height_px


def check_size(width_px: int, height_px: int, limits: PictureLimits) -> None:
    """
    Refuse a size that is no picture or over a limit.

    Raises:
        UnreadablePicture: no pixels at all.
        PictureTooLarge: too many pixels, or too long a side.
    """
    if width_px <= 0 or height_px <= 0:
        raise UnreadablePicture(f"{width_px:,} × {height_px:,} px is no picture; send one that has pixels")
    if width_px * height_px > limits.px:
        raise PictureTooLarge(
            f"{width_px:,} × {height_px:,} px is over the limit of {limits.px / 1e6:g} Mpx; "
            "send a smaller picture or raise CLASSY_LIMIT_PX"
        )
    if max(width_px, height_px) > limits.side_px:
        raise PictureTooLarge(
            f"{width_px:,} × {height_px:,} px has a side over the limit of {limits.side_px:,} px; "
            "send a smaller or a cropped picture"
        )


def check_time(plan: Plan, limits: PictureLimits) -> None:
    """
    Refuse a picture whose decoding is estimated to take longer than its budget.

    Raises:
        PictureTooCostly: it is.
    """
    budget_s = limits.budget_s(plan.px)
    if plan.cost_s > budget_s:
        raise PictureTooCostly(
            f"decoding this {_name(plan)} would take about {plan.cost_s:.1f} s of CPU time, over its "
            f"{budget_s:.1f} s; {_remedy(plan)}, or raise CLASSY_PICTURE_TIME"
        )


def check_memory(plan: Plan, limits: PictureLimits, *, reduction: int = 1) -> None:
    """
    Refuse a picture whose decoding is estimated to take more memory than the limit.

    Args:
        reduction: The decoder shrinks both sides by this factor while it decodes.

    Raises:
        PictureTooCostly: it would.
    """
    turned = 4 if plan.orientation > 1 else 0
    needed = plan.fixed_bytes + (plan.px_bytes + turned) * plan.px // reduction**2
    if needed > limits.memory_bytes:
        raise PictureTooCostly(
            f"decoding this {_name(plan)} would take about {needed / 1e6:,.0f} MB of memory, over the limit of "
            f"{limits.memory_bytes / 1e6:,.0f} MB; {_remedy(plan)}"
        )


def _name(plan: Plan) -> str:
    return f"{plan.format} of {plan.width_px:,} × {plan.height_px:,} px"


def _remedy(plan: Plan) -> str:
    if plan.format == "JPEG":
        return "save it as a baseline JPEG, send a smaller one"
    return "send a smaller picture or a JPEG"
