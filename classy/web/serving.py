"""
Serving the application with waitress: many clients, slow ones, and ones that never finish, on a few threads.

waitress reads a request whole before a thread sees it, so a slow client costs memory (of a small part of its body;
the rest goes to a temporary file) and no thread. What it refuses itself is answered here as a problem, like
everything else, and a request that never ends is given up: waitress's own limit is on silence only.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import RequestEntityTooLarge

from classy import answers
from classy.errors import BadRequest
from classy.web.guards import DATA_POLICY
from classy.web.replies import PROBLEM, problem
from graphpipe_fn.errors import TooLarge
from graphpipe_fn.headers import ID_PATTERN

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS = 8  # at work; most of a classification is waiting for a download or computing outside of Python
CONNECTIONS = 500  # open at the same time; each costs a few kB until it sends something
SILENCE_S = 60
HEADER_BYTES = 64 << 10
REQUEST_S = 30.0  # for a request's head and body …
LEAST_BYTES_S = 4096  # … and so much more as it has sent bytes: a 20 MB picture may take 80 minutes, rubbish may not
LINGER_S, LINGER_BYTES = 20.0, 128 << 20  # for what a refused client goes on sending
READ_BYTES = 1 << 18
STOP_S = 5.0
TURN_S = 1.0
LOCAL_HOSTS = frozenset(("127.0.0.1", "localhost", "[::1]"))

log = logging.getLogger(__name__)


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answer what waitress refuses before the application sees it: as a problem, and the connection closed."""

    def execute(self) -> None:
        """Write the answer."""
        request = self.request
        given = request.headers.get("X_REQUEST_ID", "")
        call_id = given if ID_PATTERN.fullmatch(given) else uuid.uuid4().hex
        if isinstance(request.error, RequestEntityTooLarge):
            limit = self.channel.server.adj.max_request_body_size - 1
            code, detail = TooLarge.code, f"the body is over the limit of {limit:,} bytes; send smaller pictures"
        else:
            code, detail = BadRequest.code, "this is no HTTP request that can be read"
        value = problem(code, detail, call_id=call_id, retryable=False)
        if request.error.code in (431, 501):
            value |= {"status": request.error.code, "title": request.error.reason}
        body = answers.encode(value)
        self.status = f"{value['status']} {request.error.reason}"
        self.response_headers += [
            ("Content-Type", PROBLEM),
            ("X-Request-Id", call_id),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", DATA_POLICY),
            ("Cache-Control", "no-store"),
        ]
        self.set_close_on_finish()
        self.channel.refused = True
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection, and since when its unfinished request has been coming."""

    error_task_class = Refusal
    began_s: float | None = None
    got_bytes = 0
    refused = False
    closes_s: float | None = None
    left_bytes = LINGER_BYTES

    def received(self, data: bytes) -> Any:
        """Take what came."""
        if self.began_s is None:
            self.began_s, self.got_bytes = time.monotonic(), 0
        self.got_bytes += len(data)
        result = super().received(data)
        if self.request is None:
            self.began_s = None
        return result

    def handle_read(self) -> None:
        """Take what came; after a refusal, throw it away."""
        if self.closes_s is None:
            super().handle_read()
            return
        try:
            data = self.recv(READ_BYTES)
        except OSError:
            data = b""
        self.left_bytes -= len(data)
        if not data or self.left_bytes < 0 or time.monotonic() > self.closes_s:
            self.handle_close()

    def handle_close(self) -> None:
        """
        Close the connection; after a refusal only this side of it, for a while.

        Closing with bytes unread makes the system send a reset, and whoever is still sending loses the answer by it.
        """
        if self.refused and self.closes_s is None and self.connected:
            self.closes_s, self.will_close = time.monotonic() + LINGER_S, False
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def send_continue(self) -> None:
        """Let the client send its body, unless it is refused already, or there is none."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def is_busy(self) -> bool:
        """Return whether a request is under way, or an answer."""
        return (
            self.connected
            and self.closes_s is None
            and bool(self.requests or self.request is not None or self.total_outbufs_len)
        )

    def is_endless(self, now_s: float) -> bool:
        """Return whether its request has been coming for too long, or what follows a refused one."""
        if self.closes_s is not None:
            return now_s > self.closes_s
        return self.began_s is not None and now_s - self.began_s > REQUEST_S + self.got_bytes / LEAST_BYTES_S


class Server(TcpWSGIServer):  # type: ignore[misc]
    """A listening socket with its connections."""

    channel_class = Channel

    def turn(self, wait_s: float) -> None:
        """Do what there is to do, waiting so long for something."""
        wasyncore.loop(timeout=wait_s, use_poll=True, map=self._map, count=1)

    def refuse_new(self) -> None:
        """Take no more connections."""
        self.accepting = False
        self.del_channel()
        self.socket.close()

    def is_busy(self) -> bool:
        """Return whether a request is under way, or an answer."""
        return any(channel.is_busy() for channel in tuple(self.active_channels.values()))

    def maintenance(self, now: float) -> None:
        """Close what is silent, and what never ends."""
        super().maintenance(now)
        now_s = time.monotonic()
        for channel in self.active_channels.values():
            if channel.is_endless(now_s):
                channel.will_close = True


def make_server(
    app: WSGIApplication, listener: socket.socket, *, limit_bytes: int, prefix: str = "", threads: int = THREADS
) -> Server:
    """
    Return a server that listens; run() it.

    Args:
        listener: A bound TCP socket; the server closes it.
        limit_bytes: The largest body; a larger declared one is refused unread, a chunked one when it gets there.
        prefix: Where it is mounted, "/classy" for example.
    """
    adjustments = Adjustments(
        sockets=[listener],
        threads=threads,
        connection_limit=CONNECTIONS,
        channel_timeout=SILENCE_S,
        cleanup_interval=5,
        max_request_header_size=HEADER_BYTES,
        max_request_body_size=limit_bytes + 1,
        url_prefix=prefix,
        ident=None,
        asyncore_use_poll=True,  # select() knows no descriptor over 1023
        clear_untrusted_proxy_headers=False,  # guards decides what to believe
    )
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(threads)
    info = (listener.family, listener.type, listener.proto, listener.getsockname())
    return Server(app, {}, True, listener, dispatcher=dispatcher, adj=adjustments, sockinfo=info, bind_socket=False)


def serve_until_told(server: Server, *, started: Callable[[], None] = lambda: None) -> None:
    """Serve in the main thread until SIGTERM or SIGINT; then answer what is under way, for a few seconds."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits for a thread
    stop = threading.Event()

    def told(*_: object) -> None:
        stop.set()
        server.pull_trigger()  # out of poll()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)  # for good: a second one must not cut short what the first one began
    started()
    while not stop.is_set():
        server.turn(TURN_S)
    server.refuse_new()
    deadline_s = time.monotonic() + STOP_S
    while server.is_busy() and time.monotonic() < deadline_s:
        server.turn(0.1)
    server.task_dispatcher.shutdown(timeout=0.5)
    wasyncore.close_all(server._map)
