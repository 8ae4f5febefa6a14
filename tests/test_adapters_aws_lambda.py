"""The Lambda adapter: every kind of event, what can be wrong with one, the real runtime client, and real gateways."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_model import SECRET, ContractModel
from hypothesis import given, settings
from hypothesis import strategies as st
from lambda_runtime.emulator import REGION, Emulator, ministack
from lambda_runtime.road import access_to
from lambda_runtime.runtime import LambdaRuntime

from graphpipe_fn.adapters.aws_lambda import MARGIN_S, handler
from graphpipe_fn.client import Client
from graphpipe_fn.codec import decode_response, encode_request, encode_response
from graphpipe_fn.errors import BadModel, RemoteError
from graphpipe_fn.headers import format_deadline
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.server import answerer, metadata_json
from graphpipe_fn.transports import connect

MODEL = ContractModel()
SENT = np.random.default_rng(7).random((3, 5), dtype="float32")
BODY = b"".join(encode_request(InferRequest((SENT,))))
ANSWER = b"".join(encode_response(InferResponse((SENT,))))


@dataclass
class Context:
    """What Lambda hands over beside an event."""

    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    left_s: float = 30.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)


def text_of(body: bytes) -> str:
    return base64.b64encode(body).decode()


def format_2(method: str, path: str, body: bytes, headers: dict[str, str], stage: str = "$default") -> dict[str, Any]:
    """Return a function URL's or an HTTP API's event."""
    prefix = "" if stage == "$default" else f"/{stage}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": prefix + path,
        "rawQueryString": "a=1",
        "cookies": ["session=1", "x-request-id=evil"],
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "r3pmxmplak",
            "domainName": "r3pmxmplak.lambda-url.us-east-2.on.aws",
            "http": {
                "method": method,
                "path": prefix + path,
                "protocol": "HTTP/1.1",
                "sourceIp": "205.255.255.176",
                "userAgent": "curl/8",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "stage": stage,
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        **({"body": text_of(body)} if body else {}),
        "isBase64Encoded": bool(body),
    }


def format_1(method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Return a REST API's event."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers or None,
        "multiValueHeaders": {name: [value] for name, value in headers.items()} or None,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"stage": "dev", "path": "/dev" + path, "httpMethod": method, "requestId": "c6af9ac6"},
        "body": text_of(body) if body else None,
        "isBase64Encoded": bool(body),
    }


def load_balancer(method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Return a load balancer's event, with its multi-value headers switched on."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-2:1:targetgroup/t/1"}},
        "httpMethod": method,
        "path": path,
        "multiValueQueryStringParameters": {},
        "multiValueHeaders": {name.lower(): ["first", value] for name, value in headers.items()},
        "body": text_of(body),
        "isBase64Encoded": bool(body),
    }


EVENTS: dict[str, Callable[[str, str, bytes, dict[str, str]], dict[str, Any]]] = {
    "function URL": format_2,
    "HTTP API with a stage": lambda *request: format_2(*request, stage="dev"),
    "HTTP API, format 1.0": lambda *request: {"version": "1.0", **format_1(*request)},
    "REST API": format_1,
    "load balancer": load_balancer,
}


@pytest.fixture(params=EVENTS)
def event_of(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """One kind of event after the other."""
    build = EVENTS[request.param]
    return lambda method, path="/", body=b"", headers=None: build(method, path, body, headers or {})


def served(**options: Any) -> Callable[[Any, Any], dict[str, Any]]:
    return handler(answerer(MODEL, name="contract"), **{"metadata": MODEL.metadata, **options})


def body_of(answer: dict[str, Any]) -> bytes:
    """Return the bytes that a gateway makes of an answer, after Lambda made JSON of it."""
    answer = json.loads(json.dumps(answer))
    assert set(answer) == {"statusCode", "headers", "isBase64Encoded", "body"}
    assert all(isinstance(value, str) for value in answer["headers"].values())
    return base64.b64decode(answer["body"], validate=True) if answer["isBase64Encoded"] else answer["body"].encode()


def error_of(answer: dict[str, Any]) -> tuple[int, int, str]:
    (error,) = decode_response(body_of(answer)).errors
    return answer["statusCode"], error.code, error.message


def test_a_request_is_answered_the_same_whatever_brings_it(event_of: Callable[..., dict[str, Any]]) -> None:
    """Bytes go in and come out, headers in either case and cookies make no difference."""
    answer = served()(event_of("POST", body=BODY, headers={"X-Request-ID": "mine-1"}), Context())
    assert (answer["statusCode"], body_of(answer)) == (200, ANSWER)
    timing = answer["headers"].pop("Server-Timing")
    assert timing.startswith("contract;dur=")
    assert timing.endswith(", inner;dur=0.000")
    assert answer["headers"] == {"Content-Type": "application/octet-stream", "X-Request-Id": "mine-1"}


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", 200, metadata_json(MODEL.metadata())),
        ("HEAD", "/", 200, b""),
        ("PUT", "/", 405, b"the method 'PUT' is not known here; use GET, HEAD, POST\n"),
        ("OPTIONS", "/", 405, b"the method 'OPTIONS' is not known here; use GET, HEAD, POST\n"),
        ("GET", "/nope", 404, b"there is nothing at '/nope'; requests go to /\n"),
        ("HEAD", "/nope", 404, b""),
        ("GET", "/control/is_ready", 200, b"ok\n"),
        ("GET", "/control/is_alive", 200, b"ok\n"),
        ("POST", "/control/is_alive", 405, None),
    ],
)
def test_each_path_has_its_methods(
    event_of: Callable[..., dict[str, Any]], method: str, path: str, status: int, body: bytes | None
) -> None:
    """What is for people goes as text, so that no gateway has to know of base64."""
    answer = served()(event_of(method, path), Context())
    assert answer["statusCode"] == status
    if body is not None:
        assert (body_of(answer), answer["isBase64Encoded"]) == (body, False)
    assert ("Allow" in answer["headers"]) == (status == 405)


@pytest.mark.parametrize("path", ["/", "/vgg", "/vgg/"])
def test_a_function_behind_a_route_is_told_which(event_of: Callable[..., dict[str, Any]], path: str) -> None:
    """A gateway's route is part of the path; without being told, a request to it is refused."""
    behind = served(path="/vgg")
    assert behind(event_of("POST", path, BODY), Context())["statusCode"] == 200
    assert behind(event_of("GET", "/vgg/control/is_ready"), Context())["statusCode"] == 200
    assert behind(event_of("POST", "/vggs", BODY), Context())["statusCode"] == 404
    assert served()(event_of("POST", path, BODY), Context())["statusCode"] == (200 if path == "/" else 404)


