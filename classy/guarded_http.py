"""
One HTTP exchange with a server that nobody vouches for.

No proxy, cookie, password or .netrc is ever used, whatever the environment says. It follows no redirect (download
does, through here again) and knows no picture.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Sequence

import h11

from classy.dialling import TLS, Allowance, Resolve, Stream, Wire, checked_addresses, dialled
from classy.errors import SourceFailed
from classy.networks import Opened
from classy.urls import URL
from graphpipe_fn.values import dataclass

HEADER_BYTES_MAX = 64 * 1024  # of one answer's head; browsers stop at 256 KB, common servers send under 8 KB
INTERIM_MAX = 16  # 1xx answers before the real one
PIECES_FREE, PIECE_BYTES = 20_000, 256  # chunks of a few bytes each cost 25 us of CPU a piece: not for ever


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A server's answer, its body still on the way.

    Args:
        status: 200 to 999.
        headers: Lower-case names and values, in order.
        pieces: The body, decoded from its framing but not decompressed.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    pieces: Iterator[bytes]

    def header(self, name: str) -> str:
        """Return a header's values, joined by commas; "" where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)


@contextlib.contextmanager
def exchange(
    url: URL,
    headers: Sequence[tuple[str, str]],
    *,
    opened: Opened,
    resolve: Resolve,
    tls: Callable[[], ssl.SSLContext],
    allowance: Allowance,
) -> Iterator[Answer]:
    """
    GET a URL; the connection ends with the block.

    Args:
        headers: Beside Host and Connection.
        tls: Called for https only, as its authorities take 10 ms to load.

    Raises:
        ForbiddenAddress, UnusableURL: the URL may not be dialled.
        SourceFailed, SourceTimedOut, PictureTooLarge: inside the block too, while the body is read.
    """
    shown = allowance.shown
    addresses = checked_addresses(url, opened, resolve, allowance)
    try:
        with dialled(addresses, url.port, allowance) as sock:
            wire = Wire(sock, allowance)
            stream: Stream = TLS(wire, tls(), url.host) if url.scheme == "https" else wire
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES_MAX)
            sent = [("Host", url.authority), *headers, ("Connection", "close")]
            head = connection.send(h11.Request(method="GET", target=url.target, headers=sent))
            end = connection.send(h11.EndOfMessage())
            stream.send((head or b"") + (end or b""))
            yield _answer(connection, stream, allowance)
    except ssl.SSLCertVerificationError as exc:
        raise SourceFailed(
            f"{shown} has a certificate that can't be trusted ({exc.verify_message}); "
            "its server's owner must mend that, or give another address"
        ) from exc
    except ssl.SSLEOFError as exc:
        raise SourceFailed(f"{shown} broke the connection off; try again, or give another address") from exc
    except ssl.SSLError as exc:
        reason = (exc.reason or "cut off").replace("_", " ").lower()
        raise SourceFailed(
            f"{shown} can't be reached over https ({reason}); check that its server speaks it"
        ) from exc
    except OSError as exc:
        raise SourceFailed(f"{shown} broke the connection off; try again, or give another address") from exc


def _answer(connection: h11.Connection, stream: Stream, allowance: Allowance) -> Answer:
    shown = allowance.shown
    interims = 0
    while True:
        event = _event(connection, stream, shown, "its answer was awaited")
        if isinstance(event, h11.Response):
            break
        if not isinstance(event, h11.InformationalResponse):
            raise SourceFailed(f"{shown} closed the connection without an answer; try again, or give another address")
        interims += 1
        if interims > INTERIM_MAX or event.status_code == 101:
            raise SourceFailed(f"{shown} did not get to its answer ({interims} interim ones); give another address")
    headers = tuple((name.decode("ascii"), _text(value)) for name, value in event.headers)
    lengths = [int(value) for name, value in headers if name == "content-length"]  # h11 has checked them
    if lengths and not any(name == "transfer-encoding" for name, _ in headers):
        pieces = _counted(connection, stream, lengths[0], shown)
    else:
        pieces = _framed(connection, stream, allowance)
    return Answer(event.status_code, headers, pieces)


def _counted(connection: h11.Connection, stream: Stream, length: int, shown: str) -> Iterator[bytes]:
    """Yield a body of a declared length straight from the wire: through h11 it would cost six times the CPU."""
    piece, ended = connection.trailing_data
    while length > 0:
        if piece:
            yield piece[:length]
            length -= len(piece)
        elif ended:
            raise SourceFailed(f"{shown} broke off before all of it was sent; try again")
        if length > 0:
            piece = stream.recv("its picture was on the way")
            ended = not piece


def _framed(connection: h11.Connection, stream: Stream, allowance: Allowance) -> Iterator[bytes]:
    doing = "its picture was on the way"
    pieces = size = 0
    while True:
        event = _event(connection, stream, allowance.shown, doing)
        if not isinstance(event, h11.Data):
            return
        allowance.left_s(doing)  # thousands of pieces may come from one recv()
        pieces += 1
        size += len(event.data)
        if pieces > PIECES_FREE + size // PIECE_BYTES:
            raise SourceFailed(
                f"{allowance.shown} was sent in {pieces:,} pieces of a few bytes; give another address"
            )
        yield event.data


def _event(connection: h11.Connection, stream: Stream, shown: str, doing: str) -> object:
    answered = connection.their_state is not h11.SEND_RESPONSE
    ended = False
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as exc:
            if ended and answered:
                raise SourceFailed(f"{shown} broke off before all of it was sent; try again") from exc
            if ended:
                raise SourceFailed(f"{shown} closed the connection without an answer in HTTP; try again") from exc
            if exc.error_status_hint == 431:
                raise SourceFailed(
                    f"{shown} sends over {HEADER_BYTES_MAX:,} bytes of headers; give another address"
                ) from exc
            raise SourceFailed(f"{shown} answers in no HTTP that can be read; give another address") from exc
        if event is not h11.NEED_DATA:
            return event
        data = stream.recv(doing)
        ended = not data
        connection.receive_data(data)


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")  # what servers send that put non-ASCII into Location
    except UnicodeDecodeError:
        return value.decode("latin-1")
