"""
How bench/wire.py measures, shared with the process that runs the original client in its own environment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = {"X": (128, 224, 224, 3), "Y": (128, 7, 7, 512), "small": (1, 4)}
"""The announcement's request and answer, and a message that is nothing but overhead."""

SECONDS = 0.01  # an operation that takes less CPU is repeated until this has passed …
REPEATS = 200  # … or so often


def tensor(name: str, rows: int | None = None) -> np.ndarray[Any, Any]:
    """Return the same random float32 tensor in every process."""
    shape = SHAPES[name] if rows is None else (rows, *SHAPES[name][1:])
    return np.random.default_rng(5).random(shape, np.float32)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of this process that one call takes."""
    calls = 0
    begin = time.process_time()
    while True:
        work()
        calls += 1
        seconds = time.process_time() - begin
        if seconds >= SECONDS or calls == REPEATS:
            return seconds / calls
