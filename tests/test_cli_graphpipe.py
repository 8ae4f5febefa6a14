"""The command line: models served as processes, and asked with files."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_graphs import affine, dense, mean_pool, runaway, text
from scripted_server import Peer, response, scripted_server
from served import Served, served

from graphpipe_fn import connect, strings
from graphpipe_fn.cli import main
from graphpipe_fn.commands.fetch import fetch, fingerprint
from graphpipe_fn.errors import BadModel, NotFound, RemoteError, TransportFailed

WEIGHT = np.array([[1, -1], [2, 0], [0, 3]], "f4")
ROWS = np.array([[1, 2, 3], [-1, 0, 1]], "f4")
ANSWER = -np.maximum(ROWS @ WEIGHT, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for name, data in {
        "dense": dense(WEIGHT),
        "affine": affine(),
        "pool": mean_pool(),
        "text": text(),
        "loop": runaway(),
    }.items():
        (path / f"{name}.onnx").write_bytes(data)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Served]:
    with served("serve", str(folder / "dense.onnx"), "--rest", folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
def echo(folder: Path) -> Iterator[Served]:
    with served("echo", folder=folder) as running:
        yield running


def call(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run a command in this process; return its exit status, stdout and stderr."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments, {})
            except SystemExit as exc:
                code = int(str(exc.code or 0))
    finally:
        sys.stdin = before
    return code, out.buffer.getvalue().decode("utf-8", "surrogateescape"), err.getvalue()  # type: ignore[attr-defined]


def test_a_served_file_answers(model: Served) -> None:
    """The original's plain use: a file, a port, a request, the metadata."""
    with connect(model.uri) as remote:
        np.testing.assert_array_equal(remote.run(ROWS)[0], ANSWER)
        np.testing.assert_array_equal(remote.run(ROWS, output_names="hidden")[0], ROWS @ WEIGHT)
        about = remote.metadata()
    assert (about.name, about.server, about.inputs[0].shape) == ("dense", "graphpipe-fn", (-1, 3))


def test_flags_of_the_original(folder: Path, tmp_path: Path) -> None:
    """--model, --inputs, --outputs, --value-inputs, --engine-count, --cache and --cache-dir do what they did."""
    (tmp_path / "values.json").write_text('{"a": [1, [-1, 2]], "b": ["int64", [1, 2]]}')
    flags = ["--model", str(folder / "affine.onnx"), "--inputs", "b,a", "--outputs", "sum", "--engine-count", "2"]
    flags += ["--value-inputs", str(tmp_path / "values.json"), "--cache", "--cache-dir", str(tmp_path / "cache")]
    with served("serve", *flags, folder=tmp_path) as running, connect(running.uri) as remote:
        about = remote.metadata()
        assert [(io.name, io.shape) for io in about.inputs] == [("b", (1, 2)), ("a", (-1, 2))]
        for _ in range(2):
            outputs = remote.run(np.array([[1, 2]]), np.array([[0.5, 0.5]], "f4"))
            assert [np.asarray(output).tolist() for output in outputs] == [[[1.5, 2.5]]]
        with pytest.raises(RemoteError, match=r"takes shape \[1, 2\]"):
            remote.run(np.array([[3, 4], [5, 6]]), np.array([[0.5, 0.5]] * 2, "f4"))
    assert (tmp_path / "cache" / "data.mdb").stat().st_size > 0


def test_variables_of_the_original(folder: Path, tmp_path: Path) -> None:
    """GP_MODEL, GP_OUTPUTS, GP_CACHE, GP_ENGINE_COUNT and GP_LISTEN stand for the flags."""
    environ = {
        "GP_MODEL": str(folder / "dense.onnx"),
        "GP_OUTPUTS": "active",
        "GP_CACHE": "true",
        "GP_ENGINE_COUNT": "2",
        "GP_LISTEN": f"unix:{tmp_path}/s",
    }
    with served("serve", "--listen", f"unix:{tmp_path}/s", folder=tmp_path, environ=environ) as running:
        assert running.uri.startswith("http+unix://")
        with connect(running.uri) as remote:
            for _ in range(2):
                np.testing.assert_array_equal(remote.run(ROWS)[0], -ANSWER)


def test_rest(model: Served, echo: Served) -> None:
    """/rest answers JSON where it was asked for, and is not there where it was not."""
    asked = {"inputs": [ROWS.tolist()], "outputs": ["y", "hidden"]}
    status, answer = post_json(model, asked)
    assert (status, answer) == (200, {"outputs": {"y": ANSWER.tolist(), "hidden": (ROWS @ WEIGHT).tolist()}})
    assert post_json(model, {"inputs": {"x": ROWS.tolist()}}) == (200, {"outputs": {"y": ANSWER.tolist()}})
    assert post_json(model, {"inputs": [[["a"]]]})[0] == 422
    assert post_json(echo, asked)[0] == 404


