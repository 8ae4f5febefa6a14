"""
The adapter to WSGI: what gunicorn, waitress, Granian, mod_wsgi and Flask's own server call. It knows no server; what
is at which path is told in endpoints.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.headers import call_of, reply_headers
from graphpipe_fn.messages import Call, Metadata
from graphpipe_fn.model import Answer

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

BODY_MAX = 128 << 20  # the announcement's example request is 77 MB
READ_BYTES = 1 << 16  # at a time, of a body without a declared length

_LENGTH = re.compile(r"[0-9]{1,18}")


def app(
    answer: Answer,
    *,
    metadata: Callable[[], Metadata] | None = None,
    limit_bytes: int = BODY_MAX,
    is_ready: Callable[[], bool] = lambda: True,
) -> WSGIApplication:
    """
    Return the WSGI application.

    Args:
        answer: `server.answerer(model)`, or anything of that type.
        metadata: The model's, for GET; without it GET is refused.
        limit_bytes: The largest body that is read; a larger declared one is refused unread.
        is_ready: What /control/is_ready asks.
    """

    endpoints = Endpoints(answer, metadata, is_ready)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO") or "/"
        call = _call(environ)
        reply = endpoints.reply(method, path, lambda: _body(environ, limit_bytes), call)
        body = reply.body()
        headers = [*reply_headers(reply), ("Content-Length", str(len(body))), ("X-Request-Id", call.id)]
        start_response(_status_line(reply.status), headers)
        return [b""] if method == "HEAD" else [body]

    return application


def _call(environ: WSGIEnvironment) -> Call:
    headers = {
        name: environ.get(key, "")
        for name, key in (
            ("x-request-id", "HTTP_X_REQUEST_ID"),
            ("fn-deadline", "HTTP_FN_DEADLINE"),
            ("traceparent", "HTTP_TRACEPARENT"),
            ("content-type", "CONTENT_TYPE"),
        )
    }
    return call_of(headers, call_id=uuid.uuid4().hex)


def _body(environ: WSGIEnvironment, limit_bytes: int) -> bytes:
    declared, source = environ.get("CONTENT_LENGTH") or "", environ["wsgi.input"]
    too_large = f"the limit is {limit_bytes:,}; send a smaller batch"
    try:
        if declared:
            if not _LENGTH.fullmatch(declared):
                raise MalformedMessage(f"the Content-Length {declared[:40]!r} is no number")
            length = int(declared)
            if length > limit_bytes:
                raise TooLarge(f"the body has {length:,} bytes; {too_large}")
            body = _read(source, length, piece=length)
            if len(body) < length:
                raise MalformedMessage(f"the body ended after {len(body):,} of {length:,} bytes")
            return body
        if environ.get("wsgi.input_terminated"):  # this server takes chunked bodies apart and ends the stream
            body = _read(source, limit_bytes + 1, piece=READ_BYTES)
            if len(body) > limit_bytes:
                raise TooLarge(f"the body has over {limit_bytes:,} bytes; {too_large}")
            return body
    except OSError as exc:
        raise MalformedMessage(f"the body could not be read to its end ({exc.strerror or exc})") from exc
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise MalformedMessage("this server takes no chunked bodies; send Content-Length")
    return b""


def _read(source: InputStream, count: int, *, piece: int) -> bytes:
    """Read up to `count` bytes; a server may return fewer than asked for before the end."""
    parts, have = [], 0
    while have < count and (part := source.read(min(piece, count - have))):
        parts.append(part)
        have += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Error"
