"""The WSGI adapter, checked by wsgiref's validator and run by two servers."""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import numpy as np
import pytest
from contract_model import SECRET, ContractModel
from roads import waitress_server, wsgiref_server

from graphpipe_fn.adapters.wsgi import app
from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.errors import Unavailable
from graphpipe_fn.headers import format_deadline
from graphpipe_fn.messages import Call, InferRequest, Metadata, StringTensor, Timing
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.server import answerer, metadata_json

MODEL = ContractModel()
BODY = b"".join(encode_request(InferRequest((np.ones(3, "float32"),))))


@dataclass
class Answered:
    """What a WSGI application answered."""

    status: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def ask(application: Any, method: str, path: str = "/", body: bytes | io.IOBase = b"", **environ: Any) -> Answered:
    """Call a WSGI application as a server does, with the standard's validator between."""
    answered = Answered()
    made: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(made)
    made["wsgi.input"] = io.BytesIO(body) if isinstance(body, bytes) else body
    if isinstance(body, bytes) and method == "POST":
        made["CONTENT_LENGTH"] = str(len(body))
    made.update(environ)
    made = {name: value for name, value in made.items() if value is not None}

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> Callable[[bytes], None]:
        answered.status, answered.headers = status, dict(headers)
        assert len(headers) == len(answered.headers), "a header was sent twice"
        return lambda data: None

    parts = validator(application)(made, start_response)
    try:
        answered.body = b"".join(parts)
    finally:
        parts.close()  # type: ignore[attr-defined]
    return answered


def served(**options: Any) -> Any:
    """Return the application around the contract's model."""
    return app(answerer(MODEL, name="contract"), **{"metadata": MODEL.metadata, **options})


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", "200 OK", metadata_json(MODEL.metadata())),
        ("GET", "", "200 OK", metadata_json(MODEL.metadata())),
        ("HEAD", "/", "200 OK", b""),
        ("PUT", "/", "405 Method Not Allowed", b"the method 'PUT' is not known here; use GET, HEAD, POST\n"),
        ("DELETE", "/", "405 Method Not Allowed", b"the method 'DELETE' is not known here; use GET, HEAD, POST\n"),
        ("GET", "/nope", "404 Not Found", b"there is nothing at '/nope'; requests go to /\n"),
        ("HEAD", "/nope", "404 Not Found", b""),
        ("GET", "/control/is_ready", "200 OK", b"ok\n"),
        ("HEAD", "/control/is_ready", "200 OK", b""),
        ("GET", "/control/is_alive", "200 OK", b"ok\n"),
        ("GET", "/control/shutdown", "404 Not Found", b"there is nothing at '/control/shutdown'; requests go to /\n"),
    ],
)
def test_each_path_has_its_methods(method: str, path: str, status: str, body: bytes) -> None:
    """Metadata, readiness and refusals are text that a person reads; HEAD is GET without the body."""
    answered = ask(served(), method, path)
    assert (answered.status, answered.body) == (status, body)
    length = int(answered.headers["Content-Length"])
    assert length == (len(ask(served(), "GET", path).body) if method == "HEAD" else len(body))