def post_json(server: Served, value: object) -> tuple[int, dict[str, object]]:
    host, port = server.uri.removeprefix("http://").strip("/").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("POST", "/rest", json.dumps(value), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(body) if is_json else {}
    finally:
        connection.close()


def test_batches_in_front_of_a_server(model: Served, folder: Path) -> None:
    """`graphpipe-fn batch` answers each of many callers with the own rows, and errors with the target's words."""
    flags = ["--target", model.uri, "--batch-size", "8", "--timeout", "20", "--workers", "2"]
    with served("batch", *flags, folder=folder) as batch, connect(batch.uri) as remote:
        assert remote.metadata().name == "dense"

        def ask(number: int) -> None:
            rows = ROWS * number
            np.testing.assert_allclose(remote.run(rows)[0], -np.maximum(rows @ WEIGHT, 0))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(100)))
        with pytest.raises(RemoteError, match="takes float32"):
            remote.run(ROWS.astype("f8"))
        batch.tell()
        assert batch.ended() == 0


def test_sigterm_loses_no_request(folder: Path) -> None:
    """Requests that run when SIGTERM comes are answered; the process ends well, and at once when nothing runs."""
    with (
        served("serve", str(folder / "loop.onnx"), folder=folder) as running,
        connect(running.uri, retries=0) as remote,
    ):
        with ThreadPoolExecutor(4) as pool:
            turns = [300_000 + number for number in range(4)]
            futures = [pool.submit(remote.run, np.array(count)) for count in turns]
            while remote_connections(running) < 4 and not any(future.done() for future in futures):
                time.sleep(0.01)
            running.tell()
            assert [int(np.asarray(future.result(60)[0])) for future in futures] == turns
        assert running.ended() == 0


def remote_connections(server: Served) -> int:
    """Count the established connections at the server's port, from the kernel's table."""
    port = int(server.uri.strip("/").rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def test_sigint_ends_an_idle_server_at_once(folder: Path) -> None:
    """Ctrl-C ends a server within a second, with clients still connected."""
    with served("echo", folder=folder) as running, connect(running.uri) as remote:
        remote.run([1.0])
        began = time.monotonic()
        running.tell(signal.SIGINT)
        assert running.ended() == 0
        assert time.monotonic() - began < 2


def test_workers_share_a_port_and_are_replaced(folder: Path) -> None:
    """Three processes serve at one port; one that is killed is replaced; SIGTERM ends them all."""
    flags = ["serve", str(folder / "dense.onnx"), "--workers", "3"]
    with served(*flags, folder=folder) as running:
        assert running.process.stdout is not None
        for _ in range(2):
            assert running.uri in running.process.stdout.readline()

        def ask() -> None:
            with connect(running.uri) as remote:
                np.testing.assert_array_equal(remote.run(ROWS)[0], ANSWER)

        for _ in range(20):
            ask()
        children = children_of(running.process.pid)
        assert len(children) == 3
        os.kill(children[0], signal.SIGKILL)
        assert running.uri in running.process.stdout.readline()
        for _ in range(20):
            ask()
        running.tell()
        assert running.ended() == 0
        assert all(not Path(f"/proc/{child}").exists() for child in children_of(running.process.pid))


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.npy", saved(ROWS)),
        ("x.npz", zipped(x=ROWS)),
        ("x.json", json.dumps(ROWS.tolist()).encode()),
        ("by-name.json", json.dumps({"x": ROWS.tolist()}).encode()),
    ],
)
def test_query_with_files(model: Served, tmp_path: Path, name: str, data: bytes) -> None:
    """Each kind of file is the same question, and each form of answer holds the same numbers."""
    (tmp_path / name).write_bytes(data)
    code, out, err = call("query", model.uri, str(tmp_path / name), "--format", "json")
    assert (code, json.loads(out), err) == (0, {"y": ANSWER.tolist()}, "")
    assert call("query", model.uri, str(tmp_path / name), "--to", str(tmp_path / "answer.npy"))[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "answer.npy"), ANSWER)
    assert call("query", model.uri, str(tmp_path / name)) == (0, "y: float32, 2 × 2\n  0: -5  -8\n  1: -0  -4\n", "")


