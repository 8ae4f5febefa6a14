"""Objects by URI, from a real S3-compatible emulator, and from servers that answer as Oracle's and AWS's do."""

from __future__ import annotations

import hashlib
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile.servers import Case, Peer, Server, head

from classy.download import DownloadLimits, Fetcher
from classy.errors import (
    PictureTooLarge,
    SourceNotFound,
    SourceTimedOut,
    StorageFailed,
    UnreadablePicture,
    UnusableURL,
)
from classy.objects import ObjectStorage, Storage
from graphpipe_fn.errors import GraphPipeError, TooLarge

KEYS = {"access_key_id": "AKIDTEST", "secret_access_key": "5ecretKey"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start MiniStack with an empty bucket named pictures."""
    folder = tmp_path_factory.mktemp("ministack")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environ = {
        **{"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "DOCKER_HOST": "unix:///nonexistent"},
        **{"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"},
        "SERVICES": "s3",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "ministack"], env=environ, cwd=folder, stdout=log, stderr=log
        )
    try:
        _until_ready(port)
        assert _request(port, "PUT", "/pictures") == 200
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _until_ready(port: int) -> None:
    ends_s = time.monotonic() + 30
    while time.monotonic() < ends_s:
        try:
            if _request(port, "GET", "/_ministack/health") == 200:
                return
        except OSError:
            threading.Event().wait(0.05)
    raise AssertionError("MiniStack did not start")


def _request(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def objects(endpoint: str) -> ObjectStorage:
    """Return the emulator's objects."""
    return ObjectStorage(Storage(endpoint=endpoint, **KEYS))


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Peer], None]], Server]]:
    """Start servers that are closed with the test."""
    servers: list[Server] = []

    def start(behave: Callable[[Peer], None]) -> Server:
        servers.append(Server(Case("test", behave, ())))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


KEY_TEXTS = ["plain.png", "a/b/c.png", "a b+c%20.png", "日本/é~.png", "q?x=1#f&.png", "*[x](y)'!$,;=@:.png", "...png"]


@pytest.mark.parametrize("key", KEY_TEXTS)
def test_what_is_put_is_got(objects: ObjectStorage, key: str) -> None:
    """Whatever a key holds, its object comes back whole, in pieces, by its size, and in the list."""
    uri = f"s3://pictures/{key}"
    assert objects.put(uri, b"0123456789", content_type="image/png") is True
    assert objects.get(uri, limit_bytes=10) == b"0123456789"
    assert objects.size(uri) == 10
    assert abs(objects.modified(uri) - time.time()) < 60
    pieces = [objects.get_range(uri, start, length) for start, length in ((2, 3), (8, 9), (10, 5), (99, 5), (0, 0))]
    assert pieces == [b"234", b"89", b"", b"", b""]
    assert uri in objects.list("s3://pictures")


def test_a_list_holds_one_folder(objects: ObjectStorage) -> None:
    """A prefix is a folder: what merely begins alike is not in it."""
    for key in ("m/a/1", "m/2", "mm/3"):
        objects.put(f"s3://pictures/{key}", b"x")
    assert objects.list("s3://pictures/m/") == ["s3://pictures/m/2", "s3://pictures/m/a/1"]
    assert objects.list("s3://pictures/m") == ["s3://pictures/m/2", "s3://pictures/m/a/1"]
    assert objects.list("s3://pictures/none/") == []


def test_an_object_is_put_only_if_absent(objects: ObjectStorage) -> None:
    """Of several writers at once one is told that it wrote, and its bytes are there."""
    uri = "s3://pictures/once"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: objects.put(uri, b"%d" % number, if_absent=True), range(8)))
    assert sum(won) == 1
    assert b"%d" % won.index(True) == objects.get(uri, limit_bytes=9)
    assert objects.put(uri, b"x", if_absent=True) is False
    assert objects.put(uri, b"x") is True


def test_large_objects_go_in_parts_and_come_in_ranges(objects: ObjectStorage) -> None:
    """An upload of many parts is one object, and threads may read its ranges side by side."""
    data = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_200_000))
    uri = "s3://pictures/large"
    objects.put(uri, data)
    step = 8 << 20
    with ThreadPoolExecutor(8) as pool:
        pieces = pool.map(lambda start: objects.get_range(uri, start, step), range(0, len(data), step))
    assert hashlib.sha256(data).digest() == hashlib.sha256(b"".join(pieces)).digest()
    with pytest.raises(TooLarge) as caught:
        objects.get(uri, limit_bytes=1000)
    assert f"{uri} has 38,400,000 bytes; the limit is 1,000" == caught.value.message


