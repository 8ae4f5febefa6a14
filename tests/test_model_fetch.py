"""The cold start's fetch: spoilt, cut, killed, raced or out of room, it ends in our own error and a clean retry."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hostile_models import (
    DAMAGED,
    MISDESCRIBED,
    SEED,
    WEIGHTS_NAME,
    WHOLE,
    whole_manifest,
    write_misdescribed,
)
from small_models import GRAPH_NAME, stored

from classy.classifier import Classifier
from classy.errors import DiskFull, ModelMissing, ModelSpoilt, StorageFailed
from classy.local.cloud import storage_of
from classy.local.ports import free_port
from classy.local.reaper import Reaper
from classy.local.storage import LocalStorage, StorageSettings
from classy.models.fetch import FetchedModel, fetch_model
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage, Storage
from classy.ranges import Ranges
from graphpipe_fn.messages import InferRequest

ROUNDS = 20
PROCESSES = 8
BATCH = np.random.default_rng(3).standard_normal((2, 3, 4, 4)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store on disk that holds the whole model small@1."""
    store = ModelStore(ObjectStorage(), (tmp_path / "store").as_uri())
    write_misdescribed(stored(store), WHOLE, whole_manifest())
    return store


def contents(fetched: FetchedModel) -> dict[str, bytes]:
    """Return the files that were fetched."""
    if isinstance(fetched.graph, Path):
        return {file.name: (fetched.graph.parent / file.name).read_bytes() for file in fetched.manifest.files}
    graph, *_ = fetched.manifest.files
    return {graph.name: bytes(fetched.graph), **{name: bytes(view) for name, view in fetched.external_data.items()}}


def left_behind(cache: Path) -> list[str]:
    """Return the names of all files in a cache that are neither a lock nor a whole file."""
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name not in (".lock", *WHOLE)]


WHERE = pytest.mark.parametrize("where", ["disk", "memory"])


def cache_of(tmp_path: Path, where: str) -> Path | None:
    """Return a cache folder, or None for memory."""
    return tmp_path / "cache" if where == "disk" else None


@WHERE
@pytest.mark.parametrize(("parallel", "part_bytes"), [(8, 8 << 20), (1, 1 << 20), (3, 1 << 20)])
def test_all_files_come_as_they_were_published(
    where: str, parallel: int, part_bytes: int, store: ModelStore, tmp_path: Path
) -> None:
    """However it is cut into ranges, the model is whole, on disk and in memory, the second time too."""
    for _ in range(2):
        fetched = fetch_model(
            store, "small@1", cache_dir=cache_of(tmp_path, where), parallel=parallel, part_bytes=part_bytes
        )
        assert fetched.manifest == whole_manifest()
        assert contents(fetched) == WHOLE


@WHERE
def test_a_fetched_model_answers_with_its_external_data(where: str, store: ModelStore, tmp_path: Path) -> None:
    """The weights beside the graph are found, from a folder and from memory alike."""
    fetched = fetch_model(store, "small@1", cache_dir=cache_of(tmp_path, where))
    (answer,) = Classifier(fetched).infer(InferRequest((BATCH,))).outputs
    weights = np.frombuffer(WHOLE[WEIGHTS_NAME], np.float32).reshape(3, 3)
    powers = np.exp(BATCH.mean((2, 3)) @ weights)
    assert np.asarray(answer) == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-6)


@WHERE
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_model_never_becomes_a_session(name: str, where: str, store: ModelStore, tmp_path: Path) -> None:
    """Damage in the store is our own error before anything is loaded, and once repaired the next try is clean."""
    DAMAGED[name](stored(store))
    cache = cache_of(tmp_path, where)
    with pytest.raises(ModelSpoilt):
        Classifier(fetch_model(store, "small@1", cache_dir=cache))
    if where == "disk":
        assert left_behind(tmp_path / "cache") == []
    write_misdescribed(stored(store), WHOLE, whole_manifest())
    assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE


