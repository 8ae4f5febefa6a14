"""
The adapter to AWS Lambda: an event becomes a request, a reply the answer; all that is known here of Lambda's events.

    function URL, API Gateway HTTP API   payload format 2.0
    API Gateway REST API, ALB            payload format 1.0
    transports.aws_lambda, by Invoke     payload format 2.0, so that one adapter serves both

A handler that raises makes Lambda answer with the exception's text and throw warm processes away, and an answer over
the payload limit is lost after the work is done; so nothing is raised, and the size is kept here. It imports nothing
of AWS.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from graphpipe_fn import handover as handed
from graphpipe_fn.adapters.endpoints import Endpoints, text_reply
from graphpipe_fn.base64_text import decode_base64, decoded_length, encode_base64, encoded_length
from graphpipe_fn.codec import decode_response
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.handover import Handover
from graphpipe_fn.headers import call_of, reply_headers
from graphpipe_fn.messages import Call, Metadata
from graphpipe_fn.model import Answer, Buffer, Reply
from graphpipe_fn.server import error_reply
from graphpipe_fn.values import dataclass

BODY_MAX = 6 << 20  # of a request; what Lambda takes has at most 4.7 MB once decoded
ANSWER_MAX = 6_291_556  # bytes of an answer's JSON; Lambda's own error message names this number
HANDED_MAX = 128 << 20  # bytes of a request that waits elsewhere; see handover
MARGIN_S = 0.35  # of the time left, to send the answer: 6 MB take 45 ms of a core, of which 256 MB have a seventh

TAKES = "function URLs, API Gateway's HTTP and REST APIs, load balancers, and graphpipe_fn's own lambda: road"
SPOILT = (
    "the gateway made text of the body's bytes, and spoilt them; "
    'set binaryMediaTypes to ["*/*"] in the REST API\'s settings'
)


def handler(
    answer: Answer,
    *,
    metadata: Callable[[], Metadata] | None = None,
    path: str = "/",
    limit_bytes: int = BODY_MAX,
    answer_limit_bytes: int = ANSWER_MAX,
    is_ready: Callable[[], bool] = lambda: True,
    handover: Handover | None = None,
) -> Callable[[Any, Any], dict[str, Any]]:
    """
    Return what Lambda calls with an event and a context.

    Args:
        answer: `server.answerer(model)`, or anything of that type.
        metadata: The model's, for GET; without it GET is refused.
        path: Where the gateway's route leads to this function; "/" is answered too, as Invoke has no path.
        limit_bytes: The largest body that is read.
        answer_limit_bytes: The largest answer, as JSON, that is sent.
        is_ready: What /control/is_ready asks.
        handover: Where messages over Lambda's limits wait, as the caller's transport knows it too.
    """
    endpoints = Endpoints(answer, metadata, is_ready)
    mount = "/" + path.strip("/")

    def handle(event: Any, context: Any) -> dict[str, Any]:
        answered = waited(event, context)
        if handed_on(event) and answered["statusCode"] != 200:
            raise HandedOnFailed(_reason(answered))
        return answered

    def waited(event: Any, context: Any) -> dict[str, Any]:
        call = Call(id=_request_id(context))
        method = ""
        place: Handover | None = None
        try:
            request = http_request(event)
            if request is None:
                reply = _not_taken(event, call)
            elif request.spoilt:
                reply = text_reply(SPOILT, 400)  # as text: it spoils the answer's bytes too
            else:
                call, method = call_at(context, request.headers), request.method
                where = _below(mount, request.path)
                place = handover if request.headers.get(handed.TAKES) == "1" else None
                reply = endpoints.reply(method, where, lambda: request.read(limit_bytes, handover), call)
            return http_answer(reply, call, with_body=method != "HEAD", limit_bytes=answer_limit_bytes, place=place)
        except Exception as exc:  # noqa: BLE001 - Lambda would answer with the exception's text
            return http_answer(error_reply(exc, call), call, with_body=method != "HEAD")

    return handle


class HandedOnFailed(RuntimeError):
    """A message that nobody waits for failed: Lambda tries again, and then keeps it with this text."""


def handed_on(event: Any) -> bool:
    """
    Return whether nobody waits for an answer to this event: a stage handed it on.

    Gateways and function URLs set an apiId, whatever their callers send: nobody outside can say this of a request.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("requestContext"), Mapping):
        return False
    return _headers(event).get(handed.HANDED_ON) == "1" and not {"apiId", "elb"} & set(event["requestContext"])


def _reason(answered: Mapping[str, Any]) -> str:
    body = answered["body"]
    with contextlib.suppress(MalformedMessage, ValueError):
        if answered["isBase64Encoded"]:
            error = decode_response(decode_base64(body)).errors[0]
            return f"{error.code} {error.message}"
    return f"{answered['statusCode']} {body[:500]}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """
    An HTTP request, as an event holds it.

    Args:
        path: Without the stage's name.
        query: Percent-encoded, without its "?".
        headers: Names in lower case.
        body: As the event has it.
        encoded: Whether the body is in base64.
        stage: The stage's name where the event's own path starts with it, else "".
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    encoded: bool
    stage: str = ""

    @property
    def spoilt(self) -> bool:
        """Return whether the gateway made text of bytes, which nobody can undo."""
        return not self.encoded and isinstance(self.body, str) and "\ufffd" in self.body

    def read(self, limit_bytes: int = BODY_MAX, handover: Handover | None = None) -> Buffer:
        """
        Return the body's bytes.

        Args:
            handover: Where it waits, if it was too large for the event.

        Raises:
            MalformedMessage: it is no text, or no base64 though it says so.
            TooLarge: over the limit.
        """
        waiting = self.headers.get(handed.HEADER, "")
        if not waiting:
            return _body(self, limit_bytes)
        if handover is None or not handed.NAME_PATTERN.fullmatch(waiting):
            raise MalformedMessage(
                f"the message was handed over as {waiting[:40]!r}, and no such thing is here; give both ends "
                "of the road the same place for large messages"
            )
        return handover.take(waiting, limit_bytes=HANDED_MAX)


