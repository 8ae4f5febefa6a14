"""The HTTP road against servers that are right, wrong, slow and gone."""

from __future__ import annotations

import os
import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scripted_server import Peer, Script, response, scripted_server

from graphpipe_fn.errors import BadConfig, ConnectFailed, GraphPipeError, TimedOut, TooLarge, TransportFailed
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.http import HttpTransport

TLS = Path(__file__).parent / "golden" / "tls"
LIMIT = 10_000


def call(seconds: float = 10.0) -> Call:
    """Return a Call that ends so many seconds from now."""
    return Call("id", time.monotonic() + seconds)


@contextmanager
def transport(uri: str, **options: object) -> Iterator[HttpTransport]:
    """Make a transport and close it."""
    made = HttpTransport(uri, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def ask(script: Script, body: bytes = b"question", *, seconds: float = 10.0) -> Reply:
    """Send one request to a server that follows the script."""
    with scripted_server(script) as server, transport(server.url, limit_bytes=LIMIT) as road:
        return road([body], call(seconds))


ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "length twice": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
        200,
        b"hello",
    ),
    "until closed": (b"HTTP/1.0 200 OK\r\nServer: BaseHTTP\r\n\r\nhello", 200, b"hello"),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "error": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait", 503, b"wait"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "spaces": (b"HTTP/1.1 200 OK\r\nContent-Length: \t 2 \r\n\r\nok", 200, b"ok"),
    "latin-1": (b"HTTP/1.1 200 OK\r\nServer: caf\xe9\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "at the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b"x" * LIMIT, 200, b"x" * LIMIT),
}


@pytest.mark.parametrize("drip", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_legal_framing_is_read(name: str, drip: bool) -> None:
    """However the body's end is told and in whatever pieces it comes, the body is the same."""
    sent, status, body = ANSWERS[name]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent, drip=drip and len(sent) < 1000)

    reply = ask(script)
    assert (reply.status, reply.body()) == (status, body)


@pytest.mark.parametrize("drip", [False, True], ids=["at once", "byte by byte"])
def test_a_body_is_received_where_it_is_wanted(*, drip: bool) -> None:
    """One of just that length, over the limit too, and the connection serves on; any other has its own memory."""
    bodies = [b"hello", b"hell", b"", b"world"]

    def script(peer: Peer) -> None:
        for body in bodies:
            peer.request()
            peer.send(response(body), drip=drip)

    room = memoryview(bytearray(7))[1:6]
    with scripted_server(script) as server, transport(server.url, limit_bytes=4) as road:
        for body in bodies:
            answer = road.send("GET", "/", [], [], time.monotonic() + 10, into=room)
            assert (bytes(answer.body), answer.body is room) == (body, len(body) == 5)
        assert server.connections == 1
    assert bytes(room.obj) == b"\0world\0"


