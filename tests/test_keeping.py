"""classy.keeping: what a record store that hangs costs the caller of a classification."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from small_records import record

from classy.errors import RecordsFailed
from classy.keeping import Writing
from classy.records.store import open_records
from classy.records.values import Classification
from graphpipe_fn.messages import Call

WRITE_S = 0.4


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _written(store: Any) -> Classification:
    kept = record()
    store.put(kept)
    return kept


@pytest.mark.parametrize("scheme", ["mariadb", "postgresql"])
def test_a_store_that_says_nothing_costs_an_answer_little(silent: int, scheme: str) -> None:
    """All records of one call wait for it together; PyMySQL would wait for half a minute, and for each of them."""
    store = open_records(f"{scheme}://u:p@127.0.0.1:{silent}/x")
    writing = Writing(Call(id="c1"), write_s=WRITE_S)
    began_s = time.monotonic()
    said = [writing.recorded(partial(_written, store)) for _ in range(5)]
    assert time.monotonic() - began_s < 3
    assert [answer["recorded"] for answer in said] == [False] * 5
    assert {answer["recorded_error"]["code"] for answer in said} == {RecordsFailed.code}
    assert "did not answer in time" in said[0]["recorded_error"]["message"]


def test_a_deadline_counts_too() -> None:
    """Where the call's own is nearer."""
    never = threading.Event()
    writing = Writing(Call(id="c1", deadline_s=time.monotonic() + WRITE_S))
    began_s = time.monotonic()
    assert writing.recorded(_waiting(never))["recorded"] is False
    assert time.monotonic() - began_s < 3
    never.set()


def test_time_that_nobody_waited_is_not_spent() -> None:
    """A batch's pictures before the slow one are recorded, and those after a quick one."""
    writing = Writing(Call(id="c1"), write_s=60)
    assert [writing.recorded(record)["recorded"] for _ in range(50)] == [True] * 50


def test_what_a_write_raises_is_said() -> None:
    """In our words where it is ours, by the call's id where it is a bug."""

    def ours() -> Classification:
        raise RecordsFailed("the disk is full")

    def bug() -> Classification:
        raise KeyError("a value that nobody may see")

    writing = Writing(Call(id="c1"))
    assert writing.recorded(ours) == {
        "recorded": False,
        "recorded_error": {"code": RecordsFailed.code, "message": "the disk is full"},
    }
    assert writing.recorded(bug)["recorded_error"] == {
        "code": 50000,
        "message": "internal error, call c1; the log has the detail",
    }


def test_writes_that_hang_are_not_piled_up() -> None:
    """Of a store that hangs for an hour there are 32 threads, and who comes later is told without one."""
    never, before = threading.Event(), threading.active_count()
    try:
        for number in range(40):
            assert Writing(Call(id=str(number)), write_s=0.01).recorded(_waiting(never))["recorded"] is False
        assert threading.active_count() - before <= 32
    finally:
        never.set()
    writing = Writing(Call(id="after"))
    assert writing.recorded(record)["recorded"] is True


def _waiting(never: threading.Event) -> Callable[[], Classification]:
    def write() -> Classification:
        never.wait(60)
        return record()

    return write
