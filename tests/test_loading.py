from __future__ import annotations

import threading
import time

import pytest
from toy_models import Texts

from graphpipe_fn.errors import BadTensor, Unavailable
from graphpipe_fn.loading import Loading
from graphpipe_fn.messages import Call, InferRequest, strings
from graphpipe_fn.model import Model


def asking(*, wait_s: float | None = None) -> InferRequest:
    deadline_s = None if wait_s is None else time.monotonic() + wait_s
    return InferRequest((strings(["a"]),), call=Call(deadline_s=deadline_s))


def test_a_request_waits_for_the_model() -> None:
    """A model that arrives in time answers as if it had always been there."""
    gate = threading.Event()

    def load() -> Model:
        gate.wait(10)
        return Texts(str.upper)

    model = Loading(load)
    assert not model.ready
    threading.Timer(0.05, gate.set).start()
    assert model.infer(asking()).outputs == (strings(["A"]),)
    assert model.ready


def test_before_the_deadline_it_says_that_it_is_loading_and_goes_on() -> None:
    """The caller gets a retryable error while the load outlives the call."""
    gate = threading.Event()
    loads: list[int] = []

    def load() -> Model:
        loads.append(1)
        gate.wait(10)
        return Texts(str.upper)

    model = Loading(load, retry_after_s=3)
    with pytest.raises(Unavailable, match="still loading; retry in 3 s") as refused:
        model.infer(asking(wait_s=0))
    assert (refused.value.status, refused.value.retry_after_s) == (503, 3)
    gate.set()
    assert model.infer(asking()).outputs == (strings(["A"]),)
    assert loads == [1]


def test_a_load_that_failed_is_tried_again_at_the_next_request() -> None:
    """An error is not remembered for ever."""
    attempts: list[int] = []

    def load() -> Model:
        attempts.append(1)
        if sum(attempts) == 1:
            raise BadTensor("the first load fails")
        return Texts(str.upper)

    model = Loading(load)
    deadline_s = time.monotonic() + 10
    while not model.ready and time.monotonic() < deadline_s:
        try:
            model.infer(asking())
        except BadTensor:
            attempts.append(0)
    assert attempts in ([1, 0, 1], [1, 1])
