"""
`classy up`, `down` and `status`: one local cloud per state folder, in the foreground or in the background.

It knows processes, signals and the state file; what a cloud is made of is local_cloud.py's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

from classy.local.functions import AppSpec, FunctionSpec
from classy.local.ids import invoke_url
from classy.local.probe import answers
from classy.local.state import (
    CloudState,
    Lock,
    alive,
    clean_up_after_kill,
    holder,
    locked,
    read_state,
    wait_until_stopped,
)
from classy.local.storage import HEALTH_PATH, KEY

if TYPE_CHECKING:
    from classy.local.local_cloud import LocalCloud  # and with it the servers, which `down` does not need

READY_WAIT_S = 180.0  # more than the storage's and the page's own together
DOWN_WAIT_S = 30.0
KILL_WAIT_S = 10.0
REAP_WAIT_S = 3.0  # for the reaper of a cloud that was killed
TOLD_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one when its terminal is closed
POLL_S = 0.02
LOG_BYTES = 10 << 20
ROOM_BYTES = 50_000_000  # two of the largest pictures


def run(
    cloud: LocalCloud,
    app: AppSpec,
    functions: Sequence[FunctionSpec],
    prepare: Callable[[], object] = lambda: None,
    page: Mapping[str, str] | None = None,
) -> int:
    """
    Run a cloud in the foreground until SIGINT, SIGTERM or SIGHUP; call it in the main thread.

    Args:
        prepare, page: See LocalCloud.start().

    Returns:
        The exit status: 0 when it was told to stop, 130 when that was before it was ready.
    """
    with _logging_to(cloud.settings.log_dir / "cloud.log"), _told_to_stop() as stop, cloud:
        try:
            with _interrupted_by_signals():
                state = cloud.start(app, functions, prepare, page)
        except KeyboardInterrupt:
            print("classy: stopped before it was ready", flush=True)
            return 130
        print(described(state), flush=True)
        status = cloud.watch(stop)
        print("classy: stopping" if status == 0 else f"classy: a part ended; see {state.log_dir}", flush=True)
    return status


def detach(command: Sequence[str], state_dir: Path, environ: Mapping[str, str]) -> int:
    """
    Run a command that runs a cloud, in the background; return when the cloud is ready.

    Args:
        command: The program by its path, and its arguments; it must come to run() for the same state folder.
        environ: The command's environment.

    Returns:
        The exit status: 0 when the cloud is ready.

    Raises:
        AlreadyRunning: one runs there.
    """
    Lock(state_dir).release()
    log_file = state_dir / "logs" / "up.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    log_file.unlink(missing_ok=True)  # another start at the same time keeps its own
    with open(log_file, "w+b", opener=partial(os.open, mode=0o600)) as log:
        pid = os.posix_spawn(
            command[0],
            list(command),
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # it must outlive this terminal
        )
        return _until_ready(pid, state_dir, log)


def _until_ready(pid: int, state_dir: Path, log: BinaryIO) -> int:
    try:
        return _readiness(pid, state_dir, log)
    except KeyboardInterrupt:  # ^C reaches this terminal's processes only
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


def _readiness(pid: int, state_dir: Path, log: BinaryIO) -> int:
    deadline_s = time.monotonic() + READY_WAIT_S
    while time.monotonic() < deadline_s:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            log.seek(0)
            print(f"classy: the local cloud did not start:\n{log.read().decode(errors='replace')}", file=sys.stderr)
            return os.waitstatus_to_exitcode(status) or 1
        state = read_state(state_dir)
        if state and state.ready and state.pid == pid:
            print(described(state))
            return 0
        time.sleep(POLL_S)
    os.kill(pid, signal.SIGTERM)
    print(f"classy: the local cloud is not ready after {READY_WAIT_S:g} s; see {log.name}", file=sys.stderr)
    return 1


def down(state_dir: Path) -> int:
    """Stop the cloud of a state folder; return the exit status when every process of it is gone."""
    state = read_state(state_dir)
    if not locked(state_dir):
        wait_until_stopped(state_dir, state, REAP_WAIT_S)
        clean_up_after_kill(state_dir)
        print("classy: nothing runs")
        return 0
    # It may be just starting, or its state file may be spoilt: the lock says whose it is too.
    if state is None or not state.alive:
        pid, started = holder(state_dir)
        state = CloudState(pid=pid, started=started, run_dir="", log_dir="")
    if not state.alive:
        if wait_until_stopped(state_dir, state, DOWN_WAIT_S):  # it was just stopping
            return 0
        print(f"classy: something holds {state_dir}, but it does not say what", file=sys.stderr)
        return 1
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    if not wait_until_stopped(state_dir, state, DOWN_WAIT_S) and state.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)  # the reaper does the rest
        wait_until_stopped(state_dir, state, KILL_WAIT_S)
    clean_up_after_kill(state_dir)
    print("classy: stopped")
    return 0


def status(state_dir: Path, *, room_bytes: int = ROOM_BYTES) -> int:
    """
    Say what runs, and whether it answers; return 0 when everything does, 1 otherwise.

    Args:
        room_bytes: What must be free on the disk: the storage answers 200 to what it has no room for.
    """
    state = read_state(state_dir) if locked(state_dir) else None
    if state is None:
        pid, started = holder(state_dir)
        there = locked(state_dir) and alive(pid, started)
        print(f"classy: starting, or its state can't be read (pid {pid}); `classy down` stops it" if there
              else "classy: nothing runs; `classy up` starts it")  # fmt: skip
        return 1
    parts = ((state.agent_url, "/version"), (state.storage_url, HEALTH_PATH), (state.page_url, "/api/health"))
    troubles = [
        f"{url} does not answer; the logs may say why, and `classy down` and `classy up` start it anew"
        for url, path in parts
        if state.ready and url and not answers(url, path)
    ]
    free_bytes = shutil.disk_usage(state_dir).free
    if free_bytes < room_bytes:
        troubles.append(
            f"only {free_bytes // 1_000_000:,} MB are free for {state_dir}; what does not fit is kept in memory only "
            "and lost when the storage ends: free some room"
        )
    state = replace(state, troubles=(*state.troubles, *troubles))
    print(described(state))
    return 0 if state.ready and not state.troubles else 1


def described(state: CloudState) -> str:
    """Return a cloud in words, for people."""
    lines = [
        *(f"classy: {note}" for note in state.notes),
        *(f"classy: trouble: {trouble}" for trouble in state.troubles),
        f"classy: {'ready' if state.ready else 'not ready yet'} (pid {state.pid})",
        f"  functions  {state.agent_url}   (fn: FN_API_URL={state.agent_url})",
        *(f"    {state.app} {name:<20} {invoke_url(state.agent_url, state.app, name)}" for name in state.functions),
        f"  storage    {state.storage_url}   (keys: {KEY} {KEY})",
        f"  logs       {state.log_dir}",
        "  This is for one machine; at scale run the same functions on Fn, Oracle Functions or AWS Lambda.",
        *([f"page: {state.page_url}"] if state.page_url else []),
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    with _handled(lambda *_: stop.set()):
        yield stop


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    with _handled(signal.default_int_handler):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in TOLD_TO_STOP}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    ours = logging.getLogger("classy")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()
