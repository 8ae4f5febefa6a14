"""Several requests' rows asked for at once: what goes together, when, and whose errors are whose."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from toy_models import Texts, refuse

from graphpipe_fn.batch import WAIT, Batched
from graphpipe_fn.errors import BadTensor, Busy, GraphPipeError, RemoteError, TimedOut, Unavailable
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata, Tensor, shape_of, strings
from graphpipe_fn.rows import ERRORS, decode_row_errors

PATIENCE_S = 10.0


@dataclass
class Doubling:
    """Answer twice the first input; refuse rows that hold a negative number; remember each batch."""

    before: Callable[[], None] = lambda: None
    batches: list[InferRequest] = field(default_factory=list)
    refusal: GraphPipeError = field(default_factory=lambda: BadTensor("negative numbers are refused"))

    @property
    def rows(self) -> list[int]:
        return [shape_of(request.inputs[0])[0] for request in self.batches]

    def metadata(self) -> Metadata:
        return Metadata("doubling")

    def infer(self, request: InferRequest) -> InferResponse:
        self.batches.append(request)
        self.before()
        tensor = np.asarray(request.inputs[0])
        if (tensor < 0).any():
            raise self.refusal
        return InferResponse((tensor * 2,))


def row(*values: float) -> np.ndarray:
    return np.array([values], "f4")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.001)


def queued(batched: Batched, pool: ThreadPoolExecutor, requests: list[InferRequest]) -> list[Future[InferResponse]]:
    """Send requests so that each is in the queue before the next one comes."""
    futures = []
    for request in requests:
        before = batched._waiting_rows + sum(len(batch.inputs[0]) for batch in _model(batched).batches)
        futures.append(pool.submit(batched.infer, request))
        until(
            lambda before=before: batched._waiting_rows + sum(_model(batched).rows) > before  # type: ignore[misc]
        )
    return futures


def _model(batched: Batched) -> Doubling:
    assert isinstance(batched._model, Doubling)
    return batched._model


def test_a_full_batch_waits_for_nothing(pool: ThreadPoolExecutor) -> None:
    """As many rows as a batch holds are asked for together at once, and everybody gets the own rows."""
    with Batched(Doubling(), max_rows=4, max_wait_s=PATIENCE_S) as batched:
        began = time.monotonic()
        futures = queued(batched, pool, [InferRequest((row(place, 0),)) for place in range(4)])
        answers = [future.result(PATIENCE_S) for future in futures]
        assert time.monotonic() - began < PATIENCE_S / 2
    assert [[[2.0 * place, 0]] for place in range(4)] == [answer.outputs[0].tolist() for answer in answers]  # type: ignore[union-attr]
    assert _model(batched).rows == [4]
    assert [answer.timings[0].name for answer in answers] == [WAIT] * 4


def test_the_wait_is_counted_from_the_first_arrival(pool: ThreadPoolExecutor) -> None:
    """A trickle of requests does not put the first one's answer off, as an idle timer would."""
    with Batched(Doubling(), max_rows=1000, max_wait_s=0.2) as batched:
        began = time.monotonic()
        first = pool.submit(batched.infer, InferRequest((row(1),)))
        later = []
        while not first.done():
            later.append(pool.submit(batched.infer, InferRequest((row(2),))))
            time.sleep(0.02)
        assert 0.2 <= time.monotonic() - began < 0.5
        assert {future.result(PATIENCE_S).outputs[0].item() for future in later} == {4}  # type: ignore[union-attr]
    assert len(_model(batched).rows) <= 3


GROUPS: list[tuple[str, InferRequest]] = [
    ("config", InferRequest((row(1),), config="c")),
    ("input name", InferRequest((row(1),), ("x",))),
    ("output name", InferRequest((row(1),), (), ("y",))),
    ("dtype", InferRequest((row(1).astype("f8"),))),
    ("row shape", InferRequest((row(1, 1),))),
    ("rank", InferRequest((row(1).reshape(1, 1, 1),))),
]


@pytest.mark.parametrize("other", [case[1] for case in GROUPS], ids=[case[0] for case in GROUPS])
def test_what_differs_is_not_put_together(other: InferRequest, pool: ThreadPoolExecutor) -> None:
    """Requests that differ in any of these make two batches, and each keeps what is its own."""
    with Batched(Doubling(), max_rows=4, max_wait_s=PATIENCE_S) as batched:
        futures = queued(batched, pool, [InferRequest((row(1),)), other, InferRequest((row(2),)), other])
        batched.close()
        for future, want in zip(futures, (row(2), 2 * np.asarray(other.inputs[0]), row(4)), strict=False):
            have = np.asarray(future.result(PATIENCE_S).outputs[0])
            assert (want.dtype, want.tolist()) == (have.dtype, have.tolist())
    seen = {(batch.config, batch.input_names, batch.output_names) for batch in _model(batched).batches}
    assert {(other.config, other.input_names, other.output_names), ("", (), ())} == seen
    assert _model(batched).rows == [2, 2]