def test_a_body_that_breaks_off_where_it_is_wanted_is_an_error() -> None:
    """What is there then is worthless."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"hello")[:-2])

    room = memoryview(bytearray(5))
    with (
        scripted_server(script) as server,
        transport(server.url) as road,
        pytest.raises(TransportFailed, match="after 3 of 5 bytes"),
    ):
        road.send("GET", "/", [], [], time.monotonic() + 10, into=room)


WRONG: dict[str, tuple[bytes, type[GraphPipeError]]] = {
    "nothing": (b"", TransportFailed),
    "text": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", TransportFailed),
    "cut head": (b"HTTP/1.1 200 OK\r\nContent-Le", TransportFailed),
    "cut body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", TransportFailed),
    "cut chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", TransportFailed),
    "cut chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", TransportFailed),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", TransportFailed),
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        TransportFailed,
    ),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", TransportFailed),
    "word as length": (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", TransportFailed),
    "chunk without length": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", TransportFailed),
    "longer chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
        TransportFailed,
    ),
    "unknown coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", TransportFailed),
    "compressed": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", TransportFailed),
    "header without colon": (b"HTTP/1.1 200 OK\r\nContent Length\r\n\r\n", TransportFailed),
    "folded header": (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", TransportFailed),
    "control byte": (b"HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 0\r\n\r\n", TransportFailed),
    "lonely newline": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", TransportFailed),
    "HTTP/2": (b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n", TransportFailed),
    "status 999": (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", TransportFailed),
    "endless interim": (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, TransportFailed),
    "endless header": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000, TransportFailed),
    "endless chunk line": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"b" * 200_000,
        TransportFailed,
    ),
    "endless trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 40_000,
        TransportFailed,
    ),
    "length over the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n", TooLarge),
    "length beyond all": (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 17 + b"\r\n\r\n", TooLarge),
    "chunks over the limit": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\nFFFFFFFFFF\r\n",
        TooLarge,
    ),
    "unframed over the limit": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, TooLarge),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_ends_in_our_own_error(name: str) -> None:
    """Nothing that a server sends raises anything but our error, and nothing is guessed."""
    sent, error = WRONG[name]

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)

    started = time.monotonic()
    with pytest.raises(error):
        ask(script)
    assert time.monotonic() - started < 2


def silent(peer: Peer) -> None:
    """Read the request and say nothing."""
    peer.request()
    peer.wait()


def deaf(peer: Peer) -> None:
    """Do not even read."""
    peer.wait()


def drip(data: bytes) -> Script:
    """Return a script that sends a head and then a byte every 20 ms, for three seconds."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)
        for _ in range(150):
            peer.send(b"x")
            if peer.gone.wait(0.02):
                return

    return script


SLOW: dict[str, Script] = {
    "silent": silent,
    "deaf": deaf,
    "dripping head": drip(b"HTTP/1.1 200 OK\r\nA: "),
    "dripping body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
    "dripping chunk": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n"),
    "dripping until closed": drip(b"HTTP/1.0 200 OK\r\n\r\n"),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_deadline_is_one_for_the_whole_exchange(name: str) -> None:
    """Bytes that arrive in time, one after the other, buy a server no time."""
    started = time.monotonic()
    with pytest.raises(TimedOut):
        ask(SLOW[name], bytes(30_000_000) if name == "deaf" else b"question", seconds=0.3)
    assert 0.25 < time.monotonic() - started < 0.8  # 0.5 s of slack for a busy machine


def test_a_listener_that_never_accepts_is_timed_out() -> None:
    """Connecting counts against the deadline too."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            started = time.monotonic()
            with (
                transport(f"http://127.0.0.1:{full.getsockname()[1]}/") as road,
                pytest.raises(TimedOut),
            ):
                road([b"x"], call(0.3))
            assert time.monotonic() - started < 0.8  # 0.5 s of slack for a busy machine
        finally:
            for sock in waiting:
                sock.close()


def test_a_closed_port_is_told_apart_from_a_failed_answer() -> None:
    """ConnectFailed says that nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with transport(f"http://127.0.0.1:{port}/") as road, pytest.raises(ConnectFailed, match="is the server running"):
        road([b"x"], call())


def test_a_name_without_an_address_is_a_connect_error() -> None:
    """The reserved .invalid domain never resolves."""
    with transport("http://nowhere.invalid/") as road, pytest.raises((ConnectFailed, TimedOut)):
        road([b"x"], call(5))


def test_one_connection_serves_one_request_after_the_other() -> None:
    """Connections are kept, and each answer belongs to its question."""

    def script(peer: Peer) -> None:
        while True:
            _, body = peer.request()
            peer.send(response(b"to " + body))

    with scripted_server(script) as server, transport(server.url) as road:
        answers = [road([b"%d" % number], call()).body() for number in range(5)]
        assert answers == [b"to %d" % number for number in range(5)]
        assert server.connections == 1


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "on the next request"])
def test_a_connection_that_the_peer_closed_is_replaced(waits: bool) -> None:
    """A kept connection that turns out closed costs a new connection, not the request."""

    def script(peer: Peer) -> None:
        _, body = peer.request()
        peer.send(response(body))
        if waits:
            peer.request()  # read, and closed without an answer: what a server does that is just shutting down

    with scripted_server(script) as server, transport(server.url) as road:
        assert road([b"one"], call()).body() == b"one"
        assert road([b"two"], call()).body() == b"two"
        assert server.connections == 2


