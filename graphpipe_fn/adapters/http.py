"""
The stand-alone server: HTTP/1.1 over TCP, TLS or a unix socket, with threads and the standard library alone.

A thread serves a connection, since a model's work and the kernel's copying happen without the GIL; how many models
run side by side is said elsewhere (limited). Slow and half-open clients cost a thread each and hold up nobody: when
there are too many connections, the one that has kept us waiting longest is closed for the next.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from graphpipe_fn.adapters.http_connection import Connection, HttpLimits, Phase, Site
from graphpipe_fn.adapters.http_stream import BufferPool, Stream, TlsStream
from graphpipe_fn.errors import BadConfig

if TYPE_CHECKING:
    import ssl

BACKLOG = 1024
POOL_BYTES = 64 << 20  # of warm receive buffers between requests
ACCEPT_PAUSE_S = 0.05
IDLE_THREAD_S = 5.0  # how long a thread without a connection waits for one
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listen:
    """
    Say where to listen.

    Args:
        host, port: For TCP; port 0 lets the system choose.
        path: Of a unix socket, instead of these; made, and removed at the end.
        reuse_port: Let other processes listen at the same port and share its connections.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    path: str = ""
    reuse_port: bool = False


class HttpServer:
    """
    Serve a site.

    Args:
        site: What is at which path: an endpoints.Endpoints, or one around it.
        listen: Where; listening begins at once, serving with start().
        tls: For https.
        limits: What each connection may take.
        connections: How many at the same time.

    Raises:
        BadConfig: can't listen there.
    """

    def __init__(
        self,
        site: Site,
        listen: Listen = Listen(),
        *,
        tls: ssl.SSLContext | None = None,
        limits: HttpLimits = HttpLimits(),
        connections: int = 512,
    ) -> None:
        self._site = site
        self._tls = tls
        self._limits = limits
        self._connections_max = connections
        self._pool = BufferPool(POOL_BYTES)
        self._listen = listen
        self._listener = _listener(listen)
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # there is a connection for an idle thread
        self._done = threading.Condition(self._lock)  # a connection has ended
        self._waiting: deque[Connection] = deque()
        self._connections: set[Connection] = set()  # with those that still wait for a thread
        self._idle_threads = 0
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """Return where clients find this server."""
        if self._listen.path:
            return "http+unix://" + os.path.abspath(self._listen.path).replace("/", "%2F")
        host, port = self._listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return f"{'http' if self._tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def stopping(self) -> bool:
        """Return whether stop() was called: a readiness check should say no."""
        return self._stopping.is_set()

    def start(self) -> Self:
        """Serve, in threads."""
        self._acceptor = threading.Thread(target=self._accept, name="http-accept", daemon=True)
        self._acceptor.start()
        return self

    def stop(self, grace_s: float = 30.0) -> bool:
        """
        Accept no more, answer every request that is under way, then end.

        Args:
            grace_s: How long requests have to end.

        Returns:
            Whether all of them did.
        """
        if self._stopping.is_set():
            return True
        deadline_s = time.monotonic() + grace_s
        self._stopping.set()
        os.write(self._wake_write, b"x")
        if self._acceptor is not None:
            self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.finish()
            done = self._done.wait_for(lambda: not self._connections, max(0.0, deadline_s - time.monotonic()))
            self._work.notify_all()
        if self._listen.path:
            with suppress(FileNotFoundError):
                os.unlink(self._listen.path)
        os.close(self._wake_read)
        os.close(self._wake_write)
        return done

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            self._accept_waiting()
        self._accept_waiting()  # who is in the backlog has been told that the connection stands

    def _accept_waiting(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:  # no descriptors left, or the client has gone again
                _log.warning("a connection could not be accepted: %s", exc)
                with self._lock:
                    self._make_room()
                self._stopping.wait(ACCEPT_PAUSE_S)  # the listener stays readable: without a pause this would spin
                return
            try:
                self._hand_over(sock)
            except OSError:  # the client has gone while its connection was set up
                sock.close()

    def _hand_over(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a reply may wait 40 ms for an ACK
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream = Stream(sock) if self._tls is None else TlsStream(sock, self._tls)
        connection = Connection(stream, self._site, self._limits, self._pool, last=self._stopping.is_set())
        with self._lock:
            if len(self._connections) >= self._connections_max and not self._make_room():
                stream.close()  # all are at work: the next server, or a retry, is quicker than a place in a queue
                return
            self._connections.add(connection)
            self._waiting.append(connection)
            if self._idle_threads >= len(self._waiting):
                self._work.notify()
                return
        threading.Thread(target=self._serve, name="http", daemon=True).start()

    def _make_room(self) -> bool:
        """Close the connection that has kept us waiting longest: one without a request, else a slow one."""
        waiting = [each for each in self._connections if each.phase is not Phase.ANSWERING and not each.leaving]
        if waiting:
            min(waiting, key=lambda each: (each.phase.value, each.since_s)).finish(at_once=True)
        return bool(waiting)

    def _serve(self) -> None:
        """Be a thread that serves one connection after the other, and ends when there is none for a while."""
        while True:
            with self._lock:
                while not self._waiting:
                    self._idle_threads += 1
                    called = self._work.wait(IDLE_THREAD_S)
                    self._idle_threads -= 1
                    if not self._waiting and (not called or self._stopping.is_set()):
                        return
                connection = self._waiting.popleft()
            try:
                connection.serve()
            except Exception:  # noqa: BLE001 - this connection's end, not the thread's
                _log.exception("a connection ended by a bug")
            finally:
                with self._lock:
                    self._connections.discard(connection)
                    self._done.notify_all()
            del connection  # or its buffers would stay until the next one


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """
    Return what a server's certificate and key make.

    Args:
        certificate: Path of a PEM file, with the chain.
        key: Path of a PEM file; "" where the certificate's file holds it.

    Raises:
        BadConfig: they can't be read, or do not belong together.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as exc:
        raise BadConfig(f"the certificate {certificate} and its key can't be used: {exc}") from exc
    return context


def _listener(listen: Listen) -> socket.socket:
    where = listen.path or f"{listen.host}:{listen.port}"
    if not 0 <= listen.port <= 65_535:
        raise BadConfig(f"can't listen at {where}: a port is a number from 0 to 65535")
    family: int = socket.AF_UNIX
    address: tuple[object, ...] = ()
    try:
        if listen.path:
            _remove_stale(listen.path)
        else:
            found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, address = found[0][0], found[0][4]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if not listen.path:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listen.reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(listen.path or address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise BadConfig(f"can't listen at {where} ({why}); is it taken, or not this machine's?") from exc
    listener.setblocking(False)
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that did not live to remove it; one that answers is left alone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
