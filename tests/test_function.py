"""A typed function as a Model: metadata from its annotations, its config, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from graphpipe_fn.client import Client
from graphpipe_fn.errors import BadConfig, BadTensor, GraphPipeError, RemoteError, UnknownName
from graphpipe_fn.function import Shape, model
from graphpipe_fn.messages import (
    Call,
    DType,
    InferRequest,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
    strings,
)
from graphpipe_fn.transports.local import local

Pairs = Annotated[NDArray[np.float32], Shape("N", 2, description="pairs")]


@dataclass(frozen=True)
class Options:
    """A config."""

    factor: float
    power: int = 1
    name: str = ""
    flag: bool = False
    tags: list[str] = field(default_factory=list)


class Both(NamedTuple):
    """Two outputs by name."""

    sums: Annotated[NDArray[np.float32], Shape("N")]
    texts: StringTensor


@model
def double(x: Pairs) -> Pairs:
    """
    Return twice the numbers.

    More words.
    """
    return x * 2


@model(name="scaled", version="7")
def scale(x: Pairs, *, config: Options = Options(2.0)) -> Pairs:
    return (x * config.factor**config.power).astype("f4")


@model
def strict(x: Tensor, *, config: Options) -> Tensor:
    return x * np.float64(config.factor) if not isinstance(x, StringTensor) else x


@model
def told(*, config: str, call: Call) -> StringTensor:
    return strings([config, call.id])


@model
def both(a: Pairs, b: Annotated[NDArray[np.int64], Shape("N")]) -> Both:
    return Both((a.sum(axis=1) + b).astype("f4"), strings([str(n) for n in b.tolist()]))


@model
def parts(x: NDArray[Any], y: StringTensor) -> tuple[StringTensor, NDArray[np.uint8], Tensor]:
    return y, np.zeros(1, "u1"), x


@model
def liar(x: Pairs) -> Pairs:
    return x.astype("f8")  # type: ignore[return-value]


@model
def cutter(x: Pairs) -> Pairs:
    return x[:1]


F4 = DType.FLOAT32
METADATA: list[tuple[object, Metadata]] = [
    (
        double,
        Metadata(
            "double",
            "",
            "graphpipe-fn",
            "Return twice the numbers.",
            (IOMetadata("x", "pairs", (-1, 2), F4),),
            (IOMetadata("output", "pairs", (-1, 2), F4),),
        ),
    ),
    (
        scale,
        Metadata(
            "scaled",
            "7",
            "graphpipe-fn",
            "",
            (IOMetadata("x", "pairs", (-1, 2), F4),),
            (IOMetadata("output", "pairs", (-1, 2), F4),),
        ),
    ),
    (
        both,
        Metadata(
            "both",
            "",
            "graphpipe-fn",
            "",
            (IOMetadata("a", "pairs", (-1, 2), F4), IOMetadata("b", "", (-1,), DType.INT64)),
            (IOMetadata("sums", "", (-1,), F4), IOMetadata("texts", "", (), DType.STRING)),
        ),
    ),
    (
        parts,
        Metadata(
            "parts",
            "",
            "graphpipe-fn",
            "",
            (IOMetadata("x"), IOMetadata("y", dtype=DType.STRING)),
            (
                IOMetadata("output0", dtype=DType.STRING),
                IOMetadata("output1", dtype=DType.UINT8),
                IOMetadata("output2"),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("made", "expected"), METADATA, ids=[case[1].name for case in METADATA])
def test_metadata_comes_from_the_annotations(made: Any, expected: Metadata) -> None:
    """Names, dtypes, shapes and descriptions are the function's own."""
    assert expected == made.metadata()


PAIRS = np.array([[1, 2], [3, 4]], "f4")
TWO = np.array([10, 20])
ANSWERS: list[tuple[str, Any, InferRequest, list[object]]] = [
    ("one input", double, InferRequest((PAIRS,)), [[[2, 4], [6, 8]]]),
    ("the default config", scale, InferRequest((PAIRS[:1],)), [[[2, 4]]]),
    ("a config", scale, InferRequest((PAIRS[:1],), config='{"factor": 3, "power": 2}'), [[[9, 18]]]),
    ("any dtype", strict, InferRequest((TWO,), config='{"factor": 0.5}'), [[5, 10]]),
    ("by name", both, InferRequest((TWO, PAIRS), ("b", "a"), ("texts", "sums")), [[b"10", b"20"], [13, 27]]),
    ("several outputs", parts, InferRequest((TWO, strings(["s"]))), [[b"s"], [0], [10, 20]]),
    ("text config and call", told, InferRequest(config="words", call=Call("id")), [[b"words", b"id"]]),
]