def test_query_by_name_and_several_outputs(model: Served, tmp_path: Path) -> None:
    """NAME=FILE names an input, -o asks for outputs, and .npz keeps several."""
    (tmp_path / "q.npy").write_bytes(saved(ROWS))
    asked = ["query", model.uri, f"x={tmp_path}/q.npy", "-o", "active", "-o", "hidden"]
    assert call(*asked, "--to", str(tmp_path / "a.npz"))[0] == 0
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["active", "hidden"]
        np.testing.assert_array_equal(archive["hidden"], ROWS @ WEIGHT)


def test_query_from_stdin_and_with_text(echo: Served) -> None:
    """JSON comes from stdin, text goes in and out as text, and a long row shows its largest values."""
    code, out, _ = call("query", echo.uri, "-", stdin=json.dumps(["é", "b"]).encode())
    assert (code, out) == (0, "output: string, 2\n  0: 'é'\n  1: 'b'\n")
    code, out, _ = call("query", echo.uri, "-", "--top", "2", stdin=b"[[0.1, 0.7, 0.2, 0.0]]")
    assert (code, out) == (0, "output: float64, 1 × 4\n  0: [1] 0.7  [2] 0.2\n")


def test_query_with_pictures(folder: Path, tmp_path: Path) -> None:
    """A picture goes as pixels to a model of numbers, in its layout, and as the file's bytes to one of text."""
    from PIL import Image

    Image.new("RGB", (40, 30), (10, 20, 30)).save(tmp_path / "picture.png")
    with served("serve", str(folder / "pool.onnx"), folder=folder) as pool:
        code, out, err = call("query", pool.uri, str(tmp_path / "picture.png"), "--format", "json")
        assert (code, json.loads(out), err) == (0, {"y": [[10, 20, 30]]}, "")
    with served("serve", str(folder / "text.onnx"), folder=folder) as words:
        (tmp_path / "no.png").write_text("no picture")
        code, out, err = call("query", words.uri, str(tmp_path / "no.png"), "--format", "json")
        assert (code, json.loads(out), err) == (0, {"y": ["no picture"]}, "")


def test_metadata(model: Served) -> None:
    """What the server says of its model, for people and as JSON."""
    code, out, err = call("metadata", model.uri)
    assert (code, err) == (0, "")
    assert "input       x: float32, any × 3\n" in out
    assert json.loads(call("metadata", model.uri, "--json")[1])["Name"] == "dense"


MISTAKES: list[tuple[str, list[str], int, str]] = [
    ("no command", [], 2, "required: COMMAND"),
    ("unknown command", ["sreve"], 2, "invalid choice"),
    ("unknown flag", ["serve", "x.onnx", "--lisen", ":1"], 2, "--lisen"),
    ("no model", ["serve"], 1, "set GP_MODEL"),
    ("no such file", ["serve", "nowhere.onnx"], 1, "no model file 'nowhere.onnx'"),
    ("unknown scheme", ["serve", "ftp://a/b"], 1, "no address of a model"),
    ("no place to listen", ["echo", "--listen", "nowhere"], 1, "HOST:PORT"),
    ("port in words", ["echo", "--listen", "a:b"], 1, "HOST:PORT"),
    ("no certificate", ["echo", "--listen", ":0", "--tls-certificate", "no.pem"], 1, "no.pem"),
    ("no number", ["serve", "x.onnx", "--threads", "many"], 2, "whole number"),
    ("nothing to wait for", ["batch", "--timeout", "0", "--target", "http://a"], 2, "over 0"),
    ("no target", ["batch"], 2, "--target"),
    ("no server", ["query", "http://127.0.0.1:1/", __file__ + ".npy"], 1, ".npy' can't be read"),
    ("no scheme", ["metadata", "localhost:9000"], 1, "scheme"),
    ("nobody there", ["metadata", "http://127.0.0.1:1/"], 1, "can't be reached"),
    ("unknown kind of file", ["query", "http://127.0.0.1:1/", __file__], 1, "says nothing known"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), [c[1:] for c in MISTAKES], ids=[c[0] for c in MISTAKES])
