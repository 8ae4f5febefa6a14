"""Bundles: what they hold, that nothing decides it but the lock, and that they run."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from photos import photo

from bundling.__main__ import LOCK, ROOT, bundle
from bundling.contents import FDK, FUNCTIONS, LEFT_OUT, MB, OWN
from bundling.tree import EPOCH_S, UnusableWheel, compiled_size, digest, settle, size, unpack
from bundling.wheels import Lock, Target, WheelsMissing, locked_wheels, own_wheel, pins
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.http import HttpTransport

HERE = Target(f"{sys.version_info.major}.{sys.version_info.minor}", os.uname().machine)
FN = Target("3.12", "x86_64")
LOCKED = [Target(python, arch) for python in ("3.11", "3.12", "3.13") for arch in ("x86_64", "aarch64")]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
SOCKET_S = 10.0


def _wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_unpacking_leaves_out_what_the_patterns_name(tmp_path: Path) -> None:
    """A star matches slashes, so one pattern clears a folder."""
    files = {"a/b.py": "1", "a/b.pyi": "2", "a/tests/deep/t.py": "3", "a-1.dist-info/RECORD": "4", "a/c.py": "5"}
    into = tmp_path / "into"
    unpack(_wheel(tmp_path / "a.whl", files), into, without=("*.pyi", "*/tests/*", "*/RECORD"))
    assert sorted(str(path.relative_to(into)) for path in into.rglob("*.*")) == ["a/b.py", "a/c.py"]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a.py", "a/../../b.py", "a-1.data/scripts/a", "there.py"],
    ids=["absolute", "above", "above from within", "for elsewhere", "another wheel's"],
)
def test_a_wheel_that_reaches_out_is_refused(tmp_path: Path, name: str) -> None:
    """By its name and the file's."""
    into = tmp_path / "into"
    unpack(_wheel(tmp_path / "first.whl", {"there.py": ""}), into, without=())
    with pytest.raises(UnusableWheel, match=r"second\.whl has"):
        unpack(_wheel(tmp_path / "second.whl", {name: "x"}), into, without=())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.whl", "into", "second.whl"]


def test_a_settled_tree_is_the_same_whoever_made_it(tmp_path: Path) -> None:
    """Neither umask nor clock shows; a byte does."""
    digests = []
    for name, umask, text in (("a", 0o077, "x"), ("b", 0o000, "x"), ("c", 0o000, "y")):
        before = os.umask(umask)
        try:
            (tmp_path / name / "sub").mkdir(parents=True)
            (tmp_path / name / "sub" / "f.py").write_text(text)
        finally:
            os.umask(before)
        settle(tmp_path / name)
        digests.append(digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    assert {path.stat().st_mtime for path in (tmp_path / "a").rglob("*")} == {EPOCH_S}


@pytest.mark.parametrize(
    ("python", "expected"),
    [("3.11", {"numpy": "2.4.6", "same": "1"}), ("3.12", {"numpy": "2.5.5", "same": "1"})],
)
def test_pins_are_the_targets_not_the_hosts(python: str, expected: dict[str, str]) -> None:
    """Markers ask the image's Python; comments and other systems' pins are passed over."""
    text = """# made by something
numpy==2.5.5 ; python_full_version >= '3.12'
numpy==2.4.6 ; python_full_version < '3.12'
Same==1  # a comment
colorama==0.4.6 ; sys_platform == 'win32'
"""
    assert pins(text, Target(python, "x86_64")) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("3.11", "x86_64"), "x-1-cp311-cp311-manylinux_2_28_x86_64.whl"),
        (Target("3.11", "aarch64"), "x-1-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"),
        (Target("3.13", "x86_64"), "x-1-cp312-abi3-manylinux_2_5_x86_64.whl"),
    ],
    ids=["x86_64", "aarch64", "stable ABI"],
)
def test_the_lock_finds_a_targets_file(target: Target, expected: str) -> None:
    """By the tags in the names, and never one for a newer glibc than 2.28."""
    names = [
        "x-2-cp311-cp311-manylinux_2_28_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_34_x86_64.whl",
        "x-1-cp311-cp311-musllinux_1_2_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "x-1-cp312-abi3-manylinux_2_5_x86_64.whl",
    ]
    assert Lock(dict.fromkeys(names, "")).named("x", "1", target) == expected


