"""
Whether a part of a local cloud answers: its process may be there and hang.
"""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

ANSWER_S = 5.0


def answers(url: str, path: str, *, timeout_s: float = ANSWER_S) -> bool:
    """Return whether a GET is answered with success, in time; no proxy is asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
