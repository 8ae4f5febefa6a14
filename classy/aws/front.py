"""
Classy's front on Lambda: one handler for everything that may call it, by the event's kind.

    HTTP        POST / and /classify, GET with ?url=     the front itself, as on Fn
                …/handler                                the article's answer
                any other path                           the Flask app: the page, /api, /graphpipe
    queue       each message by itself; failures come again, alone
    upload      classified and recorded; a failure is raised, so that Lambda tries again and then gives it to the
                function's dead-letter queue
    question    by `serverless invoke`: the likeliest classes are printed, the answer is returned
    unknown     an answer that says what is taken
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from classy import answers
from classy.asks import Ask, Options
from classy.aws import article
from classy.aws.batches import answer_batch
from classy.aws.benchmark import cycles_of, measured, process_age_ms
from classy.aws.kinds import kind_of, unwrapped
from classy.aws.web import Web, refused
from classy.errors import BadRequest
from classy.front import Classy
from classy.peers import aws_access, handover
from classy.settings import Settings
from graphpipe_fn.adapters.aws_lambda import SPOILT, HttpRequest, call_at, handed_on, http_answer, http_request
from graphpipe_fn.adapters.endpoints import Endpoints, text_reply
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply

if TYPE_CHECKING:
    from flask import Flask

    from classy.aws.dead_letters import DeadLetters

Handler = Callable[[Any, Any], Any]
PATHS = ("/", "/classify")
TAKES = (
    "HTTP events, SQS batches, S3 notifications, EventBridge's, CloudEvents, "
    '{"imagelink": "https://…"}, {"name": …}, {"image": BASE64}, {"images": […]}, '
    '{"warmup": true} and {"num_of_cycles": 10}'
)

GATEWAY_S = 28.5  # API Gateway waits for 29 s (REST) or 30 s (HTTP) and then answers something of its own

log = logging.getLogger(__name__)


class UploadFailed(RuntimeError):
    """An upload's event could not be dealt with; Lambda tries again and keeps it in the end."""


