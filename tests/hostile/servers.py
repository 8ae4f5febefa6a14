"""
Servers that misbehave, each a real socket on 127.0.0.1: what they do, and how a fetch from them must end.

A behaviour gets the accepted connection and may do anything with it; `ending` is the class that the fetch must
raise, or the bytes that it must return. `python tests/hostile/servers.py` runs all of them, as the test does.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import pathlib
import queue
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from classy.download import DownloadLimits, Fetcher
from classy.errors import PictureTooLarge, SourceFailed, SourceNotFound, SourceTimedOut, UnusableURL
from classy.networks import Opened
from graphpipe_fn.errors import GraphPipeError

CERTS = pathlib.Path(__file__).parent / "certs"
TIMEOUT_S = 1.0
LIMIT_BYTES = 200_000
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
NEVER = threading.Event()  # never set: waiting on it is how a server lets time pass


class Peer:
    """One accepted connection, which counts what its client took."""

    def __init__(self, sock: socket.socket, port: int, number: int) -> None:
        self.sock = sock
        self.port = port
        self.number = number  # of the connections to this server, from 0
        self.sent = 0

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent += len(data)

    def request(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError("the client left")
            data += piece
        return data

    def answer(self, body: bytes = PICTURE, *headers: str, status: str = "200 OK", length: bool = True) -> None:
        self.request()
        self.send(head(*headers, *([f"Content-Length: {len(body)}"] if length else []), status=status) + body)

    def drip(self, data: bytes, every_s: float = 0.05) -> None:
        for place in range(len(data)):
            self.send(data[place : place + 1])
            NEVER.wait(every_s)

    def flood(self, data: bytes) -> None:
        """Send the same bytes until the client leaves, or for 64 MB."""
        while self.sent < 64_000_000:
            self.send(data)

    def hang(self) -> None:
        """Wait until the client leaves."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED = head("Transfer-Encoding: chunked")
Ending = type[GraphPipeError] | bytes
Behaviour = Callable[[Peer], None]


@dataclass(frozen=True)
class Case:
    """A behaviour, how the fetch must end, and how its URL and connection are made."""

    name: str
    behave: Behaviour
    ending: tuple[Ending, ...]
    url: str = "http://127.0.0.1:{port}/picture.png"
    certificate: str = ""  # of a server that speaks TLS by itself, before behave() is called
    accept: bool = True


CASES: list[Case] = []


def case(*ending: Ending, **how: str | bool) -> Callable[[Behaviour], Behaviour]:
    def add(behave: Behaviour) -> Behaviour:
        CASES.append(Case(behave.__name__, behave, ending, **how))  # type: ignore[arg-type]
        return behave

    return add


def say(name: str, data: bytes, *ending: Ending, end: str = "close") -> None:
    """Add a server that reads the request, sends these bytes and closes, hangs or resets."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(data)
        if end == "hang":
            peer.hang()
        elif end == "reset":
            NEVER.wait(0.1)  # let the bytes arrive: a reset would overtake them
            peer.reset()

    CASES.append(Case(name, behave, ending))


def flood(name: str, start: bytes, data: bytes, *ending: Ending) -> None:
    """Add a server that sends a start and then the same bytes for ever."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        peer.flood(data)

    CASES.append(Case(name, behave, ending))


