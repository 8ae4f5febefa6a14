"""
The benchmark event, `{"num_of_cycles": 10}`: how long the same work takes again and again, measured in the function.

The caller's network, the gateway and Lambda's own start are not in it; the log's REPORT line has the last.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from classy.errors import BadRequest

CYCLES_MAX = 1000
PERCENTILES = (50, 90, 99)


def cycles_of(event: Mapping[str, Any]) -> int:
    """
    Return how often an event asks for the work.

    Raises:
        BadRequest: not from 1 to 1000.
    """
    cycles = event.get("num_of_cycles")
    if not isinstance(cycles, int) or isinstance(cycles, bool) or not 1 <= cycles <= CYCLES_MAX:
        raise BadRequest(f'"num_of_cycles" must be a whole number from 1 to {CYCLES_MAX}, not {cycles!r:.60}')
    return cycles


def measured(work: Callable[[], object], cycles: int, *, deadline_s: float | None) -> dict[str, Any]:
    """
    Do the same work several times.

    Args:
        deadline_s: Nothing is begun after it, so there may be fewer cycles than asked for; at least one.

    Returns:
        `first_ms`, and of the others mean, standard deviation, percentiles, least and most; the article's companion
        reports seconds under "Mean inference" and "Std inference", and so does this.
    """
    taken = [_once(work)]
    while len(taken) < cycles and (deadline_s is None or time.monotonic() < deadline_s):
        taken.append(_once(work))
    rest = sorted(taken[1:] or taken)
    mean = sum(rest) / len(rest)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in rest) / len(rest))
    return {
        "cycles": len(taken),
        "first_ms": _ms(taken[0]),
        "mean_ms": _ms(mean),
        "std_ms": _ms(deviation),
        **{f"p{part}_ms": _ms(rest[math.ceil(part / 100 * len(rest)) - 1]) for part in PERCENTILES},
        "min_ms": _ms(rest[0]),
        "max_ms": _ms(rest[-1]),
        "Mean inference": round(mean, 6),
        "Std inference": round(deviation, 6),
    }


def process_age_ms() -> float | None:
    """Return how long ago this process started, to 10 ms; None where there is no /proc. Source: proc(5), stat."""
    try:
        with open("/proc/self/stat", encoding="utf-8") as file:
            started = int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return None
    return round((time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")) * 1000, 1)


def _once(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
