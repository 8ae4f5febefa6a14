"""How bench/serve.py asks its peers, and what it reads from the kernel about them."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

BOUNDARY = b"xXxBoundaryxXx"


class Road(Protocol):
    """A way to ask one server."""

    def ask(self, count: int) -> tuple[list[float], np.ndarray]:
        """Ask so many times; return the seconds of each, and the last answer."""
        ...

    def close(self) -> None:
        """End."""
        ...


class HttpRoad:
    """
    Ask over one kept connection, with next to no work on this side.

    Args:
        parts: The body, sent as it is.
        read: Makes an array of an answer's body.
    """

    def __init__(
        self,
        port: int,
        path: str,
        parts: Sequence[bytes | memoryview],
        content_type: str,
        read: Callable[[bytes], np.ndarray],
    ) -> None:
        length = sum(len(part) for part in parts)
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Type: {content_type}",
            f"Content-Length: {length}",
        ]
        self._request = ["\r\n".join([*lines, "", ""]).encode(), *parts]
        self._size = len(self._request[0]) + length
        self._read = read
        self._buffer = bytearray(1 << 16)
        self._view = memoryview(self._buffer)
        self._port = port
        self._sock = self._connected()

    def ask(self, count: int) -> tuple[list[float], np.ndarray]:
        """Ask so many times; return the seconds of each, and the last answer."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if poll.poll(0):  # some close a connection that others' turns have kept waiting
            self._sock.close()
            self._sock = self._connected()
        seconds, body = [], b""
        for _ in range(count):
            began = time.perf_counter()
            sent = self._sock.sendmsg(self._request)
            while sent < self._size:
                rest = b"".join(self._request)[sent:]
                sent += self._sock.send(rest)
            body = self._answer()
            seconds.append(time.perf_counter() - began)
        return seconds, self._read(body)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _connected(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _answer(self) -> bytes:
        have = 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, have)) < 0:
            received = self._sock.recv_into(self._view[have:])
            if not received:
                raise ConnectionError("the server closed the connection")
            have += received
        head = bytes(self._buffer[:end])
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:200]!r} {bytes(self._buffer[end:have])[:300]!r}")
        declared = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        chunked = declared is None
        whole = end + 4 + (0 if declared is None else int(declared[1]))
        while have < whole or (chunked and not self._buffer.endswith(b"0\r\n\r\n", end, have)):
            have += self._sock.recv_into(self._view[have:])
        body = bytes(self._buffer[end + 4 : have])
        return _unchunked(body) if chunked else body


class GrpcRoad:
    """Ask over gRPC, by a process in the peer's own environment that times its requests itself."""

    def __init__(self, python: Path, peer: str, port: int, tensor: Path) -> None:
        client = Path(__file__).parent / "serve_peers" / "grpc_client.py"
        self._process = subprocess.Popen(
            [python, client, peer, str(port), tensor], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, count: int) -> tuple[list[float], np.ndarray]:
        """Ask so many times; return the seconds of each, and the last answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ConnectionError("the gRPC client ended; its own words are above")
        answer = json.loads(line)
        return answer["seconds"], np.array(answer["output"], np.float32)

    def close(self) -> None:
        """End the client."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def multipart(body: bytes) -> list[bytes]:
    """Return a multipart body with one file, "data"."""
    head = b'--%s\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n' % BOUNDARY
    return [head + b"Content-Type: application/octet-stream\r\n\r\n", body, b"\r\n--%s--\r\n" % BOUNDARY]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # a thread that has just ended
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its living descendants, of all their threads, user and system."""
    total = 0.0
    for process in tree(pid):
        try:
            total += time.clock_gettime((~process << 3) | 2)  # a process's clock; see clock_getcpuclockid(3)
        except OSError:
            continue
    return total


def peak_bytes(pid: int) -> int:
    """Return the peak memory of a process and its descendants; what they share counts for each."""
    total = 0
    for process in tree(pid):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        total += int(peak[1]) * 1024 if peak else 0
    return total


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and everything that it started, by their numbers."""
    everyone = tree(process.pid)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for pid in everyone[1:]:
        try:
            os.kill(pid, 9)
        except OSError:
            continue


def _unchunked(body: bytes) -> bytes:
    whole, place = b"", 0
    while True:
        line = body.index(b"\r\n", place)
        size = int(body[place:line].split(b";")[0], 16)
        if not size:
            return whole
        whole += body[line + 2 : line + 2 + size]
        place = line + 4 + size
