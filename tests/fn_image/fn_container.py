"""One function's container, run as Fn's server runs it and spoken to as it speaks. Source: seen on a real server."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from docker_engine import Engine

FN_UID = 1000
SOCKET_S = 5.0  # Fn gives no more
POLL_S = 0.005
CHUNK_BYTES = 65536
# Of /tmp, by the function's memory; both in MB. Source: Oracle's table; Fn's own server has no limit unless told.
TMP_MB = {128: 32, 256: 64, 512: 128, 1024: 256}


@dataclass(frozen=True)
class FnReply:
    """What a function answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class FnContainer:
    """
    A function's container; it takes one call at a time.

    Args:
        config: The app's and the function's.
        memory_mb, timeout_s: As in func.yaml.
    """

    def __init__(
        self, engine: Engine, image: str, name: str, config: Mapping[str, str], *, memory_mb: int, timeout_s: int
    ) -> None:
        self.name, self.memory_mb, self.timeout_s = name, memory_mb, timeout_s
        self._engine, self._one_call = engine, threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="iofs-", dir=engine.folder))
        engine.folder.chmod(0o711)
        self._folder.chmod(0o777)
        environ = {
            **config,
            "HOME": "/home/fn",  # is not there
            "FN_FN_ID": f"01{name.upper():_<24}",
            "FN_APP_ID": "01CLASSYFN________________",
            "FN_MEMORY": str(memory_mb),
            "FN_TYPE": "sync",
            "FN_LISTENER": "unix:/tmp/iofs/lsnr.sock",
            "FN_FORMAT": "http-stream",
        }
        began_s = time.monotonic()
        engine.docker(
            "run", "--detach", "--name", name,
            "--user", f"{FN_UID}:{FN_UID}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--read-only", "--tmpfs", f"/tmp:rw,noexec,nosuid,nodev,size={TMP_MB[memory_mb]}m",
            "--volume", f"{self._folder}:/tmp/iofs",
            "--memory", f"{memory_mb}m", "--memory-swap", f"{memory_mb}m",
            "--pids-limit", "50", "--ulimit", "nofile=350:350",
            "--network", "host",  # Fn's is a bridge; here it must reach an object storage on 127.0.0.1
            *(word for key, value in environ.items() for word in ("--env", f"{key}={value}")),
            image,
        )  # fmt: skip
        started_s = time.monotonic()
        while not (self._folder / "lsnr.sock").is_symlink():
            assert time.monotonic() - started_s < SOCKET_S, f"{name} has no socket after {SOCKET_S} s\n{self.log()}"
            time.sleep(POLL_S)
        self.start_s, self.socket_s = time.monotonic() - began_s, time.monotonic() - started_s

    def call(self, body: bytes, headers: Mapping[str, str] | None = None) -> FnReply:
        """Send one call as Fn's server does: POST /call on the function's socket, in chunks, with id and deadline."""
        deadline = datetime.now(UTC) + timedelta(seconds=self.timeout_s)
        sent = {
            "Host": "localhost",
            "Transfer-Encoding": "chunked",
            "Content-Type": "text/plain",
            **(headers or {}),
            "Fn-Deadline": deadline.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        sent.setdefault("Fn-Call-Id", f"01{self.name.upper()}{time.time_ns()}")
        with self._one_call:
            connection = _UnixConnection(self._folder / "lsnr.sock", self.timeout_s)
            try:
                connection.request("POST", "/call", _chunks(body), sent, encode_chunked=True)
                answer = connection.getresponse()
                found = {name.lower(): value for name, value in answer.getheaders()}
                return FnReply(answer.status, found, answer.read())
            finally:
                connection.close()

    def run(self, code: str) -> Any:
        """Run Python in the container, under the same limits; return what it prints as JSON."""
        done = self._engine.docker("exec", self.name, "python3", "-c", code)
        return json.loads(done.stdout)

    def freeze(self) -> None:
        """Stop its clock, as Fn does 50 ms after a call."""
        self._engine.docker("pause", self.name)

    def thaw(self) -> None:
        """Let it go on."""
        self._engine.docker("unpause", self.name)

    def log(self) -> str:
        """Return what it wrote."""
        done = self._engine.docker("logs", self.name, check=False)
        return done.stdout + done.stderr

    def state(self) -> Any:
        """Return the engine's own word on it."""
        return json.loads(self._engine.docker("inspect", "--format", "{{json .State}}", self.name).stdout)

    def peak_mb(self) -> float:
        """Return the most memory that its process held, in MB."""
        return float(self.run(_PEAK)) * 1024 / 1e6


_PEAK = """
print(next(line.split()[1] for line in open("/proc/1/status") if line.startswith("VmHWM")))
"""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]
