"""
The HTTP road: http, https, and HTTP over a unix socket, with connections that are kept.

Redirects are never followed and nothing is read from the environment (proxies, netrc): a function that is told
where to go goes there and nowhere else.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from graphpipe_fn.errors import BadConfig
from graphpipe_fn.headers import reply_of, request_headers
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.transports.dial import Address
from graphpipe_fn.transports.http1 import Closed, Connection, Response

if TYPE_CHECKING:
    import ssl

LIMIT_BYTES = 256 << 20  # of an answer; the announcement's example answers 12.8 MB
IDLE_CONNECTIONS = 16
IDLE_S = 30.0  # a kept connection's age; Fn's Python FDK spins on one that is idle for 75 s
URI_MAX = 4_096  # characters

_NOT_ALLOWED = re.compile(r"[\x00-\x20\x7f\\]")
_SAFE = "/%:@!$&'()*+,;=~?"


class HttpTransport:
    """
    Carry messages to one URI; usable from several threads at once.

    Args:
        uri: `http://host:port/path`, `https://…`, or `http+unix://%2Fpath%2Fto%2Fsocket/path`.
        tls: For https; the system's certificates unless given.
        limit_bytes: The largest answer that is accepted.
        idle_connections: How many connections are kept while nobody uses them.
        idle_s: How long each is kept.

    Raises:
        BadConfig: not such a URI.
    """

    def __init__(
        self,
        uri: str,
        *,
        tls: ssl.SSLContext | None = None,
        limit_bytes: int = LIMIT_BYTES,
        idle_connections: int = IDLE_CONNECTIONS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._address, self._host, self._target = _parsed(uri, tls)
        self._limit_bytes = limit_bytes
        self._idle_max = idle_connections
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[tuple[float, int, Connection]] = []  # since when, and in which process
        self._open = True

    @property
    def host(self) -> str:
        """Return the value of the Host header."""
        return self._host

    @property
    def path(self) -> str:
        """Return the URI's path and query as they are sent."""
        return self._target

    def __call__(self, buffers: Sequence[Buffer], call: Call) -> Reply:
        """
        POST a message.

        Raises:
            ConnectFailed: the server can't be reached; nothing was sent.
            TransportFailed: it gave no answer, or none that is HTTP/1.1.
            TooLarge: the answer is over the limit.
            TimedOut: the call's deadline passed.
        """
        return self.request("POST", self._target, buffers, call)

    def request(self, method: str, target: str, buffers: Sequence[Buffer], call: Call) -> Reply:
        """
        Send a request with what travels beside a message, and read its answer so.

        Args:
            target: Path and query, encoded.

        Raises:
            GraphPipeError: as __call__().
        """
        headers = [*request_headers(call), ("Accept-Encoding", "identity")]
        if method == "POST":
            headers.append(("Content-Type", "application/octet-stream"))
        response = self.send(method, target, headers, buffers, call.deadline_s)
        return reply_of(response.status, response.headers, response.body)

    def send(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        buffers: Sequence[Buffer],
        deadline_s: float | None,
        *,
        into: memoryview | None = None,
    ) -> Response:
        """
        Send a request that is safe to repeat, with headers of the caller's own.

        On a kept connection that the server was just closing, it is sent again over a new one.

        Args:
            headers: Besides Host, User-Agent and Content-Length; printable ASCII. An encoded answer is refused.
            deadline_s: On `time.monotonic()`'s scale.
            into: Where a body of just so many bytes is received, whatever the limit, and is then the response's;
                any other has memory of its own. What an error leaves there is worthless.

        Raises:
            GraphPipeError: as __call__().
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "User-Agent: graphpipe-fn"]
        lines += [f"{name}: {value}" for name, value in headers]
        if method == "POST":
            lines.append(f"Content-Length: {sum(memoryview(buffer).nbytes for buffer in buffers)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        kept = self._kept()
        if kept is not None:
            try:
                return self._exchange(kept, head, buffers, deadline_s, into)
            except Closed:
                pass
        return self._exchange(Connection(self._address, deadline_s), head, buffers, deadline_s, into)

    def close(self) -> None:
        """Close the kept connections, and those in use after their request."""
        with self._lock:
            idle, self._idle, self._open = self._idle, [], False
        for _, _, connection in idle:
            connection.close()

    def _exchange(
        self,
        connection: Connection,
        head: bytes,
        buffers: Sequence[Buffer],
        deadline_s: float | None,
        into: memoryview | None,
    ) -> Response:
        reusable = keep = False
        try:
            response, reusable = connection.exchange(head, buffers, deadline_s, self._limit_bytes, into)
        finally:
            with self._lock:
                if reusable and self._open and len(self._idle) < self._idle_max:
                    self._idle.append((time.monotonic(), os.getpid(), connection))
                    keep = True
            if not keep:
                connection.close()
        return response

    def _kept(self) -> Connection | None:
        oldest = time.monotonic() - self._idle_s
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, process, connection = self._idle.pop()  # the last used, so that the others grow old and go
            # Of a connection that was open at a fork, parent and child would read each other's answers.
            if since > oldest and process == os.getpid() and connection.quiet():
                return connection
            connection.close()


def _parsed(uri: str, tls: ssl.SSLContext | None) -> tuple[Address, str, str]:
    """Return the address, the value of the Host header, and the request's target."""
    try:
        if len(uri) > URI_MAX or _NOT_ALLOWED.search(uri):
            raise ValueError("it is too long, or has spaces, backslashes or control characters")
        parts = urlsplit(uri)
        if "@" in parts.netloc:
            raise ValueError("user names and passwords do not belong into a URI")
        target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        if parts.scheme == "http+unix":
            path = unquote(parts.netloc)
            if not path.startswith("/"):
                raise ValueError("write the socket's absolute path with %2F for each slash")
            return Address(path=path), "localhost", target
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"its scheme is {parts.scheme!r}")
        if not parts.hostname:
            raise ValueError("it has no host")
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
        secure = parts.scheme == "https"
        if secure and tls is None:
            import ssl

            tls = ssl.create_default_context()
        port = parts.port or (443 if secure else 80)
        shown = f"[{host}]" if ":" in host else host
        return (
            Address(host, port, tls=tls if secure else None),
            shown if parts.port is None else f"{shown}:{port}",
            target,
        )
    except ValueError as exc:  # also a port that is no number, brackets that do not match, a name that IDNA refuses
        raise BadConfig(f"{uri[:200]!r} is no address that can be called: {exc}") from exc
