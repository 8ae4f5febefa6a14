"""The road to Lambda: what is sent, every way it can fail, and a real deployment, signatures checked."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import numpy as np
import pytest
from contract_model import SECRET, ContractModel
from lambda_runtime.emulator import Emulator, ministack
from lambda_runtime.road import access_to
from lambda_runtime.runtime import LambdaRuntime
from scripted_server import Peer, response, scripted_server

from graphpipe_fn.client import Client
from graphpipe_fn.errors import (
    BadConfig,
    Busy,
    GraphPipeError,
    NotFound,
    RemoteError,
    TimedOut,
    TooLarge,
    TransportFailed,
    Unavailable,
)
from graphpipe_fn.messages import Call, InferRequest, StringTensor, Tensor, strings
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.aws_access import AwsAccess
from graphpipe_fn.transports.aws_lambda import PAYLOAD_MAX, LambdaTransport
from graphpipe_fn.transports.aws_lambda_event import encode_event

FUNC = """
import os

from contract_model import ContractModel

from graphpipe_fn.adapters.aws_lambda import handler as lambda_handler
from graphpipe_fn.server import answerer

model = ContractModel()
handler = lambda_handler(answerer(model, name="contract"), metadata=model.metadata)


def raises(event, context):
    raise ValueError("the password is swordfish")


def dies(event, context):
    os._exit(3)


def foreign(event, context):
    return {"hello": 1}


def unserialisable(event, context):
    return {"statusCode": 200, "body": object()}


def enormous(event, context):
    return {"statusCode": 200, "body": "x" * 7_000_000}
"""

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:vgg"


def sent_by(uri: str, access: AwsAccess, call: Call = Call()) -> tuple[str, dict[str, str], bytes]:
    """Return the target, the headers and the body of the request that a call leads to."""
    seen: list[tuple[bytes, bytes]] = []

    def script(peer: Peer) -> None:
        seen.append(peer.request())
        peer.send(response(b'{"statusCode": 204}'))

    with scripted_server(script) as server:
        transport = LambdaTransport(uri, access=replace(access, endpoint_url=server.url))
        transport([b"body"], call)
        transport.close()
    ((head, body),) = seen
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    assert method == "POST"
    return target, dict(line.split(": ", 1) for line in lines if line), body


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("lambda:vgg", "vgg/invocations"),
        ("LAMBDA:v-g_g.1", "v-g_g.1/invocations"),
        ("lambda:vgg:live", "vgg/invocations?Qualifier=live"),
        ("lambda:vgg:42", "vgg/invocations?Qualifier=42"),
        ("lambda:vgg:$LATEST", "vgg/invocations?Qualifier=%24LATEST"),
        (f"lambda:{ARN}", f"{ARN.replace(':', '%3A')}/invocations"),
        (f"lambda:{ARN}:live", f"{ARN.replace(':', '%3A')}/invocations?Qualifier=live"),
    ],
)
def test_a_name_becomes_an_invocation(uri: str, path: str) -> None:
    """Name, version, alias and ARN are where Lambda's API wants them, and the call waits for its answer."""
    target, headers, body = sent_by(uri, access_to(""), Call("mine-1"))
    assert target == f"/2015-03-31/functions/{path}"
    assert headers["X-Amz-Invocation-Type"] == "RequestResponse"
    assert "/us-east-1/lambda/aws4_request" in headers["Authorization"]
    assert body == b"".join(encode_event([b"body"], Call("mine-1")))


def test_an_arn_tells_its_region() -> None:
    """Who names a function in full need not name its region again."""
    _, headers, _ = sent_by(f"lambda:{ARN}", AwsAccess(access_key_id="a", secret_access_key="b"))
    assert "/eu-central-1/lambda/aws4_request" in headers["Authorization"]


@pytest.mark.parametrize(
    "uri",
    [
        *("lambda:", "lambda::live", "lambda:vgg:", "lambda:vgg:a:b", "lambda:..", "lambda:.", "lambda:a/b"),
        *(
            "lambda:a b",
            "lambda:a?b",
            "lambda:a%2Fb",
            "lambda:vgg:$NEWEST",
            "lambda:é",
            f"lambda:{'x' * 141}",
            "fn:a/b",
        ),
        f"lambda:{ARN}:a:b",
        "lambda:arn:aws:s3:::bucket",
    ],
)
def test_what_is_no_function_is_refused_before_anything_is_sent(uri: str) -> None:
    """A URI is checked where it is given, and the error shows the form."""
    with pytest.raises(BadConfig, match="write lambda:NAME"):
        LambdaTransport(uri)


