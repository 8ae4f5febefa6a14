"""
Leave nothing behind: a small process that cleans up when its parent is gone, however it went.

The parent holds a pipe to it and tells it of each process group (`+PID`, `-PID`). When the pipe closes, the reaper
kills the groups that are left and removes the run folder with its sockets. Linux's parent-death signal (launcher.py)
kills the functions sooner, but not their own children, removes no files, and is Linux's alone. The child's side
imports nothing of Classy: it is run by path, in 8 MB.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINUX = sys.platform == "linux"


class Reaper:
    """
    Own a run folder and the process groups that work in it; stop() removes both, and so does our own end.

    Attributes:
        run_dir: A fresh folder with a short path: a Unix socket's path has at most 107 bytes.
    """

    def __init__(self) -> None:
        # /tmp rather than TMPDIR, which may be long (a test's folder, macOS)
        self.run_dir = Path(tempfile.mkdtemp(prefix="classy-", dir="/tmp"))  # made as 0700
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", __file__, str(self.run_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a ^C for the terminal's group must not reach it
            cwd="/",
        )

    @property
    def pid(self) -> int:
        """Return the reaper's own process id."""
        return self._process.pid

    def add(self, pid: int) -> None:
        """Take over a process group, named by its leader."""
        self._tell(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Forget a group that is gone."""
        self._tell(f"-{pid}\n")

    def stop(self) -> None:
        """Kill what is left, remove the run folder, and return when that is done."""
        stdin = self._process.stdin
        assert stdin is not None  # it was started with a pipe
        with contextlib.suppress(OSError):
            stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # a folder that can't be removed in time is left for the system's clean-up
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # it was started with a pipe
        with contextlib.suppress(OSError, ValueError):  # someone killed the reaper: the launcher's signal is left
            os.write(stdin.fileno(), line.encode())


def started_at(pid: int) -> str:
    """
    Return when a process started, in some unit of the system; "" when there is none.

    Two answers for one pid differ when the pid was recycled.
    """
    if LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (OSError, UnicodeDecodeError):
            return ""
        after_name = stat.rpartition(")")[2].split()
        return "" if after_name[0] == "Z" else after_name[19]  # field 22; the name may hold spaces. Source: proc(5)
    ps = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return ps.stdout.strip()


def _serve(run_dir: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, str] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            groups[pid] = started_at(pid)
        else:
            groups.pop(pid, None)
    for pid, started in groups.items():
        if started_at(pid) in ("", started):  # a dead leader's pid is not given away while its group has members
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
    for _ in range(100):  # a process that is just dying may still write
        shutil.rmtree(run_dir, ignore_errors=True)
        if not os.path.lexists(run_dir):
            break
        time.sleep(0.01)


if __name__ == "__main__":
    _serve(sys.argv[1])
