"""The page and the HTTP API of the local cloud: `classy web` as a child process, in front of the same functions."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from classy.local.launch import LAUNCHER
from classy.local.reaper import Reaper
from graphpipe_fn.errors import Unavailable

START_WAIT_S = 40.0
STOP_WAIT_S = 8.0  # what is under way gets 5 s
POLL_S = 0.02


class LocalPage:
    """
    Run `classy web`; start() it from a thread that lives as long as it is to live (see launcher.py).

    Args:
        state_dir: See the command's own.
        log_file: Gets what it says.
        reaper: Ends it when we are gone.
        port: A free one; kept over restarts.
    """

    def __init__(self, state_dir: Path, log_file: Path, reaper: Reaper, *, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.log_file = log_file
        self._state_dir = state_dir
        self._reaper = reaper
        self._environ: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, environ: Mapping[str, str] | None = None) -> None:
        """
        Start it; ready() says when it answers.

        Args:
            environ: Its settings; those of the last start unless given.
        """
        self._environ = dict(self._environ if environ is None else environ)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                [
                    *(sys.executable, "-I", "-S", LAUNCHER, str(os.getpid()), "0"),
                    *(sys.executable, "-I", "-m", "classy.cli", "--state-dir", str(self._state_dir.absolute())),
                    *("web", "--port", str(self.port)),
                ],
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **self._environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.add(self._process.pid)

    def ready(self) -> None:
        """
        Wait until it answers.

        Raises:
            Unavailable: it ended, or does not answer.
        """
        deadline_s = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise Unavailable(f"the page's server ended at once; {self.log_file} says why")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", "/api/health")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(POLL_S)
            finally:
                connection.close()
        raise Unavailable(f"the page's server does not answer; {self.log_file} may say why")

    def stop(self) -> None:
        """End it: kindly, then by force."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WAIT_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._reaper.remove(process.pid)