@WHERE
@pytest.mark.parametrize("name", MISDESCRIBED)
def test_a_misdescribed_model_is_refused_at_load(name: str, where: str, store: ModelStore, tmp_path: Path) -> None:
    """Right checksums of the wrong things: the graph is held against its manifest before the first request."""
    write_misdescribed(stored(store), *MISDESCRIBED[name]())
    for folder in (stored(store).parent, tmp_path):  # bait for graphs that look for weights elsewhere
        (folder / WEIGHTS_NAME).write_bytes(WHOLE[WEIGHTS_NAME])
    with pytest.raises(ModelSpoilt) as refused:
        Classifier(fetch_model(store, "small@1", cache_dir=cache_of(tmp_path, where)))
    assert "small" in refused.value.message
    assert len(refused.value.message) < 1000


def test_weights_in_the_working_folder_are_not_used(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime would take a memory-held graph's weights from there, unchecked."""
    write_misdescribed(stored(store), *MISDESCRIBED["weights in a file that is not listed"]())
    (tmp_path / WEIGHTS_NAME).write_bytes(WHOLE[WEIGHTS_NAME])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelSpoilt, match=r"takes weights from 'weights\.bin', which its manifest does not list"):
        Classifier(fetch_model(store, "small@1", cache_dir=None))


def test_a_wrong_checksum_names_both(store: ModelStore) -> None:
    """The error says which file, what was found, what was promised, and what to do."""
    DAMAGED["weights of another model"](stored(store))
    found = hashlib.sha256((stored(store) / WEIGHTS_NAME).read_bytes()).hexdigest()
    with pytest.raises(ModelSpoilt) as refused:
        fetch_model(store, "small@1", cache_dir=None)
    assert refused.value.message == (
        f"{store.uri}/small/1/weights.bin has sha256 {found}, not the manifest's {whole_manifest().files[1].sha256}; "
        "publish small@1 again from its folder"
    )


@WHERE
def test_where_the_manifest_has_it_the_blake3_is_what_counts(where: str, store: ModelStore, tmp_path: Path) -> None:
    """Right bytes come, on disk the second time too; spoilt ones are named with both hashes."""
    manifest = replace(
        whole_manifest(),
        files=tuple(replace(file, blake3=blake3(WHOLE[file.name]).hexdigest()) for file in whole_manifest().files),
    )
    write_misdescribed(stored(store), WHOLE, manifest)
    for _ in range(2):
        assert contents(fetch_model(store, "small@1", cache_dir=cache_of(tmp_path, where))) == WHOLE
    DAMAGED["weights of another model"](stored(store))
    found = blake3((stored(store) / WEIGHTS_NAME).read_bytes()).hexdigest()
    with pytest.raises(
        ModelSpoilt, match=f"weights.bin has blake3 {found}, not the manifest's {manifest.files[1].blake3}"
    ):
        fetch_model(store, "small@1", cache_dir=None)


