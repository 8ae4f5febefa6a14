"""
Limited: a Model that is asked by a few callers at a time.

Models that compute gain nothing from more callers than cores: they only take the processor's caches from each
other. The others wait their turn here, where it costs nothing.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue

from graphpipe_fn.deadline import left_s
from graphpipe_fn.errors import Busy, TimedOut
from graphpipe_fn.messages import InferRequest, InferResponse, Metadata
from graphpipe_fn.model import Model


class Limited:
    """
    Be a model that answers so many requests at a time.

    Args:
        concurrency: Requests at the same time.
        wait_s: How long a request waits for its turn.
    """

    def __init__(self, model: Model, *, concurrency: int, wait_s: float = 30.0) -> None:
        self._model = model
        # A semaphore, but written in C and fair: who waits longest is next.
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(concurrency):
            self._turns.put(None)
        self._wait_s = wait_s

    def metadata(self) -> Metadata:
        """Return the model's metadata."""
        return self._model.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer when it is this request's turn.

        Raises:
            Busy: the turn did not come in time.
            TimedOut: the request's deadline came first.
            GraphPipeError: the model's own.
        """
        try:
            self._turns.get_nowait()
        except Empty:
            self._wait(request)
        try:
            return self._model.infer(request)
        finally:
            self._turns.put(None)

    def _wait(self, request: InferRequest) -> None:
        left = left_s(request.call)
        try:
            self._turns.get(timeout=self._wait_s if left is None else min(left, self._wait_s))
        except Empty as exc:
            if left is not None and left <= self._wait_s:
                raise TimedOut("the deadline passed while other requests were computed; allow more time") from exc
            raise Busy(f"other requests took longer than {self._wait_s:g} s", retry_after_s=self._wait_s) from exc