def http_request(event: Any) -> HttpRequest | None:
    """Return the HTTP request that an event holds; None for an event of another kind."""
    if not isinstance(event, Mapping):
        return None
    context, query, left = event.get("requestContext"), "", ""
    if event.get("version") == "2.0" and isinstance(context, Mapping) and isinstance(context.get("http"), Mapping):
        method, path, stage = context["http"].get("method"), event.get("rawPath"), context.get("stage")
        if isinstance(path, str) and isinstance(stage, str) and (path + "/").startswith(f"/{stage}/"):
            path, left = path[len(stage) + 1 :], stage  # HTTP APIs put it in front, unless it is $default
        query = event.get("rawQueryString") or ""
    else:
        method, path = event.get("httpMethod"), event.get("path")
        query = _query(event, coded=isinstance(context, Mapping) and "elb" in context)
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    encoded = event.get("isBase64Encoded") is True
    return HttpRequest(method, path or "/", str(query), _headers(event), event.get("body"), encoded, left)


def _query(event: Mapping[str, Any], *, coded: bool) -> str:
    """Return format 1.0's query; a load balancer leaves it percent-encoded, a REST API does not."""
    several = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    if not isinstance(several, Mapping):
        return ""
    pairs = [
        (str(name), str(value))
        for name, values in several.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return "&".join(f"{name}={value}" for name, value in pairs) if coded else urlencode(pairs, errors="replace")


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    single, multiple = event.get("headers"), event.get("multiValueHeaders")
    if not isinstance(single, Mapping):
        several = multiple if isinstance(multiple, Mapping) else {}
        single = {name: values[-1] for name, values in several.items() if isinstance(values, list) and values}
    return {name.lower(): value for name, value in single.items() if isinstance(value, str)}


def _below(mount: str, path: str) -> str:
    if mount != "/" and (path + "/").startswith(mount + "/"):
        path = path[len(mount) :]
    return path or "/"


def _body(request: HttpRequest, limit_bytes: int) -> Buffer:
    text = "" if request.body is None else request.body
    if not isinstance(text, str):
        raise MalformedMessage(f"the event's body is a {type(text).__name__}; send text, or bytes as base64")
    length = decoded_length(text) if request.encoded else len(text)
    if length > limit_bytes:
        raise TooLarge(f"the body has {length:,} bytes; the limit is {limit_bytes:,}; send a smaller batch")
    if request.encoded:
        try:
            return decode_base64(text)
        except ValueError as exc:
            raise MalformedMessage(f"the event's body is no base64 ({exc}), though it says so") from exc
    return text.encode("utf-8", "surrogatepass")


def _request_id(context: Any) -> str:
    given = getattr(context, "aws_request_id", "")
    return given if isinstance(given, str) else ""


def call_at(context: Any, headers: Mapping[str, str] = {}) -> Call:
    """
    Return what travels beside a call: its id, and Lambda's own deadline where a header names no earlier one.

    Args:
        context: As Lambda hands it over.
        headers: Names in lower case.
    """
    call = call_of(headers, call_id=_request_id(context))
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return call
    ends_s = time.monotonic() + remaining() / 1000 - MARGIN_S
    return replace(call, deadline_s=ends_s if call.deadline_s is None else min(ends_s, call.deadline_s))


def _not_taken(event: Any, call: Call) -> Reply:
    import logging  # 5 ms of a cold start

    what = f"with the keys {sorted(map(str, event))[:12]}" if isinstance(event, Mapping) else type(event).__name__
    logging.getLogger(__name__).warning("call %s: refused an event %s", call.id or "without id", what)
    return text_reply(f"this function does not take such an event ({what[:400]}); it takes those of {TAKES}", 400)


def http_answer(
    reply: Reply,
    call: Call,
    *,
    with_body: bool = True,
    limit_bytes: int = ANSWER_MAX,
    place: Handover | None = None,
) -> dict[str, Any]:
    """
    Return an answer as every gateway takes it; one over the limit becomes an error that says so.

    Args:
        place: Where one over the limit waits for a caller who fetches it there.
    """
    headers = dict(reply_headers(reply))
    if call.id:
        headers["X-Request-Id"] = call.id
    # Text goes as text: a REST API without binaryMediaTypes hands base64 on as it is.
    encoded = not reply.content_type.startswith(("text/", "application/json"))
    answer = {"statusCode": reply.status, "headers": headers, "isBase64Encoded": encoded, "body": ""}
    if not with_body:
        return answer
    length = len(json.dumps(answer)) + encoded_length(reply.length)
    if encoded and length <= limit_bytes:
        answer["body"] = encode_base64(reply.buffers).decode("ascii")
    elif not encoded:
        answer["body"] = reply.body().decode("utf-8", "replace")
        length = len(json.dumps(answer))  # what is not ASCII is escaped, by Lambda's older Pythons at least
    if length <= limit_bytes:
        return answer
    if place is not None:
        headers[handed.HEADER] = place.put(reply.buffers)
        return {**answer, "isBase64Encoded": False, "body": ""}
    why = TooLarge(
        f"the answer takes {length:,} bytes as Lambda's payload (base64 and headers included); the limit is "
        f"{limit_bytes:,}; send fewer rows at once, or ask for fewer outputs"
    )
    return http_answer(error_reply(why, call), call)