def test_a_post_elsewhere_is_answered_as_a_message() -> None:
    """Who posts messages reads messages: the error is in an InferResponse too."""
    answered = ask(served(), "POST", "/elsewhere", BODY)
    assert answered.status == "404 Not Found"
    assert decode_response(answered.body).errors[0].code == 40400
    answered = ask(served(), "POST", "/control/is_ready", BODY)
    assert (answered.status, answered.headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")


def test_a_wrong_method_is_told_the_right_ones() -> None:
    """405 comes with Allow, which knows whether there is metadata."""
    assert ask(served(), "PUT").headers["Allow"] == "GET, HEAD, POST"
    answered = ask(served(metadata=None), "GET")
    assert (answered.status, answered.headers["Allow"]) == ("405 Method Not Allowed", "POST")


def test_readiness_is_asked_each_time() -> None:
    """Not ready is 503, alive all the same, and requests are answered as the model will."""
    ready = False
    application = served(is_ready=lambda: ready)
    answered = ask(application, "GET", "/control/is_ready")
    assert (answered.status, answered.body) == ("503 Service Unavailable", b"not ready\n")
    assert ask(application, "GET", "/control/is_alive").status == "200 OK"
    ready = True
    assert ask(application, "GET", "/control/is_ready").status == "200 OK"


def test_metadata_that_is_not_there_yet_is_a_503() -> None:
    """A model that is still loading says so to GET as well."""

    def metadata() -> Metadata:
        raise Unavailable("still loading", retry_after_s=5)

    answered = ask(served(metadata=metadata), "GET")
    assert (answered.status, answered.body) == ("503 Service Unavailable", b"still loading\n")
    assert answered.headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    "content_type", [None, "", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "\x00"]
)
def test_a_posts_content_type_is_not_looked_at(content_type: str | None) -> None:
    """The original clients send none or a wrong one."""
    answered = ask(served(), "POST", "/", BODY, CONTENT_TYPE=content_type)
    assert answered.status == "200 OK"
    assert decode_response(answered.body).errors == ()


def test_an_answer_has_all_its_headers() -> None:
    """Length, type, timings and the call's id come with every answer."""
    answered = ask(served(), "POST", "/", BODY, HTTP_X_REQUEST_ID="mine-1")
    timing = answered.headers.pop("Server-Timing")
    assert timing.startswith("contract;dur=")
    assert timing.endswith(", inner;dur=0.000")
    assert answered.headers == {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(answered.body)),
        "X-Request-Id": "mine-1",
    }
    made = ask(served(), "POST", "/", BODY).headers["X-Request-Id"]
    assert len(made) == 32


def test_the_call_is_read_from_the_headers() -> None:
    """Id, deadline, trace context and content type reach the answer."""
    calls: list[Call] = []

    def answer(body: Buffer, call: Call) -> Reply:
        calls.append(call)
        return Reply([bytes(body)[::-1]], 299, "text/x", (Timing("a", 1.0),), (("retry-after", "3"),))

    deadline_s = time.monotonic() + 9
    answered = ask(
        app(answer),
        "POST",
        "/",
        b"abc",
        HTTP_X_REQUEST_ID="id-1",
        HTTP_FN_DEADLINE=format_deadline(deadline_s),
        HTTP_TRACEPARENT="00-a-b-01",
        CONTENT_TYPE="image/png",
    )
    assert (answered.status, answered.body) == ("299 Error", b"cba")
    assert answered.headers["Retry-After"] == "3"
    (call,) = calls
    assert call.deadline_s == pytest.approx(deadline_s, abs=0.01)
    assert (call.id, call.traceparent, call.content_type) == ("id-1", "00-a-b-01", "image/png")


class Unread(io.RawIOBase):
    """A body that must not be read."""

    def read(self, size: int = -1) -> bytes:
        """Fail."""
        raise AssertionError("the body was read")

    readline = readlines = __iter__ = read  # type: ignore[assignment]


