"""Odd but legal pictures: every pixel is what was written, in whatever mode, depth, turn or packing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pictures import odd
from pictures.odd import Odd

from classy.images import classifier_input
from classy.models.manifest import InputSpec
from graphpipe_fn.errors import GraphPipeError

FAMILIES = {
    "png": odd.pngs, "bmp": odd.bmps, "gif": odd.gifs, "orientations": odd.orientations, "tiff": odd.tiffs,
    "jpeg": odd.jpegs, "webp": odd.webps, "avif": odd.avifs, "sizes": odd.sizes,
}  # fmt: skip


def fault(case: Odd) -> str:
    """Return what is wrong with a picture as we read it, "" if nothing is."""
    height, width, _ = case.pixels.shape
    spec = InputSpec(
        "x", height, width, 1, "squash", "nearest", layout="NHWC", mean=(0.0,) * 3, deviation=(1.0,) * 3
    )  # shows every pixel as it is
    try:
        got = classifier_input(case.file, spec, exact=True)
    except GraphPipeError as error:
        return f"{case.name}: {error.message}"
    off = np.abs(got - case.pixels).max()
    return f"{case.name}: {off:g} grey levels off" if off > case.tolerance else ""


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_legal_pictures_are_read_right(family: Callable[[], Iterator[Odd]]) -> None:
    """Every legal picture shows the pixels that its writer meant, upright and over white."""
    with ThreadPoolExecutor(2) as pool:
        faults = [text for text in pool.map(fault, family()) if text]
    assert faults == []


def test_there_are_many_of_them() -> None:
    """The corpus has 250 pictures and more, no two of the same name."""
    names = [case.name for case in odd.every()]
    assert len(set(names)) == len(names) >= 250
