"""
The `Server-Timing` header: what each hop cost, as browsers and other people's tools read it too.

    vgg;dur=412.503;desc=cold, hop;dur=3.120

`dur` is in milliseconds, `desc` says whether the call started the stage. Source: W3C Server Timing, section 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

from graphpipe_fn.messages import Timing

ENTRIES_MAX = 64  # eight hops of eight stages; what a peer sends beyond is not passed on
HEADER_MAX = 8192  # characters; servers commonly refuse header lines longer than this

_FOREIGN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ENTRY = rf"\s*({_NAME})((?:\s*;\s*{_NAME}(?:\s*=\s*(?:{_NAME}|{_QUOTED}))?)*)\s*(?:,|$)"
_PARAM = rf";\s*({_NAME})\s*=\s*(?:({_NAME})|({_QUOTED}))"


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return those of an entry and of its parameters: 1 ms of a cold start, and only clients read the header."""
    return re.compile(_ENTRY), re.compile(_PARAM)


def format_server_timing(timings: Sequence[Timing]) -> str:
    """
    Write timings as a header value; "" for none.

    Args:
        timings: A name's characters that no HTTP token holds are written as "_"; a timing without a name is left out.
    """
    entries = []
    for timing in timings[:ENTRIES_MAX]:
        if not timing.name:
            continue
        entry = f"{_FOREIGN.sub('_', timing.name)};dur={timing.seconds * 1000:.3f}"
        if timing.cold is not None:
            entry += f";desc={'cold' if timing.cold else 'warm'}"
        entries.append(entry)
    return ", ".join(entries)


def parse_server_timing(value: str) -> tuple[Timing, ...]:
    """
    Read a header value of anybody's; what can't be read is left out.

    Returns:
        At most ENTRIES_MAX timings; 0 seconds where there is no sensible `dur`.
    """
    entries, parameters = _patterns()
    timings: list[Timing] = []
    place = 0
    value = value[:HEADER_MAX]
    while place < len(value) and len(timings) < ENTRIES_MAX:
        entry = entries.match(value, place)
        if entry is None:
            place = value.find(",", place) + 1
            if place == 0:
                break
            continue
        place = entry.end()
        params: dict[str, str] = {}
        for name, token, quoted in parameters.findall(entry[2]):
            params.setdefault(name.lower(), token or quoted[1:-1])  # the first of a name counts, says the spec
        cold = {"cold": True, "warm": False}.get(params.get("desc", ""))
        timings.append(Timing(entry[1], _seconds(params.get("dur", "")), cold))
    return tuple(timings)


def _seconds(milliseconds: str) -> float:
    try:
        seconds = float(milliseconds) / 1000
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
