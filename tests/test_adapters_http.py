"""The stand-alone server over real sockets: HTTP as clients write it, well, badly, slowly and all at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from contract_model import ContractModel
from served import served

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen, tls_context
from graphpipe_fn.adapters.http_connection import HttpLimits, http_date
from graphpipe_fn.adapters.http_stream import BufferPool
from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.errors import BadConfig, Busy, TimedOut
from graphpipe_fn.limited import Limited
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata, Tensor, strings
from graphpipe_fn.model import Model
from graphpipe_fn.server import answerer
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.http import HttpTransport

PATIENCE_S = 20.0
BODY = b"".join(encode_request(InferRequest((np.arange(3, dtype="f4"),))))
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextmanager
def serving(
    model: Model | None = None, listen: Listen = Listen(port=0), *, stop_s: float = PATIENCE_S, **options: object
) -> Iterator[HttpServer]:
    """Serve a model at a free port; check at the end that everything ended."""
    model = model or ContractModel()
    server = HttpServer(Endpoints(answerer(model), model.metadata), listen, **options).start()  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.stop(stop_s)


@dataclass
class Answer:
    """One response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Client:
    """A client that writes bytes and reads responses."""

    sock: socket.socket
    have: bytes = b""

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.sock.sendall(part)

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one response; ConnectionError where the server closed instead."""
        while b"\r\n\r\n" not in self.have:
            self._more()
        head, _, self.have = self.have.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = 0 if head_only or lines[0].split()[1] == "100" else int(headers["content-length"])
        while len(self.have) < length:
            self._more()
        body, self.have = self.have[:length], self.have[length:]
        return Answer(int(lines[0].split()[1]), headers, body)

    def closed(self) -> bool:
        """Return whether the server closes, without another byte."""
        try:
            return self.have == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        part = self.sock.recv(1 << 16)
        if not part:
            raise ConnectionError("the server closed")
        self.have += part


@contextmanager
def client_of(server: HttpServer) -> Iterator[Client]:
    host, port = server._listener.getsockname()[:2]
    with socket.create_connection((host, port), timeout=PATIENCE_S) as sock:
        yield Client(sock)


def outputs(answer: Answer) -> tuple[Tensor, ...]:
    assert answer.status == 200, answer.body
    return decode_response(answer.body).outputs


def error_of(answer: Answer) -> tuple[int, str]:
    (error,) = decode_response(answer.body).errors
    return error.code, error.message


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with serving(limits=HttpLimits(body_bytes=1_000_000)) as running:
        yield running


@pytest.fixture
def client(server: HttpServer) -> Iterator[Client]:
    with client_of(server) as sending:
        yield sending


# What is sent, the status of the answer, and whether another request may follow.
REQUESTS: list[tuple[str, bytes, int, bool]] = [
    ("POST", HEAD + BODY, 200, True),
    ("POST, to be closed", HEAD[:-2] + b"Connection: close\r\n\r\n" + BODY, 200, False),
    ("POST in HTTP/1.0", HEAD.replace(b"1.1", b"1.0") + BODY, 200, False),
    (
        "POST in HTTP/1.0, kept",
        HEAD.replace(b"1.1", b"1.0")[:-2] + b"Connection: keep-alive\r\n\r\n" + BODY,
        200,
        True,
    ),
    ("GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
    ("GET after empty lines", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
    ("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
    ("ready", b"GET /control/is_ready HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
    ("alive", b"HEAD /control/is_alive HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
    ("other path", b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, True),
    ("other path with a body", HEAD.replace(b" / ", b" /x ") + BODY, 404, False),
    ("other method", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, True),
    ("options", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, True),
    ("empty POST", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400, True),
    ("POST without a length", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 400, True),
    ("garbage as body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd", 400, True),
    ("too large", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n", 413, False),
    ("absurdly large", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n", 413, False),
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, False),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400, False),
    ("two lengths", HEAD[:-2] + b"Content-Length: 1\r\n\r\n" + BODY, 400, False),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, False),
    ("gzip coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, False),
    ("odd expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417, False),
    ("long head", b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", 431, False),
    ("chunk without a length", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, False),
    ("chunk too long", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400, False),
    (
        "chunks over the limit",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nf4241\r\n",
        413,
        False,
    ),
]


@pytest.mark.parametrize(
    ("request_", "status", "kept"), [case[1:] for case in REQUESTS], ids=[case[0] for case in REQUESTS]
)
def test_requests_and_their_answers(client: Client, request_: bytes, status: int, kept: bool) -> None:
    """Every request gets one answer with its length, and the connection goes on exactly if its end is known."""
    client.send(request_)
    head_only = request_.startswith(b"HEAD")
    answer = client.answer(head_only=head_only)
    assert (status, kept) == (answer.status, "connection" not in answer.headers)
    assert answer.headers["date"].endswith(" GMT")
    if kept:
        client.send(HEAD, BODY)
        np.testing.assert_array_equal(outputs(client.answer())[0], np.arange(3, dtype="f4"))
    else:
        assert answer.headers["connection"] == "close"
        assert client.closed()


def test_what_get_and_head_say(client: Client) -> None:
    """GET answers the metadata as JSON; HEAD the same headers without it; 405 names what is allowed."""
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: my-id\r\n\r\n")
    got = client.answer()
    assert json.loads(got.body)["Name"] == "contract"
    assert (got.headers["content-type"], got.headers["x-request-id"]) == ("application/json", "my-id")
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.answer(head_only=True).headers["content-length"] == str(len(got.body))
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.answer().headers["allow"] == "GET, HEAD, POST"


def test_errors_before_the_model_are_graphpipe_errors(client: Client) -> None:
    """What is refused for its HTTP says why, in a GraphPipe response as every other error."""
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n")
    code, message = error_of(client.answer())
    assert (code, "1,000,001 bytes; the limit is 1,000,000" in message) == (41300, True)


def test_requests_sent_in_a_row_are_answered_in_order(client: Client) -> None:
    """Requests that arrive in one piece (pipelining) are answered one by one."""
    client.send((HEAD + BODY) * 3 + b"GET /control/is_alive HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(3):
        assert outputs(client.answer())[0].shape == (3,)
    assert client.answer().body == b"ok\n"


@pytest.mark.parametrize("piece", [1, 7, 50])
def test_requests_in_pieces(client: Client, piece: int) -> None:
    """Wherever the network cuts a request, the answer is the same."""
    whole = HEAD + BODY + HEAD + BODY
    for place in range(0, len(whole), piece):
        client.send(whole[place : place + piece])
    for _ in range(2):
        assert outputs(client.answer())[0].tolist() == [0, 1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("sizes", [[1], [3, 1], [4096], [100_000]], ids=str)
def test_chunked_bodies(client: Client, sizes: list[int]) -> None:
    """A body in chunks of any size, with extensions and trailers, is the body."""
    tensor = np.arange(60_000 if sizes[0] > 10 else 60, dtype="f4")
    body = b"".join(encode_request(InferRequest((tensor,))))
    chunks, place, turn = [], 0, 0
    while place < len(body):
        part = body[place : place + sizes[turn % len(sizes)]]
        chunks.append(b"%x;name=value\r\n%s\r\n" % (len(part), part))
        place, turn = place + len(part), turn + 1
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(2):
        client.send(head + b"".join(chunks) + b"0\r\nTrailer: x\r\n\r\n")
        np.testing.assert_array_equal(outputs(client.answer())[0], tensor)


def test_expect_continue(client: Client) -> None:
    """Who waits for "100 Continue" gets it, but not where the body would be refused."""
    client.send(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert client.answer().status == 100
    client.send(BODY)
    assert outputs(client.answer())[0].shape == (3,)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000001\r\n\r\n")
    assert client.answer().status == 413


@dataclass
class Keeping:
    """Answer with what `make` makes of the input, and keep every input that came."""

    make: Callable[[Tensor], Sequence[Tensor]]
    kept: list[Tensor] = field(default_factory=list)

    def metadata(self) -> Metadata:
        return Metadata("keeping")

    def infer(self, request: InferRequest) -> InferResponse:
        self.kept.append(request.inputs[0])
        return InferResponse(tuple(self.make(request.inputs[0])))


def test_large_messages_and_many_buffers() -> None:
    """20 MB in and out, and more outputs than one system call takes, arrive whole."""
    tensor = np.random.default_rng(1).random((5, 1000, 1000), "f4")
    with serving(Keeping(lambda x: [x, *([np.full(1500, n, "i8") for n in range(900)])])) as server:  # noqa: SIM117
        with connect(server.uri) as remote:
            answers = remote.run(tensor)
    np.testing.assert_array_equal(answers[0], tensor)
    assert [int(answer[7]) for answer in answers[1:]] == list(range(900))  # type: ignore[arg-type, call-overload]


def test_a_kept_tensor_does_not_change() -> None:
    """A model that keeps its input sees it unchanged while later requests come, though buffers are used again."""
    model = Keeping(lambda x: [np.asarray(x).copy()])
    with serving(model) as server, connect(server.uri) as remote:
        for number in range(6):
            remote.run(np.full(50_000, number, "f4"))
    assert [set(np.asarray(tensor).tolist()) for tensor in model.kept] == [{float(n)} for n in range(6)]


def test_buffers_are_used_again() -> None:
    """Memory comes back to the pool unless a view of it is left, up to what the pool may keep."""
    pool = BufferPool(keep_bytes=300_000)
    views: list[object] = []
    lent: list[int] = []

    def use(buffer: bytearray) -> None:
        lent.append(id(buffer))

    def keep_memory(buffer: bytearray) -> None:
        lent.append(id(buffer))
        views.append(memoryview(buffer)[:10])

    def keep_array(buffer: bytearray) -> None:
        lent.append(id(buffer))
        views.append(np.ndarray((5,), "u1", memoryview(buffer).toreadonly(), 3))

    for keep in (use, keep_memory, use, keep_array, use, use):
        pool.lend(100_000, keep)
    first, second, third, fourth, fifth, sixth = lent
    assert first == second
    assert third == fourth
    assert len({first, third, fifth}) == 3
    assert fifth == sixth
    pool.lend(100_000, lambda _: pool.lend(100_000, lambda _: pool.lend(100_000, use)))
    assert pool._kept_bytes <= 300_000
    assert len(pool._kept) == 2


SLOW = HttpLimits(idle_s=0.4, head_s=0.4, body_s=0.4, rate_bytes_s=1e9)
TARDY: list[tuple[str, bytes, int | None]] = [
    ("says nothing", b"", None),
    ("half a head", b"POST / HT", 408),
    ("half a body", HEAD + BODY[:-1], 408),
    ("half a chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408),
    ("half a trailer", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nab", 408),
]


@pytest.mark.parametrize(("sent", "status"), [case[1:] for case in TARDY], ids=[case[0] for case in TARDY])
@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_slow_clients_are_told_and_left(sent: bytes, status: int | None, drip: bool) -> None:
    """A request that does not arrive in time ends in 408, however steadily it drips; an idle connection just ends."""
    with serving(limits=SLOW) as server, client_of(server) as client:
        began = time.monotonic()
        start = len(sent) // 2 if drip else len(sent)
        client.send(sent[:start])
        for place in range(start, len(sent)):
            time.sleep(0.3 / max(1, len(sent) - start))
            client.send(sent[place : place + 1])
        if status is None:
            assert client.closed()
        else:
            assert status == client.answer().status
            assert client.closed()
        assert time.monotonic() - began < 2


def test_a_body_that_ends_early_is_refused() -> None:
    """A client that closes its side within a body is told so, and nothing reaches the model."""
    model = Keeping(lambda x: [x])
    with serving(model) as server, client_of(server) as client:
        client.send(HEAD + BODY[:-1])
        client.sock.shutdown(socket.SHUT_WR)
        answer = client.answer()
        assert (answer.status, f"after {len(BODY) - 1}" in error_of(answer)[1]) == (400, True)
    assert model.kept == []


def test_a_client_that_does_not_read_is_left() -> None:
    """A reply that nobody reads does not keep a thread for longer than its time."""
    model = Keeping(lambda x: [np.zeros(8_000_000, "f4")])
    with serving(model, limits=SLOW) as server, client_of(server) as client:
        client.send(HEAD + BODY)
        until(lambda: bool(model.kept))
        until(lambda: not server._connections, within_s=5)


def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


@pytest.mark.parametrize("sent", [b"", b"POST /", HEAD, HEAD + BODY[:50]], ids=["silent", "head", "no body", "body"])
def test_half_open_clients_do_not_keep_others_out(sent: bytes) -> None:
    """When all places are taken by clients that send nothing more, new ones are still served at once."""
    with serving(connections=8) as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(client_of(server)).send(sent)
        began = time.monotonic()
        for _ in range(20):
            with client_of(server) as client:
                client.send(HEAD + BODY)
                assert outputs(client.answer())[0].shape == (3,)
        assert time.monotonic() - began < 5
        assert len(server._connections) <= 9


@dataclass
class Gated:
    """Answer once the gate opens."""

    gate: threading.Event = field(default_factory=threading.Event)
    inside: int = 0

    def metadata(self) -> Metadata:
        return Metadata("gated")

    def infer(self, request: InferRequest) -> InferResponse:
        self.inside += 1
        assert self.gate.wait(PATIENCE_S)
        return InferResponse(request.inputs)


def test_stopping_loses_no_request() -> None:
    """Requests under way, half sent, or in the backlog are answered; idle connections end; new ones are refused."""
    model = Gated()
    with serving(model) as server, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        clients = [stack.enter_context(client_of(server)) for _ in range(9)]
        busy, half, idle = clients[:4], clients[4:6], clients[6:]
        for client in busy:
            client.send(HEAD + BODY)
        for client in half:
            client.send(HEAD + BODY[:60])
        for client in idle:
            client.send(b"GET /control/is_alive HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().body == b"ok\n"
        until(lambda: model.inside == 4)
        stopped = pool.submit(server.stop, PATIENCE_S)
        until(lambda: server.stopping)
        assert all(client.closed() for client in idle)
        for client in half:
            client.send(BODY[60:])
        until(lambda: model.inside == 6)
        assert not stopped.done()
        model.gate.set()
        for client in busy + half:
            answer = client.answer()
            assert (outputs(answer)[0].shape, answer.headers["connection"]) == ((3,), "close")
        assert stopped.result(PATIENCE_S)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(server_port(clients[0]))), timeout=1)


def server_port(client: Client) -> int:
    return int(client.sock.getpeername()[1])


def test_stopping_answers_the_backlog() -> None:
    """Connections that the kernel accepted before the stop, but this server had not, are served all the same."""
    model = ContractModel()
    server = HttpServer(Endpoints(answerer(model), model.metadata), Listen(port=0))
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(server)) for _ in range(5)]
        for client in clients:
            client.send(HEAD + BODY)
        server.start()
        assert server.stop(PATIENCE_S)
        for client in clients:
            assert outputs(client.answer())[0].shape == (3,)


def test_stopping_does_not_wait_for_ever() -> None:
    """A request that takes longer than the grace is left, and stop() says so."""
    model = Gated()
    with serving(model, stop_s=0.1) as server, client_of(server) as client:
        client.send(HEAD + BODY)
        until(lambda: model.inside == 1)
        began = time.monotonic()
        assert server.stop(0.2) is False
        assert 0.2 <= time.monotonic() - began < 2
        model.gate.set()
        assert outputs(client.answer())[0].shape == (3,)


def test_unix_socket(tmp_path: Path) -> None:
    """A unix socket serves, replaces the one that a killed server left, and is gone at the end."""
    path = tmp_path / "model.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with serving(listen=Listen(path=str(path))) as server:
        with connect(server.uri) as remote:
            assert remote.run([1.5, 2.5])[0].tolist() == [1.5, 2.5]  # type: ignore[union-attr]
        with pytest.raises(BadConfig, match="can't listen"):
            HttpServer(Endpoints(answerer(ContractModel())), Listen(path=str(path)))
    assert not path.exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadConfig, match="can't listen"):
        HttpServer(Endpoints(answerer(ContractModel())), Listen(path=str(tmp_path / "file")))
    assert (tmp_path / "file").read_text() == "mine"


def test_tls() -> None:
    """Over TLS everything works the same: small and large, kept connections, and a client that talks in clear."""
    folder = Path(__file__).parent / "golden" / "tls"
    trusted = ssl.create_default_context(cafile=str(folder / "localhost.pem"))
    context = tls_context(str(folder / "localhost.pem"), str(folder / "localhost.key"))
    tensor = np.random.default_rng(1).random(3_000_000, "f4")
    limits = HttpLimits(head_s=0.5)
    with serving(listen=Listen("localhost", 0), tls=context, limits=limits) as server, client_of(server) as silent:
        uri = server.uri.replace("127.0.0.1", "localhost").replace("[::1]", "localhost")
        assert uri.startswith("https://localhost:")
        with connect(uri, tls=trusted) as remote:
            for value in (np.ones(2, "f4"), tensor, np.ones(3, "f4")):
                np.testing.assert_array_equal(remote.run(value)[0], value)
            assert len(remote.transport._idle) == 1  # type: ignore[attr-defined]
        with client_of(server) as client:
            client.send(HEAD + BODY)
            with contextlib.suppress(ConnectionResetError):
                assert not client.sock.recv(100).startswith(b"HTTP/1.1 200")
        assert silent.closed()


@pytest.mark.parametrize(("certificate", "key"), [("nowhere.pem", ""), (__file__, "")], ids=["missing", "no PEM"])
def test_tls_files_that_cannot_be_used(certificate: str, key: str) -> None:
    """A certificate that can't be used is named when the server starts."""
    with pytest.raises(BadConfig, match=Path(certificate).name):
        tls_context(certificate, key)


