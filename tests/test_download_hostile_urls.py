"""No URL, name or redirect makes the Fetcher connect to an address that is not public: seen at the socket itself."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from hostile import urls

WATCH = pathlib.Path(__file__).parent / "hostile" / "watch.py"


def watched(seed: int, mode: str) -> dict[str, Any]:
    """Run the corpus of a seed in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", WATCH, str(seed), mode], capture_output=True, text=True, timeout=300
    )
    assert (done.stderr, done.returncode) == ("", 0)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module", params=["live", "dry"])
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what was seen of seed 1: with listeners at every address, and with every connection cut off."""
    found = watched(1, request.param)
    if request.param == "live" and not found["live"]:
        pytest.skip("no network namespace may be made here")
    return found


def check(seen: dict[str, Any]) -> None:
    """Hold everything that was seen to what must be."""
    forbidden = {
        (result["name"], address)
        for result in seen["results"]
        for address in result["dialled"]
        if address not in urls.HONEST and result["name"] != urls.DETECTOR
    }
    wrong = [result for result in seen["results"] if not _as_it_must(result, live=seen["live"])]
    assert (set(), [], []) == (
        forbidden,
        wrong,
        [result for result in seen["results"] if result["seconds"] > 4.0],  # its deadline is 3 s
    )


def _as_it_must(result: dict[str, Any], *, live: bool) -> bool:
    if result["ended"].startswith("escaped"):
        return False
    if result["served"] is None:
        return True
    if not live:
        return bool(result["dialled"]) is result["served"]
    return (result["ended"] == "public") is result["served"]


def test_no_forbidden_address_is_connected_to(seen: dict[str, Any]) -> None:
    """Of all hostile URLs none connects anywhere but to public addresses, and every honest one is served."""
    check(seen)


def test_the_detector_works(seen: dict[str, Any]) -> None:
    """A connection to a forbidden address would have been seen: the one that a setting opens is."""
    (control,) = [result for result in seen["results"] if result["name"] == urls.DETECTOR]
    assert control["dialled"] == ["127.0.0.1"]
    if seen["live"]:
        strangers = sorted(set(seen["reached"]) - urls.HONEST)
        assert (strangers, seen["reached"].count("127.0.0.1")) == (["127.0.0.1"], 1)


def test_most_refusals_name_the_address(seen: dict[str, Any]) -> None:
    """Cases are refused for where they lead, not for some mistake in how they are written."""
    ended = [result["ended"] for result in seen["results"]]
    assert ended.count("ForbiddenAddress") >= 500
    assert len(ended) >= 1000


def test_messages_are_printable_and_short(seen: dict[str, Any]) -> None:
    """Whatever a URL holds, its error is one printable line."""
    odd = [r for r in seen["results"] if not r["message"].isprintable() or len(r["message"]) > 1000]
    assert odd == []


def test_a_seed_is_a_corpus() -> None:
    """The same seed makes the same cases, another one others, and no name twice."""
    one = urls.cases(1)
    assert one == urls.cases(1)
    assert one != urls.cases(2)
    assert len(one) == len({case.name for case in one})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_other_seeds(seed: int) -> None:
    """What holds for one seed holds for others."""
    check(watched(seed, "live"))
