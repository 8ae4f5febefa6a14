"""Virtual environments for packages that can't or shouldn't be installed beside the project's own: built once."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest
from packages import cache_folder

PIP_TIMEOUT_S = 900  # the largest environment is 1 GB of wheels
# What pip says where a package is not to be had; anything else is a mistake of ours.
UNREACHABLE = ("No matching distribution found", "due to an OSError")


def environment(name: str, *installs: Sequence[str]) -> Path:
    """
    Return the Python of a virtual environment, made unless it is in the cache with just these packages.

    A test that needs it is skipped where pip can't fetch them.

    Args:
        name: The environment's folder in the cache.
        installs: The arguments of each `pip install`, one after the other.
    """
    home = cache_folder() / "environments" / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    home.parent.mkdir(exist_ok=True)
    python, done = home / "bin" / "python", home / "done"
    contents = "\n".join(" ".join(install) for install in installs)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be building it
        if not done.exists() or done.read_text() != contents:
            venv.create(home, clear=True, symlinks=True)
            for install in installs:
                _install(python, install)
            done.write_text(contents)
    return python


def _install(python: Path, arguments: Sequence[str]) -> None:
    """Install into an environment with this environment's pip."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
    # Python compiles what is imported; compiling all of it takes longer than the rest.
    command += ["--no-compile", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S)
    if done.returncode:
        cannot = f"pip can't install {' '.join(arguments)}"
        if any(words in done.stderr for words in UNREACHABLE):
            pytest.skip(f"{cannot}: {done.stderr.strip().splitlines()[-1]}")
        pytest.fail(f"{cannot}:\n{done.stderr}")
