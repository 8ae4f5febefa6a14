"""`graphpipe-fn serve`, `echo` and `batch` as processes of their own, as a person starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    uri: str
    log: Path

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self, within_s: float = 20.0) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(within_s)

    def rss_bytes(self) -> int:
        """Return the memory that the process holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def served(*arguments: str, folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Served]:
    """
    Start `graphpipe-fn` with these arguments at a free port (unless --listen is given); yield it when it serves.

    Args:
        folder: For its log.
        environ: More variables.
    """
    listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    log = folder / f"log-{time.monotonic_ns()}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GP_", "AWS_"))}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "graphpipe_fn.cli", *arguments, *listen],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env={**kept, **(environ or {})},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # closed when the process ends: it does not wait for ever
        assert " is served at " in line, f"it did not start: {line} {log.read_text()}"
        yield Served(process, line.rpartition(" ")[2].strip(), log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
