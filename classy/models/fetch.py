"""
The cold start's fetch: a published model, from object storage to a folder or to memory, checked before it is used.

Of a model with a flipped bit most load and many answer wrongly without a word, so nothing is handed out whose
hash was not compared, and what lies in the cache is compared again. Several processes may start at once on one
disk, and each may be killed at any point: one of them fetches, under a name that no other reads, and renames.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from classy.errors import DiskFull, ModelSpoilt, SourceNotFound, StorageFailed
from classy.models.files import described, digest_for, is_whole
from classy.models.manifest import FileSpec, Manifest
from classy.models.parts import Memory, PartFile, Target, lock, sweep
from classy.models.side_by_side import SideBySide
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from classy.models.store import ModelStore
    from classy.ranges import Ranges

PARTS = 8  # requests at once; object storages give 85 to 90 MB/s to each (AWS's guideline)
PART_BYTES = 8 << 20
FAST_LEAST_BYTES = 128 << 20  # Ranges saves 0.5 ms per MB, and costs 30 ms to import and for its certificates
PART_LEAST_BYTES = 1 << 20  # smaller parts spend more on the request than on the bytes
LIMIT_BYTES = 4 << 30
LOCK_WAIT_S = 60.0  # then each fetches for itself: the holder may hang
POLL_S = 0.02
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """
    A model whose files are what its manifest says.

    Args:
        graph: The ONNX file, or its bytes.
        external_data: The bytes of the further files by name; empty where they lie beside the graph.
    """

    manifest: Manifest
    graph: Path | memoryview
    external_data: Mapping[str, memoryview] = field(default_factory=dict)


def fetch_model(
    store: ModelStore,
    ref: str,
    *,
    cache_dir: Path | None,
    parallel: int = PARTS,
    part_bytes: int = PART_BYTES,
    limit_bytes: int = LIMIT_BYTES,
    lock_wait_s: float = LOCK_WAIT_S,
    fast_least_bytes: int = FAST_LEAST_BYTES,
) -> FetchedModel:
    """
    Fetch a model, or find it in the cache.

    Args:
        ref: NAME or NAME@VERSION.
        cache_dir: Where the files stay for the next start; None for memory.
        parallel: Ranges in flight.
        part_bytes: Size of a range, at most; small models are cut so that all ranges have work.
        limit_bytes: The largest model that is fetched.
        lock_wait_s: How long another process on the same disk may take to fetch the same model.
        fast_least_bytes: The smallest model that is received in place, see classy.ranges; into memory only.

    Raises:
        ModelMissing: it is not published.
        ModelSpoilt: the files are not what the manifest says. Nothing of them is kept, so the next try is clean.
        DiskFull: no room in `cache_dir`, or in memory.
        StorageFailed: the storage can't be reached, or broke off.
    """
    manifest = store.resolve(ref)
    total = sum(file.bytes for file in manifest.files)
    if total > limit_bytes:
        raise ModelSpoilt(f"the manifest of {manifest.ref} announces {total:,} bytes; the limit is {limit_bytes:,}")
    download = _Download(store, manifest, parallel=parallel, part_bytes=part_bytes, fast_least_bytes=fast_least_bytes)
    if cache_dir is None:
        return _into_memory(download)
    folder = cache_dir / manifest.name / manifest.version / _identity(manifest)
    try:
        _into_folder(download, folder, lock_wait_s=lock_wait_s)
    except OSError as exc:
        if exc.errno not in NO_ROOM:
            raise DiskFull(
                f"the model cache {cache_dir} can't be used ({exc.strerror}); set CLASSY_MODEL_CACHE to a folder "
                "that can be written, or to memory"
            ) from exc
        raise DiskFull(
            f"no room for {manifest.ref} in {cache_dir}: it needs {total:,} bytes ({exc.strerror}); free some, or "
            "set CLASSY_MODEL_CACHE to a larger disk, or to memory"
        ) from exc
    return FetchedModel(manifest, folder / manifest.files[0].name)


def _identity(manifest: Manifest) -> str:
    """Return 12 hex digits that stand for all of a model's files; a republished store never meets an old cache."""
    import hashlib  # 4 ms of a cold start, with OpenSSL

    listed = "".join(f"{file.sha256}  {file.name}\n" for file in manifest.files)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def _into_memory(download: _Download) -> FetchedModel:
    files = download.manifest.files
    try:
        targets = {file: Memory(file.bytes) for file in files}
    except (OSError, OverflowError) as exc:
        total = sum(file.bytes for file in files)
        raise DiskFull(
            f"no memory for {download.manifest.ref}: it needs {total:,} bytes; give the function more, or set "
            "CLASSY_MODEL_CACHE to a folder"
        ) from exc
    download.run(targets)
    graph, *others = files
    views = {file.name: targets[file].view.toreadonly() for file in others}
    return FetchedModel(download.manifest, targets[graph].view.toreadonly(), views)


