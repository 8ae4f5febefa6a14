"""
A stage on Lambda: GraphPipe by HTTP and by Invoke, warm-ups, and the benchmark event.

Anything else gets the adapter's answer, which says what is taken: nothing is raised, so nothing loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from classy.aws.benchmark import cycles_of, measured, process_age_ms
from classy.aws.upkeep import is_benchmark, is_warm_up
from classy.telemetry import Telemetry
from graphpipe_fn.adapters.aws_lambda import call_at
from graphpipe_fn.adapters.aws_lambda import handler as http_handler
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import InferRequest
from graphpipe_fn.model import Model
from graphpipe_fn.server import answerer

if TYPE_CHECKING:
    from graphpipe_fn.handover import Handover

Handler = Callable[[Any, Any], dict[str, Any]]


def stage_handler(
    model: Model,
    *,
    name: str,
    prepare: Callable[[], object] = lambda: None,
    sample: Callable[[], InferRequest] | None = None,
    handover: Handover | None = None,
    telemetry: Telemetry | None = None,
) -> Handler:
    """
    Return what Lambda calls.

    Args:
        model: The stage, as its function serves it.
        name: The stage's, for answers and the log.
        prepare: Waits for what the first request would wait for; a warm-up does.
        sample: Makes a request that the benchmark event repeats; without it there is none.
        handover: Where messages over Lambda's limits wait.
        telemetry: Told of every call; of nothing unless given.
    """
    started_s = time.perf_counter()
    init_ms = process_age_ms()
    answer = (telemetry or Telemetry()).watched(answerer(model, name=name))
    serve = http_handler(answer, metadata=model.metadata, handover=handover)
    calls = 0

    def handle(event: Any, context: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if not is_warm_up(event) and not is_benchmark(event):
            return serve(event, context)
        call = call_at(context)
        about: dict[str, Any] = {"function": name, "cold": calls == 1, "init_ms": init_ms}
        try:
            began_s = time.perf_counter()
            prepare()
            about["load_ms"] = round((time.perf_counter() - began_s) * 1000, 3)
            about["age_s"] = round(time.perf_counter() - started_s, 3)
            if is_benchmark(event) and sample is not None:
                request = sample()
                about |= measured(
                    lambda: model.infer(request.replace(call=call)), cycles_of(event), deadline_s=call.deadline_s
                )
        except GraphPipeError as exc:
            return {**about, "error": {"code": exc.code, "message": exc.message}}
        return about

    return handle


def noise(model: Model) -> InferRequest:
    """Return one random row of what a model with a single float input takes; its time is any picture's."""
    import numpy as np

    (put,) = model.metadata().inputs
    return InferRequest((np.random.default_rng(0).random((1, *put.shape[1:]), dtype="float32"),))