def test_mistakes_are_told_in_one_line(arguments: list[str], code: int, words: str) -> None:
    """Every mistake ends in one line that names it, and a status that is not 0."""
    got, out, err = call(*arguments)
    assert (got, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_broken_files_are_told(model: Served, tmp_path: Path) -> None:
    """Files that are not what their names say are refused by name, and a pickle is not run."""
    (tmp_path / "pickle.npy").write_bytes(saved_pickle())
    for name, data in {"x.npy": b"no", "x.npz": b"no", "x.json": b"{", "x.png": b"no"}.items():
        (tmp_path / name).write_bytes(data)
    for name in ("pickle.npy", "x.npy", "x.npz", "x.json"):
        code, out, err = call("query", model.uri, str(tmp_path / name))
        assert (code, out, name in err) == (1, "", True)
    code, _, err = call("query", model.uri, str(tmp_path / "x.json"), "--to", str(tmp_path / "no" / "where"))
    assert code == 1


def saved_pickle() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    return buffer.getvalue()


def test_a_spoilt_model_is_told(folder: Path, tmp_path: Path) -> None:
    """A file that is no model ends the start with one line."""
    (tmp_path / "spoilt.onnx").write_bytes((folder / "dense.onnx").read_bytes()[:-20])
    code, _, err = call("serve", str(tmp_path / "spoilt.onnx"))
    assert (code, "spoilt.onnx can't be loaded" in err, err.count("\n")) == (1, True, 1)


def test_every_command_explains_itself() -> None:
    """--help of each command names each of its flags, and takes no server."""
    for command in ("serve", "echo", "batch", "query", "metadata"):
        code, out, _ = call(command, "--help")
        assert code == 0
        assert "usage: graphpipe-fn" in out


def test_the_installed_command() -> None:
    """`graphpipe-fn` is on the path of an installation."""
    command = Path(sys.executable).parent / "graphpipe-fn"
    assert subprocess.run([command, "--help"], capture_output=True, check=True).stdout.startswith(b"usage:")


def test_models_from_the_web(folder: Path, tmp_path: Path) -> None:
    """An http:// address becomes a file, redirects included; what is no file there is told by its status."""
    data = (folder / "dense.onnx").read_bytes()

    def script(peer: Peer) -> None:
        head, _ = peer.request()
        path = head.split()[1].decode()
        if path == "/moved":
            peer.send(
                response(status="302 Found", headers=f"Location: http://127.0.0.1:{server.port}/m.onnx?x=1\r\n")
            )
        elif path == "/cut":
            peer.send(response(data)[:-5])
        elif path.startswith("/m.onnx"):
            peer.send(response(data))
        else:
            peer.send(response(status="404 Not Found"))

    with scripted_server(script) as server:
        for path in ("m.onnx", "moved"):
            assert fetch(server.url + path, tmp_path).read_bytes() == data
        with pytest.raises(NotFound, match="404"):
            fetch(server.url + "nowhere", tmp_path)
        with pytest.raises(TransportFailed):
            fetch(server.url + "cut", tmp_path)
        with served("serve", server.url + "m.onnx", folder=tmp_path) as running, connect(running.uri) as remote:
            np.testing.assert_array_equal(remote.run(ROWS)[0], ANSWER)
            assert remote.metadata().name == "m"
    with pytest.raises(TransportFailed):
        fetch("http://127.0.0.1:1/m.onnx", tmp_path)


def test_models_from_object_storage(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An s3:// address is asked for at the endpoint that AWS's own variables name."""
    data = (folder / "dense.onnx").read_bytes()
    asked = []

    def script(peer: Peer) -> None:
        head, _ = peer.request()
        asked.append(head.split(b"\r\n")[0])
        found = b"/bucket/a/m.onnx " in head
        stamp = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: x\r\n"
        peer.send(response(data, headers=stamp) if found else response(status="404 Not Found"))

    with scripted_server(script) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url.rstrip("/"),
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)
        assert fetch("s3://bucket/a/m.onnx", tmp_path).read_bytes() == data
        with pytest.raises(NotFound, match="s3://bucket/nowhere"):
            fetch("s3://bucket/nowhere", tmp_path)
        with pytest.raises(NotFound, match="BUCKET/KEY"):
            fetch("s3://bucket", tmp_path)
    assert asked[0] == b"GET /bucket/a/m.onnx HTTP/1.1"


def test_fingerprints_cover_the_weights(tmp_path: Path) -> None:
    """A model's fingerprint changes with its graph and with the weights beside it."""
    graph = onnx.load_from_string(dense(np.ones((512, 2), "f4")))
    onnx.save(graph, tmp_path / "g.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    first = fingerprint(tmp_path / "g.onnx")
    assert first == fingerprint(tmp_path / "g.onnx")
    weights = bytearray((tmp_path / "w.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "w.bin").write_bytes(weights)
    assert first != fingerprint(tmp_path / "g.onnx")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BadModel, match=r"w\.bin"):
        fingerprint(tmp_path / "g.onnx")


def test_echo_of_text(echo: Served) -> None:
    """The echo server gives back text and numbers, several at once."""
    with connect(echo.uri) as remote:
        outputs = remote.run(["a", b"\0\xff"], [1, 2])
    assert outputs[0] == strings([b"a", b"\0\xff"])
    assert np.asarray(outputs[1]).tolist() == [1, 2]
