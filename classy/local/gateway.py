"""
Invokes: /invoke/ID and triggers at /t/APP/path, from an HTTP request to a function's process and back.

All header rules are here: what reaches a function, what reaches the caller. A body is read whole before a process is
taken, so a slow or vanishing caller never occupies one, and an answer is read whole before it is sent, so neither
does a slow reader and a process that dies half-way is an error, not a cut answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import IO

from aiohttp import web

from classy.local import fn_errors
from classy.local.api import CALL_ID
from classy.local.bodies import chunks, spool
from classy.local.fn_errors import CallNotSent, FnError
from classy.local.ids import make_call_id
from classy.local.pool import Pool
from classy.local.process import FunctionReply
from classy.local.registry import Registry

Headers = Sequence[tuple[str, str]]

HOP_HEADERS = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip
# Ours to say, or the transport's; `expect` is settled with the caller already.
OUR_REQUEST_HEADERS = HOP_HEADERS | {"host", "content-length", "expect", "fn-call-id", "fn-deadline"}
OUR_RESPONSE_HEADERS = HOP_HEADERS | {"content-length", "date", "server", "fn-call-id"}
# The statuses that an FDK may answer with; after 502 and 504 its process is fit for more calls.
ANSWERED = {200: fn_errors.function_failed, 502: fn_errors.function_failed, 504: fn_errors.timed_out}
# The FDK holds a body twice when it has arrived, beside what Python and the function need: what is longer than a
# third of a function's memory would get the process killed, after all of it was sent. Fn has FN_MAX_REQUEST_SIZE.
BODY_SHARE = 3
ATTEMPTS = 5  # of processes that turn out to be dead before they got a byte

logger = logging.getLogger(__name__)

PoolOf = Callable[[str], Pool]


class Gateway:
    """
    Serve invokes.

    Args:
        registry: Knows the triggers.
        pool: Returns a function's pool by the function's id, or raises FnError.
        spool_dir: For bodies too big for memory.
    """

    def __init__(self, registry: Registry, pool: PoolOf, spool_dir: Path) -> None:
        self._registry = registry
        self._pool = pool
        self._spool_dir = spool_dir
        self._detached: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of invokes and triggers."""
        return [
            web.post("/invoke/{id}", self._invoke),
            web.route("*", "/t/{app}", self._trigger),
            web.route("*", "/t/{app}/{source:.*}", self._trigger),
        ]

    async def stop(self) -> None:
        """Give up detached calls."""
        for task in self._detached:
            task.cancel()
        await asyncio.gather(*self._detached, return_exceptions=True)

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        fn_id = self._registry.fn(request.match_info["id"]).id
        call_id = request[CALL_ID] = make_call_id()
        headers = _passed(request.headers.items(), OUR_REQUEST_HEADERS | _named_by_connection(request))
        if request.headers.get("Fn-Invoke-Type", "").lower() == "detached":
            body = await self._body(request, self._pool(fn_id), call_id)
            task = asyncio.ensure_future(self._detach(fn_id, headers, body, call_id))
            self._detached.add(task)
            task.add_done_callback(self._detached.discard)
            return web.Response(headers=[("Fn-Call-Id", call_id)])
        reply = await self._call(request, fn_id, headers, call_id)
        return await _send(request, 200, _passed(reply.headers, OUR_RESPONSE_HEADERS), reply)

    async def _trigger(self, request: web.Request) -> web.StreamResponse:
        trigger = self._registry.route(request.match_info["app"], "/" + request.match_info.get("source", ""))
        call_id = request[CALL_ID] = make_call_id()
        passed = _passed(request.headers.items(), HOP_HEADERS | {"host", "expect"} | _named_by_connection(request))
        headers = [
            *((name if name.lower() == "content-type" else f"Fn-Http-H-{name}", value) for name, value in passed),
            ("Fn-Intent", "httprequest"),
            ("Fn-Http-Method", request.method),
            ("Fn-Http-Request-Url", f"http://{request.host}{request.raw_path}"),
        ]
        reply = await self._call(request, trigger.fn_id, headers, call_id)
        status, sent = gateway_answer(reply.headers)
        return await _send(request, status, _passed(sent, OUR_RESPONSE_HEADERS), reply)

    async def _call(self, request: web.Request, fn_id: str, headers: Headers, call_id: str) -> FunctionReply:
        pool = self._pool(fn_id)
        with await self._body(request, pool, call_id) as body:
            return await _answered(pool, headers, body, call_id)

    async def _body(self, request: web.Request, pool: Pool, call_id: str) -> IO[bytes]:
        limit_bytes = (pool.launch.memory_mb << 20) // BODY_SHARE

        def too_large() -> FnError:
            logger.warning(
                "%s: a body over %d bytes, a third of the function's %d MB, is refused (call %s)",
                *(pool.launch.name, limit_bytes, pool.launch.memory_mb, call_id),
            )
            return fn_errors.request_too_large()

        if (request.content_length or 0) > limit_bytes:
            raise too_large()  # before it is sent
        try:
            body, _ = await spool(request.content, self._spool_dir, too_large, limit_bytes=limit_bytes)
        except ConnectionError:
            raise  # the caller is gone
        except OSError as exc:
            logger.error("a body can't be kept in %s: %s (call %s)", self._spool_dir, exc, call_id)
            raise fn_errors.machine_fails(exc) from exc
        return body

    async def _detach(self, fn_id: str, headers: Headers, body: IO[bytes], call_id: str) -> None:
        with body:
            try:
                (await _answered(self._pool(fn_id), headers, body, call_id)).body.close()
            except FnError:
                return  # nobody waits for it; the process's log has it


