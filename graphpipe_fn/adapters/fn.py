"""
The adapter to Fn and Oracle Functions: what their Python FDK calls, and all that is known here of its habits.

The FDK enforces neither the deadline nor a size, sends an exception's text to the caller, runs handlers on its
event loop, passes on no status but 200, 502 and 504 to direct callers, and writes headers as they come. So: the
deadline and the size are kept here, nothing is raised, the work is done in a thread, the status is repeated in a
header of our own, and header values are cleaned.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.wsgi_ask import GatewayRequest
from graphpipe_fn.errors import TimedOut, TooLarge
from graphpipe_fn.headers import STATUS_HEADER, call_of, parse_deadline, reply_headers
from graphpipe_fn.messages import Call, Metadata
from graphpipe_fn.model import Answer, Buffer, Reply
from graphpipe_fn.server import error_reply

if TYPE_CHECKING:
    from fdk.context import InvokeContext
    from fdk.response import Response

FAILED = (502, 504)  # the statuses that Fn takes for failed calls
BODY_MAX = 128 << 20  # Oracle Functions refuse 6 MB themselves; the announcement's example request is 77 MB


def handler(
    answer: Answer,
    *,
    metadata: Callable[[], Metadata] | None = None,
    triggered: Callable[[GatewayRequest, Call], Reply] | None = None,
    limit_bytes: int = BODY_MAX,
    log_level: int | None = logging.INFO,
) -> Callable[..., Awaitable[Response]]:
    """
    Return what `fdk func.py handler` calls.

    Args:
        answer: `server.answerer(model)`, or anything of that type. Without `metadata` it gets the requests that
            come through an HTTP trigger with every method, named in the call.
        metadata: The model's, for GETs through an HTTP trigger (a trigger is one path, so that path is "/").
        triggered: Gets what comes through an HTTP trigger instead, with its path and headers.
        limit_bytes: The largest body that is read.
        log_level: Given to the root logger, which the FDK sets to DEBUG: then each library's debug lines would go
            to the function's log. None leaves it alone.
    """
    if log_level is not None:
        logging.getLogger().setLevel(log_level)

    served = answer if metadata is None else _by_method(Endpoints(answer, metadata))

    async def handle(ctx: InvokeContext, data: io.BytesIO | None = None) -> Response:
        call = _call(ctx)
        body = b"" if data is None else data.getvalue()  # getbuffer() would copy what the FDK still holds
        if len(body) > limit_bytes:
            why = TooLarge(f"the body has {len(body):,} bytes; the limit is {limit_bytes:,}; send a smaller batch")
            return _response(ctx, error_reply(why, call))
        request = _gateway_request(ctx, body) if triggered else None
        if triggered is not None and request is not None:
            return _response(ctx, await _answered(lambda _, call: triggered(request, call), body, call))
        return _response(ctx, await _answered(served, body, call))

    return handle


def _by_method(endpoints: Endpoints) -> Answer:
    return lambda body, call: endpoints.reply(call.method, "/", lambda: body, call)


async def _answered(answer: Answer, body: Buffer, call: Call) -> Reply:
    """Answer in a thread, but for no longer than the caller waits."""
    left_s = None if call.deadline_s is None else call.deadline_s - time.monotonic()
    try:
        return await asyncio.wait_for(asyncio.to_thread(answer, body, call), left_s)
    except TimeoutError:
        # The thread can't be stopped. It goes on unheard, as it would have after the platform's own timeout.
        late = error_reply(TimedOut("the deadline passed before the answer was there; allow more time"), call)
        return replace(late, failed=True)
    except Exception as exc:  # noqa: BLE001 - the FDK would send the exception's text to the caller
        return error_reply(exc, call)


def _call(ctx: Any) -> Call:
    # The FDK mixes what a trigger's caller sent with what the platform says, and the caller's wins: a header named
    # Fn-Deadline buys no time, as the platform's own is asked for. A direct invoke is always a POST.
    call = call_of(_joined(ctx.Headers()), call_id=ctx.CallID() or "")
    url = ctx.RequestURL()
    return replace(
        call,
        deadline_s=parse_deadline(ctx.Deadline()),
        method="POST" if url is None else (ctx.Method() or "POST").upper(),
        query="" if url is None else urlsplit(url).query,
    )


def _gateway_request(ctx: Any, body: bytes) -> GatewayRequest | None:
    """Return the HTTP request that came through a trigger, None for a direct invoke."""
    if ctx.RequestURL() is None:
        return None
    url, sent = urlsplit(ctx.RequestURL()), _joined(ctx.HTTPHeaders())
    return GatewayRequest(
        method=(ctx.Method() or "POST").upper(),
        path=url.path or "/",
        query=url.query,
        headers={**sent, "content-type": _joined(ctx.Headers()).get("content-type", "")},
        body=body,
        host=url.netloc or sent.get("host", ""),  # Oracle's gateway sends a path only
        scheme=url.scheme or "https",
    )


def _joined(headers: Mapping[str, str | list[str]]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else ", ".join(value) for name, value in headers.items()}


def _response(ctx: Any, reply: Reply) -> Response:
    from fdk.response import Response

    headers = dict(reply_headers(reply))  # without Content-Length: the FDK adds it, and a second one cuts the body
    if reply.status != 200:
        headers[STATUS_HEADER] = str(reply.status)
    response = Response(ctx, response_data=reply.body(), headers=headers, status_code=reply.status)
    # Of what the FDK passes on, Fn takes 502 and 504 for failed calls and puts "function failed" and "Timed out" in
    # the place of the body. So our own status is in headers only; a trigger's, which Fn obeys, Response has written.
    response.status_code = (reply.status if reply.status in FAILED else FAILED[0]) if reply.failed else 200
    return response