def test_a_missing_model_is_missing_before_a_folder_is_made(store: ModelStore, tmp_path: Path) -> None:
    """A ref that is not published leaves nothing in the cache."""
    with pytest.raises(ModelMissing):
        fetch_model(store, "large", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"), id="flipped"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() * 2), id="doubled"),
    ],
)
@pytest.mark.parametrize("name", WHOLE)
def test_a_spoilt_cache_is_found_and_replaced(
    name: str, spoil: Callable[[Path], Any], store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cached file is hashed again before it is used; a wrong one is logged with both checksums and fetched anew."""
    graph = fetch_model(store, "small@1", cache_dir=tmp_path / "cache").graph
    assert isinstance(graph, Path)
    spoil(graph.with_name(name))
    with caplog.at_level(logging.WARNING):
        assert contents(fetch_model(store, "small@1", cache_dir=tmp_path / "cache")) == WHOLE
    (said,) = caplog.messages
    assert re.search(r"had sha256 [0-9a-f]{64}, not [0-9a-f]{64}; it is fetched again$", said)
    assert hashlib.sha256(WHOLE[name]).hexdigest() in said


def test_a_spoilt_cache_is_not_used_even_if_the_store_is_away(store: ModelStore, tmp_path: Path) -> None:
    """Where nothing better can be fetched, the spoilt file is gone and the error is the store's."""
    graph = fetch_model(store, "small@1", cache_dir=tmp_path / "cache").graph
    assert isinstance(graph, Path)
    graph.write_bytes(b"spoilt")
    (stored(store) / GRAPH_NAME).unlink()
    with pytest.raises(ModelSpoilt, match="is missing"):
        fetch_model(store, "small@1", cache_dir=tmp_path / "cache")
    assert not graph.exists()


def test_a_version_published_anew_elsewhere_does_not_meet_the_old_cache(store: ModelStore, tmp_path: Path) -> None:
    """The cache's folder is named for the bytes, so two stores may share a disk."""
    first = fetch_model(store, "small@1", cache_dir=tmp_path / "cache").graph
    write_misdescribed(stored(store), *MISDESCRIBED["no ONNX but zeros"]())
    second = fetch_model(store, "small@1", cache_dir=tmp_path / "cache").graph
    assert isinstance(first, Path)
    assert isinstance(second, Path)
    assert first.parent != second.parent
    assert (first.read_bytes(), second.read_bytes()) == (WHOLE[GRAPH_NAME], bytes(5000))


class Faulty(ObjectStorage):
    """An object storage whose ranges fail in a given way, for the first `times` of them."""

    def __init__(self, fault: str, *, times: int) -> None:
        super().__init__()
        self._fault = fault
        self._left = times
        self._lock = threading.Lock()

    def get_range(self, uri: str, start: int, length: int, **options: Any) -> memoryview:
        whole = super().get_range(uri, start, length, **options)
        with self._lock:
            self._left -= 1
            if self._left < 0:
                return whole
        data = bytes(whole)
        if self._fault == "broken":
            raise StorageFailed("the connection broke; try again")
        return memoryview({"short": data[:-1], "empty": b"", "long": data + b"\0", "other": data[::-1]}[self._fault])


@WHERE
@pytest.mark.parametrize("times", [1, 100])
@pytest.mark.parametrize(
    ("fault", "error"),
    [("broken", StorageFailed), ("short", StorageFailed), ("empty", StorageFailed), ("long", StorageFailed),
     ("other", ModelSpoilt)],
)  # fmt: skip
def test_a_download_that_breaks_off_is_an_error_and_the_next_is_whole(
    fault: str, error: type[Exception], times: int, where: str, store: ModelStore, tmp_path: Path
) -> None:
    """Whatever a range's answer was, nothing of it stays, and the same cache serves the next try."""
    cache = cache_of(tmp_path, where)
    with pytest.raises(error):
        fetch_model(ModelStore(Faulty(fault, times=times), store.uri), "small@1", cache_dir=cache)
    if cache:
        assert left_behind(cache) == []
    assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE


FETCH = """
import hashlib, os, sys, threading
from pathlib import Path
from classy.models.fetch import fetch_model
from classy.models.store import ModelStore
from classy.objects import ObjectStorage, Storage
from classy.ranges import Ranges

class Told(ObjectStorage):
    def get_range(self, uri, start, length, **options):
        data = super().get_range(uri, start, length, **options)
        print("part", flush=True)
        sys.stdin.readline()  # the test decides when it goes on
        return data

uri, cache, told = sys.argv[1:]
objects = Told() if told == "told" else ObjectStorage()
graph = fetch_model(ModelStore(objects, uri), "small@1", cache_dir=Path(cache), parallel=1, part_bytes=1 << 20).graph
print(hashlib.sha256(graph.read_bytes()).hexdigest(), flush=True)
"""


def fetcher(store: ModelStore, cache: Path, *, told: bool = False, **options: Any) -> subprocess.Popen[str]:
    """Start a process that fetches the model, and tells of each part if asked to."""
    command = [sys.executable, "-c", FETCH, store.uri, str(cache), "told" if told else "quiet"]
    return subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


GRAPH_SHA256 = hashlib.sha256(WHOLE[GRAPH_NAME]).hexdigest()


FOUND = pytest.mark.parametrize("found", ["nothing", "killed writer's part", "spoilt file", "both"])


def start_together(found: str, store: ModelStore, cache: Path) -> None:
    """Start eight processes on one cache, whatever a former start left there, and check what each of them got."""
    if found != "nothing":
        graph = fetch_model(store, "small@1", cache_dir=cache).graph
        assert isinstance(graph, Path)
        if found != "spoilt file":
            graph.with_name(".graph.onnx.0123456789ab.part").write_bytes(bytes(3_000_000))
        if found == "killed writer's part":
            graph.unlink()
        else:
            graph.write_bytes(WHOLE[GRAPH_NAME][:-1] + b"\1")
    starts = [fetcher(store, cache) for _ in range(PROCESSES)]
    assert [start.communicate()[0].strip() for start in starts] == [GRAPH_SHA256] * PROCESSES
    assert left_behind(cache) == []


@FOUND
def test_several_cold_starts_at_once_all_succeed(found: str, store: ModelStore, tmp_path: Path) -> None:
    """Eight processes on one disk: each gets the right file."""
    start_together(found, store, tmp_path / "cache")


@pytest.mark.slow
@FOUND
def test_many_rounds_of_cold_starts_all_succeed(found: str, store: ModelStore, tmp_path: Path) -> None:
    """The same, 20 rounds."""
    for round_ in range(ROUNDS):
        start_together(found, store, tmp_path / f"cache{round_}")


@pytest.mark.parametrize("parts", range(5))
def test_a_killed_start_does_not_hinder_the_next(parts: int, store: ModelStore, tmp_path: Path) -> None:
    """SIGKILL after any of the parts: the next start gets the right file and sweeps up what was left."""
    cache = tmp_path / "cache"
    with fetcher(store, cache, told=True) as start:
        assert start.stdout is not None
        assert start.stdin is not None
        for _ in range(parts):
            assert start.stdout.readline() == "part\n"
            start.stdin.write("go on\n")
            start.stdin.flush()
        if parts == 4:  # three of the graph, one of the weights
            assert start.stdout.readline().strip() == GRAPH_SHA256
        else:
            assert start.stdout.readline() == "part\n"
        start.kill()
    assert bool(left_behind(cache)) == (parts < 4)
    assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE
    assert left_behind(cache) == []


@pytest.mark.slow
def test_twenty_starts_killed_at_any_time(store: ModelStore, tmp_path: Path) -> None:
    """SIGKILL at 20 times drawn from a seed, wherever the start is then: the next one gets the right files."""
    chance = random.Random(SEED)
    cache = tmp_path / "cache"
    for _ in range(20):
        shutil.rmtree(cache, ignore_errors=True)
        with fetcher(store, cache) as start:
            try:
                start.wait(chance.uniform(0.05, 0.6))
            except subprocess.TimeoutExpired:
                start.send_signal(signal.SIGKILL)
        assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE
        assert left_behind(cache) == []


def test_a_writer_that_lives_keeps_its_part(store: ModelStore, tmp_path: Path) -> None:
    """Only what nobody holds is swept up: a process that went on without the lock still finishes."""
    cache = tmp_path / "cache"
    with fetcher(store, cache, told=True) as slow:
        assert slow.stdout is not None
        assert slow.stdin is not None
        assert slow.stdout.readline() == "part\n"
        held = left_behind(cache)
        # The slow one holds the lock; this one does not wait for it.
        assert contents(fetch_model(store, "small@1", cache_dir=cache, lock_wait_s=0)) == WHOLE
        assert left_behind(cache) == held
        slow.stdin.write("go on\n" * 4)
        slow.stdin.flush()
        assert [line.strip() for line in slow.stdout][-1] == GRAPH_SHA256
    assert left_behind(cache) == []


def test_a_hung_holder_of_the_lock_is_waited_for_only_so_long(store: ModelStore, tmp_path: Path) -> None:
    """The lock spares a second download; it can't stop a start."""
    cache = tmp_path / "cache"
    graph = fetch_model(store, "small@1", cache_dir=cache).graph
    assert isinstance(graph, Path)
    graph.unlink()
    with (graph.parent / ".lock").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert contents(fetch_model(store, "small@1", cache_dir=cache, lock_wait_s=0.1)) == WHOLE


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""
REPORT = """
try:
    fetch_model(ModelStore(ObjectStorage(), sys.argv[1]), "small@1", cache_dir=Path(sys.argv[2]))
except Exception as exc:
    print(type(exc).__name__, exc, sep="|")
print(sorted(path.name for path in Path(sys.argv[2]).rglob("*") if path.is_file()))
"""
IMPORTS = FETCH.partition("\nclass ")[0]


def told(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """Run code in a process of its own and return its lines."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_size_limit_is_a_full_disk(store: ModelStore, tmp_path: Path) -> None:
    """What does not fit is known before a byte is fetched; the error names folder, need and remedy."""
    cache = tmp_path / "cache"
    said = told(LIMITED + IMPORTS + REPORT, store.uri, str(cache))
    total = sum(map(len, WHOLE.values()))
    assert said == [
        f"DiskFull|no room for small@1 in {cache}: it needs {total:,} bytes (File too large); free some, or set "
        "CLASSY_MODEL_CACHE to a larger disk, or to memory",
        "['.lock']",
    ]
    assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE


def test_a_full_disk_is_told_at_once_and_left_empty(store: ModelStore, tmp_path: Path) -> None:
    """On a disk of 1 MB, mounted in a namespace of its own, the fetch ends in DiskFull and gives the room back."""
    cache = tmp_path / "cache"
    cache.mkdir()
    mounted = ("unshare", "--mount", "--map-root-user", "sh", "-c")
    script = f'mount -t tmpfs -o size=1m tmpfs "{cache}" && exec "$0" "$@"'
    tried = subprocess.run([*mounted, script, "true"], capture_output=True)
    if tried.returncode:
        pytest.skip(f"this machine mounts nothing: {tried.stderr.decode().strip()}")
    said = told(IMPORTS + REPORT, store.uri, str(cache), prefix=(*mounted, script))
    assert said[0].startswith(f"DiskFull|no room for small@1 in {cache}: it needs 2,500,")
    assert "(No space left on device)" in said[0]
    assert said[1] == "['.lock']"


@pytest.mark.parametrize("obstacle", ["a file in the way", "a device"])
def test_a_cache_that_can_not_be_used_is_named(obstacle: str, store: ModelStore, tmp_path: Path) -> None:
    """A wrong CLASSY_MODEL_CACHE is our own error with the setting's name in it."""
    cache = Path("/dev/null/models") if obstacle == "a device" else tmp_path / "file"
    if obstacle != "a device":
        cache.write_bytes(b"")
    with pytest.raises(DiskFull, match=r"can't be used \(.*\); set CLASSY_MODEL_CACHE to a folder") as refused:
        fetch_model(store, "small@1", cache_dir=cache)
    assert refused.value.status == 507
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno in (errno.ENOTDIR, errno.EEXIST)


def test_a_cache_baked_into_an_image_is_used_without_writing(store: ModelStore, tmp_path: Path) -> None:
    """A folder that holds the whole model already may be read-only, and the store's files are not asked for."""
    cache = tmp_path / "cache"
    fetch_model(store, "small@1", cache_dir=cache)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    for name in WHOLE:
        (stored(store) / name).unlink()
    assert contents(fetch_model(store, "small@1", cache_dir=cache)) == WHOLE
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_too_little_memory_is_told(store: ModelStore) -> None:
    """In a process that may not grow, the fetch into memory ends in our own error with the remedy."""
    code = (
        IMPORTS
        + "import resource, threading; from classy.models.manifest import InputSpec\n"
        + "resource.setrlimit(resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[0],) * 2)\n"
        + "from dataclasses import replace\n"
        + "store = ModelStore(ObjectStorage(), sys.argv[1])\n"
        + "manifest = store.resolve('small@1')\n"
        + "store.resolve = lambda ref: replace(manifest, files=(replace(manifest.files[0], bytes=1 << 52),))\n"
        + "try:\n    fetch_model(store, 'small@1', cache_dir=None, limit_bytes=1 << 62)\n"
        + "except Exception as exc:\n    print(type(exc).__name__, exc, sep='|')\n"
    )
    (said,) = told(code, store.uri)
    assert said == (
        f"DiskFull|no memory for small@1: it needs {1 << 52:,} bytes; give the function more, or set "
        "CLASSY_MODEL_CACHE to a folder"
    )


def test_a_size_over_the_limit_is_refused_unfetched(store: ModelStore, tmp_path: Path) -> None:
    """A manifest can't make a start download for ever."""
    with pytest.raises(ModelSpoilt, match="the limit is 1,000,000"):
        fetch_model(store, "small@1", cache_dir=tmp_path, limit_bytes=1_000_000)


def test_nobody_else_on_the_machine_can_write_the_cache(store: ModelStore, tmp_path: Path) -> None:
    """The folder of a model is its owner's alone: what was checked stays what it was."""
    graph = fetch_model(store, "small@1", cache_dir=tmp_path / "cache").graph
    assert isinstance(graph, Path)
    assert (graph.parent.stat().st_mode & 0o777, graph.stat().st_mode & 0o777) == (0o700, 0o600)


class InPlace(ObjectStorage):
    """An object storage that tells which ranges were received in place, or sends whoever tries to another address."""

    def __init__(self, storage: Storage, told: list[bool], address: str = "") -> None:
        super().__init__(storage)
        self._told = told
        self._address = address

    def ranges(self, uri: str) -> Ranges | None:
        found = Ranges(lambda: self._address) if self._address else super().ranges(uri)
        assert found is not None
        told = self._told

        class Told(Ranges):
            def read(self, start: int, room: memoryview) -> bool:
                told.append(found.read(start, room))
                return told[-1]

            def close(self) -> None:
                found.close()

        return Told(lambda: "")


def test_models_go_through_a_real_object_storage(tmp_path: Path) -> None:
    """Published to and fetched from an S3-compatible server, in ranges, a model is what it was."""
    folder = tmp_path / "folder"
    write_misdescribed(folder, WHOLE, whole_manifest())
    reaper = Reaper()
    settings = StorageSettings(data_dir=tmp_path / "data", log_file=tmp_path / "log")
    storage = LocalStorage(settings, reaper, port=free_port())
    try:
        storage.start()
        store = ModelStore(ObjectStorage(storage_of(storage.environment)), "s3://models/tests")
        for _ in range(2):
            publish(folder, store)
        assert [manifest.ref for manifest in store.list()] == ["small@1"]
        for cache in (tmp_path / "cache", None):
            assert contents(fetch_model(store, "small", cache_dir=cache, part_bytes=1 << 20)) == WHOLE
        told: list[bool] = []
        for objects in (
            InPlace(storage_of(storage.environment), told),
            InPlace(storage_of(storage.environment), told, f"http://127.0.0.1:{free_port()}/nobody"),
        ):
            fast = ModelStore(objects, store.uri)
            fetched = fetch_model(fast, "small", cache_dir=None, part_bytes=1 << 20, fast_least_bytes=0)
            assert contents(fetched) == WHOLE
        assert True in told
        assert told == sorted(told, reverse=True)  # all by the one, none by the other
        store.objects.put(store.file_uri(whole_manifest(), GRAPH_NAME), WHOLE[GRAPH_NAME] * 2)
        with pytest.raises(ModelSpoilt, match="not the manifest's"):
            fetch_model(store, "small", cache_dir=None)
    finally:
        storage.stop()
        reaper.stop()


def test_importing_the_fetch_brings_nothing_heavy() -> None:
    """The thread that fetches starts before numpy and onnxruntime are there."""
    heavy = {"numpy", "onnxruntime", "onnx", "PIL", "flask", "boto3", "obstore", "httpcore", "fdk"}
    code = "import sys, classy.classifier, classy.models.fetch, classy.models.store; print(*sys.modules)"
    (modules,) = told(code)
    assert heavy.isdisjoint(modules.split())
