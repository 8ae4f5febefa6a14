"""
serve(): a model at an address until a signal says stop; what `graphpipe-fn serve` does, as a function call.

    from graphpipe_fn import serve
    serve(double, Listen(port=9000))

Inside a program of your own, `with HttpServer(Endpoints(…)) as server:` serves without taking the signals.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen
from graphpipe_fn.adapters.http_connection import HttpLimits, Site
from graphpipe_fn.model import Model
from graphpipe_fn.server import answerer

if TYPE_CHECKING:
    import ssl


def _say_where(server: HttpServer) -> None:
    print(f"serving at {server.uri}", flush=True)


def serve(
    model: Model,
    listen: Listen = Listen(),
    *,
    name: str = "",
    rest: bool = False,
    tls: ssl.SSLContext | None = None,
    limits: HttpLimits = HttpLimits(),
    connections: int = 512,
    grace_s: float = 30.0,
    started: Callable[[HttpServer], None] = _say_where,
) -> bool:
    """
    Serve a model until SIGTERM or SIGINT; to be called in the main thread.

    Args:
        model: Called from several threads at once; see Limited and Batched.
        listen: Where.
        name: The stage, for the `Server-Timing` header; "" for none.
        rest: Answer JSON at /rest, too.
        tls: For https; `adapters.http.tls_context` makes one of files.
        limits: What each connection may take.
        connections: How many at the same time.
        grace_s: How long requests that are under way at the end have. A second signal ends everything at once.
        started: Called when the server listens.

    Returns:
        Whether all requests were answered.

    Raises:
        BadConfig: can't listen there.
    """
    told = _Signals()
    endpoints = Endpoints(answerer(model, name=name), model.metadata, lambda: not told.given)
    site: Site = endpoints
    if rest:
        from graphpipe_fn.adapters.rest import WithRest

        site = WithRest(endpoints, model)
    server = HttpServer(site, listen, tls=tls, limits=limits, connections=connections)
    with told:
        server.start()
        started(server)
        told.wait()
        return server.stop(grace_s)


class _Signals:
    """
    Wait for SIGTERM or SIGINT.

    Not with an Event: its set() is not safe in a signal's handler, and a thread that waits in a lock does not hear
    of a signal that the kernel gave to another thread. A pipe is and does.
    """

    def __init__(self) -> None:
        self.given = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def wait(self) -> None:
        """Return when a signal came."""
        while not self.given:
            os.read(self._read, 1)

    def __enter__(self) -> Self:
        self._fd_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.given:  # the second time it is meant
            os._exit(128 + number)
        self.given = True