def drip(name: str, start: bytes, data: bytes, *ending: Ending) -> None:
    """Add a server that sends a start at once and the rest a byte at a time."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        peer.drip(data)

    CASES.append(Case(name, behave, ending))


# --- before there is an answer -----------------------------------------------------------------------------------


@case(SourceTimedOut)
def says_nothing(peer: Peer) -> None:
    peer.hang()


@case(SourceTimedOut, accept=False)
def never_accepts(peer: Peer) -> None:
    raise AssertionError("it was not to be called")


@case(SourceFailed)
def closes_at_once(peer: Peer) -> None:
    peer.sock.close()


@case(SourceFailed)
def resets_at_once(peer: Peer) -> None:
    peer.reset()


@case(SourceTimedOut)
def hangs_after_the_headers(peer: Peer) -> None:
    peer.request()
    peer.send(head("Content-Length: 5000"))
    peer.hang()


@case(PICTURE)
def answers_before_the_request(peer: Peer) -> None:
    peer.send(head(f"Content-Length: {len(PICTURE)}") + PICTURE)
    peer.hang()


say("closes_in_the_status_line", b"HTTP/1.1 20", SourceFailed)
say("closes_in_the_headers", b"HTTP/1.1 200 OK\r\nContent-Le", SourceFailed)
say("hangs_in_the_status_line", b"HTTP/1.1 20", SourceTimedOut, end="hang")
say("hangs_in_the_headers", b"HTTP/1.1 200 OK\r\nContent-Le", SourceTimedOut, end="hang")
drip("drips_the_status_line", b"", b"HTTP/1.1 200 " + b"O" * 5000, SourceTimedOut)
drip("drips_headers", b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 5000, SourceTimedOut)
flood("endless_status_line", b"HTTP/1.1 200 ", b"O" * 9000, SourceFailed)
flood("endless_headers", b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000, SourceFailed)
flood("one_endless_header", b"HTTP/1.1 200 OK\r\nX-A: ", b"b" * 9000, SourceFailed)
flood("endless_folded_header", b"HTTP/1.1 200 OK\r\nX-A: b\r\n", b" more\r\n" * 1000, SourceFailed)
flood("endless_interim_answers", b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 400, SourceFailed)
flood("endless_early_hints", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 400, SourceFailed)
drip("drips_interim_answers", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 99, SourceTimedOut)
say(
    "interim_answers_and_then_the_picture",
    head(status="103 Early Hints") * 3 + head("Content-Length: 2") + b"ok",
    b"ok",
)
say("switches_protocols", head("Upgrade: h2c", "Connection: Upgrade", status="101 Switching Protocols"), SourceFailed)
flood("endless_empty_lines", b"", b"\r\n" * 5000, SourceFailed)

# --- what is no HTTP ---------------------------------------------------------------------------------------------

say("binary_rubbish", bytes(range(256)) * 20, SourceFailed)
flood("endless_rubbish", b"", bytes(range(256)) * 40, SourceFailed)
flood("endless_zeros", b"", bytes(9000), SourceFailed)
say("a_bare_picture_as_in_http_0_9", PICTURE, SourceFailed)
say("an_ssh_server", b"SSH-2.0-OpenSSH_9.6\r\n", SourceFailed)
say("a_mail_server", b"220 mail.test ESMTP\r\n500 what\r\n", SourceFailed)
say("a_redis_server", b"-ERR unknown command 'GET'\r\n", SourceFailed)
say("an_http_2_server", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), SourceFailed)
say("a_tls_server", b"\x15\x03\x03\x00\x02\x02\x46", SourceFailed)
say("a_radio_stream", b"ICY 200 OK\r\nicy-name: x\r\n\r\n" + PICTURE, SourceFailed)
say("http_of_version_9", b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok", SourceFailed, b"ok")
say("http_1_0_without_a_length", b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE, PICTURE)
say("a_status_of_2_digits", b"HTTP/1.1 20 OK\r\n\r\n", SourceFailed)
say("a_status_of_4_digits", b"HTTP/1.1 2000 OK\r\n\r\n", SourceFailed)
say("a_status_of_0", b"HTTP/1.1 000 OK\r\n\r\n", SourceFailed)
say("a_status_of_999", b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", SourceFailed)
say("a_header_without_a_colon", b"HTTP/1.1 200 OK\r\nrubbish\r\n\r\n" + PICTURE, SourceFailed)
say("a_header_with_nul", b"HTTP/1.1 200 OK\r\nX-A: \x00\r\n\r\n" + PICTURE, SourceFailed)
say("a_header_with_a_space_before_the_colon", b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\nok", SourceFailed, b"ok")
say("bare_line_feeds", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok", SourceFailed)

# --- lengths -----------------------------------------------------------------------------------------------------

say("a_negative_length", head("Content-Length: -5") + PICTURE, SourceFailed)
say("a_length_in_words", head("Content-Length: many") + PICTURE, SourceFailed)
say("a_length_as_a_float", head("Content-Length: 1e9") + PICTURE, SourceFailed)
say("a_length_of_5000_digits", head("Content-Length: " + "9" * 5000) + PICTURE, SourceFailed)
say("two_lengths_that_differ", head("Content-Length: 5", "Content-Length: 9") + PICTURE, SourceFailed)
say("two_lengths_in_one_that_differ", head("Content-Length: 5, 9") + PICTURE, SourceFailed)
say("the_same_length_twice", head("Content-Length: 2", "Content-Length: 2") + b"ok", b"ok")
say("a_length_over_the_limit", head(f"Content-Length: {LIMIT_BYTES + 1}"), PictureTooLarge, end="hang")
say("a_length_of_an_exabyte", head("Content-Length: 1000000000000000000"), PictureTooLarge, end="hang")
say("a_length_that_is_too_short", head("Content-Length: 9") + PICTURE, PICTURE[:9])
say("a_length_that_is_too_long", head("Content-Length: 50000") + PICTURE, SourceFailed)
say("a_length_that_is_too_long_and_a_hang", head("Content-Length: 50000") + PICTURE, SourceTimedOut, end="hang")
say("no_length_and_a_hang", head() + PICTURE, SourceTimedOut, end="hang")
say("no_length_and_a_close", head() + PICTURE, PICTURE)
say("exactly_the_limit", head(f"Content-Length: {LIMIT_BYTES}") + bytes(LIMIT_BYTES), bytes(LIMIT_BYTES))
say("one_over_the_limit_undeclared", head() + bytes(LIMIT_BYTES + 1), PictureTooLarge)
say(
    "a_length_and_chunks",
    head("Content-Length: 3", "Transfer-Encoding: chunked") + chunk(b"ok") + b"0\r\n\r\n",
    b"ok",
)
flood("an_endless_body", head(), bytes(9000), PictureTooLarge)

# --- chunks ------------------------------------------------------------------------------------------------------

say("chunks", CHUNKED + chunk(PICTURE[:99]) + chunk(PICTURE[99:]) + b"0\r\n\r\n", PICTURE)
say("chunks_of_one_byte", CHUNKED + b"".join(chunk(bytes([b])) for b in PICTURE) + b"0\r\n\r\n", PICTURE)
flood("endless_chunks", CHUNKED, chunk(bytes(9000)), PictureTooLarge)
flood("endless_chunks_of_one_byte", CHUNKED, chunk(b"x") * 1000, SourceFailed)
say("a_chunk_that_is_larger_than_memory", CHUNKED + b"7fffffffffffffff\r\nxyz", SourceTimedOut, end="hang")
say("a_chunk_size_that_overflows", CHUNKED + b"f" * 40 + b"\r\nxyz", SourceFailed)
say("a_negative_chunk_size", CHUNKED + b"-5\r\nxyz\r\n", SourceFailed)
say("a_chunk_size_in_words", CHUNKED + b"many\r\nxyz\r\n", SourceFailed)
say("a_chunk_without_its_line_end", CHUNKED + b"2\r\nokok0\r\n\r\n", SourceFailed)
flood("an_endless_chunk_extension", CHUNKED + b"5;a=", b"x" * 9000, SourceFailed)
flood("endless_trailers", CHUNKED + chunk(b"ok") + b"0\r\n", b"X-A: b\r\n" * 1000, SourceFailed)
drip("dripping_trailers", CHUNKED + chunk(b"ok") + b"0\r\n", b"X-A: b\r\n" * 999, SourceTimedOut)
say("no_last_chunk", CHUNKED + chunk(PICTURE), SourceFailed)
say("no_last_chunk_and_a_hang", CHUNKED + chunk(PICTURE), SourceTimedOut, end="hang")
say(
    "gzip_as_a_transfer_encoding", head("Transfer-Encoding: gzip, chunked") + chunk(b"x") + b"0\r\n\r\n", SourceFailed
)
say("chunked_twice", head("Transfer-Encoding: chunked, chunked") + chunk(b"x") + b"0\r\n\r\n", SourceFailed)

# --- the body's pace ---------------------------------------------------------------------------------------------

drip("drips_the_body", head("Content-Length: 9000"), bytes(9000), SourceTimedOut)
drip("drips_chunks", CHUNKED, chunk(b"x") * 900, SourceTimedOut)
say("stalls_in_the_body", head("Content-Length: 9000") + bytes(50), SourceTimedOut, end="hang")
say("resets_in_the_body", head("Content-Length: 9000") + bytes(50), SourceFailed, end="reset")

# --- packing -----------------------------------------------------------------------------------------------------

GZIP = head("Content-Encoding: gzip")
BOMB = gzip.compress(bytes(100_000_000))  # 97 KB
say("gzip", GZIP + gzip.compress(PICTURE), PICTURE)
say("gzip_by_its_old_name", head("Content-Encoding: X-GZIP") + gzip.compress(PICTURE), PICTURE)
say("a_gzip_bomb", GZIP + BOMB, PictureTooLarge)
say("a_gzip_bomb_in_gzip", GZIP + gzip.compress(BOMB), BOMB)  # one layer is unpacked, what is in it is no picture
say("gzip_declared_twice", head("Content-Encoding: gzip, gzip") + gzip.compress(gzip.compress(PICTURE)), SourceFailed)
say("gzip_in_two_headers", head("Content-Encoding: gzip", "Content-Encoding: gzip") + BOMB, SourceFailed)
say("gzip_cut_short", GZIP + gzip.compress(PICTURE)[:-20], SourceFailed)
say("gzip_that_is_none", GZIP + PICTURE, SourceFailed)
say("gzip_with_rubbish_behind", GZIP + gzip.compress(PICTURE) + b"rubbish", SourceFailed)
say("gzip_in_two_members", GZIP + gzip.compress(PICTURE) + BOMB, SourceFailed)
say("gzip_of_nothing", GZIP + gzip.compress(b""), SourceFailed)
say("deflate", head("Content-Encoding: deflate") + zlib.compress(PICTURE), SourceFailed)
say("brotli", head("Content-Encoding: br") + bytes(50), SourceFailed)
say("a_packing_nobody_knows", head("Content-Encoding: \x1b[31m<b>") + bytes(50), SourceFailed)
flood("gzip_of_endless_empty_blocks", GZIP + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff" * 2000, PictureTooLarge)

# --- answers that are no picture ---------------------------------------------------------------------------------

say("a_web_page", head("Content-Type: text/html; charset=utf-8") + b"<html>", SourceFailed)
say("a_web_page_in_capitals", head("Content-Type: TEXT/HTML") + PICTURE, SourceFailed)
say("an_endless_web_page", head("Content-Type: application/xhtml+xml") + PICTURE, SourceFailed, end="hang")
say("an_empty_body", head("Content-Length: 0"), SourceFailed)
say("an_empty_body_undeclared", head(), SourceFailed)
say("no_content", head(status="204 No Content"), SourceFailed)
say("a_part_only", head("Content-Range: bytes 0-9/99", status="206 Partial Content") + PICTURE, SourceFailed)
say("not_modified", head(status="304 Not Modified"), SourceFailed)
say("not_found", head(status="404 Not Found") + PICTURE, SourceNotFound)
say("gone", head(status="410 Gone") + PICTURE, SourceNotFound)
say("not_found_without_end", head("Content-Length: 99", status="404 Not Found"), SourceNotFound, end="hang")
say("forbidden", head("WWW-Authenticate: Basic", status="403 Forbidden") + PICTURE, SourceFailed)
say("a_password_wanted", head("WWW-Authenticate: Basic", status="401 Unauthorized") + PICTURE, SourceFailed)
say("a_proxy_password_wanted", head("Proxy-Authenticate: Basic", status="407 Proxy") + PICTURE, SourceFailed)
say("broken", head(status="500 Internal Server Error") + PICTURE, SourceFailed)
say("overloaded", head("Retry-After: 99999", status="503 Unavailable") + PICTURE, SourceFailed)
say("cookies", head(*[f"Set-Cookie: a{i}={'x' * 500}" for i in range(99)], "Content-Length: 2") + b"ok", b"ok")
say("two_answers", (head("Content-Length: 2") + b"ok") * 2, b"ok")

# --- redirects ---------------------------------------------------------------------------------------------------


@case(SourceFailed)
def redirects_to_itself(peer: Peer) -> None:
    peer.answer(b"", "Location: /picture.png", status="302 Found")


@case(SourceFailed)
def redirects_without_end(peer: Peer) -> None:
    peer.answer(b"", f"Location: /{peer.number}", status="301 Moved Permanently")


@case(SourceTimedOut)
def redirects_slowly(peer: Peer) -> None:
    peer.request()
    NEVER.wait(0.4)
    peer.send(head(f"Location: /{peer.number}", status="302 Found"))


@case(SourceFailed)
def redirects_nowhere(peer: Peer) -> None:
    peer.answer(b"", status="302 Found")


@case(SourceFailed, UnusableURL)
def redirects_to_nothing(peer: Peer) -> None:
    peer.answer(b"", "Location: ", status="302 Found")


@case(UnusableURL)
def redirects_to_a_url_of_60_kilobytes(peer: Peer) -> None:
    peer.answer(b"", "Location: /" + "a" * 60_000, status="302 Found")


@case(UnusableURL)
def redirects_to_a_file(peer: Peer) -> None:
    peer.answer(b"", "Location: file:///etc/passwd", status="302 Found")


@case(UnusableURL)
def redirects_to_a_bucket(peer: Peer) -> None:
    peer.answer(b"", "Location: s3://secrets/key", status="302 Found")


@case(UnusableURL, SourceFailed)
def redirects_to_a_control_character(peer: Peer) -> None:
    peer.answer(b"", "Location: http://127.0.0.1:1/\x01", status="302 Found")


@case(PICTURE)
def redirects_with_an_endless_body(peer: Peer) -> None:
    if peer.number:
        peer.answer()
    else:
        peer.request()
        peer.send(head("Location: /next", status="303 See Other"))
        peer.flood(bytes(9000))


@case(PICTURE)
def redirects_five_times(peer: Peer) -> None:
    if peer.number == 5:
        peer.answer()
    else:
        peer.answer(b"", f"Location: /{peer.number}", status="308 Permanent Redirect")


# --- TLS ---------------------------------------------------------------------------------------------------------

HTTPS = "https://127.0.0.1:{port}/picture.png"


@case(SourceTimedOut, url=HTTPS)
def says_nothing_to_a_handshake(peer: Peer) -> None:
    peer.hang()


@case(SourceFailed, url=HTTPS)
def speaks_plain_http_at_https(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.send(head("Content-Length: 2") + b"ok")
    peer.hang()


@case(SourceFailed, url=HTTPS)
def closes_in_the_handshake(peer: Peer) -> None:
    peer.sock.recv(65536)


@case(SourceFailed, url=HTTPS)
def resets_in_the_handshake(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.reset()


@case(SourceTimedOut, url=HTTPS)
def drips_a_handshake(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + bytes(9000))


@case(SourceFailed, PictureTooLarge, url=HTTPS)
def floods_a_handshake(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.flood(b"\x16\x03\x03\x10\x00" + bytes(4096))


@case(SourceFailed, PictureTooLarge, url=HTTPS)
def floods_warnings_in_a_handshake(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.flood(b"\x15\x03\x03\x00\x02\x01\x5a" * 1000)


@case(SourceFailed, url=HTTPS, certificate="selfsigned")
def signs_its_own_certificate(peer: Peer) -> None:
    raise AssertionError("the handshake was to fail")


@case(SourceFailed, url=HTTPS, certificate="expired")
def has_an_expired_certificate(peer: Peer) -> None:
    raise AssertionError("the handshake was to fail")


@case(SourceFailed, url=HTTPS, certificate="elsewhere")
def has_somebody_elses_certificate(peer: Peer) -> None:
    raise AssertionError("the handshake was to fail")


@case(PICTURE, url=HTTPS, certificate="honest")
def is_honest_over_https(peer: Peer) -> None:
    peer.answer()


@case(PictureTooLarge, url=HTTPS, certificate="honest")
def floods_over_https(peer: Peer) -> None:
    peer.request()
    peer.send(head())
    peer.flood(bytes(9000))


@case(SourceTimedOut, url=HTTPS, certificate="honest")
def drips_over_https(peer: Peer) -> None:
    peer.request()
    peer.send(head("Content-Length: 9000"))
    peer.drip(bytes(9000))


@case(SourceFailed, url=HTTPS, certificate="honest")
def is_cut_off_over_https(peer: Peer) -> None:
    # Without a length and without TLS's own goodbye nobody can tell a whole picture from half of one.
    peer.request()
    peer.send(head() + PICTURE)
    peer.sock.close()


@case(PICTURE, url=HTTPS, certificate="honest")
def redirects_from_https_to_http(peer: Peer) -> None:
    peer.answer(b"", f"Location: http://127.0.0.1:{PLAIN_PORT}/", status="302 Found")


PLAIN_PORT = 1  # of a well-behaved server, set by run()


# --- running them ------------------------------------------------------------------------------------------------


class Server:
    """Serve a case's behaviour on a port of its own, each connection in a thread."""

    def __init__(self, served: Case) -> None:
        self.case = served
        self.peers: list[Peer] = []
        self.errors: list[BaseException] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self.listener.getsockname()[1]
        self.url = served.url.format(port=self.port)
        if served.accept:
            threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            for number in itertools.count():
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self.case.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(CERTS / f"{self.case.certificate}.pem")
                sock = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
            peer = Peer(sock, self.port, number)
            self.peers.append(peer)
            try:
                self.case.behave(peer)
                if sock.fileno() >= 0:
                    sock.shutdown(socket.SHUT_WR)
                    peer.hang()
            except AssertionError as exc:
                self.errors.append(exc)
            finally:
                sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self.listener.close()


