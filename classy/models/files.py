"""Files of a model's folder: written whole or not at all, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from classy.models.manifest import FileSpec

READ_BYTES = 1 << 20


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
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileSpec(path.name, size, digest.hexdigest())


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
