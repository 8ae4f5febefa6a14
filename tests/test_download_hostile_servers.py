"""Whatever a server does, a fetch from it ends in time, small, and with an error of ours or the right bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hostile import servers


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Fetch from all servers, in a process of their own whose memory can be told."""
    done = subprocess.run(
        [sys.executable, "-W", "error", servers.__file__], capture_output=True, text=True, timeout=300
    )
    assert (done.stderr, done.returncode) == ("", 0)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [case.name for case in servers.CASES])
def test_a_fetch_ends_well(seen: dict[str, Any], name: str) -> None:
    """A fetch ends as its case says, within its deadline and a second, after its limit and 16 MB at most."""
    (result,) = [result for result in seen["results"] if result["name"] == name]
    assert result["right"], result
    assert result["seconds"] <= servers.TIMEOUT_S + 1.0
    assert result["sent"] <= servers.LIMIT_BYTES + 16_000_000
    assert result["message"].isprintable()


def test_memory_stays_small(seen: dict[str, Any]) -> None:
    """All of them together, a dozen at a time and with the servers in the same process, stay under 200 MB."""
    assert seen["peak_bytes"] <= 200_000_000


def test_there_are_enough() -> None:
    """No name is used twice, and there are over 60."""
    names = [case.name for case in servers.CASES]
    assert len(names) == len(set(names)) > 60