@pytest.mark.parametrize(
    ("made", "request_", "expected"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_answers(made: Any, request_: InferRequest, expected: list[object]) -> None:
    """The function is called with its inputs, its config and its call, and its values are the outputs."""
    outputs = made.infer(request_).outputs
    assert expected == [list(out) if isinstance(out, StringTensor) else out.tolist() for out in outputs]


REFUSALS: list[tuple[str, Any, InferRequest, type[GraphPipeError], str]] = [
    ("dtype", double, InferRequest((PAIRS.astype("f8"),)), BadTensor, "takes float32"),
    ("shape", double, InferRequest((PAIRS[:, :1],)), BadTensor, "takes shape [-1, 2]"),
    ("sizes of one name", both, InferRequest((PAIRS, TWO[:1])), BadTensor, "N = 1, but N is 2"),
    ("unknown output", double, InferRequest((PAIRS,), (), ("y",)), UnknownName, '"output"'),
    ("config where there is none", double, InferRequest((PAIRS,), config="x"), BadConfig, "takes no config"),
    ("config that is no JSON", scale, InferRequest((PAIRS,), config="{"), BadConfig, "no JSON"),
    ("config that is no object", scale, InferRequest((PAIRS,), config="[1]"), BadConfig, "JSON object"),
    ("unknown key", scale, InferRequest((PAIRS,), config='{"factr": 1}'), BadConfig, 'no "factr"; it has factor'),
    ("missing key", scale, InferRequest((PAIRS,), config='{"power": 1}'), BadConfig, 'lacks "factor"'),
    ("missing config", strict, InferRequest((PAIRS,)), BadConfig, 'lacks "factor"'),
    ("text for a number", scale, InferRequest((PAIRS,), config='{"factor": "1"}'), BadConfig, "must be float"),
    ("true for a number", scale, InferRequest((PAIRS,), config='{"factor": true}'), BadConfig, "must be float"),
    ("fraction for an int", scale, InferRequest((PAIRS,), config='{"factor": 1, "power": 1.5}'), BadConfig, "int"),
]


@pytest.mark.parametrize(
    ("made", "request_", "error", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals(made: Any, request_: InferRequest, error: type[GraphPipeError], words: str) -> None:
    """What the annotations do not allow is refused before the function is called."""
    with pytest.raises(error) as caught:
        made.infer(request_)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("made", "words"), [(liar, "float64, not float32"), (cutter, r"shape \[1, 2\]")], ids=["dtype", "size"]
)
def test_a_function_that_breaks_its_promise_is_a_bug(made: Any, words: str) -> None:
    """An output that is not as annotated is the function's fault: 500 for the caller, the reason in the log."""
    with pytest.raises(TypeError, match=words):
        made.infer(InferRequest((PAIRS,)))
    with pytest.raises(RemoteError) as caught:
        Client(local(made)).run(PAIRS)
    assert caught.value.code == 50000


def test_a_decorated_function_is_still_a_function() -> None:
    """It can be called, and has its name and its docstring."""
    assert double(PAIRS).tolist() == [[2, 4], [6, 8]]
    assert (double.__name__, scale.__name__) == ("double", "scale")
    np.testing.assert_array_equal(Client(local(double)).run(PAIRS)[0], PAIRS * 2)


def unannotated(x) -> Tensor:  # type: ignore[no-untyped-def]
    return x  # type: ignore[no-any-return]


def returns_nothing_said(x: Tensor):  # type: ignore[no-untyped-def]
    return x


def any_number(*x: Tensor) -> Tensor:
    return x[0]


def no_tensor(x: int) -> Tensor:
    return np.array(x)


def complex_numbers(x: NDArray[np.complex64]) -> Tensor:
    return x


def unknown_keyword(x: Tensor, *, other: int) -> Tensor:
    return x


def any_number_out(x: Tensor) -> tuple[Tensor, ...]:
    return (x,)


@pytest.mark.parametrize(
    "function",
    [unannotated, returns_nothing_said, any_number, no_tensor, complex_numbers, unknown_keyword, any_number_out],
    ids=lambda function: function.__name__,
)
def test_functions_that_do_not_say_enough(function: Callable[..., Any]) -> None:
    """A function whose annotations are no metadata is refused when it is decorated, by name."""
    with pytest.raises(TypeError, match=function.__name__):
        model(function)
