"""
HTTP headers: what travels beside a message, between a Call or a Reply and the names it has on every HTTP road.

    X-Request-Id       Call.id
    Fn-Deadline        Call.deadline_s, as RFC 3339 in UTC: the name under which Fn hands its own deadline over
    traceparent        Call.traceparent
    Server-Timing      Reply.timings
    Retry-After        GraphPipeError.retry_after_s
    Graphpipe-Status   Reply.status, where the road may change HTTP's own (Fn's direct invoke makes 4xx a 200)

It knows no socket and no platform.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply
from graphpipe_fn.server_timing import format_server_timing, parse_server_timing

STATUS_HEADER = "graphpipe-status"
ID_PATTERN = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")  # in every log line, so nothing that could break one
VALUE_MAX = 512  # characters of a header that is passed on unread

_CONTROL = re.compile(r"[^\x20-\x7e]")


def call_of(headers: Mapping[str, str], *, call_id: str = "") -> Call:
    """
    Read what travels beside a request.

    Args:
        headers: Names in lower case. What can't be read counts as absent.
        call_id: The platform's own, for requests that bring none.
    """
    given = headers.get("x-request-id", "")
    return Call(
        id=given if ID_PATTERN.fullmatch(given) else call_id,
        deadline_s=parse_deadline(headers.get("fn-deadline", "")),
        traceparent=header_value(headers.get("traceparent", ""))[:VALUE_MAX],
        content_type=header_value(headers.get("content-type", ""))[:VALUE_MAX],
    )


def request_headers(call: Call) -> list[tuple[str, str]]:
    """Return the headers that tell a peer what a Call holds."""
    headers = []
    if call.id:
        headers.append(("X-Request-Id", header_value(call.id)))
    if call.deadline_s is not None:
        headers.append(("Fn-Deadline", format_deadline(call.deadline_s)))
    if call.traceparent:
        headers.append(("traceparent", header_value(call.traceparent)))
    return headers


def reply_headers(reply: Reply) -> list[tuple[str, str]]:
    """Return a reply's headers but for Content-Length, which belongs to whoever writes the body."""
    headers = [("Content-Type", header_value(reply.content_type))]
    timing = format_server_timing(reply.timings)
    if timing:
        headers.append(("Server-Timing", timing))
    headers += [(name.title(), header_value(value)) for name, value in reply.headers]
    return headers


def reply_of(status: int, headers: Mapping[str, str], body: bytes | bytearray | memoryview) -> Reply:
    """
    Read a peer's answer, the reverse of `reply_headers`.

    Args:
        headers: Names in lower case.
    """
    sent = headers.get(STATUS_HEADER, "")
    if status == 200 and re.fullmatch("[45][0-9][0-9]", sent):
        status = int(sent)
    kept = tuple((name, headers[name]) for name in ("retry-after", "location", "x-request-id") if name in headers)
    return Reply(
        [body],
        status,
        headers.get("content-type", ""),
        parse_server_timing(headers.get("server-timing", "")),
        kept,
    )


def header_value(text: str) -> str:
    """Return text that can stand in a header line: anything but printable ASCII becomes a space."""
    return _CONTROL.sub(" ", text).strip()


def format_deadline(deadline_s: float) -> str:
    """
    Return a deadline as RFC 3339 in UTC, rounded down to the millisecond.

    Args:
        deadline_s: On `time.monotonic()`'s scale.
    """
    milliseconds = int((time.time() + deadline_s - time.monotonic()) * 1000)
    whole, fraction = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{fraction:03d}Z"


def parse_deadline(text: str) -> float | None:
    """
    Return an RFC 3339 time on `time.monotonic()`'s scale; None if it is none, or has no offset.

    Fn writes whole seconds, rounded down, so a function has up to a second more than it is told.
    """
    if not text:
        return None
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        return time.monotonic() + moment.timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def parse_retry_after(text: str) -> float | None:
    """Return the seconds of a `Retry-After` header; None for none, or a date (no peer of ours sends one)."""
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text.strip()) else None