def _into_folder(download: _Download, folder: Path, *, lock_wait_s: float) -> None:
    files = download.manifest.files
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _missing(files, folder):
        return
    with _alone(folder, wait_s=lock_wait_s) as alone, ExitStack() as stack:
        missing = _missing(files, folder)  # again: the process that held the lock has most likely fetched them
        if alone:
            for file in missing:
                _drop_spoilt(folder / file.name, file)
            sweep(folder)
        parts = {file: PartFile(folder / file.name, file.bytes) for file in missing}
        for part in parts.values():
            stack.callback(part.close)
        download.run(parts)
        for part in parts.values():
            part.keep()


def _missing(files: tuple[FileSpec, ...], folder: Path) -> list[FileSpec]:
    return [file for file in files if not is_whole(folder / file.name, file)]


def _drop_spoilt(path: Path, file: FileSpec) -> None:
    try:
        found = described(path)
    except FileNotFoundError:
        return
    import logging

    path.unlink()
    logging.getLogger(__name__).warning(
        "the cached %s had sha256 %s, not %s; it is fetched again", path, found.sha256, file.sha256
    )


@contextmanager
def _alone(folder: Path, *, wait_s: float) -> Iterator[bool]:
    """Hold the folder's lock, which the kernel frees when its holder dies; go on without it after `wait_s`."""
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline_s = time.monotonic() + wait_s
        while not (held := lock(fd)) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        yield held
    finally:
        os.close(fd)


class _Download:
    """All files of a model in ranges, several at a time; each file is hashed behind its front."""

    def __init__(
        self, store: ModelStore, manifest: Manifest, *, parallel: int, part_bytes: int, fast_least_bytes: int
    ) -> None:
        self.manifest = manifest
        self._store = store
        self._parallel = parallel
        self._part_bytes = part_bytes
        self._fast_least_bytes = fast_least_bytes
        self._ranges: dict[FileSpec, Ranges] = {}

    def run(self, targets: Mapping[FileSpec, Target]) -> None:
        """
        Fill the targets.

        Raises:
            ModelSpoilt: a file is not what the manifest says; the targets' contents are worthless then.
        """
        if not targets:
            return
        total = sum(file.bytes for file in targets)
        if total >= self._fast_least_bytes:
            found = {file: self._store.objects.ranges(self._uri(file)) for file in targets}
            self._ranges = {file: ranges for file, ranges in found.items() if ranges}
        step = max(PART_LEAST_BYTES, min(self._part_bytes, -(-total // self._parallel)))
        jobs = [partial(self._check_size, file) for file in targets]
        places: dict[FileSpec, list[tuple[int, int]]] = {file: [] for file in targets}  # of each range: job and start
        for file, target in targets.items():
            for start in range(0, file.bytes, step):
                places[file].append((len(jobs), start))
                jobs.append(partial(self._part, file, target, start, min(step, file.bytes - start)))
        running = SideBySide(jobs, threads=self._parallel, name="model-fetch")
        try:
            for place in range(len(targets)):
                running.wait(place)
            for file, target in targets.items():
                digest, expected = digest_for(file)
                for place, start in places[file]:
                    running.wait(place)
                    digest.update(target.read(start, min(step, file.bytes - start)))
                if digest.hexdigest() != expected:
                    raise self._spoilt(file, f"has {digest.name} {digest.hexdigest()}, not the manifest's {expected}")
        finally:
            # Those in flight are waited for: their file's descriptor must not be another's by then.
            running.stop()
            for ranges in self._ranges.values():
                ranges.close()

    def _part(self, file: FileSpec, target: Target, start: int, length: int) -> None:
        room, ranges = target.room(start, length), self._ranges.get(file)
        if room is not None and ranges is not None and ranges.read(start, room):
            return
        try:
            data = self._store.objects.get_range(self._uri(file), start, length)
        except SourceNotFound as exc:
            raise self._spoilt(file, "is missing") from exc
        if len(data) != length:
            raise StorageFailed(f"{self._uri(file)} broke off: {len(data)} bytes came of {length}; try again")
        target.write(data, start)

    def _check_size(self, file: FileSpec) -> None:
        try:
            size = self._store.objects.size(self._uri(file))
        except SourceNotFound as exc:
            raise self._spoilt(file, "is missing") from exc
        if size != file.bytes:
            raise self._spoilt(file, f"has {size:,} bytes, not the manifest's {file.bytes:,}")

    def _uri(self, file: FileSpec) -> str:
        return self._store.file_uri(self.manifest, file.name)

    def _spoilt(self, file: FileSpec, what: str) -> ModelSpoilt:
        return ModelSpoilt(f"{self._uri(file)} {what}; publish {self.manifest.ref} again from its folder")