@pytest.mark.parametrize("rows", [1, 4, 5, 25])
def test_a_large_request_is_split(rows: int) -> None:
    """A request of any size comes back whole, in order, and no batch is over the limit."""
    with Batched(Doubling(), max_rows=4, max_wait_s=0.0) as batched:
        tensor = np.arange(rows * 2, dtype="f4").reshape(rows, 2)
        assert np.array_equal(tensor * 2, np.asarray(batched.infer(InferRequest((tensor,))).outputs[0]))
    assert max(_model(batched).rows) <= 4
    assert sum(_model(batched).rows) == rows


def test_a_bad_request_does_not_fail_its_neighbours(pool: ThreadPoolExecutor) -> None:
    """When a batch is refused, each request is asked by itself, and only the bad one is refused."""
    with Batched(Doubling(), max_rows=3, max_wait_s=PATIENCE_S) as batched:
        requests = [InferRequest((row(value),)) for value in (1, -1, 3)]
        first, bad, last = queued(batched, pool, requests)
        assert np.asarray(first.result(PATIENCE_S).outputs[0]).tolist() == [[2]]
        assert np.asarray(last.result(PATIENCE_S).outputs[0]).tolist() == [[6]]
        with pytest.raises(BadTensor, match="negative"):
            bad.result(PATIENCE_S)
    assert _model(batched).rows == [3, 1, 1, 1]


def test_a_bug_is_not_swallowed(pool: ThreadPoolExecutor) -> None:
    """An exception that is none of ours reaches the caller as it is, and the worker goes on."""

    def fail() -> None:
        raise ZeroDivisionError

    with Batched(Doubling(before=fail), max_rows=2, max_wait_s=PATIENCE_S) as batched:
        for _ in range(2):
            futures = queued(batched, pool, [InferRequest((row(1),)), InferRequest((row(2),))])
            for future in futures:
                with pytest.raises(ZeroDivisionError):
                    future.result(PATIENCE_S)


@pytest.mark.parametrize("error", [Busy("full"), TimedOut("late"), RemoteError("down", code=50300)])
def test_an_overloaded_model_is_not_asked_again(error: GraphPipeError, pool: ThreadPoolExecutor) -> None:
    """An error that has nothing to do with the rows is everybody's, after one attempt."""
    with Batched(Doubling(refusal=error), max_rows=2, max_wait_s=PATIENCE_S) as batched:
        for future in queued(batched, pool, [InferRequest((row(-1),)), InferRequest((row(2),))]):
            with pytest.raises(type(error)):
                future.result(PATIENCE_S)
    assert _model(batched).rows == [2]


def test_too_many_waiting_rows_are_refused(pool: ThreadPoolExecutor) -> None:
    """A full queue refuses with 429 and a time to come back, and what waits is still answered."""
    go_on = threading.Event()
    with Batched(Doubling(before=partial(_wait, go_on)), max_rows=1, max_wait_s=0, queue_rows=3) as batched:
        running = pool.submit(batched.infer, InferRequest((row(0),)))
        until(lambda: _model(batched).rows == [1])
        waiting = [pool.submit(batched.infer, InferRequest((row(value),))) for value in (1, 2, 3)]
        until(lambda: batched._waiting_rows == 3)
        with pytest.raises(Busy) as caught:
            batched.infer(InferRequest((row(4),)))
        assert caught.value.status == 429
        assert caught.value.retry_after_s is not None
        go_on.set()
        answers = [np.asarray(future.result(PATIENCE_S).outputs[0]).item() for future in (running, *waiting)]
        assert answers == [0, 2, 4, 6]


def _wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


def test_no_request_waits_past_a_deadline(pool: ThreadPoolExecutor) -> None:
    """A batch starts before the earliest deadline in it passes, however long it might wait for others."""
    with Batched(Doubling(), max_rows=10, max_wait_s=PATIENCE_S) as batched:
        began = time.monotonic()
        hasty = Call(deadline_s=began + 0.4)
        futures = queued(batched, pool, [InferRequest((row(1),)), InferRequest((row(2),), call=hasty)])
        assert [np.asarray(future.result(PATIENCE_S).outputs[0]).item() for future in futures] == [2, 4]
        assert time.monotonic() - began < 0.4
    assert _model(batched).rows == [2]


def test_a_run_that_takes_too_long_ends_for_its_caller() -> None:
    """A request whose deadline passes while its batch runs is told at once; the queue holds nothing of it."""
    go_on = threading.Event()
    with Batched(Doubling(before=partial(_wait, go_on)), max_wait_s=0) as batched:
        began = time.monotonic()
        with pytest.raises(TimedOut):
            batched.infer(InferRequest((row(1),), call=Call(deadline_s=began + 0.1)))
        assert 0.1 <= time.monotonic() - began < 0.5
        with pytest.raises(TimedOut):
            batched.infer(InferRequest((row(1),), call=Call(deadline_s=time.monotonic() + 0.1)))
        assert batched._waiting_rows == 0
        assert batched._groups == {}
        go_on.set()
        assert batched.infer(InferRequest((row(3),))).outputs[0] == 6


