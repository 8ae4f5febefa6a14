"""
Answers: a value as JSON, an error as a problem (RFC 9457).

A problem tells what its error says and nothing of where it happened: no path, no trace; a bug's detail is in the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

import flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

import classy.errors
import graphpipe_fn.errors
from classy import answers
from classy.errors import RETRYABLE, BadRequest
from graphpipe_fn.errors import GraphPipeError, InternalError, NotFound, TooLarge, status_of

JSON = "application/json"
PROBLEM = "application/problem+json"
IMMUTABLE = "public, max-age=31536000, immutable"  # for what has its version in its URL
log = logging.getLogger(__name__)


def json_reply(value: Mapping[str, Any], status: int = 200) -> flask.Response:
    """Return a value as JSON in UTF-8."""
    return flask.Response(answers.encode(value), status, content_type=JSON)


def conditional(reply: flask.Response) -> flask.Response:
    """Return an answer with an ETag, or 304 where the caller has it already."""
    reply.make_conditional(flask.request)
    return reply


def problem(code: int, message: str, *, call_id: str, retryable: bool) -> dict[str, Any]:
    """Return an error as RFC 9457 has it, with our code beside."""
    status = status_of(code)
    return {
        "type": f"urn:classy:error:{code}",
        "title": titles().get(code) or HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
        "retryable": retryable,
        "request_id": call_id,
    }


def problem_reply(
    code: int, message: str, *, call_id: str, retryable: bool = False, retry_after_s: float | None = None
) -> flask.Response:
    """Return an error as an answer; its status follows from its code."""
    value = problem(code, message, call_id=call_id, retryable=retryable)
    reply = flask.Response(answers.encode(value), value["status"], content_type=PROBLEM)
    if retry_after_s is not None:
        reply.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    return reply


def error_reply(exc: Exception, *, call_id: str) -> flask.Response:
    """Return whatever was raised as an answer."""
    known = _known(exc)
    if known is None:
        log.error("call %s: internal error", call_id, exc_info=exc)
        known = InternalError(f"internal error, call {call_id}; the log has the detail")
    elif known.status >= 500:
        log.warning("call %s: %d %s", call_id, known.code, known.message)
    reply = problem_reply(
        known.code,
        known.message,
        call_id=call_id,
        retryable=known.retryable or known.code in RETRYABLE,
        retry_after_s=known.retry_after_s,
    )
    if isinstance(exc, MethodNotAllowed):
        reply.headers["Allow"] = ", ".join(sorted({*(exc.valid_methods or ()), "OPTIONS"}))
    return reply


def _known(exc: Exception) -> GraphPipeError | None:
    if isinstance(exc, GraphPipeError):
        return exc
    if isinstance(exc, MethodNotAllowed):
        return graphpipe_fn.errors.MethodNotAllowed("this path does not know that method; Allow lists those it knows")
    if isinstance(exc, RequestEntityTooLarge):
        return TooLarge("the body has more bytes or more parts than are taken; send fewer or smaller pictures")
    if isinstance(exc, HTTPException):
        if exc.code == HTTPStatus.NOT_FOUND:
            return NotFound("there is nothing at this path; GET api/openapi.json lists what there is")
        if exc.code is not None and 400 <= exc.code < 500:
            return BadRequest("the request can't be read; it may have been cut short")
    return None


@cache
def titles() -> Mapping[int, str]:
    """Return what each error is, by its code: the first sentence of its class."""
    kinds = [
        kind
        for module in (graphpipe_fn.errors, classy.errors)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, GraphPipeError)
        and kind is not GraphPipeError
        and "code" in vars(kind)
    ]
    return {kind.code: (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".") for kind in kinds}
