"""
The execution environment of one function: bubblewrap's command line, and the control group with its memory.

Kept of Lambda's: /var/task and everything else read-only, a private /tmp, an unprivileged user, no /sys, /dev without
shared memory, its own processes only, no more memory than the function has. Not kept: Amazon Linux (it is this
machine's /usr), the CPU's share, /tmp's size.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

USER, GROUP = "993", "990"  # Lambda's sbx_user1051 and its group
GROUPS = Path("/sys/fs/cgroup")
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


@cache
def missing() -> str:
    """Return why nothing can be sandboxed here, empty where it can."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    tried = subprocess.run([*walls(Path("/tmp")), "--", "/bin/true"], capture_output=True, text=True, timeout=30)
    return f"this machine permits no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def walls(tmp: Path, *extra: str) -> list[str]:
    """
    Return bubblewrap's command line without the command.

    Args:
        tmp: Becomes /tmp.
        extra: Further arguments of it.
    """
    command = ["bwrap", "--die-with-parent", "--unshare-user", "--uid", USER, "--gid", GROUP]
    command += ["--unshare-pid", "--unshare-ipc", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--bind", str(tmp), "/tmp"]
    return [*command, *extra]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """
    How a function's process is started.

    Args:
        python: Its interpreter.
        prefix: Where that one's library is.
        runtime: Becomes /var/runtime.
        walled: Whether there is a sandbox at all.
    """

    python: Path
    prefix: Path
    runtime: Path
    walled: bool

    def places(self, task: Path) -> tuple[str, str]:
        """Return how the function sees its code and the runtime."""
        return ("/var/task", "/var/runtime") if self.walled else (str(task), str(self.runtime))

    def script(self, handler: str, *, task: Path, tmp: Path, group: Path | None) -> str:
        """
        Return the shell script that runs a function until it ends.

        The shell stays: bubblewrap dies with the *thread* that started it, which at an emulator is one request's.
        """
        command: Sequence[str] = (str(self.python), "-S", "-m", "awslambdaric", handler)
        if self.walled:
            binds = ["--ro-bind", str(task), "/var/task", "--ro-bind", str(self.runtime), "/var/runtime"]
            if not self.prefix.is_relative_to("/usr"):
                binds += ["--ro-bind", str(self.prefix), str(self.prefix)]
            command = [*walls(tmp, *binds, "--chdir", "/var/task"), "--", *command]
        else:
            command = ["env", "--chdir", str(task), *command]
        join = f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))} || exit 97\n" if group else ""
        return f"{join}{shlex.join(command)}\nexit $?\n"


class MemoryGroups:
    """
    Make control groups, one a function's process; below one of our own, which close() removes with all its processes.

    Args:
        name: Of our own.
    """

    def __init__(self, name: str) -> None:
        self._v1 = (GROUPS / "memory").is_dir()
        parent = GROUPS / "memory" if self._v1 else GROUPS
        self.folder = parent / name
        self.usable = False
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            if not self._v1:
                (self.folder / "cgroup.subtree_control").write_text("+memory")
            self.usable = self._limit_file(self.folder).exists()

    def make(self, name: str, limit_mb: int) -> Path | None:
        """Return a new group's folder, None where this machine has none."""
        if not self.usable:
            return None
        group = self.folder / name
        group.mkdir()
        self._limit_file(group).write_text(str(limit_mb << 20))
        return group

    def remove(self, group: Path) -> None:
        """Kill what is left in a group, and remove it."""
        give_up = time.monotonic() + 5
        while group.is_dir() and time.monotonic() < give_up:
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                group.rmdir()
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Remove all groups."""
        if self.folder.is_dir():
            for group in [path for path in self.folder.iterdir() if path.is_dir()]:
                self.remove(group)
            self.remove(self.folder)

    def _limit_file(self, group: Path) -> Path:
        return group / ("memory.limit_in_bytes" if self._v1 else "memory.max")
