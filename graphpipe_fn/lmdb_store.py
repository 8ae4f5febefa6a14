"""
LmdbStore: what Cached remembers, in a file that several processes share and that outlives them (extra `cache`).

LMDB (whose design the original's bbolt follows) never shows a half-written entry. What it does not promise, that
the disk returns what was written, a digest beside each value does.

    entries   key → created, digest, value        order   last use + key → what the entry takes
    used      key → last use                      meta    "bytes" → what all entries take
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graphpipe_fn.errors import BadConfig

LIMIT_MIN_BYTES = 1 << 20  # below, LMDB's own trees leave little room
FILL = 0.7  # of the file's limit that entries may take: LMDB writes copies before it frees the old pages
ENTRY_BYTES = 512  # what an entry takes beside its value, in four trees that are about two thirds full
INLINE_MAX = 1_900  # bytes up to which LMDB puts a value into a tree's page; larger ones take whole pages
PAGE = 4_096
TOUCHED_MAX = 1_000  # uses that are remembered before they are written without waiting for a new entry

_HEAD = struct.Struct(">Q16s")
_NUMBER = struct.Struct(">Q")  # big-endian: LMDB sorts by bytes
_log = logging.getLogger(__name__)


class LmdbStore:
    """
    Keep what was used last, on disk.

    Args:
        folder: Made if it is not there; one LmdbStore per folder and process.
        limit_bytes: What the file may grow to; of the entries, the one not used for longest goes first.
        max_age_s: How long an entry is valid; None for ever.
        clock: Unix time in seconds; for tests.

    Raises:
        BadConfig: the folder can't be used, or the limit is too small.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        limit_bytes: int,
        max_age_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if limit_bytes < LIMIT_MIN_BYTES:
            raise BadConfig(f"a cache file of {limit_bytes:,} bytes is too small; allow {LIMIT_MIN_BYTES:,} or more")
        self._folder = Path(folder)
        self._limit_bytes = limit_bytes // PAGE * PAGE
        self._budget = int(limit_bytes * FILL)
        self._max_age_ms = None if max_age_s is None else int(max_age_s * 1000)
        self._clock = clock
        self._touched: dict[bytes, int] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._env = _open(self._folder, self._limit_bytes)
        renew = weakref.WeakMethod(self._renew)
        os.register_at_fork(after_in_child=lambda: (method := renew()) and method())

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key; None for nothing, and for what is too old or spoilt."""
        import lmdb

        now = self._now_ms()
        try:
            with self._env.env.begin(db=self._env.dbs["entries"]) as txn:
                found = [self._value(key, txn.get(key), now) for key in keys]
        except lmdb.Error as exc:  # a cache that can't be read is a cache that knows nothing
            self._tell(exc)
            return [None] * len(keys)
        with self._lock:
            self._touched.update((key, now) for key, value in zip(keys, found, strict=True) if value is not None)
            crowded = len(self._touched) > TOUCHED_MAX
        if crowded:
            self.put([])
        return found

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep values under keys; one that takes more than a tenth of the limit is not kept."""
        import lmdb

        with self._lock:
            touched, self._touched = self._touched, {}
        try:
            for part in self._parts(entries):
                try:
                    self._write(part, touched, self._budget)
                except lmdb.MapFullError:  # free pages lie scattered, and a large value needs them side by side
                    with suppress(lmdb.MapFullError):
                        self._write([], {}, self._budget // 2)
                        self._write(part, {}, self._budget)
                touched = {}
        except lmdb.Error as exc:
            self._tell(exc)

    @property
    def used_bytes(self) -> int:
        """Return what the entries take, about."""
        with self._env.env.begin() as txn:
            return _number(txn.get(b"bytes", db=self._env.dbs["meta"]))

    def close(self) -> None:
        """Close the file."""
        self._env.env.close()

    def _parts(self, entries: Sequence[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
        """Cut entries into transactions: what one of them frees only the next one can use."""
        limit, size = self._limit_bytes // 10, 0
        part: list[tuple[bytes, bytes]] = []
        for key, value in entries:
            cost = _cost(value)
            if cost > limit:
                continue
            if size + cost > limit:
                yield part
                part, size = [], 0
            part.append((key, value))
            size += cost
        yield part

    def _renew(self) -> None:
        """Open the file anew in a forked child: LMDB's handles do not outlive a fork, and a lock may be held."""
        self._lock = threading.Lock()
        self._env.env.close()
        self._env = _open(self._folder, self._limit_bytes)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _value(self, key: bytes, kept: bytes | None, now: int) -> bytes | None:
        if kept is None or len(kept) < _HEAD.size:
            return None
        created, digest = _HEAD.unpack_from(kept)
        value = kept[_HEAD.size :]
        # A clock that was set back makes entries of the future: these are not trusted either.
        if self._max_age_ms is not None and not 0 <= now - created <= self._max_age_ms:
            return None
        return value if digest == _digest(key, created, value) else None

    def _write(self, entries: Sequence[tuple[bytes, bytes]], touched: dict[bytes, int], budget: int) -> None:
        now = self._now_ms()
        with self._env.env.begin(write=True) as txn:
            table = _Table(txn, self._env.dbs)
            for key, used in touched.items():
                table.touch(key, used)
            for key, value in entries:
                table.drop(key)
                table.insert(key, value, now)
            oldest = 0 if self._max_age_ms is None else now - self._max_age_ms
            table.shrink(budget, oldest)
            table.finish()

    def _tell(self, exc: Exception) -> None:
        kind = type(exc).__name__
        if kind not in self._told:  # once: the next request meets the same
            self._told.add(kind)
            _log.warning("the cache in %s can't be used: %s", self._folder, exc)


class _Table:
    """The four databases within one write transaction."""

    def __init__(self, txn: Any, dbs: dict[str, Any]) -> None:
        self._txn = txn
        self._dbs = dbs
        self._bytes = _number(txn.get(b"bytes", db=dbs["meta"]))

    def insert(self, key: bytes, value: bytes, now: int) -> None:
        head = _HEAD.pack(now, _digest(key, now, value))
        self._txn.put(key, head + value, db=self._dbs["entries"])
        self._use(key, now, _cost(value))
        self._bytes += _cost(value)

    def touch(self, key: bytes, now: int) -> None:
        cost = self._forget_use(key)
        if cost is not None:
            self._use(key, now, cost)

    def drop(self, key: bytes) -> None:
        cost = self._forget_use(key)
        if cost is not None:
            self._txn.delete(key, db=self._dbs["entries"])
            self._bytes = max(0, self._bytes - cost)

    def shrink(self, budget: int, oldest: int) -> None:
        """Drop what has not been used for longest, until the rest fits and nothing is left from before `oldest`."""
        with self._txn.cursor(self._dbs["order"]) as cursor:
            while cursor.first():
                used = bytes(cursor.key())
                if self._bytes <= budget and _number(used[:8]) >= oldest:
                    return
                self.drop(used[8:])

    def finish(self) -> None:
        self._txn.put(b"bytes", _NUMBER.pack(self._bytes), db=self._dbs["meta"])

    def _use(self, key: bytes, now: int, cost: int) -> None:
        stamp = _NUMBER.pack(now)
        self._txn.put(key, stamp, db=self._dbs["used"])
        self._txn.put(stamp + key, _NUMBER.pack(cost), db=self._dbs["order"])

    def _forget_use(self, key: bytes) -> int | None:
        stamp = self._txn.pop(key, db=self._dbs["used"])
        if stamp is None:
            return None
        return _number(self._txn.pop(stamp + key, db=self._dbs["order"]))


class _Environment:
    def __init__(self, env: Any) -> None:
        self.env = env
        self.dbs = {name: env.open_db(name.encode()) for name in ("entries", "used", "order", "meta")}


def _open(folder: Path, limit_bytes: int) -> _Environment:
    import lmdb

    def opened() -> Any:
        # Without metasync a crash of the machine may lose the last entries, never the file.
        return lmdb.open(str(folder), map_size=limit_bytes, max_dbs=4, metasync=False, max_readers=1024)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            env = opened()
            if (env.info()["last_pgno"] + 1) * env.stat()["psize"] <= max(
                os.path.getsize(folder / "data.mdb"), 2 * PAGE
            ):
                return _Environment(env)
            env.close()  # reading past the end of a file that was cut would kill the process
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
            pass
        _log.warning("the cache in %s is spoilt; it begins anew", folder)
        for name in ("data.mdb", "lock.mdb"):
            with suppress(FileNotFoundError):
                (folder / name).unlink()
        return _Environment(opened())
    except (OSError, lmdb.Error) as exc:
        raise BadConfig(f"the cache folder {folder} can't be used ({exc}); name another one") from exc


def _digest(key: bytes, created: int, value: bytes) -> bytes:
    return hashlib.sha256(b"".join((key, _NUMBER.pack(created), value))).digest()[:16]


def _cost(value: bytes) -> int:
    size = _HEAD.size + len(value)
    return ENTRY_BYTES + (size if size <= INLINE_MAX else -(-(size + 16) // PAGE) * PAGE)


def _number(packed: bytes | None) -> int:
    return 0 if packed is None else int(_NUMBER.unpack(packed)[0])
