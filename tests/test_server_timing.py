"""The Server-Timing header in both directions."""

from __future__ import annotations

import time

import pytest

from graphpipe_fn.messages import Timing
from graphpipe_fn.server_timing import ENTRIES_MAX, format_server_timing, parse_server_timing

BOTH_WAYS = {
    "none": ((), ""),
    "one": ((Timing("vgg", 0.4125),), "vgg;dur=412.500"),
    "cold": ((Timing("vgg", 5.0, True),), "vgg;dur=5000.000;desc=cold"),
    "several": (
        (Timing("hop", 0.000_001), Timing("pre-processor", 0.0, False)),
        "hop;dur=0.001, pre-processor;dur=0.000;desc=warm",
    ),
    "every token character": ((Timing("!#$%&'*+-.^_`|~aZ9", 0.001),), "!#$%&'*+-.^_`|~aZ9;dur=1.000"),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_timings_survive_the_header(name: str) -> None:
    """What is written is read back, to the microsecond."""
    timings, header = BOTH_WAYS[name]
    assert format_server_timing(timings) == header
    assert parse_server_timing(header) == timings


@pytest.mark.parametrize(
    ("header", "timings"),
    [
        ("cache", (Timing("cache", 0.0),)),
        ('db;desc="a, b; c";dur=53', (Timing("db", 0.053),)),
        ('db;desc="say \\"hi\\"";dur=1', (Timing("db", 0.001),)),
        ("a;dur=1,b;dur=2", (Timing("a", 0.001), Timing("b", 0.002))),
        ("  a ; DUR = 1.5 ;x=y , b", (Timing("a", 0.0015), Timing("b", 0.0))),
        ("a;dur=1;dur=2", (Timing("a", 0.001),)),
        ("a;dur=-1, b;dur=nan, c;dur=1e999, d;dur=x", tuple(Timing(name, 0.0) for name in "abcd")),
        ("a b;dur=1, c;dur=2", (Timing("c", 0.002),)),
        (",,;dur=1,a;;b,c", (Timing("c", 0.0),)),
        ('a;desc="open, b;dur=1', (Timing("b", 0.001),)),
        ("ü;dur=1", ()),
    ],
)
def test_foreign_headers_are_read_as_far_as_they_can_be(header: str, timings: tuple[Timing, ...]) -> None:
    """One entry that can't be read does not spoil the others."""
    assert parse_server_timing(header) == timings


def test_a_name_can_not_break_the_header() -> None:
    """Whatever a model calls its stage, the header is tokens only; a stage without a name is left out."""
    header = format_server_timing([Timing('a b,"c";\r\nSet-Cookie: x', 0.001), Timing("", 1.0)])
    assert header == "a_b__c____Set-Cookie__x;dur=1.000"


@pytest.mark.parametrize(
    "header",
    ["a;" * 500_000, "a=" * 500_000, " " * 1_000_000, "a" * 1_000_000 + "\x00", 'a;b="' * 200_000, "a, " * 500_000],
    ids=["params", "equals", "spaces", "token", "quotes", "entries"],
)
def test_a_hostile_header_costs_no_time(header: str) -> None:
    """A megabyte of anything is cut and read in milliseconds."""
    started = time.perf_counter()
    timings = parse_server_timing(header)
    assert time.perf_counter() - started < 0.1
    assert len(timings) <= ENTRIES_MAX
    assert len(format_server_timing([Timing("x" * 50, 1.0)] * 1_000)) < 5_000
