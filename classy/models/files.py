"""Files of a model's folder: written whole or not at all, known by their SHA-256, checked by their BLAKE3."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from classy.models.manifest import FileSpec

READ_BYTES = 1 << 20


class Digest(Protocol):
    """A hash that is being computed."""

    @property
    def name(self) -> str: ...

    def update(self, data: bytes | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


def write_whole(path: Path, data: bytes) -> None:
    """
    Write a file under another name, bring it to the disk and rename it, so that no reader ever sees a part.

    Raises:
        OSError: the disk is full or the folder can't be written; it names the file, and nothing is left there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc  # a full disk's own error names no file
    finally:
        part.unlink(missing_ok=True)  # renamed by now if all went well


def described(path: Path) -> FileSpec:
    """
    Return a file as a manifest names it.

    Raises:
        OSError: it can't be read.
    """
    import hashlib

    from blake3 import blake3

    digests = hashlib.sha256(), blake3()
    size = _read(path, digests)
    return FileSpec(path.name, size, *(digest.hexdigest() for digest in digests))


def digest_for(file: FileSpec) -> tuple[Digest, str]:
    """Return the hash by which a file is checked, of no bytes yet, and what it must come to."""
    if file.blake3:
        from blake3 import blake3

        return blake3(), file.blake3
    import hashlib  # 4 ms of a cold start, with OpenSSL

    return hashlib.sha256(), file.sha256


def is_whole(path: Path, file: FileSpec) -> bool:
    """
    Return whether a file is there, and is what the manifest says.

    Raises:
        OSError: it is there and can't be read.
    """
    digest, expected = digest_for(file)
    try:
        if path.stat().st_size != file.bytes:
            return False
        _read(path, (digest,))
    except FileNotFoundError:
        return False
    return digest.hexdigest() == expected


def _read(path: Path, digests: Iterable[Digest]) -> int:
    """Compute a file's hashes, and return its size."""
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            for digest in digests:
                digest.update(chunk)
            size += len(chunk)
    return size


def mapped(path: Path) -> memoryview:
    """
    Return a file's bytes without reading them; it is unmapped with the last view of it.

    Raises:
        OSError: it can't be opened.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        # Not closed here or by the caller: an exception's traceback may hold views, which would then fail instead.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