def test_a_new_connection_is_not_tried_twice() -> None:
    """Where no byte was ever answered the peer is broken; asking again is the caller's decision."""

    def script(peer: Peer) -> None:
        peer.request()

    with scripted_server(script) as server, transport(server.url) as road:
        with pytest.raises(TransportFailed, match="without an answer"):
            road([b"x"], call())
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    ],
    ids=["close", "HTTP/1.0", "an answer too many"],
)
def test_a_connection_that_must_not_be_kept_is_closed(answer: bytes) -> None:
    """An answer that nobody asked for is never given to the next request."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)
        with pytest.raises(ConnectionError):  # the client closes, and sends nothing more
            peer.request()

    with scripted_server(script) as server, transport(server.url) as road:
        assert [road([b"x"], call()).body() for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 3


def test_what_a_server_says_unasked_is_no_answer() -> None:
    """Some servers send 408 over a kept connection before they close it; the next request does not get that."""
    said = threading.Event()

    def script(peer: Peer) -> None:
        _, body = peer.request()
        peer.send(response(body))
        if peer.number == 1:
            peer.gone.wait(0.05)
            peer.send(response(b"too slow", status="408 Request Timeout"))
        said.set()

    with scripted_server(script) as server, transport(server.url) as road:
        assert road([b"one"], call()).body() == b"one"
        assert said.wait(5)
        assert road([b"two"], call()).body() == b"two"


def test_an_idle_connection_is_not_kept_for_ever() -> None:
    """After `idle_s` the next request opens a new connection."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(response(b"ok"))

    with scripted_server(script) as server, transport(server.url, idle_s=0.0) as road:
        road([b"x"], call())
        road([b"x"], call())
        assert server.connections == 2


