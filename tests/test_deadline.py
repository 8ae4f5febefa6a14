"""One thread that calls back at many deadlines."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from graphpipe_fn.deadline import Alarms, left_s
from graphpipe_fn.errors import TimedOut
from graphpipe_fn.messages import Call


def test_alarms_ring_in_the_order_of_their_deadlines() -> None:
    """Alarms that were set in any order ring in the order of time, none early."""
    alarms, rung, done = Alarms(), [], threading.Event()
    now = time.monotonic()
    offsets = [0.01 * place for place in range(1, 9)]
    blocks = []
    for offset in random.Random(3).sample(offsets, len(offsets)):
        block = alarms.at(now + offset, lambda offset=offset: rung.append((offset, time.monotonic() - now)))  # type: ignore[misc]
        block.__enter__()
        blocks.append(block)
    with alarms.at(now + 0.1, done.set):
        assert done.wait(5)
    assert offsets == [offset for offset, _ in rung]
    assert all(at >= offset for offset, at in rung)
    for block in blocks:
        block.__exit__(None, None, None)


def test_a_block_that_ends_in_time_is_not_called_back() -> None:
    """10,000 blocks that end before their deadline leave nothing waiting."""
    alarms, rung = Alarms(), []
    with alarms.at(time.monotonic() + 3600, lambda: rung.append("outer")):
        for _ in range(10_000):
            with alarms.at(time.monotonic() + 600, lambda: rung.append("inner")):
                pass
        assert len(alarms._alarms) <= 3
    assert rung == []
    assert alarms._alarms == []


def test_alarms_ring_in_a_forked_child() -> None:
    """A worker process that was forked off with alarms set has a thread of its own."""
    alarms = Alarms()
    with alarms.at(time.monotonic() + 60, lambda: None):
        child = os.fork()
        if child == 0:  # pragma: no cover - coverage does not follow
            rung = threading.Event()
            with alarms.at(time.monotonic() + 0.01, rung.set):
                os._exit(0 if rung.wait(5) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_what_is_left_of_a_deadline() -> None:
    """A call without a deadline waits for ever, one that is over is refused."""
    assert left_s(Call()) is None
    left = left_s(Call(deadline_s=time.monotonic() + 5))
    assert left is not None
    assert 4 < left <= 5
    with pytest.raises(TimedOut):
        left_s(Call(deadline_s=time.monotonic() - 1))
