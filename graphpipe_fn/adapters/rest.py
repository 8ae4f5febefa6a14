"""
/rest: JSON for those who have no GraphPipe client, beside the endpoints that have everybody else's.

    POST /rest   {"inputs": [[1, 2]], "outputs": ["y"], "config": ""}
              →  {"outputs": {"y": [[0.5]]}}

`inputs` is a list in the model's order or an object by name; `outputs` and `config` may be left out. A tensor is
nested lists of numbers or text; bytes are {"b64": "…"}, as TensorFlow Serving writes them. An input gets the dtype
that the model's metadata says. JSON costs 20 to 90 ms per picture: whoever can should send GraphPipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.base64_text import decode_base64, encode_base64
from graphpipe_fn.errors import BadTensor, GraphPipeError, InternalError, MalformedMessage, MethodNotAllowed
from graphpipe_fn.messages import Call, InferRequest, InferResponse, IOMetadata, StringTensor, Tensor, Timing
from graphpipe_fn.model import Buffer, Model, Reply
from graphpipe_fn.rows import raised
from graphpipe_fn.server import error_reply
from graphpipe_fn.tensors import NUMERIC, as_tensor

PATH = "/rest"
_NUMPY = {dtype: name for name, dtype in NUMERIC.items()}


@dataclass(frozen=True, slots=True)
class WithRest:
    """
    Be the endpoints, and /rest.

    Args:
        endpoints: Asked for every other path.
        model: Answers /rest.
    """

    endpoints: Endpoints
    model: Model

    def reply(self, method: str, path: str, body: Callable[[], Buffer], call: Call) -> Reply:
        """Answer one request; never raise."""
        if path != PATH:
            return self.endpoints.reply(method, path, body, call)
        try:
            if method != "POST":
                raise MethodNotAllowed(f"the method {method[:20]!r} is not known at {PATH}; use POST")
            request = self._request(bytes(body())).replace(call=call)
            response = self.model.infer(request)
            if response.errors and not response.outputs:
                raise raised(response.errors[0])
            outputs = dict(zip(self._names(request, response), map(_json, response.outputs), strict=True))
            return _json_reply({"outputs": outputs}, timings=response.timings)
        except Exception as exc:  # noqa: BLE001 - a bug becomes an answer, the log gets its detail
            told = error_reply(exc, call)  # also writes the log
            error = exc if isinstance(exc, GraphPipeError) else InternalError(f"internal error, call {call.id}")
            headers = (*told.headers, ("allow", "POST")) if isinstance(exc, MethodNotAllowed) else told.headers
            return _json_reply({"error": {"code": error.code, "message": error.message}}, told.status, headers)

    def _request(self, body: bytes) -> InferRequest:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise MalformedMessage(f"the body is no JSON ({exc})") from exc
        if not isinstance(asked, dict) or "inputs" not in asked:
            raise MalformedMessage('the body must be a JSON object with "inputs"')
        inputs, outputs, config = asked.pop("inputs"), asked.pop("outputs", []), asked.pop("config", "")
        if asked:
            raise MalformedMessage(f'"{min(asked)}" is not known; send "inputs", "outputs" and "config"')
        if not isinstance(outputs, list) or not all(isinstance(name, str) for name in outputs):
            raise MalformedMessage('"outputs" must be a list of names')
        if not isinstance(config, str):
            raise MalformedMessage('"config" must be text')
        known = self.model.metadata().inputs
        if isinstance(inputs, dict):
            by_name = {io.name: io for io in known}
            tensors = tuple(_tensor(value, by_name.get(name)) for name, value in inputs.items())
            return InferRequest(tensors, tuple(inputs), tuple(outputs), config)
        if not isinstance(inputs, list):
            raise MalformedMessage(
                '"inputs" must be a list in the order of the model\'s inputs, or an object by name'
            )
        described = [*known, *[None] * len(inputs)]
        tensors = tuple(_tensor(value, io) for value, io in zip(inputs, described, strict=False))
        return InferRequest(tensors, (), tuple(outputs), config)

    def _names(self, request: InferRequest, response: InferResponse) -> list[str]:
        known = [io.name for io in self.model.metadata().outputs]
        known += [f"output{place}" for place in range(len(known), len(response.outputs))]
        names = request.output_names or [""] * len(response.outputs)
        return [name or known[place] for place, name in enumerate(names)]


def _tensor(value: Any, io: IOMetadata | None) -> Tensor:
    tensor = as_tensor(_with_bytes(value))
    if io is None or io.dtype not in _NUMPY or isinstance(tensor, StringTensor):
        return tensor
    import numpy as np

    wanted = np.dtype(_NUMPY[io.dtype])
    with np.errstate(all="ignore"):
        made = tensor.astype(wanted)
    # JSON has one kind of number; what is no whole number, or does not fit, is not made one that is and does.
    if wanted.kind in "iu" and not np.array_equal(made, tensor):
        raise BadTensor(f'input "{io.name}" takes {io.dtype.name.lower()}, which can\'t hold all of these numbers')
    return made


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if isinstance(value, dict):
        try:
            if set(value) != {"b64"}:
                raise ValueError("an object that is not {'b64': …}")
            return decode_base64(value["b64"])
        except (ValueError, TypeError) as exc:
            raise MalformedMessage(f'bytes are written {{"b64": "…"}}, in base64 ({exc})') from exc
    return value


def _json(tensor: Tensor) -> Any:
    """Return a tensor as nested lists; a scalar as itself."""
    if isinstance(tensor, StringTensor):
        return _nested([_text(value) for value in tensor.values], tensor.shape)
    return tensor.tolist()


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    width = len(values) // shape[0] if shape[0] else 0
    return [_nested(values[place * width : (place + 1) * width], shape[1:]) for place in range(shape[0])]


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": encode_base64([value]).decode("ascii")}


def _json_reply(
    answer: dict[str, Any],
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
    timings: tuple[Timing, ...] = (),
) -> Reply:
    try:
        body = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except ValueError as exc:
        raise BadTensor("an output holds NaN or infinity, which JSON does not have; ask with GraphPipe") from exc
    return Reply([body, b"\n"], status, "application/json", timings, headers)
