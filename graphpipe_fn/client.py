"""
The client's half: a Transport becomes a Model, so a remote model is a model.

It knows no socket. It keeps the deadline, the retries and the translation of a peer's answer into our errors.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from graphpipe_fn.codec import DEFAULT_LIMITS, Limits, decode_metadata, decode_response, encode_request
from graphpipe_fn.deadline import left_s
from graphpipe_fn.errors import (
    Busy,
    ConnectFailed,
    GraphPipeError,
    MalformedMessage,
    RemoteError,
    TransportFailed,
    Unavailable,
)
from graphpipe_fn.headers import parse_retry_after
from graphpipe_fn.messages import (
    Call,
    Error,
    InferRequest,
    InferResponse,
    Metadata,
    MetadataRequest,
    Tensor,
    Timing,
)
from graphpipe_fn.model import Buffer, Reply, Transport

_T = TypeVar("_T")

HOP = "hop"  # the Timing of the way to a peer and back: network, encoding, waiting, retries
TEXT_MAX = 500  # characters of a foreign error page that are quoted
PAUSE_S = 0.1  # the first pause is up to this long, each further one up to twice the last
PAUSE_MAX_S = 5.0
RETRIED = frozenset({429, 503})  # "not now": the only answers that the same request may change


class Client:
    """
    Be the model that a peer serves.

    Args:
        transport: Carries bytes to the peer; `transports.connect(uri)` makes one and this around it.
        name: The peer's, for error messages.
        timeout_s: How long a request without a deadline of its own may take in all; None for ever.
        retries: How often a request is sent again after a connect error, 429 or 503, inside its deadline.
        limits: What the decoder refuses in an answer.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "",
        timeout_s: float | None = 30.0,
        retries: int = 2,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.transport = transport
        self.name = name
        self._timeout_s = timeout_s
        self._retries = retries
        self._limits = limits
        self._metadata: Metadata | None = None

    def metadata(self) -> Metadata:
        """
        Return the peer's metadata, asked for once.

        Raises:
            GraphPipeError: as infer().
        """
        if self._metadata is None:
            buffers = encode_request(MetadataRequest())
            self._metadata = self._ask(buffers, self.begin(Call()), self._read_metadata)
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Ask the peer.

        Returns:
            Its response; before its timings the one of this hop: all the time that they do not explain.

        Raises:
            RemoteError: the peer answered with an error; its code is kept.
            TransportFailed: it did not answer, or not with a GraphPipe response.
            TimedOut: the deadline passed.
            BadTensor: an input can't be sent.
        """
        started = time.perf_counter()
        response = self._ask(encode_request(request), self.begin(request.call), self._read_response)
        below = sum(timing.seconds for timing in response.timings)
        hop = Timing(HOP, max(0.0, time.perf_counter() - started - below))
        return replace(response, timings=(hop, *response.timings))

    def begin(self, call: Call) -> Call:
        """Return the call with an id, and the deadline that it has from now on, where it had none."""
        deadline_s = call.deadline_s
        if deadline_s is None and self._timeout_s is not None:
            deadline_s = time.monotonic() + self._timeout_s
        return replace(call, id=call.id or _new_id(), deadline_s=deadline_s)

    def run(
        self,
        *inputs: Any,
        input_names: Sequence[str] | str = (),
        output_names: Sequence[str] | str = (),
        config: str = "",
        call: Call = Call(),
    ) -> tuple[Tensor, ...]:
        """
        Ask the peer with anything that makes a tensor.

        Args:
            inputs: Arrays, lists, numbers, text; see `tensors.as_tensor`.
            input_names, output_names: None for the model's own order.
            config: For the model, unread.
            call: What travels beside the request.

        Returns:
            One tensor per output.
        """
        from graphpipe_fn.tensors import as_tensor

        request = InferRequest(
            tuple(as_tensor(value) for value in inputs), _names(input_names), _names(output_names), config, call
        )
        return self.infer(request).outputs

    def close(self) -> None:
        """Close the connections that the transport keeps, if it keeps any."""
        close = getattr(self.transport, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, buffers: Sequence[Buffer], call: Call, read: Callable[[Reply], _T]) -> _T:
        for attempt in itertools.count():
            left_s(call)
            try:
                return read(self.transport(buffers, call))
            except (ConnectFailed, Busy, Unavailable, RemoteError) as exc:
                if isinstance(exc, RemoteError) and exc.status not in RETRIED:
                    raise
                if attempt >= self._retries or not self._pause(attempt, exc, call):
                    raise
        raise AssertionError("unreachable: the loop ends by an answer or an error")

    def _pause(self, attempt: int, error: GraphPipeError, call: Call) -> bool:
        """Wait before the next attempt; return False, at once, where the deadline leaves no time for one."""
        import random

        # Full jitter: callers that were refused together do not come back together.
        pause_s = random.uniform(0, min(PAUSE_MAX_S, PAUSE_S * 2**attempt)) + (error.retry_after_s or 0.0)  # noqa: S311
        if call.deadline_s is not None and time.monotonic() + pause_s >= call.deadline_s:
            return False
        time.sleep(pause_s)
        return True

    def _read_response(self, reply: Reply) -> InferResponse:
        body = _joined(reply)
        if reply.status != 200:
            raise self._refusal(reply, body)
        try:
            response = decode_response(body, self._limits)
        except MalformedMessage as exc:
            raise self._unreadable(reply, body, exc) from exc
        if response.errors and not response.outputs:  # Fn's direct invoke makes a 200 of every refusal
            raise _remote_error(response.errors, reply)
        return replace(response, timings=reply.timings)

    def _read_metadata(self, reply: Reply) -> Metadata:
        body = _joined(reply)
        if reply.status != 200:
            raise self._refusal(reply, body)
        try:
            return decode_metadata(body, self._limits)
        except MalformedMessage as exc:
            raise self._unreadable(reply, body, exc) from exc

    def _refusal(self, reply: Reply, body: Buffer) -> RemoteError:
        try:
            response = decode_response(body, self._limits)
        except MalformedMessage:
            response = InferResponse()
        if response.errors:
            return _remote_error(response.errors, reply)
        text = _plain_text(body) or f"status {reply.status} without a word"
        location = dict(reply.headers).get("location")
        if location:
            text += f" (it points to {location[:TEXT_MAX]!r}; redirects are not followed, use that address)"
        return RemoteError(text, code=reply.status * 100, retry_after_s=_retry_after_s(reply))

    def _unreadable(self, reply: Reply, body: Buffer, why: MalformedMessage) -> TransportFailed:
        return TransportFailed(
            f"{self.name or 'the peer'} answered {reply.length:,} bytes that are no GraphPipe response "
            f"({why.message}); they begin with {bytes(memoryview(body)[:40])!r}; is the address a GraphPipe server's?"
        )


def _remote_error(errors: Sequence[Error], reply: Reply) -> RemoteError:
    first = errors[0]
    more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
    return RemoteError(first.message + more, code=first.code, retry_after_s=_retry_after_s(reply))


def _retry_after_s(reply: Reply) -> float | None:
    return parse_retry_after(dict(reply.headers).get("retry-after", ""))


def _joined(reply: Reply) -> Buffer:
    return reply.buffers[0] if len(reply.buffers) == 1 else reply.body()


def _plain_text(body: Buffer) -> str:
    """Return the words of a foreign server's error page: Fn's `{"message": …}`, or text as it is."""
    text = bytes(memoryview(body)[: 8 * TEXT_MAX]).decode("utf-8", "replace")
    if text.startswith("{"):
        try:
            message = json.loads(text).get("message")
        except (ValueError, RecursionError):
            message = None
        text = message if isinstance(message, str) else text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:TEXT_MAX]


def _names(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _new_id() -> str:
    import uuid

    return uuid.uuid4().hex
