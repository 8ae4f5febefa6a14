from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphpipe_fn.binding import bind, dtype_of
from graphpipe_fn.errors import BadTensor, UnknownName
from graphpipe_fn.messages import DType, InferRequest, IOMetadata, Metadata, strings

METADATA = Metadata(
    inputs=(IOMetadata("x", "", (-1, 3), DType.FLOAT32), IOMetadata("y", "", (), DType.NULL)),
    outputs=(IOMetadata("sum"), IOMetadata("product")),
)
X = np.zeros((2, 3), np.float32)
Y = strings(["anything"])

GOOD: list[Any] = [
    pytest.param((), (), ["x", "y"], ("sum", "product"), id="no names: the model's order"),
    pytest.param(("y", "x"), ("product",), ["y", "x"], ("product",), id="own order"),
    pytest.param(("", "y"), ("", "sum"), ["x", "y"], ("sum", "sum"), id="an empty name is the default there"),
]


@pytest.mark.parametrize(("input_names", "output_names", "inputs", "outputs"), GOOD)
def test_names_find_their_tensors(
    input_names: tuple[str, ...], output_names: tuple[str, ...], inputs: list[str], outputs: tuple[str, ...]
) -> None:
    """Absent and empty names mean the defaults by position."""
    tensors = (X, Y) if inputs[0] == "x" else (Y, X)
    bound = bind(InferRequest(tensors, input_names, output_names), METADATA)
    assert (list(bound.inputs), bound.outputs) == (inputs, outputs)


BAD: list[Any] = [
    pytest.param(
        (X, Y), ("x", "z"), (), UnknownName, 'unknown input "z"; this model has "x", "y"', id="unknown input"
    ),
    pytest.param((X, Y), ("x", "x"), (), UnknownName, '"x" was sent twice', id="twice"),
    pytest.param((X,), (), (), UnknownName, 'no tensor for input "y"', id="missing"),
    pytest.param((X, Y, Y), (), (), UnknownName, "3 inputs were sent", id="too many unnamed"),
    pytest.param((X, Y), ("x",), (), UnknownName, "one name for each", id="too few names"),
    pytest.param((X, Y, Y), ("x", "y", ""), (), UnknownName, "no default input at place 2", id="empty beyond"),
    pytest.param((X, Y), (), ("nope",), UnknownName, 'unknown output "nope"', id="unknown output"),
    pytest.param((X.astype(np.float64), Y), (), (), BadTensor, "takes float32, not float64", id="dtype"),
    pytest.param((X[0], Y), (), (), BadTensor, r"takes shape \[-1, 3\] \(-1 is any\), not \[3\]", id="rank"),
    pytest.param((X[:, :2], Y), (), (), BadTensor, r"not \[2, 2\]", id="size"),
]


@pytest.mark.parametrize(("inputs", "input_names", "output_names", "error", "complaint"), BAD)
def test_what_does_not_fit_is_refused_by_name(
    inputs: Any, input_names: Any, output_names: Any, error: type[Exception], complaint: str
) -> None:
    """The message names the culprit and what the model has."""
    with pytest.raises(error, match=complaint):
        bind(InferRequest(inputs, input_names, output_names), METADATA)


def test_inner_nodes_pass_only_where_the_model_says_so() -> None:
    """extra_outputs is how a graph's inner nodes can be asked for."""
    request = InferRequest((X, Y), output_names=("inner",))
    assert bind(request, METADATA, extra_outputs=True).outputs == ("inner",)


def test_a_dtype_that_graphpipe_has_not_is_refused() -> None:
    """complex128 has no number in the schema."""
    with pytest.raises(BadTensor, match="no dtype complex128"):
        dtype_of(np.zeros(1, complex))
