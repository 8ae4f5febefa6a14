"""Agents for tests: a running one with the functions under test, and what to ask of it and of the system."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from classy.local.agent import Agent, AgentSettings
from classy.local.functions import AppSpec, FunctionSpec, read_function
from classy.local.ids import make_id
from classy.local.ports import listen
from classy.local.reaper import Reaper

FUNCTIONS = Path(__file__).with_name("functions_under_test")
SPEC = "spec.yaml"  # not func.yaml: `fn deploy --all` would deploy every one that it finds in the checkout
APP = "app-under-test"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers by their name as sent, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Return an error's message."""
        return str(self.json["message"])


@dataclass(frozen=True)
class Running:
    """A running agent, its run folder and its logs."""

    agent: Agent
    run_dir: Path
    log_dir: Path

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, data: object = None) -> Answer:
        """Call the API as the fn CLI does."""
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"}
        if data is None:
            return self.send(method, path, None, headers)
        return self.send(method, path, json.dumps(data).encode(), {**headers, "Content-Type": "application/json"})

    def invoke(self, function: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Invoke a function of the app under test."""
        return self.send("POST", f"/invoke/{make_id(APP, function)}", body, headers)

    def seen(self, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what the echo function sees of a call."""
        return dict(self.invoke("echo", b"", {"What": "seen", **(headers or {})}).json)

    def log(self, function: str) -> str:
        """Return a function's log."""
        path = self.log_dir / f"{APP}.{function}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def pids(self, function: str) -> list[int]:
        """Return the live processes of a function of this agent; another test's may run beside it."""
        return [pid for pid in children() if working_dir(pid) == FUNCTIONS / function and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        try:
            return str(self.run_dir).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


def specs(*names: str, **changes: Any) -> list[FunctionSpec]:
    """Return the specs of some functions under test, or of all, with some fields changed."""
    folders = sorted(path.parent for path in FUNCTIONS.glob(f"*/{SPEC}"))
    return [replace(_read(folder), **changes) for folder in folders if not names or folder.name in names]


def _read(folder: Path) -> FunctionSpec:
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copy(folder / SPEC, Path(temporary, "func.yaml"))
        return replace(read_function(Path(temporary)), folder=folder)


@contextmanager
def running(log_dir: Path, functions: Sequence[FunctionSpec], **settings: Any) -> Iterator[Running]:
    """Run an agent with these functions."""
    reaper = Reaper()
    try:
        agent = Agent(listen(), reaper, AgentSettings(log_dir=log_dir, **settings))
        agent.deploy(AppSpec(name=APP, config={"FROM_APP": "1"}), functions)
        agent.start()
        try:
            yield Running(agent, reaper.run_dir, log_dir)
        finally:
            agent.stop()
    finally:
        reaper.stop()


def children(parent: int | None = None) -> list[int]:
    """Return the live child processes of a process, this one by default."""
    parent = parent or os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def descendants(parent: int) -> list[int]:
    """Return the live processes below a process."""
    found = children(parent)
    return found + [pid for child in found for pid in descendants(child)]


def working_dir(pid: int) -> Path | None:
    """Return a process's working directory; None when it is gone."""
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def process_state(pid: int) -> str:
    """Return a process's state letter, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Return whether a process ended."""
    return process_state(pid) in ("", "Z")


def kill(pid: int) -> None:
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def eventually(probe: Callable[[], Value], *, timeout_s: float = 10.0) -> Value:
    """Return the probe's first true value; its last one when none came in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := probe()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return value