def test_what_is_missing_is_named(objects: ObjectStorage, endpoint: str) -> None:
    """No object and no bucket are told apart, by each way of asking that can tell."""
    missing, nowhere = "s3://pictures/none.png", "s3://no-such-bucket/none.png"
    no_object = f"there is no object {missing} at {endpoint}; check bucket and key"
    no_bucket = f"there is no bucket no-such-bucket at {endpoint}; create it, or check its name"
    for ask, expected in (
        (lambda: objects.get(missing, limit_bytes=9), no_object),
        (lambda: objects.get_range(missing, 0, 9), no_object),
        (lambda: objects.size(missing), no_object),
        (lambda: objects.modified(missing), no_object),
        (lambda: objects.get(nowhere, limit_bytes=9), no_bucket),
        (lambda: objects.get_range(nowhere, 0, 9), no_bucket),
        (lambda: objects.put(nowhere, b"x"), no_bucket),
        (lambda: objects.list("s3://no-such-bucket/a"), no_bucket),
    ):
        with pytest.raises(SourceNotFound) as caught:
            ask()
        assert expected == caught.value.message


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3://pictures", "s3://pictures/", "s3:///key", "s3://pictures//key", "s3://pictures/a//b", "s3://pictures/a/",
     "s3://pictures/../other/key", "s3://pictures/a/./b", "s3://pictures/a\nb", "s3://../key", "s3://a?b/key", "s3://a/../b",
     "http://pictures/key", "pictures/key", ""],
)  # fmt: skip
def test_what_names_no_object_is_refused(objects: ObjectStorage, uri: str) -> None:
    """A URI without bucket or key, or with one that would name another object, is refused unasked."""
    with pytest.raises(UnusableURL):
        objects.get(uri, limit_bytes=9)


# --- the Fetcher's way to them -----------------------------------------------------------------------------------


def test_callers_read_allowed_buckets_only(objects: ObjectStorage, endpoint: str) -> None:
    """A bucket that the function can read is closed to callers until a setting opens it."""
    objects.put("s3://pictures/cat.png", b"meow")
    objects.put("s3://pictures/empty.png", b"")
    fetcher = Fetcher(storage=objects, buckets={"pictures"}, limits=DownloadLimits(limit_bytes=4))
    objects.put("s3://pictures/large.png", b"12345")
    uris = ["cat.png", "none.png", "empty.png", "large.png"]
    outcomes = fetcher.fetch_all(
        [*(f"s3://pictures/{name}" for name in uris), "S3://pictures/cat.png", "s3://other/cat.png"]
    )
    assert [bytes, SourceNotFound, UnreadablePicture, PictureTooLarge, bytes, UnusableURL] == [
        type(o) for o in outcomes
    ]
    assert [outcomes[0], outcomes[4]] == [b"meow", b"meow"]
    assert (
        _message(outcomes[5])
        == "s3://other/cat.png is in a bucket that callers may not read; CLASSY_BUCKETS opens buckets"
    )
    assert _message(outcomes[2]) == "s3://pictures/empty.png is empty; upload the picture again"
    assert _message(outcomes[3]) == (
        "s3://pictures/large.png has over 4 bytes; give a smaller picture, or raise CLASSY_LIMIT_BYTES"
    )


def _message(outcome: bytes | GraphPipeError) -> str:
    assert isinstance(outcome, GraphPipeError)
    return outcome.message


# --- storages that are odd, slow or closed -----------------------------------------------------------------------


