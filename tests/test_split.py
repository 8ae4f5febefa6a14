"""Split: whatever the limit, the answer is the one of a road without any."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from classy.peers import MESSAGE_MAX
from graphpipe_fn.codec import encode_request, encode_response
from graphpipe_fn.errors import BadTensor, GraphPipeError, NotFound, TooLarge
from graphpipe_fn.messages import InferRequest, InferResponse, Metadata, StringTensor, Timing, strings
from graphpipe_fn.model import Model
from graphpipe_fn.rows import ABOUT, ERRORS, decode_row_errors, rows_response
from graphpipe_fn.split import Split
from graphpipe_fn.transports.aws_lambda import PAYLOAD_MAX
from graphpipe_fn.transports.aws_lambda_event import encode_event


class Lengths:
    """
    Say how long each text is, as float32 (N, width).

    Args:
        request_bytes, answer_bytes: What the road takes, there and back, as messages.
    """

    def __init__(self, *, width: int = 3, request_bytes: int = 1 << 30, answer_bytes: int = 1 << 30) -> None:
        self.width = width
        self.request_bytes = request_bytes
        self.answer_bytes = answer_bytes
        self.asked: list[int] = []
        self._lock = threading.Lock()

    def metadata(self) -> Metadata:
        return Metadata("lengths")

    def infer(self, request: InferRequest) -> InferResponse:
        (texts,) = request.inputs
        assert isinstance(texts, StringTensor)
        with self._lock:
            self.asked.append(len(texts.values))
        if sum(map(len, encode_request(request))) > self.request_bytes:
            raise TooLarge("the request is too large")
        outcomes: list[np.ndarray | GraphPipeError] = [
            NotFound(f"no {text.decode()}") if text.startswith(b"bad") else np.full(self.width, len(text), np.float32)
            for text in texts.values
        ]
        response = rows_response(
            outcomes,
            wanted=request.output_names or ("",),
            name="",
            pack=np.stack,
            others={ABOUT: strings([f"about {text.decode()[:9]}" for text in texts.values])},
            timings=lambda: (Timing("lengths", 0.001),),
        )
        if sum(map(len, encode_response(response))) > self.answer_bytes:
            raise TooLarge("the answer is too large")
        return response


def asked(model: Model, texts: list[str], names: tuple[str, ...] = ("", ERRORS, ABOUT)) -> InferResponse:
    """Return what a model answers for some texts."""
    return model.infer(InferRequest((strings(texts),), output_names=names))


def values(response: InferResponse) -> list[list[object]]:
    """Return a response's outputs as lists, to be compared."""
    return [
        list(output.values) if isinstance(output, StringTensor) else output.tolist() for output in response.outputs
    ]


TEXTS = [
    pytest.param(["x" * (100 * n) for n in range(1, 40)], id="growing"),
    pytest.param(["a", "bad1", "c", "bad2", "bad3", "f"] * 7, id="some-refused"),
    pytest.param(["x" * 900], id="one"),
    pytest.param(["bad"] * 20 + ["x" * 2000], id="most-refused"),
]


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize(("request_bytes", "answer_bytes"), [(7_000, 1 << 30), (1 << 30, 900), (7_000, 900)])
def test_the_parts_answer_is_the_whole_ones(texts: list[str], request_bytes: int, answer_bytes: int) -> None:
    """Rows, row errors and what is said about rows are those of a road without a limit, in the same order."""
    limited = Lengths(request_bytes=request_bytes, answer_bytes=answer_bytes)
    assert values(asked(Split(limited, limit_bytes=request_bytes), texts)) == values(asked(Lengths(), texts))


def test_no_part_is_sent_that_the_road_refuses() -> None:
    """What is over the limit of a request is known before it is sent."""
    model = Lengths(request_bytes=7_000)
    asked(Split(model, limit_bytes=7_000), ["x" * 1_000] * 30)
    assert sum(model.asked) == 30
    assert max(model.asked) >= 4  # and the room is used


def test_lambdas_road_takes_seven_tensors_of_a_picture_at_once() -> None:
    """Float32 of 224 by 224: no more fit into 6 MB as base64, and no fewer are sent."""
    sent: list[tuple[int, int]] = []

    class Means:
        def metadata(self) -> Metadata:
            return Metadata("means")

        def infer(self, request: InferRequest) -> InferResponse:
            (batch,) = request.inputs
            assert isinstance(batch, np.ndarray)
            event = encode_event(encode_request(request), request.call)
            sent.append((len(batch), sum(map(len, event))))
            return InferResponse((batch.mean(axis=(2, 3)),))

    batch = np.random.default_rng(5).random((16, 3, 224, 224), dtype="float32")
    (means,) = Split(Means(), limit_bytes=MESSAGE_MAX).infer(InferRequest((batch,))).outputs
    assert np.array_equal(means, batch.mean(axis=(2, 3)))
    assert sorted(rows for rows, _ in sent) == [2, 7, 7]
    assert max(size for _, size in sent) <= PAYLOAD_MAX < max(size for _, size in sent) * 8 / 7


def test_how_many_rows_an_answer_holds_is_learned() -> None:
    """After a few requests no work is done twice for an answer that is too large."""
    model = Lengths(width=100, answer_bytes=4_000)
    split = Split(model, limit_bytes=1 << 30)
    for _ in range(3):
        model.asked.clear()
        asked(split, ["x"] * 40, ("",))
    assert sum(model.asked) <= 80  # it tries twice as many now and then


def test_a_row_that_fits_nowhere_fails_alone_where_row_errors_are_asked_for() -> None:
    """The others are answered; its error says that it is too large."""
    model = Lengths(request_bytes=7_000)
    response = asked(Split(model, limit_bytes=7_000), ["a", "x" * 9_000, "ccc"])
    errors = decode_row_errors(response.outputs[1])
    assert [error and error.code for error in errors] == [None, TooLarge.code, None]
    assert values(response)[0] == [[1.0] * 3, [0.0] * 3, [3.0] * 3]
    only = asked(Split(model, limit_bytes=7_000), ["x" * 9_000])
    assert decode_row_errors(only.outputs[1])[0] is not None


def test_a_row_that_fits_nowhere_fails_the_request_of_an_original_client() -> None:
    """Who does not ask for row errors gets the error for the whole request."""
    with pytest.raises(TooLarge):
        asked(Split(Lengths(request_bytes=7_000), limit_bytes=7_000), ["a", "x" * 9_000], ())


def test_any_other_error_is_the_requests() -> None:
    """Only the size is a reason to ask in parts."""
    model = Lengths()
    with pytest.raises(NotFound):
        asked(Split(model, limit_bytes=1 << 30), ["bad"], ())
    assert model.asked == [1]


@pytest.mark.parametrize("tensor", [np.float32(3), np.zeros((0, 3), np.float32)], ids=["scalar", "no-rows"])
def test_what_has_no_rows_is_asked_as_it_is(tensor: np.ndarray) -> None:
    """A scalar and an empty batch go to the model, which knows what to say of them."""

    class Refusing(Lengths):
        def infer(self, request: InferRequest) -> InferResponse:
            raise BadTensor("rows are needed")

    with pytest.raises(BadTensor, match="rows are needed"):
        Split(Refusing(), limit_bytes=100).infer(InferRequest((np.asarray(tensor),)))
