"""
HTTP/1.1 as a client needs it for messages: vectored requests, and one deadline over a whole exchange.

It knows sockets and HTTP's framing, and no message. Not http.client, because importing that takes 25 to 35 ms of
a cold start (this: 5), it joins what it sends, and its timeout starts anew with every packet received.
"""

from __future__ import annotations

import mmap
import re
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphpipe_fn.errors import TimedOut, TooLarge, TransportFailed
from graphpipe_fn.model import Buffer
from graphpipe_fn.transports.dial import Address, dial, time_left

HEAD_MAX = 65_536  # bytes of a status line and its headers, of a chunk's line, of all trailers
INTERIM_MAX = 8  # 1xx answers before the real one
IOV_MAX = 1_024  # buffers that one sendmsg takes on Linux
JOIN_MAX = 1 << 14  # bytes up to which TLS sends header and body as one record, which holds that much
MAP_MIN = 1 << 20  # bytes from which a body gets pages of its own: nothing is zeroed first, a false length costs none

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer; header names in lower case, repeated ones joined with commas."""

    status: int
    headers: Mapping[str, str]
    body: Buffer


class Closed(TransportFailed):
    """The peer closed the connection before the first byte of its answer."""


class Connection:
    """
    Be one connection, used by one request at a time.

    Args:
        deadline_s: For connecting; on `time.monotonic()`'s scale.

    Raises:
        GraphPipeError: as dial().
    """

    def __init__(self, address: Address, deadline_s: float | None) -> None:
        self._address = address
        self._deadline_s = deadline_s
        self._sock = dial(address, deadline_s)
        self._buffer = bytearray(HEAD_MAX)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # what of the buffer is received and not yet used

    def quiet(self) -> bool:
        """Return whether the peer has neither closed the connection nor sent what nobody asked for."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def exchange(
        self, head: bytes, buffers: Sequence[Buffer], deadline_s: float | None, limit_bytes: int
    ) -> tuple[Response, bool]:
        """
        Send one request and receive its response.

        Args:
            head: Request line and headers with the empty line.
            buffers: The body, sent in pieces.
            limit_bytes: The largest body of a response that is accepted.

        Returns:
            The response, and whether the connection can take another request.

        Raises:
            Closed: the peer closed the connection instead of answering.
            TransportFailed: the answer is cut short or no HTTP/1.1.
            TooLarge: it is over the limit.
            TimedOut: the deadline passed.
        """
        self._deadline_s = deadline_s
        refused = False
        try:
            self._send([memoryview(head), *(memoryview(buffer).cast("B") for buffer in buffers)])
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except OSError:
            refused = True  # a server may answer before it has read all (413), then close: the answer is still there
        status, version, headers = self._head()
        body, framed = self._body(status, version, headers, limit_bytes)
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise TransportFailed(f"{self._address} answered in the encoding {encoding[:40]!r}, unasked")
        options = headers.get("connection", "").lower()
        reusable = (
            framed
            and not refused
            and self._start == self._end  # more than was asked for: never guess whose answer that is
            and "close" not in options
            and (version == 1 or "keep-alive" in options)
        )
        return Response(status, headers, body), reusable

    def _send(self, views: list[memoryview]) -> None:
        if self._address.tls is not None:
            # TLS has no sendmsg. A small body goes into the header's record; a large one is not copied.
            if sum(view.nbytes for view in views) <= JOIN_MAX:
                views = [memoryview(b"".join(views))]
            for view in views:
                self._sock.settimeout(self._left())
                self._sock.sendall(view)
            return
        place = 0
        while place < len(views):
            self._sock.settimeout(self._left())
            sent = self._sock.sendmsg(views[place : place + IOV_MAX])
            while place < len(views) and sent >= views[place].nbytes:
                sent -= views[place].nbytes
                place += 1
            if sent:
                views[place] = views[place][sent:]

    def _head(self) -> tuple[int, int, dict[str, str]]:
        for interim in range(INTERIM_MAX + 1):
            lines = self._head_lines(closed=TransportFailed if interim else Closed)
            start = _STATUS_LINE.fullmatch(lines[0])
            if start is None:
                raise self._no_http(lines[0])
            headers: dict[str, str] = {}
            for line in lines[1:]:
                header = _HEADER.fullmatch(line)
                if header is None:
                    raise self._no_http(line)
                name, value = header[1].decode("ascii").lower(), header[2].strip(b" \t").decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            status = int(start[2])
            if status >= 200:
                return status, int(start[1]), headers
        raise TransportFailed(f"{self._address} sent more than {INTERIM_MAX} interim answers")

    def _head_lines(self, *, closed: type[TransportFailed]) -> list[bytes]:
        seen = 0
        while True:
            end = self._buffer.find(b"\r\n\r\n", self._start + max(0, seen - 3), self._end)
            if end >= 0:
                head = self._view[self._start : end].tobytes()
                self._start = end + 4
                return head.split(b"\r\n")
            seen = self._end - self._start
            if seen:
                closed = TransportFailed
            if not self._fill(closed):
                raise closed(f"{self._address} closed the connection {'within its' if seen else 'without an'} answer")

    def _body(self, status: int, version: int, headers: Mapping[str, str], limit_bytes: int) -> tuple[Buffer, bool]:
        """Return the body, and whether its end was told other than by closing the connection."""
        coding, declared = headers.get("transfer-encoding"), headers.get("content-length")
        if status in (204, 304):
            return b"", True
        if coding is not None:
            if coding.lower() != "chunked" or version == 0 or declared is not None:
                raise self._no_http(f"Transfer-Encoding: {coding}".encode())
            return self._chunked(limit_bytes), True
        if declared is None:
            return self._until_closed(limit_bytes), False
        lengths = {length.strip() for length in declared.split(",")}  # the same one, repeated, is harmless
        if len(lengths) != 1 or not _LENGTH.fullmatch(min(lengths)):
            raise self._no_http(f"Content-Length: {declared}".encode())
        length = int(min(lengths))
        if length > limit_bytes:
            raise self._too_large(limit_bytes)
        return self._exactly(length), True

    def _exactly(self, length: int) -> Buffer:
        if length == 0:
            return b""
        body = memoryview(mmap.mmap(-1, length)) if length >= MAP_MIN else memoryview(bytearray(length))
        have = min(length, self._end - self._start)
        body[:have] = self._view[self._start : self._start + have]
        self._start += have
        while have < length:
            received = self._receive(body[have:])
            if received == 0:
                raise TransportFailed(f"{self._address} closed the connection after {have:,} of {length:,} bytes")
            have += received
        return body

    def _until_closed(self, limit_bytes: int) -> Buffer:
        body = bytearray()
        while True:
            body += self._view[self._start : self._end]
            self._start = self._end
            if len(body) > limit_bytes:
                raise self._too_large(limit_bytes)
            if not self._fill():
                return body

    def _chunked(self, limit_bytes: int) -> Buffer:
        body = bytearray()
        while left := self._chunk_length():
            if len(body) + left > limit_bytes:
                raise self._too_large(limit_bytes)
            while left:
                if self._start == self._end and not self._fill():
                    raise TransportFailed(f"{self._address} closed the connection within a chunk")
                part = min(left, self._end - self._start)
                body += self._view[self._start : self._start + part]
                self._start += part
                left -= part
            if self._line():
                raise self._no_http(b"a chunk longer than its length")
        trailers = 0
        while line := self._line():
            trailers += len(line)
            if trailers > HEAD_MAX:
                raise self._no_http(b"endless trailers")
        return body

    def _chunk_length(self) -> int:
        line = self._line()
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise self._no_http(line)
        return int(match[1], 16)

    def _line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\r\n", self._start, self._end)
            if end >= 0:
                line = self._view[self._start : end].tobytes()
                self._start = end + 2
                return line
            if not self._fill():
                raise TransportFailed(f"{self._address} closed the connection within a chunked answer")

    def _fill(self, closed: type[TransportFailed] = TransportFailed) -> bool:
        """Receive more into the buffer; return False at the end of the connection."""
        if self._start:
            waiting = self._end - self._start
            self._buffer[:waiting] = self._buffer[self._start : self._end]
            self._start, self._end = 0, waiting
        if self._end == HEAD_MAX:
            raise TransportFailed(f"{self._address} sent a line, or headers, of over {HEAD_MAX:,} bytes")
        received = self._receive(self._view[self._end :], closed)
        self._end += received
        return received > 0

    def _receive(self, room: memoryview, closed: type[TransportFailed] = TransportFailed) -> int:
        try:
            self._sock.settimeout(self._left())
            return self._sock.recv_into(room)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except OSError as exc:
            raise closed(f"the connection to {self._address} broke ({exc.strerror or exc})") from exc

    def _left(self) -> float | None:
        return time_left(self._deadline_s, self._address)

    def _timed_out(self) -> TimedOut:
        return TimedOut(f"{self._address} did not answer in time")

    def _too_large(self, limit_bytes: int) -> TooLarge:
        return TooLarge(f"{self._address} answered more than {limit_bytes:,} bytes; raise the limit or ask for less")

    def _no_http(self, what: bytes) -> TransportFailed:
        return TransportFailed(f"{self._address} does not speak proper HTTP/1.1; it sent {what[:80]!r}")
