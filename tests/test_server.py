"""A Model as bytes → bytes."""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contract_model import SECRET, ContractModel

from graphpipe_fn.codec import Limits, decode_response, encode_request
from graphpipe_fn.errors import Busy, UnknownName
from graphpipe_fn.messages import (
    Call,
    DType,
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    MetadataRequest,
    Timing,
)
from graphpipe_fn.server import answerer, error_reply, metadata_json, reply


def asked(config: str = "") -> bytes:
    """Return an encoded request."""
    return b"".join(encode_request(InferRequest((np.ones(2, "float32"),), config=config)))


class Scripted:
    """Be a model that returns this response, after a while."""

    def __init__(self, response: InferResponse, *, seconds: float = 0.0) -> None:
        self.response = response
        self.seconds = seconds
        self.calls: list[Call] = []

    def metadata(self) -> Metadata:
        """Return nothing much."""
        return Metadata("scripted")

    def infer(self, request: InferRequest) -> InferResponse:
        """Remember the call."""
        self.calls.append(request.call)
        time.sleep(self.seconds)
        return self.response


def test_the_model_gets_the_call_and_the_caller_the_timings() -> None:
    """What travels beside the message passes through, both ways."""
    model = Scripted(InferResponse((np.ones(1),), timings=(Timing("a", 0.5, True),)))
    call = Call("id", time.monotonic() + 5, "trace")
    answered = reply(model, asked(), call)
    assert model.calls == [call]
    assert answered.timings == (Timing("a", 0.5, True),)


def test_a_bug_is_logged_whole_and_told_as_an_id(caplog: pytest.LogCaptureFixture) -> None:
    """The caller can name the call, and the log has the traceback under that name."""
    with caplog.at_level(logging.ERROR):
        answered = reply(ContractModel(), asked("bug"), Call("call-7"))
    assert decode_response(answered.body()).errors == (Error(50000, "internal error, call call-7"),)
    assert "call-7" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


def test_a_refusal_is_not_logged_as_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """An error on purpose is an answer like any other."""
    reply(ContractModel(), asked("raise BadTensor"))
    assert caplog.text == ""


def test_an_error_beside_outputs_does_not_hide_them() -> None:
    """Errors make the status only where there is no result."""
    answered = reply(Scripted(InferResponse((np.ones(1),), (Error(42200, "half"),))), asked())
    assert answered.status == 200
    assert decode_response(answered.body()).errors == (Error(42200, "half"),)


@pytest.mark.parametrize(("retry_after_s", "header"), [(None, ()), (0.2, "1"), (7.0, "7"), (-3.0, "0")])
def test_the_time_to_retry_is_rounded_up(retry_after_s: float | None, header: str) -> None:
    """Whole seconds, never sooner than the model said."""
    answered = error_reply(Busy("full", retry_after_s=retry_after_s))
    assert answered.headers == ((("retry-after", header),) if header else ())


def test_the_decoder_keeps_to_the_limits_given() -> None:
    """Limits are the server's to choose."""
    assert reply(ContractModel(), asked(), limits=Limits(message_bytes=10)).status in (400, 413)
    assert reply(ContractModel(), asked(), limits=Limits(message_bytes=10_000)).status == 200


def test_a_passed_deadline_spares_the_model() -> None:
    """Work that nobody waits for is not begun."""
    model = Scripted(InferResponse())
    answered = reply(model, asked(), Call("id", time.monotonic() - 0.001))
    assert (answered.status, model.calls) == (504, [])


def test_the_stages_own_time_is_what_its_hops_do_not_explain() -> None:
    """Own time comes first, and the sum of all timings is the wall time."""
    model = Scripted(InferResponse((np.ones(1),), timings=(Timing("hop", 0.02), Timing("next", 0.03))), seconds=0.08)
    started = time.perf_counter()
    own, *below = answerer(model, name="stage")(asked(), Call()).timings
    wall_s = time.perf_counter() - started
    assert [timing.name for timing in below] == ["hop", "next"]
    assert own.name == "stage"
    assert 0.028 <= own.seconds <= wall_s - 0.05


def test_only_the_first_call_is_cold() -> None:
    """Of a hundred calls at once exactly one started the stage."""
    answer = answerer(Scripted(InferResponse((np.ones(1),))), name="stage")
    together = threading.Barrier(10)

    def ask(_: int) -> bool | None:
        together.wait()
        return answer(asked(), Call()).timings[0].cold

    with ThreadPoolExecutor(10) as threads:
        colds = list(threads.map(ask, range(100)))
    assert (colds.count(True), colds.count(False)) == (1, 99)


@pytest.mark.parametrize(
    ("name", "timings", "told"),
    [
        ("", (Timing("model", 0.5),), (Timing("model", 0.5),)),
        ("model", (Timing("model", 0.5),), (Timing("model", 0.5, True),)),
        ("model", (Timing("model", 0.5, False),), (Timing("model", 0.5, False),)),
        ("model", (Timing("hop", 0.1), Timing("model", 0.5)), (Timing("hop", 0.1), Timing("model", 0.5, True))),
    ],
    ids=["no name", "the model's own", "the model's own, which knows", "behind a hop"],
)
def test_a_stage_is_not_timed_twice(name: str, timings: tuple[Timing, ...], told: tuple[Timing, ...]) -> None:
    """Without a name there is nothing to say; a model that times itself is believed, and told if it was cold."""
    answer = answerer(Scripted(InferResponse((np.ones(1),), timings=timings)), name=name)
    assert answer(asked(), Call()).timings == told


def test_a_refused_request_is_timed_too() -> None:
    """The time that an error took is seen as well."""
    assert [timing.name for timing in answerer(ContractModel(), name="stage")(b"", Call()).timings] == ["stage"]


def test_a_model_whose_metadata_fails_answers_an_error() -> None:
    """Metadata requests are refused as others are."""

    class Unknown(Scripted):
        def metadata(self) -> Metadata:
            raise UnknownName("no idea")

    answered = reply(Unknown(InferResponse()), b"".join(encode_request(MetadataRequest())))
    assert (answered.status, decode_response(answered.body()).errors) == (400, (Error(40002, "no idea"),))


def test_the_json_of_a_get_has_the_originals_keys() -> None:
    """Tools that read the original's JSON read ours; the dtype's name stands beside its number."""
    metadata = Metadata(
        "vgg", "1", "ours", "d\u00e9j\u00e0", (IOMetadata("x", "", (-1, 3), DType.FLOAT32),), (IOMetadata("y"),)
    )
    text = metadata_json(metadata)
    assert json.loads(text) == {
        "Name": "vgg",
        "Version": "1",
        "Server": "ours",
        "Description": "d\u00e9j\u00e0",
        "Inputs": [{"Name": "x", "Description": "", "Shape": [-1, 3], "Type": 10, "TypeName": "Float32"}],
        "Outputs": [{"Name": "y", "Description": "", "Shape": [], "Type": 0, "TypeName": "Null"}],
    }
    assert text.splitlines()[1] == b'    "Name": "vgg",'
