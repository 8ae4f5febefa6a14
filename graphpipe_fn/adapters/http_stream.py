"""
One accepted connection as a stream of bytes with deadlines, plain or TLS; and the buffers that bodies are read into.

Deadlines are the kernel's: a socket with a timeout of Python's asks poll() before every recv(), twice the system
calls. With SO_RCVTIMEO and MSG_WAITALL one call reads a whole body, without the GIL. It knows no HTTP.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from graphpipe_fn.model import Buffer

if TYPE_CHECKING:
    import ssl

_T = TypeVar("_T")

IOV_MAX = 1_024  # buffers that one sendmsg takes on Linux
JOIN_MAX = 1 << 14  # bytes that go into one TLS record
TURN_S = 4.0  # a wait for longer is made of such turns: the kernel need not be told a new time with each request
SHORTEST_S = 1e-3  # a timeout of 0 would mean "for ever" to the kernel


class Stream:
    """
    Be a connection that never waits past a deadline: on `time.monotonic()`'s scale, with TimeoutError when it passes.

    Args:
        sock: Accepted; it is closed with this.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._limits: dict[int, float] = {}

    def open(self, deadline_s: float) -> None:
        """Do what comes before the first byte: nothing, or a handshake."""

    def receive(self, view: memoryview, deadline_s: float, *, whole: bool = False) -> int:
        """
        Read bytes; 0 is the end.

        Args:
            view: Filled from its start.
            whole: Wait until it is full.
        """
        while True:
            self._limit(socket.SO_RCVTIMEO, deadline_s)
            try:
                return self._sock.recv_into(view, 0, socket.MSG_WAITALL if whole else 0)
            except BlockingIOError:
                continue  # the kernel's time is up; whether the deadline's is, the next turn tells

    def send(self, buffers: Sequence[Buffer], size: int, deadline_s: float) -> None:
        """
        Write all buffers, in as few calls as the kernel allows.

        Args:
            size: Their bytes together.
        """
        sent, views = self._sent(buffers[:IOV_MAX], deadline_s), None
        while sent < size:
            size -= sent
            if views is None:
                views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
            while sent >= views[0].nbytes:
                sent -= views.pop(0).nbytes
            views[0] = views[0][sent:]
            sent = self._sent(views[:IOV_MAX], deadline_s)

    def _sent(self, buffers: Sequence[Buffer], deadline_s: float) -> int:
        while True:
            self._limit(socket.SO_SNDTIMEO, deadline_s)
            try:
                return self._sock.sendmsg(buffers)
            except BlockingIOError:
                continue

    def stop_reading(self) -> None:
        """Make a receive() that waits return 0; what has arrived can still be read."""
        self._shut(socket.SHUT_RD)

    def stop_writing(self) -> None:
        """Tell the peer that nothing follows."""
        self._shut(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _shut(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:
            return  # the peer was faster

    def _limit(self, option: int, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if left_s >= TURN_S:
            left_s = TURN_S
            if self._limits.get(option) == TURN_S:
                return
        self._limits[option] = left_s
        fraction, seconds = math.modf(max(left_s, SHORTEST_S))
        self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(seconds), int(fraction * 1e6)))


class TlsStream(Stream):
    """Be a TLS connection."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def open(self, deadline_s: float) -> None:
        """Make the handshake."""
        self._tls.settimeout(_left_s(deadline_s))
        self._tls.do_handshake()

    def receive(self, view: memoryview, deadline_s: float, *, whole: bool = False) -> int:
        """Read bytes; 0 is the end. A record at a time: `whole` loops."""
        have = 0
        while have < len(view):
            self._tls.settimeout(_left_s(deadline_s))
            received = self._tls.recv_into(view[have:])
            have += received
            if not received or not whole:
                break
        return have

    def send(self, buffers: Sequence[Buffer], size: int, deadline_s: float) -> None:
        """Write all buffers; a small reply in one record with its head."""
        if size <= JOIN_MAX:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            self._tls.settimeout(_left_s(deadline_s))
            self._tls.sendall(buffer)

    def close(self) -> None:
        """Close the connection."""
        self._tls.close()

    def _shut(self, how: int) -> None:
        try:
            socket.socket.shutdown(self._tls, how)  # SSLSocket's own would drop TLS and send what is left in clear
        except OSError:
            return


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class BufferPool:
    """
    Lend memory that is already mapped: a copy into fresh pages costs five times one into warm ones.

    Args:
        keep_bytes: What is kept for later requests, at most.
    """

    SMALLEST = 1 << 16

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._kept: list[bytearray] = []
        self._kept_bytes = 0

    def lend(self, size: int, use: Callable[[bytearray], _T]) -> _T:
        """
        Call a function with a buffer of at least this size, and return what it returns.

        The buffer comes back only if nothing refers to it any more: a model may have kept a view of its input, in a
        batch that goes on after its caller's deadline, and must not see the next request's bytes in it. References
        are counted, because numpy's views keep one but do not count as users of the memory.
        """
        buffer = self._taken(size)
        alone = sys.getrefcount(buffer)
        result = use(buffer)
        if sys.getrefcount(buffer) == alone:
            with self._lock:
                if self._kept_bytes + len(buffer) <= self._keep_bytes:
                    self._kept.append(buffer)
                    self._kept_bytes += len(buffer)
        return result

    def _taken(self, size: int) -> bytearray:
        with self._lock:
            for place in range(len(self._kept) - 1, -1, -1):  # the last one used is the warmest
                if len(self._kept[place]) >= size:
                    self._kept_bytes -= len(self._kept[place])
                    return self._kept.pop(place)
            if self._kept:  # too small for today's requests
                self._kept_bytes -= len(self._kept.pop(0))
        return bytearray(max(self.SMALLEST, 1 << (size - 1).bit_length() if size < 1 << 20 else -(-size >> 20) << 20))
