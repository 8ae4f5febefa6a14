"""
Objects on a disk, by `file:///folder/file` URIs: what objects does for s3://, for one machine.

A file is written under a temporary name and renamed, so a reader sees all of it or none. It guards no folder.

Source: RFC 8089 (file URIs; their paths are percent-encoded).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote

from classy.errors import SourceNotFound, StorageFailed, UnusableURL
from classy.urls import shown_url
from graphpipe_fn.errors import GraphPipeError, TooLarge

SCHEME = "file://"
_UNFINISHED = ".part"


def read(uri: str, *, limit_bytes: int) -> bytes:
    """
    Return a file.

    Raises:
        SourceNotFound: no such file, or no plain one (a folder, a pipe, a device).
        TooLarge: over the limit.
        StorageFailed: the disk or its permissions.
    """
    with _opened(uri) as fd:
        size = os.fstat(fd).st_size
        # One more than the limit is asked for: a file may grow between the two calls.
        data = b"" if size > limit_bytes else _read(fd, 0, limit_bytes + 1)
        if max(size, len(data)) > limit_bytes:
            raise TooLarge(f"{shown_url(uri)} has {max(size, len(data)):,} bytes; the limit is {limit_bytes:,}")
        return data


def read_range(uri: str, start: int, length: int) -> bytes:
    """Return a piece of a file, shorter where the file ends sooner; raises as read() does."""
    with _opened(uri) as fd:
        return _read(fd, start, length)


def size(uri: str) -> int:
    """Return a file's size in bytes; raises as read() does."""
    with _opened(uri) as fd:
        return os.fstat(fd).st_size


def modified(uri: str) -> float:
    """Return when a file was last written, in seconds since 1970; raises as read() does."""
    with _opened(uri) as fd:
        return os.fstat(fd).st_mtime


def write(uri: str, data: bytes, *, if_absent: bool) -> bool:
    """
    Write a file, and the folders that it lies in.

    Returns:
        Whether it was written; False only for `if_absent`.

    Raises:
        StorageFailed: the disk or its permissions.
    """
    path = _path(uri)
    folder, name = os.path.split(path)
    unfinished = os.path.join(
        folder, f".{name}.{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}{_UNFINISHED}"
    )
    with _translated(uri, missing=StorageFailed):
        os.makedirs(folder, exist_ok=True)
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not if_absent:
                os.replace(unfinished, path)
                return True
            try:
                os.link(unfinished, path)  # unlike a rename, it fails where there is one
            except FileExistsError:
                return False
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)


def delete(uri: str) -> None:
    """
    Delete a file, if it is there.

    Raises:
        StorageFailed: the disk or its permissions.
    """
    with _translated(uri), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(_path(uri))


def listed(prefix: str) -> list[str]:
    """Return the URIs of all files in a folder and those below it, sorted; raises as read() does."""
    root = _path(prefix).rstrip("/")
    start = prefix.rstrip("/")
    found: list[str] = []
    with _translated(prefix):
        for folder, _, names in os.walk(root, onerror=_raise_unless_missing):
            below = folder[len(root) :]
            found += [
                start + quote(f"{below}/{name}")
                for name in names
                if not (name.startswith(".") and name.endswith(_UNFINISHED))
            ]
    return sorted(found)


def _read(fd: int, start: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(fd, min(length, 1 << 26), start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _path(uri: str) -> str:
    path = uri[len(SCHEME) :].removeprefix("localhost")
    if not path.startswith("/") or "\0" in unquote(path):
        raise UnusableURL(f"{shown_url(uri)} is no file; write {SCHEME}/folder/file with an absolute path")
    return unquote(path)


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[int]:
    with _translated(uri):
        # Not blocking: opening a pipe would otherwise wait for somebody to write.
        fd = os.open(_path(uri), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SourceNotFound(f"{shown_url(uri)} is no plain file; name a file in it")
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _translated(uri: str, *, missing: type[GraphPipeError] = SourceNotFound) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if missing is SourceNotFound and isinstance(exc, FileNotFoundError | NotADirectoryError):
            raise SourceNotFound(f"there is no file {shown_url(uri)}; check its name") from exc
        reason = os.strerror(exc.errno) if exc.errno else "it failed"
        remedy = "make room" if exc.errno == errno.ENOSPC else "check the folder and its permissions"
        raise StorageFailed(f"{shown_url(uri)} can't be used ({reason}); {remedy}") from exc


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