def test_an_answer_before_the_request_was_read_is_heard() -> None:
    """A server may refuse a large body unread and close; its 413 arrives, not a broken pipe."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(response(b"too large", status="413 Content Too Large", headers="Connection: close\r\n"))

    reply = ask(script, bytes(50_000_000))
    assert (reply.status, reply.body()) == (413, b"too large")


def test_the_request_is_what_http_and_fn_expect() -> None:
    """The message's length, the call's id, the deadline and the trace context are in the head; no more."""
    heads = []

    def script(peer: Peer) -> None:
        head, body = peer.request()
        heads.append((head, body))
        peer.send(response())

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with scripted_server(script) as server, transport(f"{server.url}a/b?c=d e".replace(" ", "%20")) as road:
        road([b"one", bytearray(b"two"), memoryview(b"three")], Call("some-id", time.monotonic() + 60, trace, "x/y"))
    (head, body) = heads[0]
    lines = head.decode().split("\r\n")
    deadline = next(line for line in lines if line.startswith("Fn-Deadline: "))
    lines.remove(deadline)
    assert body == b"onetwothree"
    assert lines == [
        "POST /a/b?c=d%20e HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: graphpipe-fn",
        "X-Request-Id: some-id",
        f"traceparent: {trace}",
        "Accept-Encoding: identity",
        "Content-Type: application/octet-stream",
        "Content-Length: 11",
    ]
    assert re.fullmatch(r"Fn-Deadline: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", deadline)
    left_s = (
        datetime.fromisoformat(deadline.removeprefix("Fn-Deadline: ")).timestamp() - datetime.now(UTC).timestamp()
    )
    assert 55 < left_s <= 60


def test_a_call_can_not_smuggle_a_header() -> None:
    """What a caller named its call becomes one header line, whatever it holds."""
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.request()[0])
        peer.send(response())

    with scripted_server(script) as server, transport(server.url) as road:
        road([b"x"], Call("a\r\nX-Evil: 1\r\n\r\nPOST /", None, "b\nc\x00ü"))
    lines = heads[0].decode().split("\r\n")
    assert "X-Request-Id: a  X-Evil: 1    POST /" in lines
    assert "traceparent: b c" in lines


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and netrc of whoever runs the process change nothing."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.request()[0])
        peer.send(response(b"direct"))

    with tempfile.TemporaryDirectory() as home:
        Path(home, ".netrc").write_text("default login me password swordfish\n")
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("NETRC", os.path.join(home, ".netrc"))
        assert ask(script).body() == b"direct"
    assert b"uthorization" not in heads[0]


def test_thousands_of_pieces_arrive_in_order() -> None:
    """A message is sent in as many pieces as it has, beyond what one system call takes, without joining them."""
    pieces = [bytes([number % 251]) * (number % 97) for number in range(5_000)] + [os.urandom(3_000_000)]

    def script(peer: Peer) -> None:
        _, body = peer.request()
        peer.send(response(body))

    with scripted_server(script) as server, transport(server.url) as road:
        assert road(pieces, call()).body() == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, (1 << 20) - 1, 1 << 20, 5_000_001])
def test_answers_of_every_size_are_whole(size: int) -> None:
    """No size at which the way of receiving changes loses a byte."""
    body = os.urandom(size)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(body))

    with scripted_server(script) as server, transport(server.url) as road:
        assert road([b"x"], call()).body() == body


def test_threads_share_a_transport_and_never_an_answer() -> None:
    """Sixteen threads get the answers to their own questions over at most sixteen connections."""

    def script(peer: Peer) -> None:
        while True:
            _, body = peer.request()
            peer.send(response(body[::-1]))

    def work(thread: int) -> bool:
        questions = [b"%d-%d-" % (thread, number) + os.urandom(2_000) for number in range(25)]
        return all(road([question], call()).body() == question[::-1] for question in questions)

    with (
        scripted_server(script) as server,
        transport(server.url) as road,
        ThreadPoolExecutor(16) as threads,
    ):
        assert all(threads.map(work, range(16)))
        assert server.connections <= 16


# Python warns of forks beside threads; the server's are in this process, and the child uses none of them.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_a_forked_child_opens_connections_of_its_own() -> None:
    """Parent and child never read each other's answers from a connection that was open at the fork."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(response(b"connection %d" % peer.number))

    with scripted_server(script) as server, transport(server.url) as road:
        assert road([b"x"], call()).body() == b"connection 1"
        child = os.fork()
        if child == 0:
            told = [bytes(road([b"x"], call()).body()) for _ in range(2)]
            os._exit(0 if told == [b"connection 2"] * 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert road([b"x"], call()).body() == b"connection 1"


def test_closing_lets_go_of_the_connections() -> None:
    """After close() the server sees the end; a request under way is not disturbed."""
    closed, asked, go = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        asked.set()
        go.wait(10)
        peer.send(response(b"ok"))
        with pytest.raises(ConnectionError):
            peer.request()
        closed.set()

    with scripted_server(script) as server, ThreadPoolExecutor(1) as threads:
        road = HttpTransport(server.url)
        answer = threads.submit(road, [b"x"], call())
        assert asked.wait(5)
        road.close()
        go.set()
        assert answer.result(5).body() == b"ok"
        assert closed.wait(5)


def test_a_unix_socket_is_a_host_like_others() -> None:
    """http+unix:// names the socket in the host's place, and a path behind it."""
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.request()[0])
        peer.send(response(b"ok"))

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "a b.sock")
        uri = "http+unix://" + str(path).replace("/", "%2F").replace(" ", "%20") + "/call?x=1"
        with scripted_server(script, path=path), transport(uri) as road:
            assert road([b"x"], call()).body() == b"ok"
        with transport(uri) as road, pytest.raises(ConnectFailed):
            road([b"x"], call())
    assert heads[0].startswith(b"POST /call?x=1 HTTP/1.1\r\nHost: localhost\r\n")


