"""
Loading: a model that is still being fetched, and says so instead of running into the platform's timeout.

A function that blocks its first call on a slow fetch is killed by the platform at the call's timeout, starts
again from zero at the next call and never recovers. Here the load runs in a thread that outlives the call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from graphpipe_fn.errors import Unavailable
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata
from graphpipe_fn.model import Model

MARGIN_S = 1.0  # what is kept of a deadline to send "still loading" back; Fn's deadlines have whole seconds


class Loading:
    """
    Be the model that `load` returns, from the moment it does.

    Args:
        load: Called in a thread at once; called again at the next request after it raised.
        wait_s: How long a request without a deadline waits, in seconds.
        retry_after_s: What a caller is told when the deadline comes first, in seconds.
    """

    def __init__(self, load: Callable[[], Model], *, wait_s: float = 25.0, retry_after_s: float = 5.0) -> None:
        self._load = load
        self._wait_s = wait_s
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._attempt: _Attempt | None = None
        self._begin()

    @property
    def ready(self) -> bool:
        """Return whether the model is there."""
        return self._model is not None

    def metadata(self) -> Metadata:
        """Return the loaded model's metadata, waiting for it as infer() does."""
        return self.loaded(Call()).metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer once the model is there.

        Raises:
            Unavailable: it is not there before the request's deadline; the load goes on.
            GraphPipeError: what `load` raised; the next request starts it anew.
        """
        return self.loaded(request.call).infer(request)

    def _begin(self) -> _Attempt:
        with self._lock:
            if self._attempt is None:
                self._attempt = _Attempt()
                # Not a daemon: at the interpreter's end a thread inside a native library would take the process down.
                threading.Thread(target=self._run, args=(self._attempt,), name="model-load", daemon=False).start()
            return self._attempt

    def _run(self, attempt: _Attempt) -> None:
        try:
            self._model = attempt.model = self._load()
        except BaseException as exc:  # noqa: BLE001 - handed to every caller that waits
            attempt.error = exc
        finally:
            with self._lock:
                self._attempt = None
            attempt.done.set()

    def loaded(self, call: Call) -> Model:
        """
        Return the model once it is there.

        Raises:
            Unavailable, GraphPipeError: as infer() does.
        """
        if self._model is not None:
            return self._model
        attempt = self._begin()
        wait_s = self._wait_s
        if call.deadline_s is not None:
            wait_s = max(0.0, call.deadline_s - time.monotonic() - MARGIN_S)
        if not attempt.done.wait(wait_s):
            raise Unavailable(
                f"the model is still loading; retry in {self._retry_after_s:g} s",
                retry_after_s=self._retry_after_s,
            )
        if attempt.error is not None:
            raise attempt.error
        assert attempt.model is not None  # an attempt is done with a model or with an error
        return attempt.model


class _Attempt:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.model: Model | None = None
        self.error: BaseException | None = None
