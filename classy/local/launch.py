"""
What a function's process is started with: its launch and its environment.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything that a process is started with; when it changes, the process must be another one."""

    app_id: str
    fn_id: str
    name: str
    folder: Path
    file: str
    handler: str
    config: Mapping[str, str]
    memory_mb: int
    timeout_s: int
    idle_timeout_s: int


def environment(launch: Launch, folder: Path) -> dict[str, str]:
    """
    Return a process's whole environment: Fn's, the configuration, and nothing of this machine's user.

    Args:
        launch: Its configuration may set anything but what the FDK needs.
        folder: Holds the socket and the process's own temporary folder.
    """
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/fn",  # need not exist; it does not in Fn's images either
        "HOSTNAME": "localhost",
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(launch.folder),
        "PYTHONUNBUFFERED": "1",  # a line belongs to the call that printed it
        **launch.config,
        "FN_APP_ID": launch.app_id,
        "FN_FN_ID": launch.fn_id,
        "FN_MEMORY": str(launch.memory_mb),
        "FN_TYPE": "sync",
        "FN_FORMAT": "http-stream",
        "FN_LISTENER": f"unix:{folder / 'lsnr.sock'}",
    }
