"""The Fetcher against servers that mean well, and what its errors say."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from hostile.servers import PICTURE, Case, Peer, Server, head, trusting

from classy.download import DownloadLimits, Fetcher
from classy.errors import (
    BatchTooLarge,
    ForbiddenAddress,
    PictureTooLarge,
    SourceFailed,
    SourceNotFound,
    SourceTimedOut,
    UnusableURL,
)
from classy.networks import Opened
from graphpipe_fn.errors import GraphPipeError, InternalError

Serve = Callable[[Callable[[Peer], None]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that are closed with the test."""
    servers: list[Server] = []

    def start(behave: Callable[[Peer], None]) -> Server:
        servers.append(Server(Case("test", behave, ())))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetcher(*servers: Server, **limits: float) -> Fetcher:
    """Return a Fetcher that may reach these servers."""
    opened = Opened.parse(" ".join(f"127.0.0.1:{server.port}" for server in servers))
    return Fetcher(limits=DownloadLimits(**{"timeout_s": 5.0, **limits}), opened=opened)  # type: ignore[arg-type]


def refused(fetch: Callable[[], bytes]) -> GraphPipeError:
    """Return the error that a fetch ends with."""
    with pytest.raises(GraphPipeError) as caught:
        fetch()
    return caught.value


def test_a_picture_is_fetched(serve: Serve) -> None:
    """The file comes back byte for byte."""
    server = serve(lambda peer: peer.answer())
    assert fetcher(server).fetch(server.url) == PICTURE


