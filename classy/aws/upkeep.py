"""
Events that ask for no work: warm-ups and benchmarks. Every function takes them, so this imports nothing.

    warm-up     {"warmup": true}, a schedule's event, serverless-plugin-warmup's
    benchmark   {"num_of_cycles": 10}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WARMERS = frozenset({"serverless-plugin-warmup"})


def is_warm_up(event: Any) -> bool:
    """Return whether an event only keeps a function warm."""
    return isinstance(event, Mapping) and (
        event.get("warmup") is True
        or event.get("detail-type") == "Scheduled Event"
        or (isinstance(event.get("source"), str) and event["source"] in WARMERS)
    )


def is_benchmark(event: Any) -> bool:
    """Return whether an event asks how long the function's work takes."""
    return isinstance(event, Mapping) and "num_of_cycles" in event
