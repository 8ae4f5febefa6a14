"""
HTTP/1.1 as a client needs it for messages: vectored requests, and one deadline over a whole exchange.

It knows sockets and HTTP's framing, and no message. Not http.client, because importing that takes 25 to 35 ms of
a cold start (this: 6 to 8), it joins what it sends, and its timeout starts anew with every packet received.
"""

from __future__ import annotations

import io
import re
import select
import socket
from collections.abc import Mapping, Sequence

from graphpipe_fn.errors import TimedOut, TooLarge, TransportFailed
from graphpipe_fn.model import Buffer
from graphpipe_fn.transports.dial import Address, dial, time_left
from graphpipe_fn.values import dataclass

HEAD_MAX = 65_536  # bytes of a status line and its headers, of a chunk's line, of all trailers
INTERIM_MAX = 8  # 1xx answers before the real one
IOV_MAX = 1_024  # buffers that one sendmsg takes on Linux
JOIN_MAX = 1 << 14  # bytes up to which TLS sends header and body as one record, which holds that much
PIECE_BYTES = 1 << 18  # read at a time of a body without a length

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
        self._sock = dial(address, deadline_s)
        self._incoming = _Incoming(self._sock, address)
        # It hands a body over as one `bytes` that was received in place, whose memory nobody had to zero first.
        self._reader = io.BufferedReader(self._incoming, HEAD_MAX)

    def quiet(self) -> bool:
        """Return whether the peer has neither closed the connection nor sent what nobody asked for."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def exchange(
        self,
        head: bytes,
        buffers: Sequence[Buffer],
        deadline_s: float | None,
        limit_bytes: int,
        into: memoryview | None = None,
    ) -> tuple[Response, bool]:
        """
        Send one request and receive its response.

        Args:
            head: Request line and headers with the empty line.
            buffers: The body, sent in pieces.
            limit_bytes: The largest body of a response that is accepted.
            into: Where a body of just so many bytes is received; any other has memory of its own.

        Returns:
            The response, and whether the connection can take another request.

        Raises:
            Closed: the peer closed the connection instead of answering.
            TransportFailed: the answer is cut short or no HTTP/1.1.
            TooLarge: it is over the limit.
            TimedOut: the deadline passed.
        """
        self._incoming.begin(deadline_s)
        refused = False
        try:
            self._send([memoryview(head), *(memoryview(buffer).cast("B") for buffer in buffers)], deadline_s)
        except TimeoutError as exc:
            raise TimedOut(f"{self._address} did not take the request in time") from exc
        except OSError:
            refused = True  # a server may answer before it has read all (413), then close: the answer is still there
        status, version, headers = self._head()
        body, framed = self._body(status, version, headers, limit_bytes, into)
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise TransportFailed(f"{self._address} answered in the encoding {encoding[:40]!r}, unasked")
        options = headers.get("connection", "").lower()
        reusable = (
            framed
            and not refused
            and "close" not in options
            and (version == 1 or "keep-alive" in options)
            and not self._more()  # than was asked for: never guess whose answer that is
        )
        return Response(status, headers, body), reusable

    def _send(self, views: list[memoryview], deadline_s: float | None) -> None:
        if self._address.tls is not None:
            # TLS has no sendmsg. A small body goes into the header's record; a large one is not copied.
            if sum(view.nbytes for view in views) <= JOIN_MAX:
                views = [memoryview(b"".join(views))]
            for view in views:
                self._sock.settimeout(time_left(deadline_s, self._address))
                self._sock.sendall(view)
            return
        place = 0
        while place < len(views):
            self._sock.settimeout(time_left(deadline_s, self._address))
            sent = self._sock.sendmsg(views[place : place + IOV_MAX])
            while place < len(views) and sent >= views[place].nbytes:
                sent -= views[place].nbytes
                place += 1
            if sent:
                views[place] = views[place][sent:]

    def _head(self) -> tuple[int, int, dict[str, str]]:
        for _ in range(INTERIM_MAX + 1):
            line = self._line()
            start = _STATUS_LINE.fullmatch(line)
            if start is None:
                raise self._no_http(line)
            headers: dict[str, str] = {}
            for line in self._lines():
                header = _HEADER.fullmatch(line)
                if header is None:
                    raise self._no_http(line)
                name, value = header[1].decode("ascii").lower(), header[2].strip(b" \t").decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            status = int(start[2])
            if status >= 200:
                return status, int(start[1]), headers
        raise TransportFailed(f"{self._address} sent more than {INTERIM_MAX} interim answers")

    def _body(
        self, status: int, version: int, headers: Mapping[str, str], limit_bytes: int, into: memoryview | None
    ) -> tuple[Buffer, bool]:
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
        if into is not None and length == into.nbytes:
            self._whole(self._reader.readinto(into), length)
            return into, True
        if length > limit_bytes:
            raise self._too_large(limit_bytes)
        return self._exactly(length), True

    def _exactly(self, length: int) -> bytes:
        body = self._reader.read(length)
        self._whole(len(body), length)
        return body

    def _whole(self, received: int, length: int) -> None:
        if received < length:
            raise TransportFailed(f"{self._address} closed the connection after {received:,} of {length:,} bytes")

    def _until_closed(self, limit_bytes: int) -> bytearray:
        body = bytearray()
        while piece := self._reader.read1(PIECE_BYTES):
            body += piece
            if len(body) > limit_bytes:
                raise self._too_large(limit_bytes)
        return body

    def _chunked(self, limit_bytes: int) -> bytearray:
        body = bytearray()  # not a list of chunks: of two bytes each, they would take twenty times their size
        while length := self._chunk_length():
            if len(body) + length > limit_bytes:
                raise self._too_large(limit_bytes)
            body += self._exactly(length)
            if self._line():
                raise self._no_http(b"a chunk longer than its length")
        for _ in self._lines():
            pass  # trailers
        return body

    def _chunk_length(self) -> int:
        line = self._line()
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise self._no_http(line)
        return int(match[1], 16)

    def _lines(self) -> list[bytes]:
        """Read lines up to the empty one."""
        lines, size = [], 0
        while line := self._line():
            lines.append(line)
            size += len(line)
            if size > HEAD_MAX:
                raise TransportFailed(f"{self._address} sent headers of over {HEAD_MAX:,} bytes")
        return lines

    def _line(self) -> bytes:
        line = self._reader.readline(HEAD_MAX)
        if line.endswith(b"\r\n"):
            return line[:-2]
        if line.endswith(b"\n"):
            raise self._no_http(line)
        if len(line) == HEAD_MAX:
            raise TransportFailed(f"{self._address} sent a line of over {HEAD_MAX:,} bytes")
        if self._incoming.began:
            raise TransportFailed(f"{self._address} closed the connection within its answer")
        raise Closed(f"{self._address} closed the connection without an answer")

    def _more(self) -> bool:
        """Return whether something is left in the reader's buffer, without receiving more."""
        self._incoming.held = True
        try:
            return bool(self._reader.peek(1))
        finally:
            self._incoming.held = False

    def _too_large(self, limit_bytes: int) -> TooLarge:
        return TooLarge(f"{self._address} answered more than {limit_bytes:,} bytes; raise the limit or ask for less")

    def _no_http(self, what: bytes) -> TransportFailed:
        return TransportFailed(f"{self._address} does not speak proper HTTP/1.1; it sent {what[:80]!r}")


class _Incoming(io.RawIOBase):
    """What arrives at a socket, as a raw stream that keeps to one deadline."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        super().__init__()
        self._sock = sock
        self._address = address
        self._deadline_s: float | None = None
        self.began = False  # whether anything has arrived since begin()
        self.held = False  # whether to say "nothing there yet" instead of waiting

    def begin(self, deadline_s: float | None) -> None:
        """Start to wait for an answer."""
        self._deadline_s = deadline_s
        self.began = False

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int | None:  # type: ignore[override]  # typeshed allows any buffer
        if self.held:
            return None
        try:
            self._sock.settimeout(time_left(self._deadline_s, self._address))
            received = self._sock.recv_into(room)
        except TimeoutError as exc:
            raise TimedOut(f"{self._address} did not answer in time") from exc
        except OSError as exc:
            kind = TransportFailed if self.began else Closed
            raise kind(f"the connection to {self._address} broke ({exc.strerror or exc})") from exc
        self.began = self.began or received > 0
        return received
