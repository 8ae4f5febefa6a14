"""
The processes of one function: who waits, who works, who sleeps.

First come, first served. A process serves one call at a time; there are as many as there are calls, up to a limit.
An idle one is frozen soon and killed after its idle timeout. All of it runs in the event loop's thread, so there is
no lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from classy.local import fn_errors
from classy.local.fn_errors import FnError
from classy.local.launch import Launch
from classy.local.process import FunctionProcess

Start = Callable[[Launch], Awaitable[FunctionProcess]]

FREEZE_AFTER_S = 0.05  # Fn's own
QUEUE_S = 60.0

logger = logging.getLogger(__name__)


class Pool:
    """
    Lend one function's processes.

    Args:
        launch: What its processes are started with.
        start: Starts one.
        processes: At most so many at a time.
        freeze_after_s: How long an idle process keeps running; None for ever.
        queue_s: How long a call waits for one.
    """

    def __init__(
        self,
        launch: Launch,
        start: Start,
        *,
        processes: int,
        freeze_after_s: float | None = FREEZE_AFTER_S,
        queue_s: float = QUEUE_S,
    ) -> None:
        self.launch = launch
        self.live: set[FunctionProcess] = set()
        self._start = start
        self._processes = processes
        self._freeze_after_s = freeze_after_s
        self._queue_s = queue_s
        self._idle: dict[FunctionProcess, list[asyncio.TimerHandle]] = {}  # the last one in is the next one out
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[FunctionProcess]] = deque()
        self._closed = False

    async def claim(self) -> FunctionProcess:
        """
        Return a process for one call; give it back with release().

        Raises:
            FnError: none became free in time, or the one started for this call failed to.
        """
        while self._idle:
            process = next(reversed(self._idle))
            self._wake(process)
            if process.alive:
                return process
        if self._closed:
            raise fn_errors.too_busy()
        turn: asyncio.Future[FunctionProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._grow()
        try:
            async with asyncio.timeout(self._queue_s):
                return await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result())  # it came in the same moment in which the caller gave up
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(exc, TimeoutError):
                raise fn_errors.too_busy() from exc
            raise

    def release(self, process: FunctionProcess) -> None:
        """Take a process back; one that is dead or outdated is replaced when someone waits."""
        if process.launch != self.launch or self._closed:
            process.kill("its function was changed")
        if process.alive:
            self._lend(process)
        else:
            self.live.discard(process)
            self._grow()

    def replace(self, launch: Launch) -> None:
        """Let every call from now on run in processes of another launch; running calls end in peace."""
        self.launch = launch
        for process in list(self._idle):
            self._retire(process, "its function was changed")

    async def close(self, why: str) -> None:
        """Kill every process, `why` into the log, and refuse everyone who waits."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_exception(fn_errors.too_busy())
        for process in list(self.live):
            self._wake(process)
            process.kill(why)
        await asyncio.gather(*(process.exited for process in self.live))
        self.live.clear()

    def _grow(self) -> None:
        waiting = sum(not turn.done() for turn in self._waiting)
        while not self._closed and waiting > len(self._starting) < self._processes - len(self.live):
            task = asyncio.ensure_future(self._start_one(self.launch))
            self._starting.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        self._grow()

    async def _start_one(self, launch: Launch) -> None:
        try:
            process = await self._start(launch)
        except Exception as exc:  # who waits must hear of it: the next start would end in the same way
            error: Exception = exc
            if isinstance(exc, OSError):
                error = fn_errors.machine_fails(exc)
            elif not isinstance(exc, FnError):
                error = fn_errors.died_at_start()
            if error is not exc:
                logger.error("%s: no process can be started", launch.name, exc_info=exc)
            if turn := self._next():
                turn.set_exception(error)
            return
        self.live.add(process)
        process.exited.add_done_callback(lambda _: self._gone(process))
        self.release(process)

    def _lend(self, process: FunctionProcess) -> None:
        if turn := self._next():
            turn.set_result(process)
            return
        loop = asyncio.get_running_loop()
        idle_s = process.launch.idle_timeout_s
        timers = [loop.call_later(idle_s, self._retire, process, f"idle for {idle_s} s")]
        if self._freeze_after_s is not None:
            timers.append(loop.call_later(self._freeze_after_s, process.freeze))
        self._idle[process] = timers

    def _next(self) -> asyncio.Future[FunctionProcess] | None:
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                return turn
        return None

    def _wake(self, process: FunctionProcess) -> None:
        for timer in self._idle.pop(process, ()):
            timer.cancel()
        process.thaw()

    def _retire(self, process: FunctionProcess, why: str) -> None:
        self._wake(process)
        process.kill(why)
        self.live.discard(process)

    def _gone(self, process: FunctionProcess) -> None:
        self._wake(process)
        self.live.discard(process)
        self._grow()
