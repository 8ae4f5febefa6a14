"""
What is at which path: the same answers for every platform that hands over a method and a path.

    POST /                                    a request, answered
    GET, HEAD /                               the metadata as JSON, with the original's keys
    GET, HEAD /control/is_ready, /is_alive    "ok", or 503 "not ready"

It never looks at a POST's Content-Type: the original's clients send none, or a wrong one. It knows no platform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphpipe_fn.errors import GraphPipeError, MethodNotAllowed, NotFound, Unavailable
from graphpipe_fn.messages import Call, Metadata
from graphpipe_fn.model import Answer, Buffer, Reply
from graphpipe_fn.server import error_reply, metadata_json
from graphpipe_fn.values import dataclass

_CONTROL = ("/control/is_ready", "/control/is_alive")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """
    Answer by method and path.

    Args:
        answer: `server.answerer(model)`, or anything of that type.
        metadata: The model's, for GET; without it GET is refused.
        is_ready: What /control/is_ready asks.
    """

    answer: Answer
    metadata: Callable[[], Metadata] | None = None
    is_ready: Callable[[], bool] = lambda: True

    def reply(self, method: str, path: str, body: Callable[[], Buffer], call: Call) -> Reply:
        """
        Answer one request; never raise.

        Args:
            body: Reads the request's body; called for a POST only. It may raise what is to be answered.
        """
        try:
            if path in _CONTROL:
                _check_method(method, "GET, HEAD")
                if path == _CONTROL[0] and not self.is_ready():
                    raise Unavailable("not ready")
                return text_reply("ok")
            if path != "/":
                raise NotFound(f"there is nothing at {path[:200]!r}; requests go to /")
            _check_method(method, "POST" if self.metadata is None else "GET, HEAD, POST")
            if method == "POST":
                return self.answer(body(), call)
            assert self.metadata is not None  # else the method was refused
            return Reply([metadata_json(self.metadata())], content_type="application/json")
        except Exception as exc:  # noqa: BLE001 - a bug becomes an answer, the log gets its detail
            reply = error_reply(exc, call)
            if method != "POST" and isinstance(exc, GraphPipeError):  # who reads a GET's answer reads text
                reply = replace(text_reply(exc.message), status=reply.status, headers=reply.headers)
            if isinstance(exc, _MethodRefused):
                reply = replace(reply, headers=(*reply.headers, ("allow", exc.allowed)))
            return reply


def text_reply(text: str, status: int = 200) -> Reply:
    """Return a reply for people to read."""
    return Reply([f"{text}\n".encode("utf-8", "replace")], status, "text/plain; charset=utf-8")


class _MethodRefused(MethodNotAllowed):
    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


def _check_method(method: str, allowed: str) -> None:
    if method not in allowed.split(", "):
        raise _MethodRefused(f"the method {method[:20]!r} is not known here; use {allowed}", allowed)