def test_a_wheel_that_is_not_locked_is_refused_with_the_remedy() -> None:
    """The command that would lock it."""
    with pytest.raises(WheelsMissing, match=r"make bundle-lock BUNDLE_PYTHON=3\.12 BUNDLE_ARCH=x86_64"):
        Lock({}).named("x", "1", FN)


def test_a_wheel_with_another_hash_is_refused_and_forgotten(tmp_path: Path) -> None:
    """What the index or the cache hands out is not believed."""
    name = "x-1-py3-none-any.whl"
    (tmp_path / name).write_bytes(b"other")
    with pytest.raises(WheelsMissing, match="has SHA-256"):
        locked_wheels(["x"], {"x": "1"}, FN, Lock({name: "0" * 64}), tmp_path)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("target", LOCKED, ids=lambda target: f"{target.python} {target.arch}")
def test_every_wheel_is_locked_at_the_version_that_is_pinned(target: Target) -> None:
    """constraints.txt can't move without wheels.lock."""
    lock = Lock.read(LOCK)
    versions = pins(CONSTRAINTS, target)
    names = {*FDK, *(name for contents in FUNCTIONS.values() for name in contents.distributions)}
    for name in names:
        assert len(lock.hashes[lock.named(name, versions[name], target)]) == 64


def _closure(extra: str) -> set[str]:
    """Return what an extra of ours and the FDK ask for, but for what is left out on purpose."""
    markers: dict[str, str] = {**FN.markers()}
    todo, found = [Requirement(f"{OWN}[{extra}]"), Requirement("fdk")], set()
    while todo:
        asked = todo.pop()
        name = str(canonicalize_name(asked.name))
        if name in LEFT_OUT or (name in found and name != OWN):
            continue
        found.add(name)
        for text in requires(name) or ():
            wanted = Requirement(text)
            extras = asked.extras or {""}
            if wanted.marker is None or any(wanted.marker.evaluate({**markers, "extra": extra}) for extra in extras):
                todo.append(wanted)
    return found - {OWN}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "fused"])
def test_a_function_gets_what_its_extra_asks_for(name: str) -> None:
    """The table of contents is pyproject.toml's, with what is left out named and nothing forgotten."""
    assert _closure(name) == {*FUNCTIONS[name].distributions, *FDK}


def test_the_fused_function_gets_what_the_others_have() -> None:
    """All of it, once."""
    others = {name for contents in FUNCTIONS.values() if contents.name != "fused" for name in contents.distributions}
    assert set(FUNCTIONS["fused"].distributions) == others


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return our own wheel."""
    return own_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def _bundled(name: str, target: Target, own: Path, place: Path) -> Path:
    try:
        bundle(FUNCTIONS[name], target, own, place)
    except WheelsMissing as exc:
        if "pip download failed" in str(exc) or target not in LOCKED:
            pytest.skip(str(exc).splitlines()[0])
        raise
    return place


@contextmanager
def _running(place: Path, environ: dict[str, str]) -> Iterator[str]:
    """Run a bundle's function with nothing but the bundle to import from; yield its socket's GraphPipe URI."""
    function = place / "function"
    sockets = place / "s"
    sockets.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-S", "start.py", "func.py", "handler"],
        cwd=function,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(function / "packages"),
            "FN_FORMAT": "http-stream",
            "FN_LISTENER": f"unix:{sockets}/f.sock",
            **environ,
        },
    )
    try:
        deadline_s = time.monotonic() + SOCKET_S
        while not (sockets / "f.sock").is_symlink():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        yield f"http+unix://{urllib.parse.quote(str(sockets / 'f.sock'), safe='')}/call"
    finally:
        process.kill()
        process.wait()


def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a short path: a socket's may have 107 bytes."""
    return tmp_path_factory.mktemp("b") / "b"


