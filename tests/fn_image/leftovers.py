"""What an engine leaves that was killed: its containers go on without it, and its mounts stay."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

LOCK = "lock"


def hold(folder: Path) -> IO[bytes]:
    """Mark a folder as in use until the returned file is closed, or this process ends."""
    file = (folder / LOCK).open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def sweep(folders: list[Path]) -> None:
    """Remove every folder that nobody holds, with the processes that run from it and what is mounted in it."""
    for folder in folders:
        with suppress(FileNotFoundError, BlockingIOError), (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)


def remove(folder: Path) -> None:
    """Remove one."""
    for pid in _pids(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    mounts = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    for place in sorted(mounts, key=len, reverse=True):  # the deepest first
        if place.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(folder)


def _pids(folder: Path) -> Iterator[int]:
    """Yield the processes that have the folder in their command line, or in whatever their root is made of."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                root = next(line for line in (entry / "mountinfo").read_text().splitlines() if line.split()[4] == "/")
                if any(word.startswith(f"{folder}/".encode()) for word in command) or f"{folder}/" in root:
                    yield int(entry.name)
