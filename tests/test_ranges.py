"""Ranges received in place, from servers that are right, wrong, slow and gone."""

from __future__ import annotations

import logging
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_server import Peer, Script, response, scripted_server

from classy.objects import ObjectStorage, Storage
from classy.ranges import Ranges, has_proxy

TLS = Path(__file__).parent / "golden" / "tls"
DATA = bytes(range(256)) * 40
PARTIAL = "206 Partial Content"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def serve(peer: Peer) -> None:
    """Answer as an object storage does, for as long as the client asks."""
    while True:
        head, _ = peer.request()
        assert head.startswith(b"GET /bucket/key?signed=secret HTTP/1.1\r\n")
        (line,) = (line for line in head.split(b"\r\n") if line.startswith(b"Range: bytes="))
        start, _, last = line.removeprefix(b"Range: bytes=").partition(b"-")
        peer.send(response(DATA[int(start) : int(last) + 1], status=PARTIAL))


def test_ranges_come_where_they_are_wanted() -> None:
    """From several threads at once, over connections that are kept."""
    room = memoryview(bytearray(len(DATA)))
    with scripted_server(serve) as server, ThreadPoolExecutor(4) as pool:
        ranges = Ranges(lambda: f"{server.url}bucket/key?signed=secret")
        done = pool.map(lambda start: ranges.read(start, room[start : start + 512]), range(0, len(DATA), 512))
        assert all(done)
        assert server.connections <= 4
        ranges.close()
        assert not ranges.read(0, room[:9])
    assert room == DATA


def test_they_come_through_tls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """From whom the system trusts, and from nobody else."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    room = memoryview(bytearray(len(DATA)))
    with scripted_server(serve, tls=served) as server:
        strange = Ranges(lambda: f"https://localhost:{server.port}/bucket/key?signed=secret")
        assert not strange.read(0, room)
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "localhost.pem"))
        ranges = Ranges(lambda: f"https://localhost:{server.port}/bucket/key?signed=secret")
        assert ranges.read(0, room[:5000])
        assert ranges.read(5000, room[5000:])
        ranges.close()
    assert room == DATA


def answering(*answers: bytes) -> Script:
    """Return a script that gives these answers and closes."""

    def script(peer: Peer) -> None:
        for answer in answers:
            peer.request()
            peer.send(answer)

    return script


def silent(peer: Peer) -> None:
    """Take a request and say nothing."""
    peer.request()
    peer.wait()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(response(DATA[:9], status="200 OK")), id="no range although of its length"),
        pytest.param(answering(response(DATA, status="200 OK")), id="all of it"),
        pytest.param(answering(response(bytes(1 << 20), status="200 OK")), id="far too much"),
        pytest.param(answering(response(DATA[:8], status=PARTIAL)), id="too little"),
        pytest.param(answering(response(DATA[:9], status=PARTIAL)[:-1]), id="cut off"),
        pytest.param(answering(response(b"<Code>AccessDenied</Code>", status="403 Forbidden")), id="refused"),
        pytest.param(answering(response(status="307 Elsewhere", headers="Location: http://h/\r\n")), id="redirected"),
        pytest.param(answering(b"SSH-2.0\r\n\r\n"), id="no HTTP"),
        pytest.param(answering(), id="closed"),
        pytest.param(silent, id="silent"),
    ],
)
def test_after_a_failure_nothing_more_comes_this_way(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, without the signature, and nobody is asked again."""
    room = memoryview(bytearray(9))
    with scripted_server(script) as server, caplog.at_level(logging.INFO):
        ranges = Ranges(lambda: f"{server.url}bucket/key?signed=secret", range_s=0.5)
        assert [ranges.read(0, room) for _ in range(3)] == [False] * 3
        assert server.connections == 1
        ranges.close()
    (said,) = caplog.messages
    assert said.endswith("; the rest comes by obstore")
    assert "secret" not in said


def test_an_address_that_can_not_be_signed_is_such_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the signer raises, and its words stay its own."""

    def sign() -> str:
        raise RuntimeError("secret")

    with caplog.at_level(logging.INFO):
        assert not Ranges(sign).read(0, memoryview(bytearray(9)))
    (said,) = caplog.messages
    assert "RuntimeError" in said
    assert "secret" not in said


@pytest.mark.parametrize("name", PROXIES)
def test_behind_a_proxy_only_obstore_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through the proxy, which this road knows nothing of; an empty variable names none."""
    objects = ObjectStorage(Storage(access_key_id="a", secret_access_key="b"))
    for other in PROXIES:
        monkeypatch.delenv(other, raising=False)
    assert objects.ranges("s3://bucket/key") is not None
    monkeypatch.setenv(name, "")
    assert not has_proxy()
    monkeypatch.setenv(name, "http://proxy:3128")
    assert objects.ranges("s3://bucket/key") is None


def test_files_are_not_received() -> None:
    """They are read."""
    assert ObjectStorage().ranges("file:///folder/file") is None
