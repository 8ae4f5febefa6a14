"""The base image of the check: a bare Debian with its own Python, made by debootstrap and kept between runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from docker_engine import NoEngine
from packages import cache_folder

SUITE, PYTHON = "bookworm", "3.11"
# obstore opens no storage, not even over plain HTTP, where the system has no certificates. Every usual base has them.
INCLUDED = ("python3", "ca-certificates")
DEBOOTSTRAP_S = 600.0


def base_tar() -> Path:
    """
    Return a root file system as a tar file.

    Raises:
        NoEngine: debootstrap can't make one.
    """
    tar = cache_folder() / f"debian-{SUITE}-{'-'.join(INCLUDED)}.tar"
    if tar.exists():
        return tar
    print(f"making a base image of Debian {SUITE} with debootstrap …", flush=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
        root = Path(temporary, "root")
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEBOOTSTRAP_S)
        if done.returncode:
            raise NoEngine(f"debootstrap failed: {' '.join((done.stdout + done.stderr).strip().splitlines()[-2:])}")
        shutil.rmtree(root / "var/lib/apt/lists")
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        fresh = Path(temporary, "root.tar")
        subprocess.run(["tar", "-C", str(root), "-cf", str(fresh), "."], check=True)
        fresh.replace(tar)
    return tar
