"""
The server's half: a Model becomes bytes → bytes.

It knows neither sockets nor platforms; adapters carry its replies. Every error goes into the InferResponse *and*
into the status: the original Go client looks only at the status, and Fn's direct invoke hides that.
"""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import replace

from graphpipe_fn.codec import DEFAULT_LIMITS, Limits, decode_request, encode_metadata, encode_response
from graphpipe_fn.deadline import left_s
from graphpipe_fn.errors import GraphPipeError, InternalError, status_of
from graphpipe_fn.messages import (
    Call,
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    MetadataRequest,
    Timing,
)
from graphpipe_fn.model import Answer, Buffer, Model, Reply


def reply(model: Model, body: Buffer, call: Call = Call(), *, limits: Limits = DEFAULT_LIMITS) -> Reply:
    """
    Answer one request; never raise.

    Args:
        body: One encoded request.
        call: Given to the model with the request.
        limits: What the decoder refuses.

    Returns:
        The model's response or metadata, or the error as an InferResponse with its status.
    """
    try:
        left_s(call)
        request = decode_request(body, limits)
        if isinstance(request, MetadataRequest):
            return Reply(encode_metadata(model.metadata()))
        # Written out: dataclasses.replace() costs as much as decoding a small request.
        request = InferRequest(request.inputs, request.input_names, request.output_names, request.config, call)
        return _encoded(model.infer(request))
    except Exception as exc:  # noqa: BLE001 - the one place where a model's bug becomes an answer
        return error_reply(exc, call)


def error_reply(error: Exception, call: Call = Call()) -> Reply:
    """
    Return an exception as bytes and status.

    Args:
        error: Anything but a GraphPipeError is a bug: the log gets it whole, the caller only the call's id.
    """
    if not isinstance(error, GraphPipeError):
        import logging  # 5 ms of a cold start

        logging.getLogger(__name__).error("call %s: internal error", call.id or "without id", exc_info=error)
        error = InternalError(f"internal error, call {call.id}" if call.id else "internal error")
    buffers = encode_response(InferResponse(errors=(Error(error.code, error.message),)))
    return Reply(buffers, error.status, headers=_retry_after(error))


def answerer(model: Model, *, name: str = "", limits: Limits = DEFAULT_LIMITS) -> Answer:
    """
    Return the callable that adapters serve; it may be called from several threads at once.

    Args:
        name: The stage, for its own Timing, put before those of the hops that it called; "" for none. The first
            call counts as the cold one. A model that times itself under this name is only told whether it was.
    """
    lock = threading.Lock()
    calls = 0

    def answer(body: Buffer, call: Call) -> Reply:
        nonlocal calls
        started = time.perf_counter()
        with lock:
            cold = calls == 0
            calls += 1
        result = reply(model, body, call, limits=limits)
        if not name:
            return result
        if result.timings and any(timing.name == name for timing in result.timings):
            own_timings = (
                replace(timing, cold=cold) if timing.name == name and timing.cold is None else timing
                for timing in result.timings
            )
            return replace(result, timings=tuple(own_timings))
        below = sum(timing.seconds for timing in result.timings)
        own = Timing(name, max(0.0, time.perf_counter() - started - below), cold)
        return Reply(result.buffers, result.status, result.content_type, (own, *result.timings), result.headers)

    return answer


def metadata_json(metadata: Metadata) -> bytes:
    """
    Return what a GET answers.

    Returns:
        JSON with the original's keys, where Type is the schema's number, and each TypeName beside it.
    """
    answer = {
        "Name": metadata.name,
        "Version": metadata.version,
        "Server": metadata.server,
        "Description": metadata.description,
        "Inputs": [_io_json(io) for io in metadata.inputs],
        "Outputs": [_io_json(io) for io in metadata.outputs],
    }
    return json.dumps(answer, indent=4, ensure_ascii=False).encode("utf-8", "replace")


def _io_json(io: IOMetadata) -> dict[str, object]:
    return {
        "Name": io.name,
        "Description": io.description,
        "Shape": list(io.shape),
        "Type": int(io.dtype),
        "TypeName": io.dtype.name.capitalize(),
    }


def _encoded(response: InferResponse) -> Reply:
    try:
        buffers = encode_response(response)
    except GraphPipeError as exc:  # the model's fault: told as the caller's (422), it would be hunted there
        raise RuntimeError(f"the model's outputs can't be encoded: {exc.message}") from exc
    failed = bool(response.errors) and not response.outputs
    return Reply(buffers, status_of(response.errors[0].code) if failed else 200, timings=response.timings)


def _retry_after(error: GraphPipeError) -> tuple[tuple[str, str], ...]:
    # Whole seconds: RFC 9110 knows no fractions here. Rounded up, as too early is refused again.
    return () if error.retry_after_s is None else (("retry-after", str(max(0, math.ceil(error.retry_after_s)))),)