def server_tls() -> ssl.SSLContext:
    """Return a server's context with the tests' certificate for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    return context


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_https_carries_the_same_bytes(size: int) -> None:
    """Small and large messages pass TLS whole, over a kept connection."""
    body = os.urandom(size)

    def script(peer: Peer) -> None:
        while True:
            _, question = peer.request()
            peer.send(response(question[::-1]))

    trusted = ssl.create_default_context(cafile=str(TLS / "localhost.pem"))
    with scripted_server(script, tls=server_tls()) as server:
        with transport(f"https://localhost:{server.port}/", tls=trusted) as road:
            assert road([body[:5], body[5:]], call()).body() == body[::-1]
            assert road([body], call()).body() == body[::-1]
        assert server.connections == 1


def test_an_unknown_certificate_is_refused() -> None:
    """Without being told to, no certificate is trusted that the system does not trust."""
    with (
        scripted_server(silent, tls=server_tls()) as server,
        transport(f"https://localhost:{server.port}/") as road,
        pytest.raises(TransportFailed, match="certificate") as caught,
    ):
        road([b"x"], call())
    assert not isinstance(caught.value, ConnectFailed)


def test_a_tls_handshake_that_never_ends_is_timed_out() -> None:
    """The handshake counts against the deadline."""
    with scripted_server(deaf) as server, transport(f"https://localhost:{server.port}/") as road:
        started = time.monotonic()
        with pytest.raises(TimedOut):
            road([b"x"], call(0.3))
        took_s = time.monotonic() - started
    assert took_s < 0.8  # 0.5 s of slack for a busy machine


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "no-scheme",
        "ftp://host/",
        "http://",
        "http:///path",
        "http://user:password@host/",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        "http://host/a b",
        "http://host/a\r\nX: y",
        "http://host\\@other/",
        "http://host/" + "x" * 5_000,
        "http+unix://relative%2Fpath/",
        "http+unix:///path",
        "lambda:",
        "fn:app",
        "fn:app/function",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(uri: str) -> None:
    """A URI is checked where it is given, and the error quotes it."""
    with pytest.raises(BadConfig) as caught:
        connect(uri)
    assert repr(uri[:200]) in caught.value.message


@dataclass(frozen=True)
class Parsed:
    """What a URI leads to."""

    uri: str
    host: str
    target: str


@pytest.mark.parametrize(
    "case",
    [
        Parsed("http://127.0.0.1:{port}", "127.0.0.1:{port}", "/"),
        Parsed("HTTP://LOCALHOST:{port}/A", "localhost:{port}", "/A"),
        Parsed("http://127.0.0.1:{port}/ü?q=é#fragment", "127.0.0.1:{port}", "/%C3%BC?q=%C3%A9"),
        Parsed("http://127.0.0.1:{port}/a%2Fb?x=%20", "127.0.0.1:{port}", "/a%2Fb?x=%20"),
    ],
    ids=lambda case: case.uri,
)
def test_a_uri_is_sent_as_it_is_meant(case: Parsed) -> None:
    """Host and target are what other clients send; a fragment stays here."""
    heads = []

    def script(peer: Peer) -> None:
        heads.append(peer.request()[0].decode().split("\r\n"))
        peer.send(response())

    with scripted_server(script) as server:
        with connect(case.uri.format(port=server.port)) as client:
            client.transport([b"x"], call())
        assert heads[0][0] == f"POST {case.target} HTTP/1.1"
        assert heads[0][1] == f"Host: {case.host.format(port=server.port)}"