def changed(**fields: Any) -> dict[str, Any]:
    return {**format_1("POST", "/", BODY, {}), **fields}


@pytest.mark.parametrize(
    ("event", "code", "message"),
    [
        (changed(body=None), 40001, "0 bytes"),
        (changed(body=""), 40001, "0 bytes"),
        (changed(body={"a": 1}), 40001, "the event's body is a dict; send text, or bytes as base64"),
        (changed(body="QUJ"), 40001, "the event's body is no base64 ("),
        (changed(body="é" * 8), 40001, "the event's body is no base64 ("),
        (changed(body="GET me a pony", isBase64Encoded=False), 40001, ""),
        (changed(body="\ud800", isBase64Encoded=False), 40001, ""),
        (changed(body=text_of(bytes(1_000_001))), 41300, "the body has 1,000,001 bytes; the limit is 1,000,000;"),
        (changed(body="x" * 1_000_001, isBase64Encoded=False), 41300, "the body has 1,000,001 bytes;"),
    ],
    ids=["null", "empty", "object", "short base64", "no ASCII", "text", "surrogate", "too large", "too much text"],
)
def test_a_wrong_body_is_refused_by_name(event: dict[str, Any], code: int, message: str) -> None:
    """What can't be a message is refused as one, on the caller's account."""
    status, told, words = error_of(served(limit_bytes=1_000_000)(event, Context()))
    assert (status, told) == (code // 100, code)
    assert message in words


def test_a_gateway_that_spoils_bytes_is_found_out() -> None:
    """The commonest mistake with REST APIs is answered in words, and as text, since bytes would be spoilt too."""
    answer = served()(changed(body=BODY.decode("utf-8", "replace"), isBase64Encoded=False), Context())
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (400, False)
    assert 'set binaryMediaTypes to ["*/*"]' in answer["body"]


S3_EVENT = {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": SECRET}, "object": {"key": SECRET}}}]}


@pytest.mark.parametrize(
    "event",
    [
        {},
        S3_EVENT,
        {"version": "0", "detail-type": "Scheduled Event", "detail": {}},
        {"version": "2.0"},
        {"version": "2.0", "requestContext": {"http": None}, "rawPath": "/"},
        {"httpMethod": "POST"},
        {"httpMethod": 5, "path": []},
        None,
        [],
        "warm-up",
        7,
        True,
    ],
    ids=lambda event: json.dumps(event)[:30],
)
def test_any_other_event_is_told_what_is_taken(event: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A function that was wired to the wrong events says so in its answer and its log, without the events' data."""
    answer = served()(event, Context())
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (400, False)
    assert "this function does not take such an event" in answer["body"]
    assert "function URLs, API Gateway" in answer["body"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert SECRET not in answer["body"] + caplog.text


keys = st.sampled_from(
    [
        *("version", "requestContext", "http", "method", "httpMethod", "rawPath", "path", "stage", "headers"),
        *("multiValueHeaders", "body", "isBase64Encoded", "fn-deadline", "x-request-id"),
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
known = st.sampled_from(
    ["2.0", "POST", "GET", "/", "/dev", "dev", "QUJD", "2030-01-01T00:00:00Z", "9999999999999-01"]
)
values = st.recursive(
    scalars | known,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(
    event=values | st.builds(lambda event, more: {**event, **more}, st.just(changed()), st.dictionaries(keys, values))
)
def test_no_event_makes_it_raise(event: Any) -> None:
    """Whatever comes, the answer is one that Lambda and its gateways can take, and never a bug's."""
    answer = served()(event, Context())
    assert 200 <= answer["statusCode"] < 500
    body_of(answer)


def test_a_bug_is_an_answer_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the bug is, the caller learns the call's id and the log the rest."""

    def broken(*args: object) -> Any:
        raise ZeroDivisionError(SECRET)

    class BrokenContext(Context):
        get_remaining_time_in_millis = broken

    post, get = format_2("POST", "/", BODY, {}), format_2("GET", "/", b"", {})
    for answer in (
        handler(broken)(post, Context()),
        served(metadata=broken)(get, Context()),
        served(is_ready=broken)(format_2("GET", "/control/is_ready", b"", {}), Context()),
        served()(post, BrokenContext()),
    ):
        assert error_of(answer) == (500, 50000, f"internal error, call {Context.aws_request_id}")
    assert caplog.text.count(SECRET) == 4


def test_an_error_of_the_models_has_its_headers() -> None:
    """A time to try again travels in Retry-After, as on every road."""
    body = b"".join(encode_request(InferRequest((SENT,), config="raise Unavailable")))
    answer = served()(format_2("POST", "/", body, {}), Context())
    assert (answer["statusCode"], answer["headers"]["Retry-After"]) == (503, "8")

    def missing() -> Metadata:
        raise BadModel("the model is missing")

    answer = served(metadata=missing)(format_2("GET", "/", b"", {}), Context())
    assert (answer["statusCode"], answer["body"]) == (500, "the model is missing\n")


def heard(event: dict[str, Any], context: Any) -> Call:
    """Return the Call that an event and a context lead to."""
    calls: list[Call] = []

    def answer(body: Buffer, call: Call) -> Reply:
        calls.append(call)
        return Reply([b""])

    handler(answer)(event, context)
    return calls[0]


@pytest.mark.parametrize(
    ("context", "asked_s", "expected_s"),
    [
        (Context(left_s=30), None, 30 - MARGIN_S),
        (Context(left_s=30), 3, 3),
        (Context(left_s=3), 30, 3 - MARGIN_S),
        (None, 3, 3),
        (None, None, None),
    ],
    ids=["the function's", "the caller's", "the earlier", "no context", "none"],
)
def test_the_deadline_is_the_earlier_one(context: Any, asked_s: float | None, expected_s: float | None) -> None:
    """Neither the function's timeout nor the caller's patience is outlived, and time is kept for the answer."""
    headers = {} if asked_s is None else {"Fn-Deadline": format_deadline(time.monotonic() + asked_s)}
    deadline_s = heard(format_1("POST", "/", BODY, headers), context).deadline_s
    if expected_s is None or deadline_s is None:
        assert deadline_s == expected_s
    else:
        assert deadline_s - time.monotonic() == pytest.approx(expected_s, abs=0.2)


@pytest.mark.parametrize(
    ("headers", "context", "expected"),
    [
        ({"X-Request-Id": "mine"}, Context(), "mine"),
        ({}, Context(), Context.aws_request_id),
        ({"x-request-id": "two\nlines"}, Context(), Context.aws_request_id),
        ({}, None, ""),
    ],
)
def test_the_call_is_named_by_its_caller_or_by_lambda(headers: dict[str, str], context: Any, expected: str) -> None:
    """An id that would break a log line is replaced by Lambda's."""
    assert heard(format_1("POST", "/", BODY, headers), context).id == expected


def test_the_limit_of_an_answer_is_its_json_to_the_byte() -> None:
    """An answer of the very size passes; one byte less room and it is refused with both numbers."""

    def answer(body: Buffer, call: Call) -> Reply:
        return Reply([bytes(7_000), bytes(3_000)])

    event = format_2("POST", "/", BODY, {})
    size = len(json.dumps(handler(answer)(event, Context())))
    assert body_of(handler(answer, answer_limit_bytes=size)(event, Context())) == bytes(10_000)
    status, code, message = error_of(handler(answer, answer_limit_bytes=size - 1)(event, Context()))
    assert (status, code) == (413, 41300)
    assert f"the answer takes {size:,} bytes" in message
    assert f"the limit is {size - 1:,}" in message


def test_text_over_the_limit_is_refused_too() -> None:
    """Metadata with many foreign letters counts as it is escaped."""
    metadata = Metadata(name="オ" * 1_000)
    event = format_2("GET", "/", b"", {})
    assert served(metadata=lambda: metadata, answer_limit_bytes=7_000)(event, Context())["statusCode"] == 200
    assert served(metadata=lambda: metadata, answer_limit_bytes=6_000)(event, Context())["statusCode"] == 413


FUNC = """
import json

import numpy as np
from contract_model import ContractModel

from graphpipe_fn.adapters.aws_lambda import handler as lambda_handler
from graphpipe_fn.binding import bind
from graphpipe_fn.messages import InferResponse
from graphpipe_fn.server import answerer


class Wide(ContractModel):
    def infer(self, request):
        if request.config.startswith("wide "):
            return InferResponse((np.zeros(int(request.config[5:]), "uint8"),))
        return super().infer(request)


handler = lambda_handler(answerer(Wide(), name="contract"), metadata=Wide().metadata)
"""


@contextmanager
def real_runtime(**options: Any) -> Iterator[LambdaRuntime]:
    """Run the function under awslambdaric."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "func.py").write_text(FUNC)
        with LambdaRuntime(Path(folder), "func.handler", **options) as runtime:
            yield runtime


def client_of(runtime: LambdaRuntime) -> Client:
    """Return a client of the function."""
    return connect("lambda:function", aws=access_to(runtime.url), timeout_s=60)


def test_the_real_runtime_survives_whatever_is_asked() -> None:
    """Under AWS's own runtime client, refusals, foreign events and too large answers leave the warm process warm."""
    with real_runtime() as runtime, client_of(runtime) as client:
        assert json.loads(runtime.invoke("function", json.dumps(S3_EVENT).encode()).body)["statusCode"] == 400
        assert json.loads(runtime.invoke("function", b"null").body)["statusCode"] == 400
        (fits,) = client.run([1], config="wide 4700000")
        assert len(fits) == 4_700_000
        with pytest.raises(RemoteError, match=r"the answer takes 6,4\d\d,\d\d\d bytes as Lambda's payload") as caught:
            client.run([1], config="wide 4800000")
        assert caught.value.code == 41300
        with pytest.raises(RemoteError, match="internal error, call "):
            client.run([1], config="bug")
        assert np.array_equal(client.run(SENT)[0], SENT)
        assert runtime.starts == 1
        assert "ZeroDivisionError" in runtime.log.read_text()


def test_the_functions_timeout_is_the_models_deadline() -> None:
    """Told by the real runtime client, the model can stop before Lambda kills it."""
    with real_runtime(timeout_s=8) as runtime, client_of(runtime) as client:
        (told,) = client.run([1], config="call")
        assert 6.0 < float(told[2]) <= 8.0 - MARGIN_S


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An AWS with one function that anybody may call."""
    with ministack() as running:
        running.deploy("contract", FUNC)
        functions = running.client("lambda")
        for principal, action, more in (
            ("*", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
            ("apigateway.amazonaws.com", "lambda:InvokeFunction", {}),
        ):
            functions.add_permission(
                FunctionName="contract", StatementId=action[-3:], Action=action, Principal=principal, **more
            )
        yield running


def _function_url(emulator: Emulator, arn: str) -> tuple[str, str]:
    url = emulator.client("lambda").create_function_url_config(FunctionName="contract", AuthType="NONE")[
        "FunctionUrl"
    ]
    return url.split("/")[2], "/"


def _http_api(emulator: Emulator, arn: str) -> tuple[str, str]:
    client = emulator.client("apigatewayv2")
    api = client.create_api(Name="api", ProtocolType="HTTP")["ApiId"]
    integration = client.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    client.create_route(ApiId=api, RouteKey="$default", Target=f"integrations/{integration}")
    client.create_stage(ApiId=api, StageName="dev", AutoDeploy=True)
    return f"{api}.execute-api.localhost", "/dev/"


def _rest_api(emulator: Emulator, arn: str, binary: tuple[str, ...] = ("*/*",)) -> tuple[str, str]:
    client = emulator.client("apigateway")
    api = client.create_rest_api(name="rest", binaryMediaTypes=list(binary))["id"]
    where = {
        "restApiId": api,
        "resourceId": client.get_resources(restApiId=api)["items"][0]["id"],
        "httpMethod": "ANY",
    }
    client.put_method(**where, authorizationType="NONE")
    client.put_integration(
        **where,
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
    )
    client.create_deployment(restApiId=api, stageName="dev")
    return f"{api}.execute-api.localhost", "/dev/"


GATEWAYS: dict[str, Callable[[Emulator, str], tuple[str, str]]] = {
    "function URL": _function_url,
    "HTTP API": _http_api,
    "REST API": _rest_api,
}


def ask(
    emulator: Emulator, host: str, method: str, path: str, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to a gateway, by the name that it has in its Host header."""
    connection = http.client.HTTPConnection("127.0.0.1", int(emulator.url.rsplit(":", 1)[1]), timeout=30)
    try:
        headers = {
            "Host": host,
            "Accept": "*/*",
            "X-Request-Id": "mine-1",
            "Cookie": "a=1",
            "Content-Type": "application/octet-stream",
        }
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def arn_of(emulator: Emulator) -> str:
    return str(emulator.client("lambda").get_function(FunctionName="contract")["Configuration"]["FunctionArn"])


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_real_gateways_carry_it(emulator: Emulator, gateway: str) -> None:
    """Over HTTP, through a gateway's own events, bytes come back unchanged and metadata as JSON."""
    host, path = GATEWAYS[gateway](emulator, arn_of(emulator))
    status, headers, body = ask(emulator, host, "POST", path, BODY)
    assert (status, body) == (200, ANSWER)
    assert (headers["content-type"], headers["x-request-id"]) == ("application/octet-stream", "mine-1")
    assert headers["server-timing"].startswith("contract;dur=")
    status, headers, body = ask(emulator, host, "GET", path)
    assert (status, headers["content-type"], body) == (200, "application/json", metadata_json(MODEL.metadata()))
    assert ask(emulator, host, "DELETE", path)[0] == 405
    assert decode_response(ask(emulator, host, "POST", path, b"no message")[2]).errors[0].code == 40001


def test_a_real_rest_api_without_binary_types_is_told_so(emulator: Emulator) -> None:
    """The setting that everybody forgets is named in the answer, in plain text."""
    host, path = _rest_api(emulator, arn_of(emulator), binary=())
    status, _, body = ask(emulator, host, "POST", path, BODY)
    assert status == 400
    assert b'set binaryMediaTypes to ["*/*"]' in body


def test_it_imports_nothing_that_a_cold_start_can_do_without() -> None:
    """Neither AWS's SDK nor numpy, TLS or an HTTP library is loaded by a handler that has not been asked."""
    heavy = "['boto3', 'botocore', 'numpy', 'ssl', 'http.client', 'urllib.request', 'asyncio', 'flatbuffers', 'fdk']"
    code = f"import sys, graphpipe_fn.adapters.aws_lambda; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert found == "[]\n"