def carried(answer: bytes, *, name: str = "vgg") -> Any:
    """Return what comes of a request that is answered so: a Reply or the error."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    with scripted_server(script) as server:
        transport = LambdaTransport(f"lambda:{name}", access=access_to(server.url))
        try:
            return transport([b"body"], Call(deadline_s=time.monotonic() + 10))
        except GraphPipeError as exc:
            return exc
        finally:
            transport.close()


def modelled_errors() -> dict[str, int]:
    """Return the errors that AWS's own model of Invoke knows, with their status."""
    model = botocore.session.Session().get_service_model("lambda")
    shapes = model.operation_model("Invoke").error_shapes
    return {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in shapes}


OURS: dict[str, type[GraphPipeError]] = {
    "TooManyRequestsException": Busy,
    "EC2ThrottledException": Busy,
    "ResourceNotFoundException": NotFound,
    "RequestTooLargeException": TooLarge,
    "SerializedRequestEntityTooLargeException": TooLarge,
    "ServiceException": Unavailable,
    "ResourceNotReadyException": Unavailable,
    "ResourceConflictException": Unavailable,
    "SnapStartNotReadyException": Unavailable,
    "SnapStartTimeoutException": Unavailable,
    "CodeArtifactUserPendingException": Unavailable,
    "ENINotReadyException": Unavailable,
    "EFSMountTimeoutException": Unavailable,
    "S3FilesMountTimeoutException": Unavailable,
}


@pytest.mark.parametrize(("name", "status"), modelled_errors().items())
@pytest.mark.parametrize("where", ["header", "body"])
def test_every_error_that_invoke_knows_is_translated(
    name: str, status: int, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """AWS's errors become ours by what to do about them; their texts, which name accounts, go to the log alone."""
    told: dict[str, str] = {"Type": "User", "message": f"arn of {SECRET}"}
    headers = "x-amzn-RequestId: 8476a536\r\n"
    if where == "header":
        headers += f"x-amzn-ErrorType: {name}:http://internal.amazon.com/coral/com.amazonaws.awsgirapi/\r\n"
    else:
        told["__type"] = f"com.amazonaws.awsgirapi#{name}"
    error = carried(response(json.dumps(told).encode(), status=f"{status} Error", headers=headers))
    assert type(error) is OURS.get(name, RemoteError)
    if type(error) is RemoteError:
        assert error.code == status * 100
    assert name in error.message
    assert "'vgg' in us-east-1" in error.message
    assert SECRET not in error.message
    assert f"{status} {name}: 'arn of {SECRET}'" in caplog.text


@pytest.mark.parametrize(
    ("status", "name", "kind", "code", "words"),
    [
        (403, "AccessDeniedException", RemoteError, 40300, "allow our role or user lambda:InvokeFunction on it"),
        (403, "InvalidSignatureException", RemoteError, 40300, "AWS does not accept our credentials"),
        (403, "UnrecognizedClientException", RemoteError, 40300, "AWS does not accept our credentials"),
        (403, "ExpiredTokenException", RemoteError, 40300, "AWS does not accept our credentials"),
        (400, "IncompleteSignatureException", RemoteError, 40300, "AWS does not accept our credentials"),
        (503, "ServiceUnavailableException", Unavailable, 50300, "is not ready"),
        (400, "ThrottlingException", Busy, 42900, "has as many calls as it may"),
        (429, "", Busy, 42900, "(status 429)"),
        (404, "", NotFound, 40400, "there is no function 'vgg' in us-east-1 (status 404)"),
        (500, "", RemoteError, 50000, "can't call the function 'vgg' in us-east-1 (status 500)"),
        (302, "", RemoteError, 30200, "(status 302)"),
    ],
)
def test_errors_of_all_of_aws_are_translated_too(
    status: int, name: str, kind: type[GraphPipeError], code: int, words: str
) -> None:
    """What is no error of Invoke's own, as of a wrong key, says what to do about it."""
    headers = f"x-amzn-errortype: {name}\r\n" if name else ""
    error = carried(response(b"<html>", status=f"{status} Error", headers=headers))
    assert (type(error), error.code) == (kind, code)
    assert words in error.message


def test_a_throttled_call_is_made_again_when_lambda_says() -> None:
    """The transport says Busy and when; the Client, and nobody else, tries again."""
    busy = response(status="429 Too Many Requests", headers="Retry-After: 1\r\n")
    error = carried(busy)
    assert (type(error), error.retry_after_s) == (Busy, 1.0)
    tries: list[float] = []

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            tries.append(time.monotonic())
            peer.send(busy)

    with (
        scripted_server(script) as server,
        connect("lambda:vgg", aws=access_to(server.url), retries=1) as client,
        pytest.raises(Busy),
    ):
        client.metadata()
    assert len(tries) == 2
    assert tries[1] - tries[0] >= 1.0


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (response(b'{"hello": 1}'), TransportFailed, "the function 'vgg' answered 12 bytes that are no HTTP answer"),
        (response(b"null"), TransportFailed, "is its handler adapters.aws_lambda's?"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
            TransportFailed,
            "closed the connection after 1 of 9 bytes",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", TransportFailed, "does not speak proper HTTP/1.1"),
        (
            response(b"not json", headers="X-Amz-Function-Error: Unhandled\r\nx-amzn-RequestId: 8476\r\n"),
            TransportFailed,
            "the function 'vgg' failed with an error instead of answering; its log tells why (request 8476)",
        ),
        (
            response(b'{"errorType": "<b>\\nbold"}', headers="X-Amz-Function-Error: Unhandled\r\n"),
            TransportFailed,
            "the function 'vgg' failed with an error instead of answering; its log tells why",
        ),
        (
            response(
                b'{"errorMessage": "2026-01-01T00:00:00Z 8476 Task timed out after 3.00 seconds"}',
                headers="X-Amz-Function-Error: Unhandled\r\n",
            ),
            TimedOut,
            "the function 'vgg' ran into its own timeout",
        ),
    ],
    ids=[
        "foreign",
        "null",
        "cut",
        "no HTTP",
        "error without JSON",
        "error with foreign text",
        "timeout without type",
    ],
)
def test_what_is_no_answer_is_a_failure(answer: bytes, kind: type[GraphPipeError], words: str) -> None:
    """A function that answers otherwise, or a server that is none of Amazon's, is named as such."""
    error = carried(answer)
    assert type(error) is kind
    assert words in error.message