async def _answered(pool: Pool, headers: Headers, body: IO[bytes], call_id: str) -> FunctionReply:
    for _ in range(ATTEMPTS):
        process = await pool.claim()
        try:
            # Per attempt: the time of a call begins when its process is there.
            ours = [("Fn-Call-Id", call_id), ("Fn-Deadline", deadline(process.launch.timeout_s))]
            reply = await process.call([*headers, *ours], body, call_id)
            if reply.status not in ANSWERED:
                process.kill(f"it answered with status {reply.status}, which no FDK does")
        except CallNotSent:
            continue
        finally:
            pool.release(process)
        if reply.status != 200:
            reply.body.close()
            raise ANSWERED.get(reply.status, fn_errors.invalid_response)()
        return reply
    raise fn_errors.no_response()


def gateway_answer(headers: Headers) -> tuple[int, list[tuple[str, str]]]:
    """
    Turn a function's gateway headers into the outer answer's.

    Returns:
        The status that the function wants (its own 5xx become 502, but for 504), and the headers: those that the
        function put behind `Fn-Http-H-`, and its content type.
    """
    status, sent = 200, []
    for name, value in headers:
        lower = name.lower()
        if lower == "fn-http-status" and value.strip().isdecimal() and 100 <= int(value) <= 999:
            status = int(value)
        elif lower == "content-type":
            sent.append((name, value))
        elif lower.startswith("fn-http-h-") and lower.removeprefix("fn-http-h-") not in {"", *OUR_RESPONSE_HEADERS}:
            sent.append((name[len("fn-http-h-") :], value))
    if not 200 <= status < 500 and status not in (502, 504):
        status = 502  # 1xx can't be a final answer
    return status, sent


def deadline(timeout_s: float, *, now: float | None = None) -> str:
    """Return the end of a call that begins now as Fn writes it: RFC 3339, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((time.time() if now is None else now) + timeout_s))


def _passed(headers: Iterable[tuple[str, str]], without: Container[str]) -> list[tuple[str, str]]:
    """Return the headers that pass, their names written as Go's server writes them."""
    return [
        # Bytes that are no UTF-8 can't be sent on as they came.
        ("-".join(word.capitalize() for word in name.split("-")), value.encode("utf-8", "replace").decode())
        for name, value in headers
        if name.lower() not in without
    ]


def _named_by_connection(request: web.Request) -> frozenset[str]:
    words = ",".join(request.headers.getall("Connection", ())).split(",")
    return frozenset(word.strip().lower() for word in words)


async def _send(
    request: web.Request, status: int, headers: Iterable[tuple[str, str]], reply: FunctionReply
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=[*headers, ("Fn-Call-Id", request[CALL_ID])])
    response.content_length = reply.length
    without_body = request.method == "HEAD" or status in (204, 304)
    with reply.body:
        try:
            await response.prepare(request)
            if not without_body:
                async for chunk in chunks(reply.body):
                    await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            pass  # the caller hung up; the process is free already
    return response