def test_the_downloader_runs_from_its_bundle(own: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the locked wheels alone: the FDK starts without its dependencies, and the stage answers."""
    place = _bundled("downloader", HERE, own, _place(tmp_path_factory))
    packages = {path.name for path in (place / "function" / "packages").iterdir()}
    assert packages.isdisjoint({"numpy", "onnxruntime", "PIL", "pytest", "Cython"})
    assert {path.suffix for path in place.rglob("*") if path.is_file()}.isdisjoint({".pyc", ".pyi"})
    assert 10 * MB < size(place) < 25 * MB
    with _running(place, {}) as uri, closing(connect(uri)) as client:
        assert [put.name for put in client.metadata().inputs] == ["urls"]


@pytest.fixture(scope="session")
def fn_bundles(own: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return every function's bundle for Fn's own images."""
    into = tmp_path_factory.mktemp("fn")
    return {name: _bundled(name, FN, own, into / name / "bundle") for name in FUNCTIONS}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_bundle_is_light(fn_bundles: dict[str, Path], name: str) -> None:
    """Under its bar, the .pyc files that the image adds counted."""
    assert size(fn_bundles[name]) + compiled_size(fn_bundles[name]) < FUNCTIONS[name].limit_mb * MB


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("page", "row"),
    [
        pytest.param("README.md", r"\| {} \| (\d+) MB \| \d+ MB \|", id="README"),
        pytest.param(
            "docs/deploy-fn.md", r"\| `{}` \|[^|]+\|[^|]+\| (\d+) MB \| [\d,]+ MB \| \d+ s \|", id="deploy-fn"
        ),
    ],
)
def test_the_docs_tell_what_a_bundle_weighs(fn_bundles: dict[str, Path], page: str, row: str, name: str) -> None:
    """Both tables say what `make bundle` prints, give or take what the next version of a package may bring."""
    names = {
        "README.md": {"fused": "all four in one"},
        "docs/deploy-fn.md": {"classy": "classy-func", "fused": "classy-fused"},
    }
    (told,) = re.findall(row.format(names[page].get(name, name)), (ROOT / page).read_text(encoding="utf-8"))
    measured = (size(fn_bundles[name]) + compiled_size(fn_bundles[name])) / MB
    assert abs(int(told) - measured) < 3, f"{page} says {told} MB, make bundle {measured:.1f} MB"


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(
    fn_bundles: dict[str, Path], own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Built again from a wheel of our own that was built again, under another umask."""
    before = os.umask(0o077)
    try:
        again = own_wheel(ROOT, tmp_path_factory.mktemp("again"))
        place = _bundled("fused", FN, again, tmp_path_factory.mktemp("again") / "bundle")
    finally:
        os.umask(before)
    assert digest(place) == digest(fn_bundles["fused"])


# What any base brings: glibc's own, the compiler's runtimes, and zlib, which rpm and dpkg need themselves.
SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+|z)|ld-linux-x86-64)\.so\.\d+")
# Oracle Linux 8: glibc 2.28, and GCC 8's libstdc++.
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_library_finds_what_it_is_linked_to_on_oracle_linux_8(fn_bundles: dict[str, Path], name: str) -> None:
    """Trimming took nothing that is linked, and no symbol is newer than the base's libraries."""
    libraries = [path for path in fn_bundles[name].rglob("*.so*") if path.is_file()]
    there = {path.name for path in libraries}
    for path in libraries:
        with path.open("rb") as file:
            elf = ELFFile(file)
            needed = {
                tag.needed
                for tag in elf.get_section_by_name(".dynamic").iter_tags()
                if tag.entry.d_tag == "DT_NEEDED"
            }
            assert [one for one in needed - there if not SYSTEM.fullmatch(one)] == [], path.name
            versions = elf.get_section_by_name(".gnu.version_r")
            for _, symbols in versions.iter_versions() if versions else ():
                for symbol in symbols:
                    kind, _, number = symbol.name.partition("_")
                    if kind in NEWEST and re.fullmatch(r"[\d.]+", number):
                        assert tuple(map(int, number.split("."))) <= NEWEST[kind], (path.name, symbol.name)


@pytest.mark.slow
def test_the_fused_function_classifies_from_its_bundle(
    own: Path, model_store: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A real inference, without the library that onnxruntime ships twice and without anything else that was cut."""
    place = _bundled("fused", HERE, own, _place(tmp_path_factory))
    environ = {"CLASSY_MODEL_STORE": model_store, "CLASSY_MODEL_CACHE": "memory", "ORT_DISABLE_TELEMETRY": "1"}
    with _running(place, environ) as uri:
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF"):
            assert _classified(uri, _as(kind)) == 967, kind


def _as(kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(photo("coffee.png"))).convert("RGB").save(file, kind)
    return file.getvalue()


def _classified(uri: str, picture: bytes) -> Any:
    from graphpipe_fn.messages import Call

    transport = HttpTransport(uri)
    try:
        reply = transport([picture], Call(content_type="application/octet-stream"))
        return json.loads(reply.body()).get("class_index")
    finally:
        transport.close()