def test_a_request_is_measured_before_it_is_sent() -> None:
    """A payload of the very limit goes, one byte more is refused with its size, and nothing is sent."""
    call = Call("mine-1", time.monotonic() + 60)
    envelope = sum(map(len, encode_event([bytes(4_700_000)], call))) - len(encode_event([bytes(4_700_000)], call)[1])
    fits = (PAYLOAD_MAX - envelope) // 4 * 3
    with runtime_of("foreign") as runtime:
        transport = LambdaTransport("lambda:function", access=access_to(runtime.url))
        with pytest.raises(
            TooLarge, match=r"the request takes 6,29\d,\d\d\d bytes as Lambda's payload .* fewer rows"
        ):
            transport([bytes(fits + 1)], call)
        with pytest.raises(TooLarge, match=r"the request takes 133,333,33\d bytes"):
            transport([bytes(100_000_000)], call)
        assert runtime.starts == 0
        with pytest.raises(TransportFailed, match="no HTTP answer"):  # it was sent, and answered
            transport([bytes(fits - 1), b"\x00"], call)
        assert runtime.starts == 1
        transport.close()


def test_the_callers_deadline_ends_the_wait() -> None:
    """A server that is silent holds nobody longer than the call's deadline."""
    with scripted_server(lambda peer: peer.wait()) as server:
        transport = LambdaTransport("lambda:vgg", access=access_to(server.url))
        started = time.monotonic()
        with pytest.raises(TimedOut):
            transport([b"body"], Call(deadline_s=started + 0.2))
        assert time.monotonic() - started < 0.5
        transport.close()


def test_connections_are_kept() -> None:
    """A second call needs no second connection: on Lambda's API that would be a TLS handshake."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(response(b'{"statusCode": 204}'))

    with scripted_server(script) as server:
        transport = LambdaTransport("lambda:vgg", access=access_to(server.url))
        for _ in range(3):
            transport([b"body"], Call())
        transport.close()
        assert server.connections == 1


@contextmanager
def runtime_of(handler: str, **options: Any) -> Iterator[LambdaRuntime]:
    """Run one of the handlers under AWS's real runtime client."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "func.py").write_text(FUNC)
        with LambdaRuntime(Path(name), f"func.{handler}", **options) as runtime:
            yield runtime


