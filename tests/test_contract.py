"""One table of requests and what they must lead to, on every road to a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from contract_model import SECRET, ContractModel
from roads import NAME, ROADS

from graphpipe_fn.client import Client
from graphpipe_fn.codec import decode_metadata, decode_response, encode_request
from graphpipe_fn.errors import GraphPipeError, RemoteError
from graphpipe_fn.messages import Call, InferRequest, MetadataRequest, StringTensor, Tensor, strings
from graphpipe_fn.model import Transport

NUMBERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]

TENSORS: dict[str, Tensor] = {
    **{dtype: np.array([[0, 1, 2], [3, 4, 100]], dtype) for dtype in NUMBERS},
    "strings": strings(["", "é", b"\x00\xff trailing\x00\x00"]),
    "no-strings": StringTensor((), (0,)),
    "strings-2d": strings(["a", "b", "c", "d"], (2, 2)),
    "string-0d": strings(["alone"], ()),
    "empty": np.zeros((0, 3), "float32"),
    "0d": np.array(4.5, "float64"),
    "32d": np.ones((1,) * 32, "uint8"),
    "600-kB": np.arange(3 * 224 * 224, dtype="float32").reshape(1, 3, 224, 224),
    "specials": np.array([np.nan, np.inf, -np.inf, -0.0], "float32"),
}


@dataclass(frozen=True)
class Refusal:
    """A request and the error that it leads to."""

    body: bytes
    code: int
    message: str
    retry_after: str = ""


def asked(config: str = "", **names: tuple[str, ...]) -> bytes:
    """Return an encoded request with one small input."""
    return b"".join(encode_request(InferRequest((np.ones(2, "float32"),), config=config, **names)))


def refused(name: str, code: int) -> Refusal:
    """Return the case of one error class, raised with a time to retry."""
    return Refusal(asked(f"raise {name}"), code, f"refused with {name}", "8")


REFUSALS = {
    **{
        name: refused(name, code)
        for name, code in {
            "MalformedMessage": 40001,
            "UnknownName": 40002,
            "BadConfig": 40003,
            "NotFound": 40400,
            "MethodNotAllowed": 40500,
            "TooLarge": 41300,
            "BadTensor": 42200,
            "Busy": 42900,
            "InternalError": 50000,
            "TransportFailed": 50200,
            "Unavailable": 50300,
            "TimedOut": 50400,
        }.items()
    },
    "bug": Refusal(asked("bug"), 50000, "internal error, call 0123-abc"),
    "unsendable output": Refusal(asked("unsendable"), 50000, "internal error, call 0123-abc"),
    "returned error": Refusal(asked("errors 42207"), 42207, "returned"),
    "foreign code": Refusal(asked("errors 17"), 17, "returned"),
    "unknown input": Refusal(asked(input_names=("z",)), 40002, 'unknown input "z"'),
    "unknown output": Refusal(asked(output_names=("z",)), 40002, 'unknown output "z"'),
    "output twice": Refusal(b"".join(encode_request(InferRequest((), ("x", "x")))), 40002, "0 inputs"),
    "no inputs": Refusal(b"".join(encode_request(InferRequest())), 40002, "no tensor"),
    "empty body": Refusal(b"", 40001, ""),
    "text": Refusal(b"GET me a pony, please, and be quick", 40001, ""),
    "zeros": Refusal(bytes(256), 40001, ""),
    "cut": Refusal(asked()[:-9], 40001, ""),
    "over the limit": Refusal(bytes(1_000_001), 41300, "1,000,0"),
}


@pytest.fixture(scope="module", params=ROADS)
def road(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """One road after the other, each with its own server."""
    with ROADS[request.param]() as transport:
        yield transport


def call() -> Call:
    """Return a Call with a name and half a minute."""
    return Call("0123-abc", time.monotonic() + 30)


def equal(one: Tensor, other: Tensor) -> bool:
    """Compare dtype, shape and every bit."""
    if isinstance(one, StringTensor) or isinstance(other, StringTensor):
        return one == other
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_comes_back_as_it_was_sent(road: Transport, name: str) -> None:
    """No road changes a dtype, a shape or a bit."""
    sent = TENSORS[name]
    reply = road(encode_request(InferRequest((sent,))), call())
    response = decode_response(reply.body())
    assert (reply.status, reply.content_type, response.errors) == (200, "application/octet-stream", ())
    assert len(response.outputs) == 1
    assert equal(response.outputs[0], sent)


def test_the_metadata_is_the_models_own(road: Transport) -> None:
    """A metadata request is answered by the model."""
    reply = road(encode_request(MetadataRequest()), call())
    assert (reply.status, decode_metadata(reply.body())) == (200, ContractModel().metadata())


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_has_its_code_its_words_and_its_status(
    road: Transport, name: str, request: pytest.FixtureRequest
) -> None:
    """Errors are the same on every road, in the message and in the status, and tell nothing of a bug."""
    case = REFUSALS[name]
    if name == "over the limit" and request.node.callspec.params["road"] in ("reply", "local"):
        case = Refusal(case.body, 40001, "")  # no adapter, no limit: the decoder refuses the zeros
    reply = road([case.body], call())
    (error,) = decode_response(reply.body()).errors
    assert (error.code, reply.status) == (case.code, case.code // 100 if case.code > 9999 else 502)
    assert case.message in error.message
    assert SECRET not in error.message
    assert dict(reply.headers).get("retry-after", "") == case.retry_after


def test_the_call_travels_beside_the_message(road: Transport) -> None:
    """The model learns the caller's id and how long it still waits."""
    reply = road(encode_request(InferRequest((np.ones(1),), config="call")), call())
    (told,) = decode_response(reply.body()).outputs
    assert isinstance(told, StringTensor)
    assert told[0] == b"0123-abc"
    assert 28.0 <= float(told[2]) <= 30.0  # Fn's deadlines have whole seconds


def test_a_passed_deadline_is_refused_before_the_work(road: Transport) -> None:
    """Nobody waits any more, so nothing is computed: on every road that still carries the request."""
    with pytest.raises(GraphPipeError) as caught:  # transports do not even send it, servers answer an error
        Client(road).infer(InferRequest((np.ones(1),), call=Call("0123-abc", time.monotonic() - 2)))
    assert caught.value.code == 50400


def test_the_stage_names_its_own_time(road: Transport, request: pytest.FixtureRequest) -> None:
    """Timings come beside the message, the stage's own first."""
    reply = road([asked()], call())
    expected = [NAME, "inner"]
    if request.node.callspec.params["road"] == "reply":  # reply() serves a model without a name
        expected = ["inner"]
    assert [timing.name for timing in reply.timings] == expected


def test_a_client_on_any_road_is_a_model(road: Transport) -> None:
    """Client(transport) answers, describes itself and raises the server's own errors."""
    client = Client(road, name="contract")
    (output,) = client.run([[1.5, 2.5]])
    assert equal(output, np.array([[1.5, 2.5]]))
    assert client.metadata() == ContractModel().metadata()
    with pytest.raises(RemoteError) as caught:
        client.run([1], output_names="z")
    assert caught.value.code == 40002
    assert 'unknown output "z"' in caught.value.message