def test_requests_are_such_that_oracle_takes_them(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path style, a signed body in one piece, no checksum that nobody asked for, and only the keys given."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-the-environment")
    requests: list[bytes] = []

    def behave(peer: Peer) -> None:
        requests.append(peer.request())
        peer.send(head('ETag: "x"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "Content-Length: 0"))

    server = serve(behave)
    region = "eu-frankfurt-1"
    objects = ObjectStorage(Storage(f"http://127.0.0.1:{server.port}/", region, session_token="given", **KEYS))
    objects.put("s3://In_box/a b.png", b"x" * 100, content_type="image/png")
    ObjectStorage(Storage(f"http://127.0.0.1:{server.port}", region, **KEYS)).size("s3://In_box/key")
    put, size = (request.decode().lower() for request in requests)
    assert put.startswith("put /in_box/a%20b.png http/1.1\r\n")
    assert f"/{region}/s3/aws4_request" in put
    assert "x-amz-security-token: given" in put
    assert f"x-amz-content-sha256: {hashlib.sha256(b'x' * 100).hexdigest()}" in put
    assert "content-length: 100" in put
    for unwanted in (
        "aws-chunked",
        "x-amz-checksum",
        "x-amz-sdk-checksum",
        "x-amz-trailer",
        "transfer-encoding",
        "tagging",
    ):
        assert unwanted not in put
    assert size.startswith("head /in_box/key http/1.1\r\n")
    assert "of-the-environment" not in put + size
    assert "x-amz-security-token" not in size


def test_a_slow_storage_ends_with_the_deadline(serve: Callable[..., Server]) -> None:
    """A storage that says nothing, or drips, costs the deadline and no more, by each way of asking."""

    def behave(peer: Peer) -> None:
        method = peer.request().split(b" ")[0]
        if method == b"GET" and peer.number % 2:
            peer.send(head('ETag: "x"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "Content-Length: 9000"))
            peer.drip(bytes(9000))
        peer.hang()

    server = serve(behave)
    objects = ObjectStorage(Storage(f"http://127.0.0.1:{server.port}", **KEYS))
    for ask in (
        lambda at: objects.get("s3://pictures/a", limit_bytes=9999, deadline_s=at),
        lambda at: objects.get("s3://pictures/a", limit_bytes=9999, deadline_s=at),
        lambda at: objects.get_range("s3://pictures/a", 0, 9, deadline_s=at),
        lambda at: objects.size("s3://pictures/a", deadline_s=at),
    ):
        started_s = time.monotonic()
        with pytest.raises(SourceTimedOut) as caught:
            ask(started_s + 0.4)
        assert time.monotonic() - started_s < 1.0
        assert caught.value.message == "s3://pictures/a was too slow: the 0.4 s for it were over; try again"
    with pytest.raises(SourceTimedOut):
        objects.size("s3://pictures/a", deadline_s=time.monotonic() - 1)


def test_a_declared_size_over_the_limit_is_not_read(serve: Callable[..., Server]) -> None:
    """An object that says it is too large is refused before its body comes, even one of an exabyte."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(head('ETag: "x"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", f"Content-Length: {10**18}"))
        peer.hang()

    server = serve(behave)
    started_s = time.monotonic()
    with pytest.raises(TooLarge):
        ObjectStorage(Storage(f"http://127.0.0.1:{server.port}", **KEYS)).get("s3://pictures/a", limit_bytes=1000)
    assert time.monotonic() - started_s < 2.0


REFUSALS = {
    "wrong-secret": ("403 Forbidden", "SignatureDoesNotMatch",
        "{where} refuses us s3://pictures/a (SignatureDoesNotMatch); check keys, region and the bucket's policy"),
    "not-allowed": ("403 Forbidden", "AccessDenied",
        "{where} refuses us s3://pictures/a (AccessDenied); check keys, region and the bucket's policy"),
    "wrong-region": ("301 Moved Permanently", "PermanentRedirect",
        "{where} has bucket pictures in another region; set AWS_REGION to that one"),
    "a-broken-storage": ("500 Internal Server Error", "InternalError",
        "{where} could not serve s3://pictures/a (InternalError); try again"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_explained_without_secrets(serve: Callable[..., Server], name: str) -> None:
    """What the storage calls its refusal is told; the request that it repeats, session token and all, is not."""
    status, code, expected = REFUSALS[name]

    def behave(peer: Peer) -> None:
        request = peer.request().decode()
        peer.send(
            head(status=status)
            + f"<Error><Code>{code}</Code><CanonicalRequest>{request}</CanonicalRequest></Error>".encode()
        )

    server = serve(behave)
    where = f"http://127.0.0.1:{server.port}"
    storage = Storage(where, session_token="5ecretToken", **KEYS)
    with pytest.raises(StorageFailed) as caught:
        ObjectStorage(storage).get("s3://pictures/a", limit_bytes=9)
    assert expected.format(where=where) == caught.value.message
    assert caught.value.__cause__ is None
    assert "5ecret" not in repr(storage) + repr(caught.value)


def test_a_storage_that_is_not_there_is_explained() -> None:
    """A closed port, an endpoint that is no URL, and a machine without credentials each get their own remedy."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}"
        closed = ObjectStorage(Storage(where, **KEYS))
        with pytest.raises(StorageFailed) as caught:
            closed.get("s3://pictures/a", limit_bytes=9)
    assert (
        f"{where} can't be reached for s3://pictures/a; check AWS_ENDPOINT_URL, or try again" == caught.value.message
    )
    with pytest.raises(StorageFailed) as caught:
        ObjectStorage(Storage("nonsense", **KEYS)).get("s3://pictures/a", limit_bytes=9)
    assert caught.value.message == "AWS_ENDPOINT_URL is 'nonsense'; write it as https://host"


WAYS: dict[str, Callable[[ObjectStorage], object]] = {
    "get": lambda objects: objects.get("s3://pictures/a", limit_bytes=9),
    "get_range": lambda objects: objects.get_range("s3://pictures/a", 0, 9),
    "size": lambda objects: objects.size("s3://pictures/a"),
    "put": lambda objects: objects.put("s3://pictures/a", b"x"),
    "put if absent": lambda objects: objects.put("s3://pictures/a", b"x", if_absent=True),
    "list": lambda objects: objects.list("s3://pictures"),
}


@pytest.mark.parametrize(
    "ways", [["put if absent"], pytest.param(list(WAYS), marks=pytest.mark.slow)], ids=["at once", "all ways"]
)
def test_a_storage_that_hangs_is_given_up_within_half_of_fns_time(
    serve: Callable[..., Server], ways: list[str]
) -> None:
    """Whoever gave no deadline is told too, while Fn's 30 s still run."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.hang()

    server = serve(behave)
    where = f"http://127.0.0.1:{server.port}"
    objects = ObjectStorage(Storage(where, **KEYS))

    def refused(way: str) -> str:
        with pytest.raises(StorageFailed) as caught:
            WAYS[way](objects)
        return caught.value.message

    started_s = time.monotonic()
    with ThreadPoolExecutor(len(ways)) as pool:
        messages = list(pool.map(refused, ways))
    assert time.monotonic() - started_s < 17.0
    assert [message.startswith(f"{where} does not answer for s3://pictures") for message in messages] == [True] * len(
        ways
    )


@pytest.mark.slow
def test_a_large_object_may_be_sent_slowly(serve: Callable[..., Server]) -> None:
    """The time that sending takes is not taken for silence."""
    size = 30_000_000  # far more than what the system's buffers take at once

    def behave(peer: Peer) -> None:
        got = len(peer.request().partition(b"\r\n\r\n")[2])
        begun_s = time.monotonic()
        while got < size:
            got += len(peer.sock.recv(1 << 16))
            time.sleep(max(0.0, begun_s + 7.0 * got / size - time.monotonic()))  # this is the input, not a wait
        peer.send(head('ETag: "x"', "Content-Length: 0"))

    server = serve(behave)
    objects = ObjectStorage(Storage(f"http://127.0.0.1:{server.port}", **KEYS))
    assert objects.put("s3://pictures/a", bytes(size))


def test_a_system_without_ca_certificates_is_explained() -> None:
    """A bare Debian has none, and https then needs a package, not another address."""
    program = (
        "from classy.objects import ObjectStorage, Storage\n"
        "ObjectStorage(Storage('https://127.0.0.1:9', access_key_id='a', secret_access_key='b'))"
        ".get('s3://pictures/a', limit_bytes=9)"
    )
    environ = {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("classy.errors.StorageFailed: https://127.0.0.1:9 can't be trusted")
    assert "install the package ca-certificates, or set SSL_CERT_FILE" in last


def test_files_go_the_same_way(tmp_path: pathlib.Path) -> None:
    """A file:// URI is read and written by the same calls, without any settings and without obstore."""
    code = (
        "import json, sys\n"
        "from classy.objects import ObjectStorage\n"
        "objects, uri = ObjectStorage(), sys.argv[1] + '/m/a'\n"
        "print(json.dumps([objects.put(uri, b'0123'), objects.put(uri, b'x', if_absent=True), objects.size(uri),\n"
        "    objects.get(uri, limit_bytes=4).decode(), bytes(objects.get_range(uri, 1, 2)).decode(),\n"
        "    objects.list(sys.argv[1]) == [uri], 'obstore' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path.as_uri()], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, False, 4, "0123", "12", True, False]