@pytest.mark.parametrize(
    ("handler", "kind", "words", "starts"),
    [
        ("raises", TransportFailed, "failed with ValueError instead of answering; its log tells why (request ", 1),
        ("dies", TransportFailed, "failed with Runtime.ExitError instead of answering", 2),
        ("unserialisable", TransportFailed, "failed with Runtime.MarshalError instead of answering", 1),
        ("nothing_of_that_name", TransportFailed, "failed with Runtime.HandlerNotFound instead of answering", 2),
        ("foreign", TransportFailed, "answered 12 bytes that are no HTTP answer", 1),
        ("enormous", TooLarge, "the answer of 'function' is over Lambda's limit of 6 MB; send fewer rows", 2),
    ],
)
def test_a_function_that_fails_is_told_from_one_that_refuses(
    handler: str, kind: type[GraphPipeError], words: str, starts: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What the real runtime client reports is an error of ours; a handler's own words are in the log only."""
    with runtime_of(handler) as runtime, connect("lambda:function", aws=access_to(runtime.url)) as client:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                client.run([1.0])
            assert words in caught.value.message
            assert SECRET not in caught.value.message
        assert runtime.starts == starts
    assert (SECRET in caplog.text) == (handler == "raises")


def test_a_functions_own_timeout_is_told_from_the_callers() -> None:
    """Lambda kills it, the caller learns that more time would help, and the next call finds a new process."""
    with (
        runtime_of("handler", timeout_s=1.0) as runtime,
        connect("lambda:function", aws=access_to(runtime.url)) as client,
    ):
        with pytest.raises(TimedOut, match="the function 'function' ran into its own timeout; allow it more time"):
            client.run([1.0], config="sleep 20")
        assert np.array_equal(client.run([1.0])[0], [1.0])
        assert runtime.starts == 2


def test_a_second_call_waits_for_its_turn() -> None:
    """Where a function may run once at a time, a throttled client comes back and gets its answer."""
    with (
        runtime_of("handler") as runtime,
        connect("lambda:function", aws=access_to(runtime.url), retries=5) as client,
    ):
        client.run([0])
        first = threading.Thread(target=client.run, args=([1.0],), kwargs={"config": "sleep 0.5"})
        first.start()
        give_up = time.monotonic() + 5
        while not runtime.busy:
            assert time.monotonic() < give_up
        assert np.array_equal(client.run([2.0])[0], [2.0])
        first.join()


def test_a_first_call_needs_nothing_of_boto3() -> None:
    """From import to answer, what makes a cold start slow is not loaded: no SDK, and no TLS where there is none."""
    code = """
import sys
from graphpipe_fn.messages import InferRequest, strings
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.aws_access import AwsAccess
keys = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
access = AwsAccess.from_env({**keys, "AWS_ENDPOINT_URL": sys.argv[1]})
with connect("lambda:function", aws=access) as client:
    print(client.infer(InferRequest((strings(["a"]),))).outputs[0].values)
heavy = ("boto3", "botocore", "urllib3", "numpy", "ssl", "http.client", "asyncio")
print([name for name in heavy if name in sys.modules])
"""
    with runtime_of("handler") as runtime:
        command = [sys.executable, "-I", "-c", code, runtime.url]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told == "(b'a',)\n[]\n"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An AWS with some functions."""
    with ministack() as running:
        running.deploy("contract", FUNC)
        running.deploy("raises", FUNC, handler="func.raises")
        running.deploy("dies", FUNC, handler="func.dies")
        running.deploy("slow", FUNC, timeout_s=1)
        functions = running.client("lambda")
        version = functions.publish_version(FunctionName="contract")["Version"]
        functions.create_alias(FunctionName="contract", Name="live", FunctionVersion=version)
        yield running


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> Iterator[Client]:
    """A client of the deployed function."""
    with connect("lambda:contract", aws=emulator.access()) as model:
        yield model


NUMBERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
TENSORS: dict[str, Tensor] = {
    **{dtype: np.array([[0, 1, 2], [3, 4, 100]], dtype) for dtype in NUMBERS},
    "strings": strings(["", "é", b"\x00\xff trailing\x00\x00"]),
    "empty": np.zeros((0, 3), "float32"),
    "6 rows": np.random.default_rng(3).random((6, 3, 224, 224), dtype="float32"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_deployed_function_answers_every_dtype(client: Client, name: str) -> None:
    """Through a real deployment, its signature checked, no bit of a tensor changes."""
    sent = TENSORS[name]
    (output,) = client.run(sent)
    if isinstance(sent, StringTensor) or isinstance(output, StringTensor):
        assert output == sent
    else:
        assert (output.dtype, output.shape, output.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


def test_a_deployed_function_describes_itself_and_refuses(client: Client) -> None:
    """Metadata, timings and errors with their codes come as over any road."""
    assert client.metadata() == ContractModel().metadata()
    response = client.infer(InferRequest((np.ones(1),)))
    assert [timing.name for timing in response.timings] == ["hop", "contract", "inner"]
    for config, code in (("raise BadTensor", 42200), ("raise NotFound", 40400), ("bug", 50000)):
        with pytest.raises(RemoteError) as caught:
            client.run([1], config=config)
        assert caught.value.code == code
        assert SECRET not in caught.value.message
    with pytest.raises(TooLarge, match="send fewer rows"):
        client.run(np.zeros((8, 3, 224, 224), "float32"))


@pytest.mark.parametrize("name", ["contract:live", "contract:1", "contract:$LATEST"])
def test_versions_and_aliases_are_deployments_too(emulator: Emulator, name: str) -> None:
    """What is behind the name's colon chooses the version."""
    with connect(f"lambda:{name}", aws=emulator.access()) as client:
        assert np.array_equal(client.run([1, 2])[0], [1, 2])


def test_a_whole_arn_is_a_name(emulator: Emulator) -> None:
    """A function in another account, or written down by a tool, is called by its ARN."""
    arn = emulator.client("lambda").get_function(FunctionName="contract")["Configuration"]["FunctionArn"]
    with connect(f"lambda:{arn}:live", aws=emulator.access()) as client:
        assert np.array_equal(client.run([1, 2])[0], [1, 2])


def denied(emulator: Emulator) -> AwsAccess:
    return emulator.user("stranger")


def wrong_secret(emulator: Emulator) -> AwsAccess:
    access = emulator.user("forgetful", "lambda:InvokeFunction")
    return emulator.access(access.access_key_id, "wrong" + access.secret_access_key)


@pytest.mark.parametrize(
    ("name", "access", "kind", "words"),
    [
        ("nope", Emulator.access, NotFound, "there is no function 'nope' in us-east-1 (ResourceNotFoundException)"),
        ("contract:nope", Emulator.access, NotFound, "there is no function 'contract:nope'"),
        ("raises", Emulator.access, TransportFailed, "the function 'raises' failed with "),
        ("dies", Emulator.access, TransportFailed, "the function 'dies' failed with "),
        ("contract", denied, RemoteError, "allow our role or user lambda:InvokeFunction on it"),
        ("contract", wrong_secret, RemoteError, "does not accept our credentials (InvalidSignatureException)"),
        (
            "contract",
            lambda emulator: emulator.access("AKIAIOSFODNN7EXAMPLE", "x"),
            RemoteError,
            "UnrecognizedClient",
        ),
    ],
    ids=["no function", "no alias", "raises", "dies", "denied", "wrong secret", "unknown key"],
)
def test_a_real_deployments_errors_are_ours(
    emulator: Emulator, name: str, access: Callable[[Emulator], AwsAccess], kind: type[GraphPipeError], words: str
) -> None:
    """Another implementation of Lambda says the same in its own way, and checks who asks."""
    with connect(f"lambda:{name}", aws=access(emulator), retries=0) as client, pytest.raises(kind) as caught:
        client.run([1.0])
    assert words in caught.value.message
    assert SECRET not in caught.value.message


def test_a_user_with_the_right_may_call(emulator: Emulator) -> None:
    """A policy that allows lambda:InvokeFunction is all that a caller needs."""
    with connect("lambda:contract", aws=emulator.user("caller", "lambda:InvokeFunction")) as client:
        assert np.array_equal(client.run([1, 2])[0], [1, 2])


def test_a_deployments_timeout_and_the_callers_are_told_apart(emulator: Emulator) -> None:
    """Both are TimedOut; the words say whose patience ended."""
    with connect("lambda:slow", aws=emulator.access()) as client, pytest.raises(TimedOut, match="its own timeout"):
        client.run([1.0], config="sleep 20")
    impatient = connect("lambda:contract", aws=emulator.access(), timeout_s=0.5)
    with impatient as client, pytest.raises(TimedOut, match="did not answer in time"):
        client.run([1.0], config="sleep 2")


def test_a_disabled_function_is_busy(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """A concurrency of 0 throttles every call; once lifted, the same client gets its answer."""
    functions = emulator.client("lambda")
    emulator.deploy("throttled", FUNC)
    functions.put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=0)
    with connect("lambda:throttled", aws=emulator.access(), retries=0) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(Busy) as caught:
            client.run([1.0])
        assert caught.value.retry_after_s == 1.0
        functions.delete_function_concurrency(FunctionName="throttled")
        assert np.array_equal(client.run([1.0])[0], [1.0])


def test_many_calls_at_once_are_not_mixed_up(emulator: Emulator, client: Client) -> None:
    """Several environments of one function, one client, and everybody gets their own answer."""
    with ThreadPoolExecutor(4) as threads:
        outputs = list(threads.map(lambda number: client.run([number])[0], range(16)))
    assert [output.tolist() for output in outputs] == [[number] for number in range(16)]
