"""
Flask behind Lambda's HTTP events, by serverless-wsgi; both are imported with the first request that needs them.

serverless-wsgi 3.1 is mended where it would lose something: cookies of format 2.0 in both directions, a stage's name
in the path, and answers that are larger than Lambda sends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from classy import answers
from classy.uploads import JSON
from graphpipe_fn.adapters.aws_lambda import ANSWER_MAX, HttpRequest, http_answer
from graphpipe_fn.errors import GraphPipeError, InternalError, TooLarge, status_of
from graphpipe_fn.headers import format_deadline
from graphpipe_fn.messages import Call, Error
from graphpipe_fn.model import Reply

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)


class Web:
    """
    Answer HTTP events with a Flask app.

    Args:
        create: Makes the app, once.
    """

    def __init__(self, create: Callable[[], Flask]) -> None:
        self._create = create
        self._app: Flask | None = None

    def answer(self, event: Mapping[str, Any], request: HttpRequest, call: Call, context: Any) -> dict[str, Any]:
        """Return the app's answer, as the event's sender takes it."""
        from serverless_wsgi import handle_request

        if self._app is None:
            self._app = self._create()
        answer: dict[str, Any] = handle_request(self._app, _prepared(event, request, call), context)
        answer.setdefault("body", "")
        _move_cookies(event, answer)
        size = len(json.dumps(answer, ensure_ascii=False).encode())
        if size > ANSWER_MAX:
            why = TooLarge(
                f"the answer takes {size:,} bytes; Lambda sends at most {ANSWER_MAX:,}; ask for less at once"
            )
            return http_answer(refused(why, call), call)
        return answer


def refused(error: Exception, call: Call) -> Reply:
    """Return an error as the front says errors: JSON; a bug's text goes to the log only."""
    if not isinstance(error, GraphPipeError):
        log.error("call %s failed", call.id, exc_info=error)
        error = InternalError(f"internal error, call {call.id}; the log has the detail")
    value = answers.refusal(0, Error(error.code, error.message), retryable=False)
    return Reply([answers.encode({**value, "call_id": call.id})], status_of(error.code), JSON)


def _prepared(event: Mapping[str, Any], request: HttpRequest, call: Call) -> dict[str, Any]:
    """Return the event with what serverless-wsgi looks for where it looks for it, and the call's own headers."""
    ours = {"x-request-id": call.id}
    if call.deadline_s is not None:
        ours["fn-deadline"] = format_deadline(call.deadline_s)
    several = event.get("multiValueHeaders")
    headers = {name: value for name, value in (event.get("headers") or {}).items() if name.lower() not in ours} | ours
    prepared = {**event, "headers": headers}
    if isinstance(several, Mapping) and several:
        kept = {name: values for name, values in several.items() if name.lower() not in ours}
        prepared["multiValueHeaders"] = kept | {name: [value] for name, value in ours.items()}
    if event.get("version") != "2.0":
        return prepared
    prepared["rawPath"] = request.path
    # Where the path has no stage in front, neither have the app's own URLs.
    prepared["requestContext"] = {**event["requestContext"], "stage": request.stage}
    if "cookies" not in event and "cookie" in request.headers:
        prepared["cookies"] = [request.headers["cookie"]]
    return prepared


def _move_cookies(event: Mapping[str, Any], answer: dict[str, Any]) -> None:
    """Format 2.0 takes cookies in a list of their own, for headers of one name are joined by commas there."""
    headers = answer.get("headers")
    if event.get("version") != "2.0" or not isinstance(headers, dict):
        return
    names = [name for name in headers if name.lower() == "set-cookie"]
    if names:
        answer["cookies"] = [headers.pop(name) for name in names]