class Drops(io.BytesIO):
    """A body that comes a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        """Return at most three bytes."""
        return super().read(min(size or 0, 3))


class Broken(io.BytesIO):
    """A body whose sender is gone."""

    def read(self, size: int | None = -1) -> bytes:
        """Fail as a socket does."""
        raise ConnectionResetError(104, "Connection reset by peer")


def test_a_body_over_the_limit_is_refused_unread() -> None:
    """The declared length is enough to say no."""
    answered = ask(served(limit_bytes=1_000), "POST", "/", Unread(), CONTENT_LENGTH="1001")
    assert answered.status.startswith("413 ")  # the phrase changed with Python 3.13
    (error,) = decode_response(answered.body).errors
    assert error.code == 41300
    assert error.message == "the body has 1,001 bytes; the limit is 1,000; send a smaller batch"


@pytest.mark.parametrize(
    ("body", "environ", "code"),
    [
        (Drops(BODY), {"CONTENT_LENGTH": str(len(BODY))}, None),
        (Drops(BODY), {"wsgi.input_terminated": True}, None),
        (io.BytesIO(BODY + b"next request"), {"CONTENT_LENGTH": str(len(BODY))}, None),
        (io.BytesIO(BODY), {"CONTENT_LENGTH": str(len(BODY) + 1)}, 40001),
        (io.BytesIO(bytes(1_001)), {"wsgi.input_terminated": True}, 41300),
        (Broken(), {"CONTENT_LENGTH": "5"}, 40001),
        (Broken(), {"wsgi.input_terminated": True}, 40001),
        (Unread(), {"HTTP_TRANSFER_ENCODING": "chunked"}, 40001),
        (Unread(), {}, 40001),
        (Unread(), {"CONTENT_LENGTH": ""}, 40001),
        (Unread(), {"CONTENT_LENGTH": "0"}, 40001),
    ],
    ids=[
        "in drops",
        "in drops, unknown length",
        "followed by another",
        "too short",
        "over the limit, unknown length",
        "broken off",
        "broken off, unknown length",
        "chunked, not supported",
        "none",
        "empty length",
        "zero",
    ],
)
def test_the_body_is_read_as_the_server_offers_it(body: io.IOBase, environ: dict[str, Any], code: int | None) -> None:
    """Every way in which a server hands over a body is read to its end and no further."""
    answered = ask(served(limit_bytes=1_000), "POST", "/", body, **environ)
    errors = decode_response(answered.body).errors
    assert [error.code for error in errors] == ([] if code is None else [code])


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", " 5", "5 ", "٣", "9" * 19])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    """Nothing but digits is a length."""

    heads: list[str] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = Unread()
    # Not through the validator, which refuses such an environment itself.
    (body,) = served()(environ, lambda status, headers: heads.append(status))
    assert heads == ["400 Bad Request"]
    assert decode_response(body).errors[0].code == 40001


def test_an_answer_that_raises_is_a_bug_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Even an Answer that breaks its promise leaks no text."""

    def answer(body: Buffer, call: Call) -> Reply:
        raise RuntimeError(SECRET)

    answered = ask(app(answer), "POST", "/", b"x", HTTP_X_REQUEST_ID="id-9")
    assert answered.status == "500 Internal Server Error"
    assert decode_response(answered.body).errors[0].message == "internal error, call id-9"
    assert SECRET in caplog.text


@pytest.mark.parametrize("server", [wsgiref_server, waitress_server], ids=["wsgiref", "waitress"])
def test_servers_answer_get_and_refuse_oversized_bodies(server: Any) -> None:
    """Over a socket it is the same, and the server survives a refusal."""
    with server(served(limit_bytes=100_000)) as url:
        port = int(url.split(":")[2].strip("/"))
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/")
            answered = connection.getresponse()
            assert json.loads(answered.read())["Name"] == "contract"
            assert answered.getheader("Content-Type") == "application/json"
            connection.close()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/", bytes(100_001))
            answered = connection.getresponse()
            assert (answered.status, decode_response(answered.read()).errors[0].code) == (413, 41300)
            connection.close()


def test_chunked_bodies_are_read_where_the_server_takes_them_apart() -> None:
    """Go's and Fn's clients send chunked bodies."""
    with waitress_server(served(limit_bytes=1_000)) as url:
        port = int(url.split(":")[2].strip("/"))
        for body, codes in ((BODY, []), (bytes(5_000), [41300])):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            pieces = (body[place : place + 7] for place in range(0, len(body), 7))
            connection.request("POST", "/", pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
            response = decode_response(connection.getresponse().read())
            assert [error.code for error in response.errors] == codes
            assert all(not isinstance(output, StringTensor) for output in response.outputs)
            connection.close()
