"""
Jobs in a few threads. As concurrent.futures does it, without what that imports: 6 ms of every cold start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


class SideBySide:
    """
    Run jobs in threads, the first ones first; begun at once.

    Args:
        jobs: Each is called once.
        threads: How many of them run at the same time.
        name: The threads'.
    """

    def __init__(self, jobs: Sequence[Callable[[], None]], *, threads: int, name: str) -> None:
        self._jobs = jobs
        self._begun = 0
        self._ended: dict[int, BaseException | None] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        try:
            for number in range(min(threads, len(jobs))):
                # No daemon: at the interpreter's end a thread inside a native library would take the process down.
                thread = threading.Thread(target=self._work, name=f"{name}-{number}", daemon=False)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.stop()
            raise

    def wait(self, place: int) -> None:
        """Return when a job has ended; raise what it raised."""
        with self._changed:
            self._changed.wait_for(lambda: place in self._ended)
        error = self._ended[place]
        if error is not None:
            raise error

    def stop(self) -> None:
        """Begin no further job, and return when those that run have ended."""
        with self._changed:
            self._begun = len(self._jobs)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                place = self._begun
                if place == len(self._jobs):
                    return
                self._begun += 1
            error: BaseException | None = None
            try:
                self._jobs[place]()
            except BaseException as exc:  # noqa: BLE001 - raised where the job is waited for
                error = exc
            with self._changed:
                self._ended[place] = error
                self._changed.notify_all()