def test_the_request_tells_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No proxy, no password of .netrc, no cookie of the answer before and no Referer: just what a fetch needs."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    requests: list[bytes] = []

    def behave(peer: Peer) -> None:
        requests.append(peer.request())
        headers = ["Location: /b.png?x=1", "Set-Cookie: a=b"] if peer.number == 0 else []
        peer.send(head(*headers, "Content-Length: 2", status="302 Found" if headers else "200 OK") + b"ok")

    server = serve(behave)
    assert fetcher(server).fetch(f"http://127.0.0.1:{server.port}/a b.png#part") == b"ok"
    lines = [
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: classy/0.1.0",
        "Accept: image/*,*/*;q=0.5",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    expected = [
        "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode() for path in ("/a%20b.png", "/b.png?x=1")
    ]
    assert expected == requests


# --- what errors say ---------------------------------------------------------------------------------------------

HERE = "http://127.0.0.1:{port}/cat.png"


def answering(data: bytes) -> Callable[[Peer], None]:
    """Return a server's behaviour: these bytes, whatever is asked."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(data)

    return behave


# What the server answers, the error's class, its code, and the whole message.
MESSAGES = {
    "not-found": (head(status="404 Not Found"), SourceNotFound, 42413,
        "{url} does not exist: its server answered 404; check the address"),
    "forbidden": (head(status="403 Forbidden"), SourceFailed, 42411,
        "{url} can't be fetched: its server answered 403, it does not give this file to everyone; "
        "give an address that is open to all"),
    "overloaded": (head(status="503 Busy"), SourceFailed, 42411,
        "{url} can't be fetched: its server answered 503, it is overloaded or down; try again later"),
    "a-web-page": (head("Content-Type: text/html; charset=utf-8") + b"<html>", SourceFailed, 42411,
        "{url} answered with a web page (text/html), not a picture; give the picture's own address"),
    "empty": (head("Content-Length: 0"), SourceFailed, 42411,
        "{url} is empty: its server sent no bytes; check the address"),
    "too-large-by-its-own-word": (head("Content-Length: 12345678"), PictureTooLarge, 41311,
        "{url} has 12,345,678 bytes, over the limit of 1,000; give a smaller picture, or raise CLASSY_LIMIT_BYTES"),
    "too-large": (head() + bytes(2000), PictureTooLarge, 41311,
        "{url} has over 1,000 bytes; give a smaller picture, or raise CLASSY_LIMIT_BYTES"),
    "too-many-redirects": (head("Location: /cat.png", status="302 Found"), SourceFailed, 42411,
        "{url} was redirected over 5 times, last to {url}; give the picture's own address"),
    "no-http": (b"\x00\x01\x02\r\n\r\n", SourceFailed, 42411,
        "{url} answers in no HTTP that can be read; give another address"),
    "cut-short": (head("Content-Length: 500") + bytes(20), SourceFailed, 42411,
        "{url} broke off before all of it was sent; try again"),
    "packed": (head("Content-Encoding: br") + bytes(20), SourceFailed, 42411,
        '{url} was sent packed as "br", which was not asked for; give another address'),
    "redirected-inwards": (head("Location: http://10.0.0.1/admin", status="302 Found"), ForbiddenAddress, 40311,
        "{url}, redirected to http://10.0.0.1/admin, leads to 10.0.0.1 (private), which is not a public address; "
        "use a public one, or open 10.0.0.1 with CLASSY_DOWNLOAD_ALLOW"),
    "redirected-to-a-file": (head("Location: file:///etc/passwd", status="302 Found"), UnusableURL, 40012,
        '{url} redirects to what is not fetched: "file:///etc/passwd" is no URL that is fetched; '
        "write it as https://… or http://…"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_a_servers_errors_read_like_help(serve: Serve, name: str) -> None:
    """An error says which URL, what its server did and what to do now; the query may be a key and is not shown."""
    data, kind, code, message = MESSAGES[name]
    server = serve(answering(data))
    error = refused(lambda: fetcher(server, limit_bytes=1000).fetch(HERE.format(port=server.port)))
    expected = message.format(url=HERE.format(port=server.port))
    assert (kind, code, expected) == (type(error), error.code, error.message)


def names(host: str, port: int) -> Sequence[str]:
    """Look names up without a network."""
    known = {"localtest.me": ["127.0.0.1"], "pictures.test": ["93.184.216.34"], "nowhere.test": []}
    if host in known:
        return known[host]
    raise socket.gaierror(socket.EAI_AGAIN if host == "flaky.test" else socket.EAI_NONAME, "no")


# The URL, the error's class, and the whole message.
UNFETCHED = [
    ("http://localtest.me/", ForbiddenAddress,
     "http://localtest.me/ leads to 127.0.0.1 (loopback), which is not a public address; "
     "use a public one, or open localtest.me or 127.0.0.1 with CLASSY_DOWNLOAD_ALLOW"),
    ("http://169.254.169.254/latest/meta-data/", ForbiddenAddress,
     "http://169.254.169.254/latest/meta-data/ leads to 169.254.169.254 (link-local), which is not a public address; "
     "use a public one, or open 169.254.169.254 with CLASSY_DOWNLOAD_ALLOW"),
    ("http://no.such.test/cat.png?key=secret", SourceFailed,
     "http://no.such.test/cat.png?… can't be fetched: there is no host named no.such.test; check its spelling"),
    ("http://nowhere.test/", SourceFailed,
     "http://nowhere.test/ can't be fetched: there is no host named nowhere.test; check its spelling"),
    ("http://flaky.test/", SourceFailed,
     "http://flaky.test/ can't be fetched: looking flaky.test up failed for the moment; try again"),
    ("http://pictures.test:22/", UnusableURL,
     "http://pictures.test:22/ asks for port 22, but only 80 and 443 are fetched; "
     "CLASSY_DOWNLOAD_ALLOW can open others"),
    ("ftp://pictures.test/cat.png", UnusableURL,
     '"ftp://pictures.test/cat.png" is no URL that is fetched; write it as https://… or http://…'),
    ("file:///etc/passwd", UnusableURL,
     '"file:///etc/passwd" is no URL that is fetched; write it as https://… or http://…'),
    ("http://user:secret@pictures.test/", UnusableURL,
     "http://pictures.test/ was sent with a user name or password in it; remove it, nothing is logged in to"),
    ("s3://bucket/key", UnusableURL,
     "s3://bucket/key is in a bucket that callers may not read; CLASSY_BUCKETS opens buckets"),
    ("S3://bucket/key", UnusableURL,
     "S3://bucket/key is in a bucket that callers may not read; CLASSY_BUCKETS opens buckets"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "kind", "message"), UNFETCHED, ids=[case[0] for case in UNFETCHED])
def test_what_is_not_fetched_is_explained(url: str, kind: type[GraphPipeError], message: str) -> None:
    """A URL that is refused, or a host that is unknown, is named with the way out."""
    error = refused(lambda: Fetcher(resolve=names).fetch(url))
    assert (kind, message) == (type(error), error.message)


def test_a_closed_port_is_explained() -> None:
    """Where nothing listens, the error says so."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        error = refused(lambda: Fetcher(opened=Opened.parse(f"127.0.0.1:{port}")).fetch(url))
    expected = f"{url} can't be fetched: nothing answers at 127.0.0.1 port {port}; check the address"
    assert (SourceFailed, expected) == (type(error), error.message)


def test_a_certificate_that_nobody_signed_is_explained() -> None:
    """The reason that TLS gives is told, with whose business it is."""
    server = Server(Case("test", lambda peer: peer.answer(), (), certificate="selfsigned"))
    url = f"https://127.0.0.1:{server.port}/"
    fetch = Fetcher(opened=Opened.parse(f"127.0.0.1:{server.port}"), tls=trusting).fetch
    expected = (
        f"{url} has a certificate that can't be trusted (self-signed certificate); "
        "its server's owner must mend that, or give another address"
    )
    error = refused(lambda: fetch(url))
    server.close()
    assert (SourceFailed, expected) == (type(error), error.message)


# --- time --------------------------------------------------------------------------------------------------------


def test_the_callers_deadline_comes_first(serve: Serve) -> None:
    """A deadline that is nearer than the own timeout ends the fetch, and the message tells how long that was."""
    server = serve(lambda peer: peer.hang())
    started_s = time.monotonic()
    error = refused(lambda: fetcher(server).fetch(server.url, deadline_s=started_s + 0.3))
    assert time.monotonic() - started_s < 0.6
    assert (SourceTimedOut, 42412) == (type(error), error.code)
    assert "the 0.3 s for fetching it were over while its answer was awaited" in error.message


def test_a_deadline_that_is_over_dials_nothing(serve: Serve) -> None:
    """With no time left no connection is made."""
    server = serve(lambda peer: peer.answer())
    error = refused(lambda: fetcher(server).fetch(server.url, deadline_s=time.monotonic() - 1))
    assert (SourceTimedOut, []) == (type(error), server.peers)


def test_a_look_up_that_hangs_ends_with_the_deadline() -> None:
    """A resolver that never answers costs the deadline and no more."""
    never = threading.Event()

    def resolve(host: str, port: int) -> Sequence[str]:
        never.wait(5)
        return []

    started_s = time.monotonic()
    error = refused(lambda: Fetcher(limits=DownloadLimits(timeout_s=0.3), resolve=resolve).fetch("http://a.test/"))
    elapsed_s = time.monotonic() - started_s
    never.set()
    assert SourceTimedOut is type(error)
    assert "while a.test was looked up" in error.message
    assert elapsed_s < 0.6


def test_look_ups_that_hang_are_bounded() -> None:
    """However many names hang, no more than so many threads wait for them; the next ones are refused in time."""
    never = threading.Event()

    def resolve(host: str, port: int) -> Sequence[str]:
        never.wait(20)
        return []

    def waiting() -> int:
        return sum(thread.name == "look-up" for thread in threading.enumerate())

    limits = DownloadLimits(timeout_s=0.4, parallel=100)
    outcomes = Fetcher(limits=limits, resolve=resolve).fetch_all([f"http://{i}.test/" for i in range(100)])
    most = waiting()
    never.set()
    assert {SourceTimedOut} == {type(outcome) for outcome in outcomes}
    assert most <= 64
    ends_s = time.monotonic() + 10
    while waiting() and time.monotonic() < ends_s:
        threading.Event().wait(0.01)
    assert waiting() == 0


def test_an_address_that_does_not_answer_is_passed_over(serve: Serve) -> None:
    """Of a name's addresses the next one is tried when one refuses, and when one swallows the connection."""
    server = serve(lambda peer: peer.answer())
    full = socket.create_server(("127.0.0.2", 0), backlog=0)
    port = full.getsockname()[1]
    filling = [socket.socket() for _ in range(4)]
    for sock in filling:  # the queue of connections holds one or two; the next are left hanging
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.2", port))
    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=_answer_once, args=(listener,), daemon=True).start()
        opened = Opened.parse(f"a.test:{port} b.test:{server.port}")
        resolved = {"a.test": ["127.0.0.2", "127.0.0.1"], "b.test": ["127.0.0.9", "::1", "127.0.0.1"]}
        fetch = Fetcher(
            limits=DownloadLimits(timeout_s=1.0), opened=opened, resolve=lambda host, _: resolved[host]
        ).fetch
        assert fetch(f"http://a.test:{port}/") == PICTURE
        assert fetch(f"http://b.test:{server.port}/") == PICTURE
    for sock in (*filling, full):
        sock.close()


