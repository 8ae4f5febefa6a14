"""
One HTTP/1.1 connection: requests in, replies out, each phase with a deadline over all of it.

It knows HTTP's framing and no socket option; what is answered is the site's business (endpoints).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Protocol

from graphpipe_fn.adapters.http_head import FIELDS_MAX, Head, chunk_length, parse_head
from graphpipe_fn.adapters.http_stream import BufferPool, Stream
from graphpipe_fn.errors import GraphPipeError, MalformedMessage, TooLarge
from graphpipe_fn.headers import call_of, reply_headers
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.server import error_reply

LINGER_S = 2.0  # how long a refused body is still read, so that the refusal is not lost with it
PIECE_BYTES = 1 << 20  # of a body, for which alone there is time at the slowest rate
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_access = logging.getLogger("graphpipe_fn.access")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Site(Protocol):
    """What is at which path; `endpoints.Endpoints` is one."""

    def reply(self, method: str, path: str, body: Callable[[], Buffer], call: Call) -> Reply:
        """Answer one request; never raise."""
        ...


class SlowClient(GraphPipeError):
    """The client did not send its request in time."""

    code = 40800


class HeadTooLarge(GraphPipeError):
    """A request line and headers over the limit."""

    code = 43100


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """
    What one connection may take.

    Args:
        body_bytes: The largest body; one that is declared larger is refused unread.
        head_bytes: Request line and headers together.
        idle_s: Between two requests.
        head_s: From a request's first byte to the end of its head.
        body_s: For a body, and again for the reply; the time at the slowest rate is added.
        rate_bytes_s: The slowest rate at which a body is still read or a reply sent.
    """

    body_bytes: int = 128 << 20  # the announcement's example request is 77 MB
    head_bytes: int = 16 << 10
    idle_s: float = 75.0
    head_s: float = 10.0
    body_s: float = 20.0
    rate_bytes_s: float = 64 << 10


class _Ended(Exception):
    """There is nobody to answer to any more."""


class Phase(Enum):
    """What a connection is doing: waiting for a request, reading one, or answering it."""

    IDLE = 1
    READING = 2
    ANSWERING = 3


class Connection:
    """
    Serve one connection from its first request to its last.

    Args:
        stream: Closed at the end.
        last: Whether the first request is the last one, too.
    """

    def __init__(
        self, stream: Stream, site: Site, limits: HttpLimits, pool: BufferPool, *, last: bool = False
    ) -> None:
        self.phase = Phase.IDLE
        self.since_s = time.monotonic()
        self._stream = stream
        self._site = site
        self._limits = limits
        self._pool = pool
        self.leaving = last
        self._buffer = bytearray(limits.head_bytes)
        self._view = memoryview(self._buffer)
        self._start = self._stop = 0  # what of the buffer has arrived and is not used yet
        self._body_read = True

    def serve(self) -> None:
        """Answer requests until either side has had enough; never raise."""
        try:
            self._stream.open(time.monotonic() + self._limits.head_s)
            while self._serve_one() and not self.leaving:
                pass
        except (_Ended, OSError):  # TimeoutError, too: who does not read the reply is not told so
            pass
        finally:
            self._stream.close()

    def finish(self, *, at_once: bool = False) -> None:
        """
        End after the request that is under way; called from other threads.

        Args:
            at_once: End also where a request has not arrived in whole.
        """
        self.leaving = True  # read after the phase is set, as the phase is read after this is set
        if self.phase is Phase.IDLE or (at_once and self.phase is Phase.READING):
            self._stream.stop_reading()

    def _serve_one(self) -> bool:
        """Return whether another request may follow."""
        try:
            head = parse_head(self._head())
        except GraphPipeError as exc:
            self._body_read = False  # where it would end, nobody knows
            self._send(error_reply(exc), Call(), method="", keep_alive=False)
            return False
        call = call_of(head.headers, call_id=os.urandom(16).hex())
        started = time.perf_counter()
        self._body_read = head.length == 0
        if head.length and head.length <= self._limits.body_bytes:
            # No view of the buffer outlives this call, or it could not be lent to another request.
            status, sent = self._pool.lend(
                head.length, lambda buffer: self._answer(head, call, lambda: self._read(head, memoryview(buffer)))
            )
        else:
            status, sent = self._answer(head, call, lambda: self._read_unlent(head))
        if _access.isEnabledFor(logging.INFO):
            took_ms = (time.perf_counter() - started) * 1000
            _access.info(
                "call %s: %s %.200r %d, %d bytes, %.2f ms", call.id, head.method, head.path, status, sent, took_ms
            )
        self.since_s = time.monotonic()
        self.phase = Phase.IDLE
        return head.keep_alive and self._body_read

    def _answer(self, head: Head, call: Call, body: Callable[[], Buffer]) -> tuple[int, int]:
        """Answer and send; return the status and the bytes sent, but not the reply: it may be views of the body."""
        reply = self._site.reply(head.method, head.path, body, call)
        return reply.status, self._send(reply, call, method=head.method, keep_alive=head.keep_alive)

    def _head(self) -> bytes:
        deadline_s = time.monotonic() + (self._limits.idle_s if self._start == self._stop else self._limits.head_s)
        seen = 0
        while True:
            waiting = self._start == self._stop
            if not waiting:
                while self._buffer.startswith(b"\r\n", self._start, self._stop):  # RFC 9112, 2.2: to be ignored
                    self._start += 2
                end = self._buffer.find(b"\r\n\r\n", self._start + max(0, seen - 3), self._stop)
                if end >= 0:
                    head = self._view[self._start : end].tobytes()
                    self._start = end + 4
                    return head
                seen = self._stop - self._start
            try:
                self._fill(deadline_s)
            except TimeoutError as exc:
                if waiting:
                    raise _Ended from exc
                raise SlowClient("the request's head did not arrive in time") from exc
            if waiting:
                self.phase = Phase.READING
                self.since_s = time.monotonic()
                deadline_s = self.since_s + self._limits.head_s

    def _fill(self, deadline_s: float) -> None:
        """Read what has arrived behind what is there already."""
        if self._start == self._stop:
            self._start = self._stop = 0
        elif self._stop == len(self._buffer):
            if self._start == 0:
                raise HeadTooLarge(f"the headers have over {len(self._buffer):,} bytes; send fewer")
            have = self._stop - self._start
            self._view[:have] = self._view[self._start : self._stop].tobytes()
            self._start, self._stop = 0, have
        received = self._stream.receive(self._view[self._stop :], deadline_s)
        if not received:
            raise _Ended
        self._stop += received

    def _read(self, head: Head, view: memoryview) -> Buffer:
        """Read a body of known length into the view, which may be longer."""
        length = head.length
        assert length is not None  # chunked bodies are read elsewhere
        view = view[:length]
        have = min(length, self._stop - self._start)
        view[:have] = self._view[self._start : self._start + have]
        self._start += have
        due = self._pace()
        try:
            if head.waits:
                self._continue(due(have))
            while have < length:
                received = self._stream.receive(view[have : have + PIECE_BYTES], due(have), whole=True)
                if not received:
                    raise _Ended
                have += received
        except (_Ended, OSError) as exc:
            raise _cut_short(exc, f"after {have:,} of its {length:,} bytes") from exc
        self._body_read = True
        self.phase = Phase.ANSWERING
        return view

    def _read_unlent(self, head: Head) -> Buffer:
        """Read a body that is empty or chunked, or refuse one that is too large."""
        limit = self._limits.body_bytes
        if head.length:
            raise TooLarge(f"the body has {head.length:,} bytes; the limit is {limit:,}, so send a smaller batch")
        body = bytearray()
        if head.length is None:
            due = self._pace()
            try:
                if head.waits:
                    self._continue(due(0))
                self._read_chunked(body, due)
            except (_Ended, OSError) as exc:
                raise _cut_short(exc, f"after {len(body):,} bytes") from exc
        self._body_read = True
        self.phase = Phase.ANSWERING
        return body

    def _read_chunked(self, body: bytearray, due: Callable[[int], float]) -> None:
        while left := chunk_length(self._line(due(len(body)))):
            if len(body) + left > self._limits.body_bytes:
                raise TooLarge(f"the body has over {self._limits.body_bytes:,} bytes; send a smaller batch")
            while left:
                if self._start == self._stop:
                    self._fill(due(len(body)))
                part = min(left, self._stop - self._start)
                body += self._view[self._start : self._start + part]
                self._start += part
                left -= part
            if self._line(due(len(body))):
                raise MalformedMessage("a chunk is longer than its length")
        for _ in range(FIELDS_MAX):
            if not self._line(due(len(body))):  # trailers are read and dropped
                return
        raise MalformedMessage(f"there are over {FIELDS_MAX} trailers; send fewer")

    def _pace(self) -> Callable[[int], float]:
        """Return when the next piece of a body is due, by the bytes that are there: a trickle is soon too late."""
        base_s = time.monotonic() + self._limits.body_s
        return lambda have: base_s + (have + PIECE_BYTES) / self._limits.rate_bytes_s

    def _line(self, deadline_s: float) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._start, self._stop)) < 0:
            self._fill(deadline_s)
        line = self._view[self._start : end].tobytes()
        self._start = end + 2
        return line

    def _continue(self, deadline_s: float) -> None:
        if self._start == self._stop:  # else the client has not waited
            self._stream.send([CONTINUE], len(CONTINUE), deadline_s)

    def _send(self, reply: Reply, call: Call, *, method: str, keep_alive: bool) -> int:
        """Send a reply; return its length."""
        keep_alive = keep_alive and self._body_read and not self.leaving
        length = reply.length
        lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Error')}", f"Date: {http_date()}"]
        lines += [f"{name}: {value}" for name, value in reply_headers(reply)]
        lines.append(f"Content-Length: {length}")
        if call.id:
            lines.append(f"X-Request-Id: {call.id}")
        lines.append("\r\n" if keep_alive else "Connection: close\r\n\r\n")
        head = "\r\n".join(lines).encode("latin-1")
        deadline_s = time.monotonic() + self._limits.body_s + length / self._limits.rate_bytes_s
        if method == "HEAD":
            self._stream.send([head], len(head), deadline_s)
        else:
            self._stream.send([head, *reply.buffers], len(head) + length, deadline_s)
        if not keep_alive:
            self._linger()
        return length

    def _linger(self) -> None:
        """Read on for a moment: closing with unread bytes would reset the connection, and with it the reply."""
        self.leaving = True
        self._stream.stop_writing()
        deadline_s = time.monotonic() + LINGER_S
        while not self._body_read and self._stream.receive(self._view, deadline_s):
            pass


def _cut_short(exc: Exception, where: str) -> GraphPipeError:
    if isinstance(exc, TimeoutError):
        return SlowClient(f"the body did not arrive in time, but ended {where}")
    return MalformedMessage(f"the body ended {where}")


_date = (0, "")


def http_date() -> str:
    """Return the time as HTTP writes it, in English whatever the locale is."""
    global _date
    now = int(time.time())
    if _date[0] != now:  # one tuple is set at once: no thread sees half of it
        t = time.gmtime(now)
        clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
        _date = (now, f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock} GMT")
    return _date[1]
