"""JSON at /rest: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.rest import WithRest
from graphpipe_fn.binding import bind
from graphpipe_fn.errors import BadTensor
from graphpipe_fn.messages import (
    Call,
    DType,
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    Tensor,
    strings,
)
from graphpipe_fn.model import Buffer
from graphpipe_fn.server import answerer


@dataclass
class Model:
    """Answer "y" with what `make` makes of input x, and "z" with the config."""

    dtype: DType = DType.NULL
    make: Callable[[Tensor], Tensor] = lambda x: x

    def metadata(self) -> Metadata:
        return Metadata("m", "", "", "", (IOMetadata("x", dtype=self.dtype),), (IOMetadata("y"), IOMetadata("z")))

    def infer(self, request: InferRequest) -> InferResponse:
        if request.config == "bug":
            raise ZeroDivisionError
        if request.config == "returned":
            return InferResponse(errors=(Error(42207, "returned"),))
        bound = bind(request, self.metadata(), default_outputs=["y"])
        outputs = {"y": self.make(bound.inputs["x"]), "z": strings([request.config], ())}
        return InferResponse(tuple(outputs[name] for name in bound.outputs))


def ask(model: Model, value: object, *, method: str = "POST", path: str = "/rest") -> tuple[int, object]:
    site = WithRest(Endpoints(answerer(model), model.metadata), model)
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def read() -> Buffer:
        return body

    reply = site.reply(method, path, read, Call("id"))
    return reply.status, json.loads(reply.body()) if reply.content_type == "application/json" else reply.body()


ANSWERS: list[tuple[str, DType, object, object]] = [
    ("floats", DType.FLOAT32, {"inputs": [[[0.5, 1]]]}, {"y": [[0.5, 1.0]]}),
    ("by name", DType.FLOAT32, {"inputs": {"x": [1]}}, {"y": [1.0]}),
    ("whole numbers", DType.UINT8, {"inputs": [[0, 255]]}, {"y": [0, 255]}),
    ("large whole numbers", DType.INT64, {"inputs": [[2**63 - 1]]}, {"y": [2**63 - 1]}),
    ("scalar", DType.FLOAT64, {"inputs": [0.25]}, {"y": 0.25}),
    ("of no dtype in particular", DType.NULL, {"inputs": [[1, 2]]}, {"y": [1, 2]}),
    ("empty", DType.FLOAT32, {"inputs": [[]]}, {"y": []}),
    ("text", DType.STRING, {"inputs": [[["é", "b"], ["", "d"]]]}, {"y": [["é", "b"], ["", "d"]]}),
    ("bytes", DType.STRING, {"inputs": [[{"b64": "/wA="}, {"b64": "YQ=="}]]}, {"y": [{"b64": "/wA="}, "a"]}),
    ("one text", DType.STRING, {"inputs": ["a"]}, {"y": "a"}),
    ("outputs and config", DType.NULL, {"inputs": [1], "outputs": ["z", "y"], "config": "c"}, {"z": "c", "y": 1}),
    ("default by place", DType.NULL, {"inputs": [1], "outputs": [""]}, {"y": 1}),
]


@pytest.mark.parametrize(
    ("dtype", "asked", "expected"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_answers(dtype: DType, asked: object, expected: object) -> None:
    """JSON goes in, the model's tensors come out as JSON, numbers in the model's own dtype."""
    assert ask(Model(dtype), asked) == (200, {"outputs": expected})


REFUSALS: list[tuple[str, DType, object, int, int]] = [
    ("no JSON", DType.NULL, b"{", 400, 40001),
    ("no object", DType.NULL, [1], 400, 40001),
    ("deep nesting", DType.NULL, b"[" * 100_000, 400, 40001),
    ("no inputs", DType.NULL, {}, 400, 40001),
    ("unknown key", DType.NULL, {"inputs": [1], "input": 1}, 400, 40001),
    ("inputs of another kind", DType.NULL, {"inputs": 1}, 400, 40001),
    ("outputs of another kind", DType.NULL, {"inputs": [1], "outputs": "y"}, 400, 40001),
    ("config of another kind", DType.NULL, {"inputs": [1], "config": {}}, 400, 40001),
    ("unknown input", DType.NULL, {"inputs": {"w": 1}}, 400, 40002),
    ("unknown output", DType.NULL, {"inputs": [1], "outputs": ["w"]}, 400, 40002),
    ("too many inputs", DType.NULL, {"inputs": [1, 2]}, 400, 40002),
    ("ragged", DType.FLOAT32, {"inputs": [[[1], [1, 2]]]}, 422, 42200),
    ("null", DType.FLOAT32, {"inputs": [[None]]}, 422, 42200),
    ("text for numbers", DType.FLOAT32, {"inputs": [["a"]]}, 422, 42200),
    ("numbers for text", DType.STRING, {"inputs": [[1]]}, 422, 42200),
    ("over the dtype's range", DType.UINT8, {"inputs": [[256]]}, 422, 42200),
    ("below the dtype's range", DType.UINT8, {"inputs": [[-1]]}, 422, 42200),
    ("a fraction for a whole number", DType.INT32, {"inputs": [[0.5]]}, 422, 42200),
    ("no base64", DType.STRING, {"inputs": [[{"b64": "é"}]]}, 400, 40001),
    ("base64 cut short", DType.STRING, {"inputs": [[{"b64": "DDDD="}]]}, 400, 40001),
    ("base64 of another kind", DType.STRING, {"inputs": [[{"b64": 1}]]}, 400, 40001),
    ("an object that is no bytes", DType.STRING, {"inputs": [[{"a": 1}]]}, 400, 40001),
    ("a bug", DType.NULL, {"inputs": [1], "config": "bug"}, 500, 50000),
    ("an error that is returned", DType.NULL, {"inputs": [1], "config": "returned"}, 422, 42207),
]


@pytest.mark.parametrize(
    ("dtype", "asked", "status", "code"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals(dtype: DType, asked: object, status: int, code: int) -> None:
    """Every error is JSON with the code, under the status that follows from it."""
    got, answer = ask(Model(dtype), asked)
    assert (status, code) == (got, answer["error"]["code"])  # type: ignore[index]


def test_what_json_does_not_have_is_refused() -> None:
    """NaN and infinity are an error, not a text that no other JSON reader takes."""
    status, answer = ask(Model(make=lambda x: np.array([np.nan])), {"inputs": [1]})
    assert (status, answer["error"]["code"]) == (BadTensor("").status, BadTensor.code)  # type: ignore[index]


def test_other_paths_and_methods() -> None:
    """Only POST is known at /rest, and every other path is as it was."""
    model = Model()
    assert ask(model, b"", method="GET")[0] == 405
    assert ask(model, b"", path="/nowhere")[0] == 404
    assert ask(model, b"", method="GET", path="/control/is_alive") == (200, b"ok\n")
