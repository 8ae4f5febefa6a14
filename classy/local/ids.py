"""
Fn's ids and times: 26 characters that look like ULIDs, and RFC 3339 with milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import time

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs
CHARACTERS = 26


def make_id(*names: str) -> str:
    """Return the id of the thing of these names, the same at every start: 26 characters that look like a ULID."""
    return _text(int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:16]))


def invoke_url(agent_url: str, app: str, function: str) -> str:
    """Return the URL at which an agent invokes a function; it follows from the names."""
    return f"{agent_url}/invoke/{make_id(app, function)}"


def timestamp() -> str:
    """Return the time as Fn's API writes it."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def make_call_id() -> str:
    """Return a new id; later calls sort after earlier ones."""
    return _text(int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10)))


def _text(number: int) -> str:
    return "".join(CROCKFORD[number >> 5 * place & 31] for place in reversed(range(CHARACTERS)))