def _answer_once(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        Peer(sock, 0, 0).answer()


# --- several at once ---------------------------------------------------------------------------------------------


def test_a_batch_keeps_its_order_and_its_failures_apart(serve: Serve) -> None:
    """Each row has its own file or its own error, where it was asked for."""

    def behave(peer: Peer) -> None:
        path = peer.request().split(b" ")[1]
        status = "404 Not Found" if b"missing" in path else "200 OK"
        peer.send(head(f"Content-Length: {len(path)}", status=status) + path)

    server = serve(behave)
    here = f"http://127.0.0.1:{server.port}"
    outcomes = fetcher(server).fetch_all([f"{here}/a", f"{here}/missing", "rubbish", f"{here}/b", f"{here}/a"])
    shown = [outcome if isinstance(outcome, bytes) else type(outcome).__name__ for outcome in outcomes]
    assert shown == [b"/a", "SourceNotFound", "UnusableURL", b"/b", b"/a"]
    assert len(server.peers) == 3  # what was asked for twice is fetched once


def test_a_batch_is_fetched_side_by_side(serve: Serve) -> None:
    """As many as the limit says are under way at the same time, and no more."""
    meeting = threading.Barrier(3, timeout=5)
    under_way, most, lock = [0], [0], threading.Lock()

    def behave(peer: Peer) -> None:
        peer.request()
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        meeting.wait()  # nobody is answered before three are here
        with lock:
            under_way[0] -= 1
        peer.send(head("Content-Length: 2") + b"ok")

    server = serve(behave)
    urls = [f"http://127.0.0.1:{server.port}/{number}" for number in range(9)]
    assert fetcher(server, parallel=3).fetch_all(urls) == [b"ok"] * 9
    assert most == [3]


def test_a_batch_has_a_limit_of_its_own(serve: Serve) -> None:
    """Pictures that together are too much are refused one by one; what a failed one took is given back."""

    def behave(peer: Peer) -> None:
        wrong = b"wrong" in peer.request()
        peer.send(head(f"Content-Length: {500 if wrong else 400}") + bytes(400))

    server = serve(behave)
    here = f"http://127.0.0.1:{server.port}"
    fetch = fetcher(server, parallel=1, limit_bytes=500, batch_bytes=1000).fetch_all
    outcomes = fetch([f"{here}/wrong", f"{here}/a", f"{here}/b", f"{here}/c"])
    assert [SourceFailed, bytes, bytes, BatchTooLarge] == [type(outcome) for outcome in outcomes]
    assert isinstance(outcomes[3], BatchTooLarge)
    expected = "would bring its request over 1,000 bytes; send it in another one, or raise CLASSY_LIMIT_REQUEST_BYTES"
    assert outcomes[3].message.startswith(f"{here}/c {expected}")


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "without"])
def test_of_too_many_large_files_those_come_that_have_room(serve: Serve, declared: bool) -> None:
    """However many are fetched at once, they never hold more than the limit, and the room is used."""
    size, count = 300_000, 24

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(head(f"Content-Length: {size}" if declared else "Connection: close") + bytes(size))

    server = serve(behave)
    uris = [f"http://127.0.0.1:{server.port}/{number}" for number in range(count)]
    outcomes = fetcher(server, limit_bytes=400_000, batch_bytes=1_000_000).fetch_all(uris)
    whole = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    assert {len(picture) for picture in whole} == {size}
    assert 1 <= len(whole) <= 3
    assert len(whole) == 3 or not declared
    assert {type(outcome) for outcome in outcomes} == {bytes, BatchTooLarge}