@pytest.mark.parametrize(
    "listen", [Listen("192.0.2.1", 0), Listen("no such host", 0), Listen(port=99999)], ids=lambda each: str(each.port)
)
def test_addresses_that_cannot_be_used(listen: Listen) -> None:
    """An address where nobody can listen is named when the server starts."""
    with pytest.raises(BadConfig, match=listen.host):
        HttpServer(Endpoints(answerer(ContractModel())), listen)


def test_limited_models_are_asked_a_few_at_a_time() -> None:
    """Of 12 requests side by side 3 are inside the model; who waits too long is told."""
    inside: list[int] = []
    lock, most = threading.Lock(), [0]

    class Counting(Gated):
        def infer(self, request: InferRequest) -> InferResponse:
            with lock:
                inside.append(1)
                most[0] = max(most[0], len(inside))
            time.sleep(0.01)
            with lock:
                inside.pop()
            return InferResponse(request.inputs)

    limited = Limited(Counting(), concurrency=3)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(limited.infer, [InferRequest((np.ones(1),))] * 24))
    assert most == [3]

    gated = Gated()
    limited = Limited(gated, concurrency=1, wait_s=0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(limited.infer, InferRequest())
        until(lambda: gated.inside == 1)
        with pytest.raises(Busy):
            limited.infer(InferRequest())
        with pytest.raises(TimedOut):
            limited.infer(InferRequest(call=Call(deadline_s=time.monotonic() + 0.05)))
        gated.gate.set()
        assert first.result(PATIENCE_S).outputs == ()


def test_dates_are_http_dates() -> None:
    """The Date header is what the standard library writes for the same second."""
    from email.utils import formatdate

    before, date, after = formatdate(usegmt=True), http_date(), formatdate(usegmt=True)
    assert date in (before, after)


@contextmanager
def tormentors(address: tuple[str, int]) -> Iterator[None]:
    """Keep 24 half-open clients and one that drips at a server."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(address, timeout=PATIENCE_S) as sock:
                    for byte in HEAD + BODY:
                        sock.sendall(bytes([byte]))
                        if stop.wait(0.05):
                            return
            except OSError:
                continue

    thread = threading.Thread(target=drip)
    with ExitStack() as stack:
        for sent in (b"", b"POST / HTTP/1.1\r\n", HEAD, HEAD + BODY[:40]) * 6:
            stack.enter_context(socket.create_connection(address)).sendall(sent)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def check_soak(seconds: float, folder: Path, clients: int = 64) -> None:
    """Let clients check their own answers from a server process beside slow clients, and watch its memory."""
    ends = time.monotonic() + seconds
    memory: list[int] = []

    def ask(seed: int) -> int:
        dice = np.random.default_rng(seed)
        count = 0
        with connect(server.uri, retries=0) as remote:
            while time.monotonic() < ends:
                tensor = dice.random(int(dice.choice([4, 1000, 150_528])), "f4") + seed
                answered, names = remote.run(tensor, f"client {seed} turn {count}")
                np.testing.assert_array_equal(np.asarray(answered), tensor)
                assert names == strings([f"client {seed} turn {count}"], ())
                count += 1
                if seed == 0:
                    memory.append(server.rss_bytes())
        return count

    with served("echo", folder=folder) as server:
        host, port = server.uri.removeprefix("http://").strip("/").split(":")
        with tormentors((host, int(port))), ThreadPoolExecutor(clients) as pool:
            counts = list(pool.map(ask, range(clients)))
        server.tell()
        assert server.ended() == 0
        assert server.log.read_text() == ""
    settled, last = max(memory[: len(memory) // 2]), max(memory[len(memory) // 2 :])
    print(
        f"{sum(counts)} answers in {seconds:g} s; {settled >> 20} MiB in the first half, {last >> 20} in the second"
    )
    assert min(counts) > 0
    assert last < settled * 1.05 + (4 << 20)


def test_64_clients_side_by_side(tmp_path: Path) -> None:
    """64 clients get their own answers, none lost or swapped, beside slow and half-open ones; memory stays flat."""
    check_soak(3, tmp_path)


@pytest.mark.slow
def test_64_clients_side_by_side_for_a_minute(tmp_path: Path) -> None:
    """The same for as long as SOAK_SECONDS says."""
    check_soak(float(os.environ.get("SOAK_SECONDS", "60")), tmp_path)


def test_transport_reuses_the_connection() -> None:
    """Our own client keeps one connection to this server over many requests."""
    with serving() as server:
        transport = HttpTransport(server.uri)
        for _ in range(5):
            assert transport([BODY], Call()).status == 200
        assert len(server._connections) == 1
        transport.close()
        until(lambda: not server._connections)


def test_a_bug_in_a_site_ends_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    """A site that raises, against its promise, costs its caller the connection and nobody else anything."""

    class Broken(Endpoints):
        def reply(self, method: str, path: str, body: object, call: Call) -> object:  # type: ignore[override]
            raise ZeroDivisionError

    with HttpServer(Broken(answerer(ContractModel())), Listen(port=0)) as server:
        for _ in range(3):
            with client_of(server) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.closed()
    assert caplog.text.count("a connection ended by a bug") == 3
