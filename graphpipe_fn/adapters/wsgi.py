"""
The adapter to WSGI: what gunicorn, waitress, Granian, mod_wsgi and Flask's own server call.

    POST /                                    a request, answered
    GET, HEAD /                               the metadata as JSON, with the original's keys
    GET, HEAD /control/is_ready, /is_alive    "ok", or 503 "not ready"

It never looks at a POST's Content-Type: the original's clients send none, or a wrong one. It knows no server.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from graphpipe_fn.errors import GraphPipeError, MalformedMessage, MethodNotAllowed, NotFound, TooLarge, Unavailable
from graphpipe_fn.headers import call_of, reply_headers
from graphpipe_fn.messages import Call, Metadata
from graphpipe_fn.model import Answer, Reply
from graphpipe_fn.server import error_reply, metadata_json

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

BODY_MAX = 128 << 20  # the announcement's example request is 77 MB
READ_BYTES = 1 << 16  # at a time, of a body without a declared length

_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTROL = ("/control/is_ready", "/control/is_alive")


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

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO") or "/"
        call = _call(environ)
        try:
            if path in _CONTROL:
                _check_method(method, "GET, HEAD")
                if path == _CONTROL[0] and not is_ready():
                    raise Unavailable("not ready")
                reply = _text_reply("ok")
            elif path != "/":
                raise NotFound(f"there is nothing at {path[:200]!r}; requests go to /")
            else:
                _check_method(method, "POST" if metadata is None else "GET, HEAD, POST")
                if method == "POST":
                    reply = answer(_body(environ, limit_bytes), call)
                else:
                    assert metadata is not None  # else the method was refused
                    reply = Reply([metadata_json(metadata())], content_type="application/json")
        except Exception as exc:  # noqa: BLE001 - a bug becomes an answer, the log gets its detail
            reply = error_reply(exc, call)
            if method != "POST" and isinstance(exc, GraphPipeError):  # who reads a GET's answer reads text
                reply = replace(_text_reply(exc.message), status=reply.status, headers=reply.headers)
            if isinstance(exc, _MethodRefused):
                reply = replace(reply, headers=(*reply.headers, ("allow", exc.allowed)))
        body = reply.body()
        headers = [*reply_headers(reply), ("Content-Length", str(len(body))), ("X-Request-Id", call.id)]
        start_response(_status_line(reply.status), headers)
        return [b""] if method == "HEAD" else [body]

    return application


class _MethodRefused(MethodNotAllowed):
    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


def _check_method(method: str, allowed: str) -> None:
    if method not in allowed.split(", "):
        raise _MethodRefused(f"the method {method[:20]!r} is not known here; use {allowed}", allowed)


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


def _text_reply(text: str) -> Reply:
    return Reply([f"{text}\n".encode("utf-8", "replace")], content_type="text/plain; charset=utf-8")


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Error"
