"""
Wheels to a folder: unpacked, trimmed, with one time and one mode for every file, so that equal input is equal output.

It knows archives and patterns; which wheels and which patterns is contents.py's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

EPOCH_S = 315_532_800  # 1980-01-01, the earliest that a zip archive can say
MODE, DIRECTORY_MODE = 0o644, 0o755
PYC_PER_SOURCE = 1.6  # bytes of a .pyc per byte of its source; measured 1.2 (numpy) to 1.6 (the FDK) on 3.11 and 3.12


class UnusableWheel(ValueError):
    """A wheel holds something that has no place in a bundle."""


def unpack(wheel: Path, into: Path, *, without: Iterable[str]) -> None:
    """
    Unpack a wheel.

    Args:
        without: Patterns of paths that are left in it; `*` matches slashes too.

    Raises:
        UnusableWheel: it would write outside the folder or over another wheel's file, or has files for elsewhere.
    """
    patterns = tuple(without)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or any(fnmatchcase(entry.filename, pattern) for pattern in patterns):
                continue
            if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(".data"):
                raise UnusableWheel(
                    f"{wheel.name} has {entry.filename!r}, which belongs outside the packages' folder"
                )
            target = into / path
            if target.exists():
                raise UnusableWheel(f"{wheel.name} has {entry.filename!r}, and so has another wheel")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))


def settle(tree: Path) -> None:
    """Give every file and folder below and including `tree` the same mode and time, whoever unpacked it and when."""
    for folder, _, names in os.walk(tree, topdown=False):
        for name in names:
            path = Path(folder, name)
            path.chmod(MODE)
            os.utime(path, (EPOCH_S, EPOCH_S))
        os.chmod(folder, DIRECTORY_MODE)
        os.utime(folder, (EPOCH_S, EPOCH_S))


def replace_tree(fresh: Path, place: Path) -> None:
    """Put a folder in another's place."""
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


def digest(tree: Path) -> str:
    """Return a SHA-256 in hex over every file's path, mode and bytes."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(tree)}\0{path.stat().st_mode:o}\0{content}\n".encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(tree: Path) -> int:
    """Return the bytes of all files."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def compiled_size(tree: Path) -> int:
    """Return about how many bytes the .pyc files will have; the image's own Python makes them, when it is built."""
    return round(PYC_PER_SOURCE * sum(path.stat().st_size for path in tree.rglob("*.py")))
