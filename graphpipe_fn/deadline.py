"""
Deadlines: one thread that calls back when a time has passed, for work that can't look at the clock itself.

A `threading.Timer` per request would start a thread per request (0.1 ms, measured); this starts one for all.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graphpipe_fn.errors import TimedOut
from graphpipe_fn.messages import Call


class _Alarm:
    __slots__ = ("callback", "deadline_s", "serial")

    def __init__(self, deadline_s: float, serial: int, callback: Callable[[], None]) -> None:
        self.deadline_s = deadline_s
        self.serial = serial  # the order among equal deadlines
        self.callback: Callable[[], None] | None = callback  # None once the block has ended or it has rung

    def __lt__(self, other: _Alarm) -> bool:
        return (self.deadline_s, self.serial) < (other.deadline_s, other.serial)


class Alarms:
    """Call functions back at their deadlines, from one thread that starts with the first of them."""

    def __init__(self) -> None:
        self._serial = itertools.count()
        self._renew()
        # A forked child has neither the thread nor, if the thread was just then holding it, a lock that opens.
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._alarms: list[_Alarm] = []
        self._off = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def at(self, deadline_s: float, callback: Callable[[], None]) -> Iterator[None]:
        """
        Call back if the block is still running at the deadline.

        Args:
            deadline_s: On `time.monotonic()`'s scale.
            callback: Called in another thread, once, and perhaps just after the block has ended; it must be quick.
        """
        alarm = _Alarm(deadline_s, next(self._serial), callback)
        with self._changed:
            heapq.heappush(self._alarms, alarm)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._alarms[0] is alarm:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                if alarm.callback is not None:
                    alarm.callback = None
                    self._off += 1  # in a child that was forked inside the block, for an alarm it does not have
                if self._off * 2 > len(self._alarms):  # as seldom as it is dear: constant work per alarm
                    self._alarms = [other for other in self._alarms if other.callback is not None]
                    heapq.heapify(self._alarms)
                    self._off = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                wait_s = self._alarms[0].deadline_s - time.monotonic() if self._alarms else None
                if wait_s is None or wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                alarm = heapq.heappop(self._alarms)
                callback, alarm.callback = alarm.callback, None
                self._off -= callback is None
            if callback is not None:
                callback()


ALARMS = Alarms()
"""The process's own; it holds no state but its waiting alarms."""


def left_s(call: Call) -> float | None:
    """
    Return how long the caller still waits, in seconds; None for ever.

    Raises:
        TimedOut: it has stopped waiting.
    """
    if call.deadline_s is None:
        return None
    left = call.deadline_s - time.monotonic()
    if left <= 0:
        raise TimedOut("the deadline had passed before the work began; send it earlier or allow more time")
    return left
