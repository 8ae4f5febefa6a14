"""The fetch's threads: what runs, what is raised where, and what stops."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from classy.models.side_by_side import SideBySide

WAIT_S = 30


def _named() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("side-by-side-test")]


def _started(jobs: list[Callable[[], None]], threads: int) -> SideBySide:
    return SideBySide(jobs, threads=threads, name="side-by-side-test")


def test_every_job_runs_once_and_the_threads_end() -> None:
    """However many jobs there are for each thread."""
    done: list[int] = []
    running = _started([lambda place=place: done.append(place) for place in range(100)], 3)  # type: ignore[misc]
    for place in range(100):
        running.wait(place)
    running.stop()
    assert sorted(done) == list(range(100))
    assert _named() == []


def test_jobs_run_at_the_same_time() -> None:
    """As many of them as there are threads: each waits here for all others."""
    together = threading.Barrier(4, timeout=WAIT_S)
    running = _started([lambda: together.wait() and None] * 4, 4)
    for place in range(4):
        running.wait(place)
    running.stop()


def test_one_thread_runs_the_jobs_in_their_order() -> None:
    """What is hashed first is fetched first."""
    done: list[int] = []
    running = _started([lambda place=place: done.append(place) for place in range(20)], 1)  # type: ignore[misc]
    running.wait(19)
    running.stop()
    assert done == list(range(20))


def test_an_error_is_raised_where_its_job_is_waited_for() -> None:
    """The jobs beside it end as if nothing were."""

    def fails() -> None:
        raise LookupError("gone")

    running = _started([lambda: None, fails, lambda: None], 2)
    running.wait(0)
    running.wait(2)
    with pytest.raises(LookupError, match="gone"):
        running.wait(1)
    running.stop()


def test_what_is_stopped_begins_no_further_job() -> None:
    """But waits for those that run, whose buffers would otherwise be freed under them."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def long() -> None:
        begun.set()
        assert go_on.wait(WAIT_S)
        done.append("long")

    running = _started([long, lambda: done.append("next")], 1)
    assert begun.wait(WAIT_S)
    threading.Timer(0.05, go_on.set).start()
    running.stop()
    assert done == ["long"]
    assert _named() == []


def test_no_jobs_need_no_thread() -> None:
    """An empty list is nothing to wait for."""
    running = _started([], 4)
    assert _named() == []
    running.stop()