def test_an_empty_batch_is_none() -> None:
    """No URIs, no files."""
    assert Fetcher().fetch_all([]) == []


def test_a_bug_costs_one_row(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that is none of ours ends in that row as an internal error, with its trace in the log only."""

    class Broken:
        def get(self, uri: str, **limits: object) -> bytes:
            raise RuntimeError("secret detail")

    fetch = Fetcher(storage=Broken(), buckets={"b"}, resolve=names).fetch_all  # type: ignore[arg-type]
    bug, refusal = fetch(["s3://b/key", "http://localtest.me/"])
    assert isinstance(bug, InternalError)
    assert bug.message == "fetching s3://b/key failed on our side; try again, or report it"
    assert isinstance(refusal, ForbiddenAddress)
    assert "secret detail" in caplog.text


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors the Linux way")
def test_nothing_is_left_open(serve: Serve) -> None:
    """After many fetches, good and bad, no descriptor and no thread remains."""
    good, bad = serve(lambda peer: peer.answer()), serve(lambda peer: peer.reset())
    fetch = fetcher(good, bad)
    fetch.fetch_all([good.url, bad.url])

    def ours() -> int:  # the servers share this process: theirs close when they see the client leave
        return len(os.listdir("/proc/self/fd")) + threading.active_count()

    before = ours()
    for number in range(20):
        fetch.fetch_all([f"{good.url}?{number}", f"{bad.url}?{number}", "http://localtest.me/"])
    ends_s = time.monotonic() + 10
    while ours() > before and time.monotonic() < ends_s:
        threading.Event().wait(0.01)
    assert ours() <= before


# --- cold start --------------------------------------------------------------------------------------------------

HEAVY = (
    "numpy",
    "onnxruntime",
    "PIL",
    "boto3",
    "requests",
    "httpx",
    "httpcore",
    "obstore",
    "flask",
    "fdk",
    "asyncio",
)


def test_the_downloader_imports_nothing_heavy() -> None:
    """Neither its import nor an http fetch loads what other stages, or other sources, need."""
    code = (
        "import json, sys\n"
        "from classy.download import Fetcher\n"
        "print(type(Fetcher().fetch_all(['http://127.0.0.1/'])[0]).__name__)\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [done.stdout.splitlines()[0], json.loads(done.stdout.splitlines()[1])] == ["ForbiddenAddress", []]


def test_the_downloader_starts_faster_than_the_classifier() -> None:
    """Importing everything that a download needs costs under 0.6 of the CPU of numpy and onnxruntime."""
    assert _import_cpu_s("classy.download, ssl") < 0.6 * _import_cpu_s("numpy, onnxruntime")


def _import_cpu_s(modules: str) -> float:
    code = f"import time; import {modules}; print(time.process_time())"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return min(times)
