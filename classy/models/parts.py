"""
Where the ranges of a fetched file go: into memory, or into a part file beside the place where it will lie.

A part file is locked for as long as its writer lives, and the kernel frees the lock however that ends: so what a
killed process left can be told from what a living one still writes.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import TypeAlias


class Memory:
    """A file's bytes in memory, `view`."""

    def __init__(self, size: int) -> None:
        # Pages come into being as they are written; a bytearray would first be filled with zeros. mmap's default are
        # a shared file's pages, which take a quarter longer to fill and to free.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(pages)

    def write(self, data: memoryview, start: int) -> None:
        """Put a range in its place; ranges may come from several threads."""
        self.view[start : start + len(data)] = data

    def room(self, start: int, length: int) -> memoryview | None:
        """Return where a range lies, for who can receive it there."""
        return self.view[start : start + length]

    def read(self, start: int, length: int) -> memoryview:
        """Return a range that was written."""
        return self.view[start : start + length]


class PartFile:
    """
    A file that is being written.

    Args:
        path: Where it will lie.
        size: Reserved at once.

    Raises:
        OSError: there is no room, or the folder can't be written; nothing is left there then.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        while True:
            self._part = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            lock(self._fd, wait=True)
            if os.fstat(self._fd).st_nlink:
                break
            os.close(self._fd)  # swept up by another process before it was locked
        try:
            _reserve(self._fd, size)
        except BaseException:
            self.close()
            raise

    def write(self, data: memoryview, start: int) -> None:
        """Put a range in its place; ranges may come from several threads."""
        while data:
            written = os.pwrite(self._fd, data, start)
            data, start = data[written:], start + written

    def room(self, start: int, length: int) -> memoryview | None:
        """Return None: what is received goes through write()."""
        return None

    def read(self, start: int, length: int) -> bytes:
        """Return a range that was written, as the file has it."""
        return os.pread(self._fd, length, start)

    def keep(self) -> None:
        """Give the file its name."""
        # Without fsync, which takes as long as all the rest: after a power cut the hash at reuse finds what is lost.
        self._part.replace(self._path)

    def close(self) -> None:
        """Free the lock, and the room unless the file was kept."""
        self._part.unlink(missing_ok=True)  # gone already if kept
        os.close(self._fd)


Target: TypeAlias = Memory | PartFile


def _reserve(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:
        os.truncate(fd, size)  # macOS: a full disk shows later, at a write


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder: parts that nobody holds a lock on."""
    for part in folder.glob(".*.part"):
        try:
            fd = os.open(part, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            if lock(fd):
                part.unlink(missing_ok=True)
        finally:
            os.close(fd)


def lock(fd: int, *, wait: bool = False) -> bool:
    """Take an open file's lock, which its closing frees; return whether it was to be had."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another process, or a file system without locks
        return False
    return True