def test_a_batch_has_the_latest_deadline_and_the_first_id(pool: ThreadPoolExecutor) -> None:
    """The hasty requests of a batch do not cut it short for the others."""
    now = time.monotonic()
    calls = [Call("a", now + 60), Call("b", now + 90), Call("c", now + 30)]
    with Batched(Doubling(), max_rows=3, max_wait_s=PATIENCE_S) as batched:
        futures = queued(batched, pool, [InferRequest((row(1),), call=call) for call in calls])
        assert [np.asarray(future.result(PATIENCE_S).outputs[0]).item() for future in futures] == [2, 2, 2]
    assert [batch.call for batch in _model(batched).batches] == [Call("a+2", now + 90)]


def test_closing_answers_what_waits_and_refuses_the_rest(pool: ThreadPoolExecutor) -> None:
    """No waiting request is lost by close(); a new one is told to go elsewhere."""
    batched = Batched(Doubling(), max_rows=100, max_wait_s=PATIENCE_S)
    futures = queued(batched, pool, [InferRequest((row(value),)) for value in range(5)])
    batched.close()
    assert [np.asarray(future.result(PATIENCE_S).outputs[0]).item() for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(Unavailable):
        batched.infer(InferRequest((row(1),)))


@pytest.mark.parametrize(
    "inputs",
    [(np.float32(3) * np.ones(()),), (np.zeros((0, 2), "f4"),), (np.ones((2, 1)), np.ones((1, 1)))],
    ids=["scalar", "no rows", "rows disagree"],
)
def test_requests_without_rows_go_straight_through(inputs: tuple[np.ndarray, ...]) -> None:
    """What can't be put together with others is asked for as it is."""
    with Batched(Doubling(), max_wait_s=PATIENCE_S) as batched:
        outputs = batched.infer(InferRequest(inputs)).outputs
    assert np.array_equal(inputs[0] * 2, np.asarray(outputs[0]))
    assert _model(batched).batches[0].inputs is inputs


class Sum:
    """Add all rows up: an answer that has no rows."""

    def metadata(self) -> Metadata:
        return Metadata("sum")

    def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse((np.array(np.asarray(request.inputs[0]).sum()),))


def test_an_answer_without_rows_is_nobody_elses(pool: ThreadPoolExecutor) -> None:
    """Where a batch's answer can't be cut into rows, each request is asked by itself."""
    with Batched(Sum(), max_rows=4, max_wait_s=0.05) as batched:
        futures = [pool.submit(batched.infer, InferRequest((row(value, 1),))) for value in range(8)]
        assert [future.result(PATIENCE_S).outputs[0] for future in futures] == [value + 1 for value in range(8)]
        assert batched.infer(InferRequest((np.ones((9, 2), "f4"),))).outputs[0] == 18


def test_row_errors_reach_their_own_rows(pool: ThreadPoolExecutor) -> None:
    """With the output `errors` a bad row costs no second run, and only its own request hears of it."""
    texts = Texts(partial(refuse, when="bad"))
    with Batched(texts, max_rows=4, max_wait_s=PATIENCE_S) as batched:
        futures = [
            pool.submit(batched.infer, InferRequest((strings(pair),), (), ("text", ERRORS)))
            for pair in (["a", "b"], ["bad", "c"])
        ]
        found = [future.result(PATIENCE_S).outputs for future in futures]
    assert [outputs[0] for outputs in found] == [strings(["a", "b"]), strings(["", "c"])]
    assert [[bool(error) for error in decode_row_errors(outputs[1])] for outputs in found] == [
        [False, False],
        [True, False],
    ]
    assert len(texts.seen) == 1


def test_many_callers_get_their_own_answers(pool: ThreadPoolExecutor) -> None:
    """64 callers with requests of many shapes, kinds and sizes side by side each get what they asked for."""

    parts = []

    def ask(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(30):
            shape = (dice.randint(1, 9), dice.randint(1, 3))
            tensor = np.array([dice.randint(0, 1000) for _ in range(shape[0] * shape[1])], dice.choice(["f4", "i8"]))
            tensor = tensor.reshape(shape)
            parts.append(-(-len(tensor) // 6))
            outputs: tuple[Tensor, ...] = batched.infer(InferRequest((tensor,), config=dice.choice("ab"))).outputs
            assert np.array_equal(tensor * 2, np.asarray(outputs[0]))

    with Batched(Doubling(), max_rows=6, max_wait_s=0.002, workers=3, queue_rows=10_000) as batched:
        assert list(pool.map(ask, range(64))) == [None] * 64
        assert batched._waiting_rows == 0
        assert batched._groups == {}
    assert max(_model(batched).rows) <= 6
    assert len(_model(batched).rows) < sum(parts)