@dataclass(frozen=True)
class Result:
    """How one case ended."""

    name: str
    ended: str  # a class name, or "bytes"
    expected: list[str]
    right: bool
    seconds: float
    sent: int
    message: str


def trusting() -> ssl.SSLContext:
    """Return a context that trusts the tests' own authority."""
    return ssl.create_default_context(cafile=str(CERTS / "ca.pem"))


def measured(served: Case) -> Result:
    """Fetch from one server."""
    server = Server(served)
    fetcher = Fetcher(
        limits=DownloadLimits(timeout_s=TIMEOUT_S, limit_bytes=LIMIT_BYTES),
        opened=Opened.parse(f"127.0.0.1:{server.port} 127.0.0.1:{PLAIN_PORT}"),
        tls=trusting,
    )
    started_s = time.monotonic()
    ended: GraphPipeError | bytes
    try:
        ended = fetcher.fetch(server.url)
    except GraphPipeError as exc:
        ended = exc
    seconds = time.monotonic() - started_s
    server.close()
    return Result(
        served.name,
        "bytes" if isinstance(ended, bytes) else type(ended).__name__,
        ["bytes" if isinstance(wanted, bytes) else wanted.__name__ for wanted in served.ending],
        not server.errors and any(_fits(ended, wanted) for wanted in served.ending),
        seconds,
        sum(peer.sent for peer in list(server.peers)),
        "" if isinstance(ended, bytes) else ended.message,
    )


def _fits(ended: GraphPipeError | bytes, wanted: Ending) -> bool:
    return ended == wanted if isinstance(wanted, bytes) else type(ended) is wanted


def run(parallel: int = 12) -> Iterator[Result]:
    """Fetch from every server, several at once."""
    global PLAIN_PORT
    plain = Server(Case("plain", lambda peer: peer.answer(), (PICTURE,)))
    PLAIN_PORT = plain.port
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    for served in CASES:
        waiting.put(served)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                results.put(measured(waiting.get_nowait()))

    for _ in range(parallel):
        threading.Thread(target=work, daemon=True).start()
    for _ in CASES:
        yield results.get(timeout=60)


if __name__ == "__main__":
    collected = [vars(result) for result in run()]
    # Not getrusage's: that begins with what the process that started this one had at that moment.
    status = pathlib.Path("/proc/self/status").read_text()
    peak_bytes = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024
    json.dump({"results": collected, "peak_bytes": peak_bytes}, sys.stdout, indent=1)
