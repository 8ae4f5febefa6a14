"""`classy web` as people run it: a process of its own, many clients, slow ones, hostile ones."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Peer, response, scripted_server
from web_apps import Answer, WebServer, picture, web_server

LIMIT_BYTES = 41_048_576
RED = picture()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """One server for the module; its log must hold no bug in the end."""
    with web_server(tmp_path_factory.mktemp("web")) as server:
        assert server.send("POST", "/api/classify", RED).status == 200
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log, log


def raw(server: WebServer, data: bytes, *, shut: bool = False, timeout_s: float = 20) -> bytes:
    """Send bytes as they are, and read until the server closes; what it sends after an error on our side is lost."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s) as sock:
        received = b""
        try:
            sock.sendall(data)
            if shut:
                sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(1 << 16):
                received += piece
        except ConnectionError:
            pass
        return received


def head(received: bytes) -> tuple[int, dict[str, str], Any]:
    """Take an answer apart."""
    top, _, body = received.partition(b"\r\n\r\n")
    line, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
    return int(line.split()[1]), headers, json.loads(body)


def until(what: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_64_clients_at_a_time_are_all_answered(server: WebServer) -> None:
    """Each its own picture, none another's."""

    def ask(number: int) -> tuple[int, str]:
        answer = server.send("POST", "/api/classify", picture(number, 90, 255 - number))
        return answer.status, answer.json["record_id"]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(128)))
    assert {status for status, _ in answers} == {200}
    assert len({record for _, record in answers}) == 128
    listed = server.send("GET", "/api/records?limit=1000").json["records"]
    assert {record for _, record in answers} <= {record["id"] for record in listed}


def test_a_body_of_120_mb_is_refused_before_it_is_read(server: WebServer) -> None:
    """By its Content-Length: the answer is there while the client still has almost all of it."""
    before_mb = server.rss_mb()
    top = (
        b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: big-1\r\nContent-Length: 120000000\r\n\r\n"
    )
    status, headers, value = head(raw(server, top + b"x" * 1_000))
    assert (status, value["code"], headers["content-type"]) == (413, 41300, "application/problem+json")
    assert (headers["x-request-id"], value["request_id"]) == ("big-1", "big-1")
    assert server.rss_mb() - before_mb < 20


def test_who_sends_on_reads_why_it_is_refused(server: WebServer) -> None:
    """A browser sends its whole body before it reads: the connection is closed when it has, not in its middle."""
    answer = server.send("POST", "/api/classify", b"x" * 60_000_000)
    assert (answer.status, answer.json["code"]) == (413, 41300)


def test_who_expects_to_be_told_is_told_before_sending(server: WebServer) -> None:
    """curl and others ask first about large bodies: no "100 Continue" comes before a 413."""
    ask = b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(ask % 120_000_000)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(ask % len(RED))
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(RED)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_is_cut_at_the_limit(server: WebServer) -> None:
    """Which nobody declared, so it is counted."""
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        for _ in range(60):
            sock.sendall(chunk)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
        try:
            while sent < 1_000:
                sock.sendall(chunk)  # it is read on for a while, so that the answer is not lost
                sent += 1
        except ConnectionError:
            pass
    assert sent <= 128 + 16  # MB, the last for what the system's buffers took
    small = b"%x\r\n%s\r\n0\r\n\r\n" % (len(RED), RED)
    answer = raw(server, b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n" + small)  # fmt: skip
    assert head(answer)[0] == 200


def test_a_body_just_under_the_limit_is_read(server: WebServer) -> None:
    """And refused by what it is."""
    assert server.send("POST", "/api/classify", b"x" * (LIMIT_BYTES - 1)).json["code"] == 41311
    assert server.send("POST", "/api/classify", b"\xff\xd8" + b"x" * 19_000_000).json["code"] in (42211, 41312)


GARBAGE: list[Any] = [
    pytest.param(b"GARBAGE\r\n\r\n", 400, id="no request line"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400, id="a header without a colon"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n", 400, id="a space in a name"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\rc\r\n\r\n", 400, id="a bare CR"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\nc: d\r\n\r\n", 400, id="a bare LF"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431, id="a long header"),
    pytest.param(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431, id="a long path"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400, id="a negative length"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400, id="no length"),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        400,
        id="two lengths",
    ),
    pytest.param(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501, id="another coding"),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="no chunk's size"
    ),
]


@pytest.mark.parametrize(("data", "status"), GARBAGE)
def test_garbage_is_a_problem_and_the_end_of_its_connection(server: WebServer, data: bytes, status: int) -> None:
    """Said by us as all else, not by the web server's own page."""
    found, headers, value = head(raw(server, data))
    assert (found, value["status"], headers["content-type"]) == (status, status, "application/problem+json")
    assert "server" not in headers
    assert server.send("GET", "/api/health").status == 200


def test_a_header_of_the_wsgi_kind_can_not_be_forged(server: WebServer) -> None:
    """X_Api_Key is not X-Api-Key, and an id with an escape in it is none."""
    answer = server.send("GET", "/api/health", headers={"X_Request_Id": "forged", "X-Request-Id": "a%0d%0aX-Evil: 1"})
    assert answer.headers["x-request-id"] != "forged"
    assert "x-evil" not in answer.headers


