"""
MemoryStore: what Cached remembers, in this process's memory.

See lmdb_store for the one on disk, which survives the process and is shared by several.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

ENTRY_BYTES = 250  # what an entry takes beside its value: two objects' headers, the key, the dictionary's slot


class MemoryStore:
    """
    Keep what was used last.

    Args:
        limit_bytes: What all entries may take; the one that has not been used for longest goes first.
        max_age_s: How long an entry is valid; None for ever.
        clock: For tests.
    """

    def __init__(
        self, *, limit_bytes: int, max_age_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_bytes = limit_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Return what the entries take, about."""
        return self._used_bytes

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key, None for nothing."""
        now = self._clock()
        with self._lock:
            return [self._got(key, now) for key in keys]

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep values under keys; one that is larger than the limit is not kept."""
        now = self._clock()
        with self._lock:
            for key, value in entries:
                self._drop(key)
                if len(value) + ENTRY_BYTES > self._limit_bytes:
                    continue
                self._entries[key] = (now, value)
                self._used_bytes += len(value) + ENTRY_BYTES
                while self._used_bytes > self._limit_bytes:
                    self._drop(next(iter(self._entries)))

    def _got(self, key: bytes, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._max_age_s is not None and now - entry[0] > self._max_age_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used_bytes -= len(entry[1]) + ENTRY_BYTES
