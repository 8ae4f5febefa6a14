"""The JSON that travels to a function and back, and other people's adapters that understand it."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_model import ContractModel
from hypothesis import given
from hypothesis import strategies as st
from lambda_runtime.road import access_to
from lambda_runtime.runtime import LambdaRuntime

from graphpipe_fn.errors import TransportFailed
from graphpipe_fn.messages import Call, Timing
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.aws_lambda_event import decode_answer, encode_event


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_an_event_is_json_with_the_body_in_base64(buffers: list[bytes]) -> None:
    """Pieces of any length make one body, and what travels beside it goes into the headers."""
    event = json.loads(b"".join(encode_event(buffers, Call("mine-1", traceparent="00-1-2-01"))))
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"".join(buffers), True)
    assert (event["version"], event["rawPath"], event["requestContext"]["http"]["method"]) == ("2.0", "/", "POST")
    assert event["headers"] == {
        "host": "lambda",
        "content-type": "application/octet-stream",
        "content-length": str(sum(map(len, buffers))),
        "x-request-id": "mine-1",
        "traceparent": "00-1-2-01",
    }


def answer(**fields: Any) -> bytes:
    return json.dumps({"statusCode": 200, "headers": {}, "body": "aGk=", "isBase64Encoded": True, **fields}).encode()


@pytest.mark.parametrize(
    ("payload", "status", "body"),
    [
        (answer(), 200, b"hi"),
        (answer(statusCode="404"), 404, b"hi"),
        (answer(body="hé", isBase64Encoded=False), 200, "hé".encode()),
        (answer(body=None), 200, b""),
        (b'{"statusCode": 204}', 204, b""),
        (answer(headers=None), 200, b"hi"),
        (answer(headers={"Graphpipe-Status": 422}), 422, b"hi"),
    ],
    ids=["base64", "status as text", "text", "no body", "status alone", "no headers", "header as a number"],
)
def test_an_answer_is_read_as_gateways_read_it(payload: bytes, status: int, body: bytes) -> None:
    """What API Gateway takes from a function, we take."""
    reply = decode_answer(payload)
    assert (reply.status, reply.body()) == (status, body)


def test_an_answers_headers_are_read_in_any_case() -> None:
    """Timings and the time to try again come beside the body."""
    headers = {
        "SERVER-TIMING": "vgg;dur=1.5;desc=cold",
        "retry-after": "7",
        "Content-Type": "a/b",
        "X-Request-Id": "9",
    }
    reply = decode_answer(answer(headers=headers))
    assert (reply.content_type, reply.timings) == ("a/b", (Timing("vgg", 0.0015, True),))
    assert dict(reply.headers) == {"retry-after": "7", "x-request-id": "9"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'"hello"',
        b'{"hello": 1}',
        b"[200]",
        b"\x00\xff",
        b"[" * 100_000,
        answer(statusCode=True),
        answer(statusCode=200.5),
        answer(statusCode="2000"),
        answer(statusCode=None),
        answer(body={"a": 1}),
        answer(body=7),
        answer(body="aGk"),
        answer(body="a Gk="),
        answer(body="é==="),
    ],
    ids=lambda payload: repr(payload[:70]),
)
def test_what_is_no_http_answer_is_refused(payload: bytes) -> None:
    """The error names the function, quotes what came and says what is probably wrong."""
    with pytest.raises(TransportFailed) as caught:
        decode_answer(payload, name="vgg")
    assert f"the function 'vgg' answered {len(payload):,} bytes that are no HTTP answer" in caught.value.message
    assert "is its handler adapters.aws_lambda's?" in caught.value.message


FUNC = """
import serverless_wsgi
from contract_model import ContractModel

from graphpipe_fn.adapters.wsgi import app
from graphpipe_fn.server import answerer

application = app(answerer(ContractModel(), name="contract"))


def handler(event, context):
    return serverless_wsgi.handle_request(application, event, context)
"""


def test_a_wsgi_function_is_invoked_as_well() -> None:
    """Our event is an HTTP API's, so a function that somebody else's adapter serves is a model too."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "func.py").write_text(FUNC)
        with (
            LambdaRuntime(Path(name), "func.handler") as runtime,
            connect("lambda:function", aws=access_to(runtime.url)) as client,
        ):
            sent = np.arange(12, dtype="float16").reshape(3, 4)
            (output,) = client.run(sent)
            assert np.array_equal(output, sent)
            assert output.dtype == sent.dtype
            assert client.metadata() == ContractModel().metadata()
