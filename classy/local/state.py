"""
Which local cloud runs here: a lock that only a living process holds, and a file that says where it is.

The lock is the truth (the system frees it however its holder ends); the file is read by `down`, `status` and the
demo. A file without a held lock is what a cloud left that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from classy.local.reaper import started_at
from graphpipe_fn.errors import GraphPipeError

STATE_FILE = "cloud.json"
LOCK_FILE = "cloud.lock"
LISTS = ("functions", "notes", "troubles")  # which JSON knows as lists only
POLL_S = 0.02


class AlreadyRunning(GraphPipeError):
    """Another process runs the local cloud of this state folder."""

    code = 40911


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """
    What `classy up` tells the other commands.

    Args:
        pid, started: The process, and when it started: a pid alone may be another process's by now.
        run_dir: Sockets and temporary files.
        ready: Whether everything answers.
        agent_url, storage_url, page_url: Where; "" for no page.
        app, functions: What can be invoked.
        log_dir: Where to look when something went wrong.
        notes: What the user should know about this start.
        troubles: What went wrong since, and what to do about it.
    """

    pid: int
    started: str
    run_dir: str
    log_dir: str
    ready: bool = False
    agent_url: str = ""
    storage_url: str = ""
    page_url: str = ""
    app: str = ""
    functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Return whether the process that wrote this is still there."""
        return alive(self.pid, self.started)


class Lock:
    """
    Hold the right to run a cloud in a state folder, until release() or the end of the process.

    The file says whose it is, for a `down` that can't read the state file.

    Raises:
        AlreadyRunning: someone else holds it.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            state, (pid, _) = read_state(state_dir), holder(state_dir)
            where = f", {state.agent_url}" if state and state.agent_url else ""
            where = f" (pid {pid}{where})" if pid else ""
            raise AlreadyRunning(
                f"the local cloud of {state_dir} runs already{where}; `classy down` stops it"
            ) from None

        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()} {started_at(os.getpid())}\n".encode())

    def release(self) -> None:
        """Let others run."""
        os.close(self._fd)


def holder(state_dir: Path) -> tuple[int, str]:
    """Return who held the lock last: its pid and when it started; (0, "") where that can't be read."""
    try:
        pid, _, started = (state_dir / LOCK_FILE).read_text(encoding="utf-8").strip().partition(" ")
        return int(pid), started
    except (OSError, ValueError):
        return 0, ""


def alive(pid: int, started: str) -> bool:
    """Return whether a process is still there, and is not another one with a recycled pid."""
    return bool(started) and started_at(pid) == started


def locked(state_dir: Path) -> bool:
    """Return whether a cloud runs in this state folder, or is just starting or stopping."""
    try:
        fd = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_state(state_dir: Path) -> CloudState | None:
    """Return what the state file says; None where there is none, or none that can be read."""
    try:
        data = json.loads((state_dir / STATE_FILE).read_text(encoding="utf-8"))
        return CloudState(**{**data, **{name: tuple(data.get(name, ())) for name in LISTS}})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_state(state_dir: Path, state: CloudState) -> None:
    """Write the state file, whole or not at all."""
    temporary = state_dir / f"{STATE_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    temporary.replace(state_dir / STATE_FILE)


def clear_state(state_dir: Path) -> None:
    """Remove the state file."""
    with contextlib.suppress(FileNotFoundError):
        (state_dir / STATE_FILE).unlink()


def clean_up_after_kill(state_dir: Path) -> bool:
    """
    Remove what a cloud left that ended without stopping; call it with the lock held.

    Returns:
        Whether there was something.
    """
    state = read_state(state_dir)
    clear_state(state_dir)
    if state is None:
        return False
    run_dir = Path(state.run_dir)
    if run_dir.name.startswith("classy-") and run_dir.parent == Path("/tmp"):  # noqa: S108 - only what reaper.py made
        shutil.rmtree(run_dir, ignore_errors=True)
    return True


def wait_until_stopped(state_dir: Path, state: CloudState | None, timeout_s: float) -> bool:
    """
    Return True as soon as nothing runs in this state folder, False when that takes too long.

    Args:
        state: What ran there, read before it was told to stop: its process, and what its reaper removes last, must
            be gone too.
    """
    deadline_s = time.monotonic() + timeout_s
    while locked(state_dir) or (state and (state.alive or os.path.lexists(state.run_dir))):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True
