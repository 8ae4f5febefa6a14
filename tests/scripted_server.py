"""A TCP or unix server whose every connection follows a script: what real servers do wrong, on purpose."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Script = Callable[["Peer"], None]


@dataclass
class Peer:
    """One accepted connection: the script's side."""

    sock: socket.socket
    number: int
    gone: threading.Event
    _received: bytes = b""

    def request(self) -> tuple[bytes, bytes]:
        """Read one request with a Content-Length; return its head and body."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        pieces, have = [self._received], len(self._received)
        while have < length:
            pieces.append(self.sock.recv(1 << 20))
            if not pieces[-1]:
                raise ConnectionError("the client closed within its request")
            have += len(pieces[-1])
        body = b"".join(pieces)
        self._received = body[length:]
        return head, body[:length]

    def send(self, data: bytes, *, drip: bool = False) -> None:
        """Send, at once or byte by byte."""
        if not drip:
            self.sock.sendall(data)
            return
        for place in range(len(data)):
            self.sock.sendall(data[place : place + 1])

    def wait(self) -> None:
        """Keep silent until the test is over."""
        self.gone.wait(30)

    def _more(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the client closed")
        self._received += data


@dataclass
class ScriptedServer:
    """What the test sees."""

    port: int
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return the server's URL."""
        return f"http://127.0.0.1:{self.port}/"


def response(body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a plain response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def scripted_server(
    script: Script, *, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """
    Serve on 127.0.0.1 or a unix socket; a connection is closed when its script returns.

    A script that meets the client's closing may let ConnectionError out.
    """
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        server = ScriptedServer(listener.getsockname()[1])
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(8)
        server = ScriptedServer(0)
    gone = threading.Event()
    threads: list[threading.Thread] = []

    def follow(sock: socket.socket, number: int) -> None:
        try:
            if tls is not None:
                sock = tls.wrap_socket(sock, server_side=True)
            with sock:
                script(Peer(sock, number, gone))
        except (ConnectionError, ssl.SSLError):
            pass
        except BaseException as exc:  # noqa: BLE001 - shown by the test's own thread
            server.failures.append(exc)
        finally:
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if gone.is_set():
                sock.close()
                return
            server.connections += 1
            thread = threading.Thread(target=follow, args=(sock, server.connections))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        gone.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive(), "a script did not end"
    assert not server.failures, server.failures
