"""
What AWS puts before a function: an HTTP API, a REST API or a function URL, with the limits that no emulator keeps.

Events and answers are translated as the documentation says: lower-case header names and a list of cookies in payload
format 2.0, the client's own case and lists in 1.0, base64 for what is no text. Sizes and times are AWS's own.

Source: AWS, "Quotas for HTTP APIs", "Quotas for REST APIs", "Working with AWS Lambda proxy integrations for HTTP
APIs", "Lambda function URLs", "Lambda quotas". The words of the errors are as seen by users.
"""

from __future__ import annotations

import base64
import binascii
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from lambda_runtime.runtime import LambdaRuntime

Kind = Literal["HTTP API", "REST API", "function URL"]
BODY_MAX = 10_485_760  # of both APIs
WAIT_S: dict[Kind, float] = {"HTTP API": 30.0, "REST API": 29.0, "function URL": 900.0}
DOMAIN: dict[Kind, str] = {
    "HTTP API": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    "REST API": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    "function URL": "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6.lambda-url.us-east-1.on.aws",
}
TEXT = ("text/", "application/json", "application/javascript", "application/xml", "application/problem+json")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: header names in the client's own case, in its order."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def first(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Gateway:
    """
    Stand before a function.

    Args:
        stage: Of a REST API: the first part of its URLs' paths.
        binary: Whether a REST API's binaryMediaTypes is */*; without it what is no text is spoilt.
    """

    def __init__(self, runtime: LambdaRuntime, kind: Kind, *, stage: str = "dev", binary: bool = True) -> None:
        self.runtime, self.kind, self.stage, self.binary = runtime, kind, stage, binary
        self.wait_s = WAIT_S[kind]
        self._threads = ThreadPoolExecutor(8)

    def answer(self, request: Request) -> Answer:
        """Return what AWS would answer."""
        if self.kind != "function URL" and len(request.body) > BODY_MAX:
            return _error(413, "Request Entity Too Large")
        event = self._format_1(request) if self.kind == "REST API" else self._format_2(request)
        invoked = self._threads.submit(self.runtime.invoke, self.runtime.name, json.dumps(event).encode())
        try:
            told = invoked.result(self.wait_s)
        except TimeoutError:
            late = {"REST API": (504, "Endpoint request timed out"), "HTTP API": (503, "Service Unavailable")}
            return _error(*late.get(self.kind, (504, "Gateway Timeout")))
        if told.status == 413:
            return _error(413, "Request Too Long")
        if told.status == 429:
            return _error(429 if self.kind != "HTTP API" else 503, "Rate exceeded")
        value = json.loads(told.body)
        if told.status != 200 or "X-Amz-Function-Error" in told.headers or not _well_formed(value):
            return _error(500 if self.kind == "HTTP API" else 502, "Internal Server Error")
        return self._from_function(value)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()

    def _format_2(self, request: Request) -> dict[str, Any]:
        headers: dict[str, str] = {}
        for name, value in request.headers:
            if name.lower() != "cookie":
                headers[name.lower()] = f"{headers[name.lower()]},{value}" if name.lower() in headers else value
        headers |= {
            "host": DOMAIN[self.kind],
            "x-forwarded-proto": "https",
            "x-forwarded-port": "443",
            "x-forwarded-for": "203.0.113.9",
        }
        cookies = [one for part in request.headers if part[0].lower() == "cookie" for one in part[1].split("; ")]
        text = _text(request.body, request.first("content-type"))
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": unquote(request.path),
            "rawQueryString": request.query,
            **({"cookies": cookies} if cookies else {}),
            "headers": headers,
            **({"queryStringParameters": dict(parse_qsl(request.query))} if request.query else {}),
            "requestContext": {
                "accountId": "000000000000",
                "apiId": DOMAIN[self.kind].partition(".")[0],
                "domainName": DOMAIN[self.kind],
                "http": {
                    "method": request.method,
                    "path": unquote(request.path),
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.9",
                    "userAgent": request.first("user-agent"),
                },
                "requestId": str(uuid.uuid4()),
                "routeKey": "$default",
                "stage": "$default",
            },
            **(
                {"body": text if text is not None else base64.b64encode(request.body).decode()}
                if request.body
                else {}
            ),
            "isBase64Encoded": bool(request.body) and text is None,
        }

    def _format_1(self, request: Request) -> dict[str, Any]:
        several: dict[str, list[str]] = {}
        for name, value in request.headers:
            several.setdefault(name, []).append(value)
        several |= {
            "Host": [DOMAIN[self.kind]],
            "X-Forwarded-Proto": ["https"],
            "X-Forwarded-Port": ["443"],
            "X-Forwarded-For": ["203.0.113.9"],
        }
        queries: dict[str, list[str]] = {}
        for name, value in parse_qsl(request.query, keep_blank_values=True):
            queries.setdefault(name, []).append(value)
        body = base64.b64encode(request.body).decode() if self.binary else request.body.decode("utf-8", "replace")
        path = request.path.removeprefix(f"/{self.stage}") or "/"
        return {
            "resource": "/{proxy+}",
            "path": path,
            "httpMethod": request.method,
            "headers": {name: values[-1] for name, values in several.items()},
            "multiValueHeaders": several,
            "queryStringParameters": {name: values[-1] for name, values in queries.items()} or None,
            "multiValueQueryStringParameters": queries or None,
            "requestContext": {
                "apiId": DOMAIN[self.kind].partition(".")[0],
                "httpMethod": request.method,
                "path": request.path,
                "stage": self.stage,
                "domainName": DOMAIN[self.kind],
                "identity": {"sourceIp": "203.0.113.9"},
                "requestId": str(uuid.uuid4()),
            },
            "body": body if request.body else None,
            "isBase64Encoded": bool(request.body) and self.binary,
        }

    def _from_function(self, value: Any) -> Answer:
        headers = [(name, _as_text(one)) for name, one in (value.get("headers") or {}).items()]
        if self.kind == "REST API":
            several = value.get("multiValueHeaders") or {}
            headers = [pair for pair in headers if pair[0] not in several]
            headers += [(name, _as_text(one)) for name, values in several.items() for one in values]
        else:
            headers = [(name.lower(), one) for name, one in headers]
            headers += [("set-cookie", cookie) for cookie in value.get("cookies") or []]
        text = value.get("body") or ""
        decode = value.get("isBase64Encoded") is True and (self.kind != "REST API" or self.binary)
        body = base64.b64decode(text, validate=True) if decode else text.encode()
        return Answer(value["statusCode"], tuple(headers), body)


def _well_formed(value: Any) -> bool:
    """Return whether a proxy integration can be made of what a function returned; a bare value is an error here."""
    if not isinstance(value, dict) or not isinstance(value.get("statusCode"), int):
        return False
    headers, body = value.get("headers") or {}, value.get("body") or ""
    plain = all(isinstance(one, str | int | float | bool) for one in headers.values())
    if not plain or not isinstance(body, str):
        return False
    if value.get("isBase64Encoded") is True:
        try:
            base64.b64decode(body, validate=True)
        except binascii.Error:
            return False
    return True


def _text(body: bytes, content_type: str) -> str | None:
    """Return a body as text where its type says so, None where it goes as base64."""
    if not content_type.lower().startswith(TEXT):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(status: int, message: str) -> Answer:
    return Answer(status, (("content-type", "application/json"),), json.dumps({"message": message}).encode())


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    gateway: Gateway

    def log_message(self, *args: object) -> None:
        pass

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, parts.path, parts.query, tuple(self.headers.items()), body)
        answer = self.gateway.answer(request)
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)


@contextmanager
def serve(gateway: Gateway) -> Iterator[str]:
    """Serve a gateway on a free port of 127.0.0.1; yield its URL."""
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        gateway.close()
