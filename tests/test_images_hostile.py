"""Hostile pictures: refused by name or read right, in bounded time and memory, each measured in a process apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pictures import hostile
from pictures.hostile import ANY, REFUSED, Hostile
from pictures.measure import Measured, Measurer

from classy.models.manifest import InputSpec

PROCESSES = 2
MOST_S, HEAVY_S = 2.0, 5.0
MOST_BYTES = 400_000_000
INTERPRETER_BYTES = 100_000_000  # of a child: what the measuring process held when it was started, or Python itself
ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


def spec_for(case: Hostile) -> InputSpec:
    """Return a spec that shows every pixel where these are known, and a usual one where they are not."""
    if isinstance(case.right, np.ndarray) and not case.heavy:
        height, width, _ = case.right.shape
        return InputSpec("x", height, width, 1, "squash", "nearest", layout="NHWC", mean=ZEROS, deviation=ONES)
    return InputSpec("x", 224, 224, 256, layout="NHWC", mean=ZEROS, deviation=ONES)


def verdict(case: Hostile, got: Measured) -> str:
    """Return what is wrong with an answer, "" if nothing is."""
    wrong = []
    if got.error:
        if got.error not in {kind.__name__ for kind in case.errors}:
            wrong.append(f"{got.error} instead of {[kind.__name__ for kind in case.errors]}: {got.message}")
        if isinstance(case.right, np.ndarray):
            wrong.append(f"refused: {got.message}")
        if not 20 < len(got.message) < 500 or "\n" in got.message:
            wrong.append(f"no help: {got.message!r}")
    elif isinstance(case.right, np.ndarray):
        shown = case.right[0, 0] if case.heavy else case.right
        if not np.allclose(got.values, shown, atol=2):
            wrong.append("other pixels")
    elif case.right == REFUSED:
        wrong.append("read")
    elif case.right == ANY and not (got.values is not None and np.isfinite(got.values).all()):
        wrong.append("not finite")
    if got.cpu_s > (HEAVY_S if case.heavy else MOST_S):
        wrong.append(f"{got.cpu_s:.2f} s")
    if got.grown_bytes > MOST_BYTES or got.child_bytes > MOST_BYTES + INTERPRETER_BYTES:
        wrong.append(f"{got.grown_bytes / 1e6:.0f} MB here, {got.child_bytes / 1e6:.0f} MB apart")
    return ", ".join(wrong)


def judge(cases: Iterator[Hostile]) -> tuple[list[Hostile], dict[str, str]]:
    """Return all cases, without their files' pixels, and what is wrong with which."""
    lock, seen, wrong = threading.Lock(), [], {}

    def work(_: int) -> None:
        with Measurer() as measurer:
            while True:
                with lock:
                    case = next(cases, None)
                if case is None:
                    return
                fault = verdict(case, measurer.measure(case.file, spec_for(case)))
                seen.append(case)
                if fault:
                    wrong[f"{case.attack}: {case.name}"] = fault

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(work, range(PROCESSES)))
    return seen, wrong


def test_hostile_pictures_are_refused_by_name_or_read_right() -> None:
    """No hostile picture is misread, lets a foreign error out, or costs more than 2 s and 400 MB."""
    seen, wrong = judge(hostile.corpus(most_each=13))  # once all formats, where an attack goes through them
    assert wrong == {}
    assert len(seen) >= 400
    assert len({case.attack for case in seen}) >= 60


@pytest.mark.slow
def test_the_largest_pictures_stay_inside_five_seconds() -> None:
    """A picture as large as the limits allow costs at most 5 s and 400 MB, whatever its format does to help it."""
    seen, wrong = judge(hostile.corpus(heavy=True))
    assert wrong == {}
    assert len(seen) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_other_seeds_find_nothing_new(seed: int) -> None:
    """The guard does not depend on where exactly a file is cut, flipped or filled with noise."""
    seen, wrong = judge(hostile.corpus(seed))
    assert wrong == {}
    assert len(seen) >= 550
