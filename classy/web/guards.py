"""
What happens to every request before its operation and to every answer after it.

    before   a call id; which page and host asks; how often; the key; the size of the body
    after    the call id, what a browser may do with the answer, and which other origins may read it

None of it looks at what is asked. Errors raised here become problems like all others.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import flask

from classy.errors import ForeignHost, ForeignPage, KeyNeeded, TooManyRequests, UnsupportedMedia
from classy.settings import Settings
from classy.web.operations import Operation
from classy.web.rate import RateLimit, client_of
from graphpipe_fn.adapters.wsgi_ask import CALL
from graphpipe_fn.errors import TooLarge
from graphpipe_fn.headers import call_of
from graphpipe_fn.messages import Call
from graphpipe_fn.server_timing import format_server_timing

DEADLINE_S = 60.0  # of a request that brings none; the page gives up sooner
OPEN = frozenset(("page", "static"))  # endpoints beside the table's
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
PREFLIGHT_AGE_S = 600
ALLOWED_HEADERS = "Content-Type, X-Api-Key, X-Request-Id, traceparent"
EXPOSED_HEADERS = "ETag, Link, Retry-After, Server-Timing, X-Request-Id"
# An answer is data, whatever its bytes look like: no browser may take it for a page.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


class Guards:
    """
    Guard an application.

    Args:
        operations: Those that are open need no key and count against no limit, as the page's files.
        limit_bytes: The largest body.
    """

    def __init__(
        self, app: flask.Flask, settings: Settings, operations: Iterable[Operation], *, limit_bytes: int
    ) -> None:
        self._settings = settings
        operations = tuple(operations)
        self._open = OPEN | {operation.name for operation in operations if operation.open}
        self._changing = {operation.name for operation in operations if operation.changes}
        self._limit_bytes = limit_bytes
        self._rate = RateLimit(settings.rate_limit)
        self._key = _digest(settings.api_key)
        app.before_request(self.before)
        app.after_request(self.after)

    def before(self) -> flask.Response | None:
        """Let a request pass, answer it, or raise why not."""
        request = flask.request
        flask.g.call = _call(request)
        if _is_foreign_host(request):
            name = request.environ.get("HTTP_HOST", "")
            raise ForeignHost(f"this server is not called {name[:100]!r}; ask it by the URL that it printed, or "
                              "serve with --host to answer to every name")  # fmt: skip
        if request.method == "OPTIONS":
            return self._options(request)
        if request.method not in SAFE or request.endpoint in self._changing:
            self._check_page(request)
        if request.endpoint is not None and request.endpoint not in self._open:
            self._check_rate(request)
            self._check_key(request)
        self._check_body(request)
        return None

    def after(self, reply: flask.Response) -> flask.Response:
        """Complete an answer's headers."""
        headers = reply.headers
        headers["X-Request-Id"] = call().id
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.setdefault("Content-Security-Policy", DATA_POLICY)
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Cache-Control", "no-store")
        timings = format_server_timing(flask.g.get("timings", ()))
        if timings:
            headers["Server-Timing"] = timings
        if self._settings.cors_origins:
            reply.vary.add("Origin")
            origin = flask.request.headers.get("Origin", "")
            if origin and self._may_read(origin):
                headers["Access-Control-Allow-Origin"] = "*" if "*" in self._settings.cors_origins else origin
                headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        return reply

    def _options(self, request: flask.Request) -> flask.Response | None:
        """Answer which methods a path knows, and whether another origin's page may use them."""
        adapter = flask.globals.request_ctx.url_adapter
        methods = sorted(adapter.allowed_methods()) if adapter else []
        if not methods:
            return None  # there is no such path
        reply = flask.Response(status=204, headers={"Allow": ", ".join([*methods, "OPTIONS"])})
        del reply.headers["Content-Type"]
        asked = "Access-Control-Request-Method" in request.headers
        if asked and self._may_read(request.headers.get("Origin", "")):
            reply.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            reply.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            reply.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE_S)
        return reply

    def _may_read(self, origin: str) -> bool:
        return bool({origin, "*"} & self._settings.cors_origins)

    def _check_page(self, request: flask.Request) -> None:
        """
        Refuse a change that a foreign page asks for: a browser would carry it to any server.

        Browsers say themselves where a request comes from; who says nothing is no page. Source: the Fetch standard's
        Sec-Fetch-Site, and Go's CrossOriginProtection, which decides alike.
        """
        origin, site = request.headers.get("Origin", ""), request.headers.get("Sec-Fetch-Site", "")
        if site in ("same-origin", "none") or self._may_read(origin):
            return
        if site or (origin and urlsplit(origin).netloc != request.environ.get("HTTP_HOST", "")):
            raise ForeignPage(f"a page of {origin[:200] or 'another origin'} may not ask for that here; name its "
                              "origin in CLASSY_CORS_ORIGINS")  # fmt: skip

    def _check_rate(self, request: flask.Request) -> None:
        client = client_of(
            request.environ.get("REMOTE_ADDR") or "",
            request.headers.get("X-Forwarded-For", ""),
            proxies=self._settings.trusted_proxies,
        )
        wait_s = self._rate.wait_s(client)
        if wait_s:
            limit = self._settings.rate_limit
            raise TooManyRequests(f"over {limit} requests a minute; ask again later", retry_after_s=wait_s)

    def _check_key(self, request: flask.Request) -> None:
        if self._settings.api_key and not hmac.compare_digest(
            _digest(request.headers.get("X-Api-Key", "")), self._key
        ):
            raise KeyNeeded("send the key of this API in the header X-Api-Key")

    def _check_body(self, request: flask.Request) -> None:
        if request.content_length is not None and request.content_length > self._limit_bytes:
            raise TooLarge(f"the body has {request.content_length:,} bytes; the limit is {self._limit_bytes:,}")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMedia("send the body as it is, without Content-Encoding")


def call() -> Call:
    """Return the call of the request that is being answered."""
    found: Call = flask.g.call
    return found


def _call(request: flask.Request) -> Call:
    given = request.environ.get(CALL)
    if not isinstance(given, Call):
        headers = {name.lower(): value for name, value in request.headers.items()}
        given = call_of(headers, call_id=uuid.uuid4().hex)
    latest_s = time.monotonic() + DEADLINE_S
    return replace(
        given,
        deadline_s=latest_s if given.deadline_s is None else min(given.deadline_s, latest_s),
        method=request.method,
        query="",
    )


def _is_foreign_host(request: flask.Request) -> bool:
    """
    Return whether a server of this machine only is asked by a name that is not this machine's.

    A page could have its own name point to 127.0.0.1, and would then be of the same origin as we.
    """
    hosts = flask.current_app.config["CLASSY_HOSTS"]
    if not hosts:
        return False
    host = request.environ.get("HTTP_HOST", "")
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return bool(host) and name.lower() not in hosts


def _digest(key: str) -> bytes:
    # Of digests the lengths are the same, so comparing them tells nothing of the key's length either.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