def test_clients_that_hang_up_half_way_leave_nothing_behind(server: WebServer) -> None:
    """In the head, in the body, before the answer and in the middle of it."""
    before = server.descriptors()
    request = b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(RED)
    cuts = [
        request[:20],
        request,
        request + RED[:50],
        request + RED,
        b"GET /models/small/1/manifest.json HTTP/1.1\r\n\r\n",
    ]
    for _ in range(6):
        for data in cuts:
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset
                sock.sendall(data)
    assert server.send("POST", "/api/classify", RED).status == 200
    until(lambda: server.descriptors() <= before + 2)


def test_slow_clients_take_no_thread(server: WebServer) -> None:
    """Ten times as many as there are threads, each in the middle of its request, and others are answered at once."""
    request = b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(RED)
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(80)]
    try:
        for number, sock in enumerate(slow):
            sock.sendall(request[: 10 + number % 60])
        started_s = time.monotonic()
        assert server.send("POST", "/api/classify", RED).status == 200
        assert time.monotonic() - started_s < 10
        for number, sock in enumerate(slow):  # and they are, when they are done
            sock.sendall(request[10 + number % 60 :] + RED)
        assert all(sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ") for sock in slow)
    finally:
        for sock in slow:
            sock.close()


def test_a_request_that_never_ends_is_given_up() -> None:
    """One byte now and then keeps a connection from being silent, not from being too slow."""
    from classy.web.serving import LEAST_BYTES_S, REQUEST_S, Channel

    channel = Channel.__new__(Channel)
    assert not channel.is_endless(1e9)
    channel.began_s, channel.got_bytes = 100.0, 10
    assert not channel.is_endless(100 + REQUEST_S)
    assert channel.is_endless(100 + REQUEST_S + 1)
    channel.got_bytes = 60 * LEAST_BYTES_S  # as many as there were seconds
    assert not channel.is_endless(100 + REQUEST_S + 59)


def test_answers_of_one_connection_come_in_order(server: WebServer) -> None:
    """Also where its requests came all at once."""
    requests = b"".join(
        b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: n-%d\r\n%s\r\n"
        % (number, b"Connection: close\r\n" if number == 19 else b"")
        for number in range(20)
    )
    received = raw(server, requests).decode()
    found = [line.partition(": ")[2] for line in received.split("\r\n") if line.startswith("X-Request-Id")]
    assert found == [f"n-{number}" for number in range(20)]


def test_head_says_what_get_would(server: WebServer) -> None:
    """Without the body."""
    for path in ("/api/health", "/api/models", "/models/small/1/manifest.json", "/nope"):
        get, without = server.send("GET", path), server.send("HEAD", path)
        assert (without.status, without.body) == (get.status, b"")
        assert without.headers["content-length"] == get.headers["content-length"]


def test_a_foreign_name_for_this_machine_is_refused(server: WebServer) -> None:
    """The server listens at 127.0.0.1, so it knows its names."""
    assert server.send("GET", "/api/records", headers={"Host": "evil.example"}).status == 421
    assert server.send("GET", "/api/records", headers={"Host": f"localhost:{server.port}"}).status == 200


def test_it_is_mounted_where_it_is_told(tmp_path: Path) -> None:
    """Behind a proxy that leaves the path as it is; with a key, as an option of the environment."""
    with web_server(tmp_path, "--prefix", "/classy", CLASSY_API_KEY="secret") as server:
        assert server.send("GET", "/classy/api/health").json == {"health": "ok"}
        bare = server.send("GET", "/classy")
        assert (bare.status, bare.headers["location"]) == (308, "/classy/")
        assert server.send("GET", "/classy/api/models").status == 401
        assert server.send("GET", "/classy/api/models", headers={"X-Api-Key": "secret"}).status == 200
        classified = server.send("POST", "/classy/api/classify", RED, {"X-Api-Key": "secret"}).json
        assert classified["recorded"]
        assert list((tmp_path / "state" / "pictures" / "originals").iterdir())


def test_without_a_model_it_says_how_to_have_one(tmp_path: Path) -> None:
    """And serves what needs none."""
    nothing = tmp_path / "nothing"
    with web_server(tmp_path, CLASSY_MODEL_STORE=nothing.as_uri()) as server:
        assert "classy model default" in server.log.read_text()
        assert server.send("GET", "/api/models").json == {
            "default": "",
            "models": [],
            "runtime": {"url": "", "bytes": 0, "command": "classy web-assets"},
        }
        answer = server.send("POST", "/api/classify", RED)
        assert (answer.status, answer.json["code"]) == (503, 50311)


def test_what_is_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    """SIGTERM ends the listening at once, and the work after its answer."""
    answers: list[Answer] = []
    asked = threading.Event()

    def slowly(peer: Peer) -> None:
        peer.request()
        asked.set()
        assert terminated.wait(20)
        peer.send(response(RED))

    terminated = threading.Event()
    with scripted_server(slowly) as source:
        place = f"127.0.0.1:{source.port}"
        with web_server(tmp_path, CLASSY_DOWNLOAD_ALLOW=place) as server:
            thread = threading.Thread(
                target=lambda: answers.append(server.send("GET", f"/api/classify?url=http://{place}/red.png"))
            )
            thread.start()
            assert asked.wait(20)
            server.process.terminate()
            until(lambda: refused(server.port))
            terminated.set()
            thread.join(20)
            assert server.process.wait(20) == 0
    assert [answer.status for answer in answers] == [200]


def refused(port: int) -> bool:
    """Return whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
