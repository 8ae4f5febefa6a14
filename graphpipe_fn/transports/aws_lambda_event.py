"""
What travels to a function on AWS Lambda and back: JSON around base64, with the client's part of the translation.

The event is an HTTP API's (payload format 2.0), so that whatever answers HTTP on Lambda (our adapter,
serverless-wsgi, Mangum) can be invoked, and a function that is invoked can have a URL as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphpipe_fn.base64_text import decode_base64, encode_base64
from graphpipe_fn.errors import TransportFailed
from graphpipe_fn.handover import HEADER, NAME_PATTERN
from graphpipe_fn.headers import reply_of, request_headers
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply


def encode_event(buffers: Sequence[Buffer], call: Call, more: Mapping[str, str] = {}) -> list[bytes]:
    """
    Return an HTTP API's event with these buffers as the body of a POST: JSON, in pieces.

    Args:
        more: Further headers, names in lower case.
    """
    length = sum(memoryview(buffer).nbytes for buffer in buffers)
    headers = {name.lower(): value for name, value in request_headers(call)}
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "host": "lambda",
            "content-type": "application/octet-stream",
            "content-length": str(length),
            **headers,
            **more,
        },
        "requestContext": {
            "http": {
                "method": "POST",
                "path": "/",
                "protocol": "HTTP/1.1",
                "sourceIp": "",
                "userAgent": "graphpipe-fn",
            },
            "requestId": headers.get("x-request-id", ""),
            "stage": "$default",
        },
        "isBase64Encoded": True,
        "body": "",
    }
    start = json.dumps(event, separators=(",", ":")).encode("ascii")
    return [start[:-2], encode_base64(buffers), start[-2:]]


def decode_answer(payload: Buffer, *, name: str = "", take: Callable[[str], Buffer] | None = None) -> Reply:
    """
    Read a function's answer to an HTTP event.

    Args:
        name: The function's, for error messages.
        take: Fetches a body that waits elsewhere by its name; see handover.

    Raises:
        TransportFailed: it is no such answer.
    """
    answer = json_object(payload)
    status, body, headers = answer.get("statusCode"), answer.get("body"), answer.get("headers")
    if isinstance(status, str) and re.fullmatch("[1-5][0-9][0-9]", status):
        status = int(status)
    try:
        if type(status) is not int or not isinstance(body, str | None):
            raise ValueError("no statusCode, or a body that is no text")
        if answer.get("isBase64Encoded") is True:
            content = decode_base64(body or "")
        else:
            content = (body or "").encode("utf-8", "surrogatepass")
    except ValueError as exc:
        raise TransportFailed(
            f"the function {name!r} answered {len(memoryview(payload)):,} bytes that are no HTTP answer ({exc}); "
            f"they begin with {bytes(memoryview(payload)[:40])!r}; is its handler adapters.aws_lambda's?"
        ) from exc
    lower = {key.lower(): str(value) for key, value in headers.items()} if isinstance(headers, Mapping) else {}
    waiting = lower.get(HEADER, "")
    return reply_of(status, lower, take(waiting) if take and NAME_PATTERN.fullmatch(waiting) else content)


def json_object(body: Buffer) -> dict[str, Any]:
    """Return the JSON object; an empty one for anything else."""
    try:
        value = json.loads(bytes(body))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