class Front:
    """
    Be what Lambda calls with an event and a context.

    Args:
        classy: What answers.
        sample: The picture that `{}` and the benchmark ask about, as a file's bytes.
    """

    def __init__(self, classy: Classy, settings: Settings, *, sample: Callable[[], bytes]) -> None:
        self._classy = classy
        self._settings = settings
        self._sample = sample
        self._web = Web(self._app)
        self._control = Endpoints(classy.answer)
        self._init_ms = process_age_ms()
        self._calls = 0
        self._dead_letters: DeadLetters | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        """
        Deal with one event.

        Raises:
            UploadFailed: see there. Nothing else is raised: Lambda would end the process, and tell the caller why.
        """
        self._calls += 1
        call = call_at(context)
        kind = kind_of(event := unwrapped(event))
        if kind == "http":
            return self._http(event, context)
        if kind == "queue":  # whatever is answered that names no failures says that all messages are done
            return answer_batch(event["Records"], self._classy.answer, call, dead=self._dead)
        try:
            if kind == "question":
                return self._question(event, call)
            if kind in ("warm-up", "benchmark"):
                return self._warm(event, call, cycles=cycles_of(event) if kind == "benchmark" else 0)
        except GraphPipeError as exc:
            return {"error": {"code": exc.code, "message": exc.message}}
        if kind == "upload":
            return self._upload(event, call)
        what = f"the keys {sorted(map(str, event))[:12]}" if isinstance(event, Mapping) else type(event).__name__
        log.warning("call %s: refused an event of %s", call.id, what)
        return {"error": {"code": BadRequest.code, "message": f"an event of {what[:400]}; taken are {TAKES}"}}

    def _dead(self, record: Mapping[str, Any], why: str, final: bool) -> bool:
        """Put a message away that is not tried again, where the settings name a queue for that."""
        if not self._settings.dead_letters:
            return False
        if self._dead_letters is None:
            from classy.aws.dead_letters import DeadLetters

            url, deliveries = self._settings.dead_letters, self._settings.deliveries
            self._dead_letters = DeadLetters(url, deliveries=deliveries, access=aws_access(self._settings))
        return self._dead_letters.take(record, why, final=final)

    def _http(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        request = http_request(event)
        assert request is not None  # kind_of() found one
        call = replace(_hurried(event, call_at(context, request.headers)), method=request.method, query=request.query)
        with_body = request.method != "HEAD"
        if handed_on(event):
            return self._finish(request, call)
        try:
            if request.spoilt:
                return http_answer(text_reply(SPOILT, 400), call)
            if request.path.startswith("/control/"):
                reply = self._control.reply(request.method, request.path, lambda: b"", call)
            elif request.path in PATHS and (request.method == "POST" or _asks(request)):
                reply = self._classy.answer(_body(request), call)
            elif request.path.endswith("/handler"):
                reply = self._article(request, call)
            else:
                return self._web.answer(event, request, call, context)
            return http_answer(reply, call, with_body=with_body)
        except Exception as exc:  # noqa: BLE001 - Lambda would answer with the exception's text
            return http_answer(refused(exc, call), call, with_body=with_body)

    def _finish(self, request: HttpRequest, call: Call) -> dict[str, Any]:
        """Take the outcome of an upload that the stages handed on; a failure is raised, so that it comes again."""
        try:
            reply = self._classy.finish(request.read(handover=handover(self._settings)), call)
        except GraphPipeError as exc:
            raise UploadFailed(f"{exc.code} {exc.message}") from exc
        return http_answer(_raised_if_failed(reply), call)

    def _article(self, request: HttpRequest, call: Call) -> Reply:
        if "language=" not in call.query:
            call = replace(call, query="&".join(filter(None, (call.query, f"language={article.LANGUAGE}"))))
        reply = self._classy.answer(_body(request), call)
        answer = json.loads(reply.body())
        language = _language(call.query)
        value = [article.returned(one, language) for one in answer.get("results", [answer])]
        return replace(reply, buffers=[answers.encode(value[0] if "results" not in answer else {"results": value})])

    def _question(self, event: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Answer `serverless invoke --function main --log`, whose log shows what is printed."""
        language = str(event.get("language") or article.LANGUAGE)
        asked = event or {"image": _base64(self._sample())}
        reply = self._classy.answer(json.dumps({"language": language, **asked}).encode(), call)
        answer: dict[str, Any] = json.loads(reply.body())
        for one in answer.get("results", [answer]):
            print("\n".join(article.lines(one, language)) or one["error"]["message"], flush=True)
        if "results" in answer:
            return answer
        told = article.returned(answer, language)
        return told if not event or "imagelink" in event else {**told, **answer}

    def _upload(self, event: Mapping[str, Any], call: Call) -> dict[str, Any]:
        reply = _raised_if_failed(self._classy.answer(json.dumps(event).encode(), call))
        answer: dict[str, Any] = json.loads(reply.body())
        return answer

    def _warm(self, event: Mapping[str, Any], call: Call, *, cycles: int) -> dict[str, Any]:
        about: dict[str, Any] = {"function": "classy", "cold": self._calls == 1, "init_ms": self._init_ms}
        loaded = measured(self._classy.prepare, 1, deadline_s=call.deadline_s)
        about["load_ms"] = loaded["first_ms"]
        if cycles:
            ask = Ask((self._sample(),), Options(self._settings.top_k, self._settings.language))
            about |= measured(partial(self._classy.classify, ask, call), cycles, deadline_s=call.deadline_s)
        return about

    def _app(self) -> Flask:
        from classy.web.app import create_app

        return create_app(self._classy, self._settings)


def _raised_if_failed(reply: Reply) -> Reply:
    if reply.status != 200:
        error = json.loads(reply.body())["error"]
        raise UploadFailed(f"{error['code']} {error['message']}")
    return reply


def _hurried(event: Mapping[str, Any], call: Call) -> Call:
    """Return the call with API Gateway's deadline where that is the earlier one; a function's own URL has none."""
    context = event.get("requestContext")
    if not isinstance(context, Mapping) or "apiId" not in context:
        return call
    if ".lambda-url." in str(context.get("domainName", "")):
        return call
    ends_s = time.monotonic() + GATEWAY_S
    return replace(call, deadline_s=ends_s if call.deadline_s is None else min(ends_s, call.deadline_s))


def _asks(request: HttpRequest) -> bool:
    """Return whether a GET of "/" is a question; without one it is for the page."""
    return request.method in ("GET", "HEAD") and any(
        name in request.query for name in ("url=", "imagelink=", "name=")
    )


def _body(request: HttpRequest) -> bytes:
    return bytes(request.read()) if request.method == "POST" else b""


def _language(query: str) -> str:
    from urllib.parse import parse_qs

    return parse_qs(query).get("language", [article.LANGUAGE])[-1]


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode("ascii")
