"""
The one idea: a Model has metadata() and infer(); a Transport turns bytes into bytes.

`server.reply(model, body, call)` turns a Model into bytes → bytes and `client.Client(transport)` turns bytes →
bytes into a Model, so a remote model is a model and where the network runs is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol, TypeAlias, runtime_checkable

from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata, Timing
from graphpipe_fn.values import dataclass

Buffer: TypeAlias = bytes | bytearray | memoryview


@runtime_checkable
class Model(Protocol):
    """Anything that can be asked for outputs; implementations are called from several threads at once."""

    def metadata(self) -> Metadata:
        """Return what this model is, its inputs and its outputs; the defaults first, in order."""
        ...

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer one request.

        Raises:
            GraphPipeError: the request is refused or fails, as a whole.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """
    Bytes for the caller, and what travels beside them.

    Args:
        buffers: The body in pieces that are sent one after the other, never joined.
        status: HTTP status.
        content_type: Media type of the body.
        timings: For the `Server-Timing` header.
        headers: Further headers (lower-case name, value), already checked: no control characters.
        failed: Whether the platform shall take the call for a failed one: it then delivers an event again, and may
            put words of its own in the place of the body.
    """

    buffers: Sequence[Buffer]
    status: int = 200
    content_type: str = "application/octet-stream"
    timings: tuple[Timing, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=())
    failed: bool = False

    @property
    def length(self) -> int:
        """Return the body's length in bytes."""
        return sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def body(self) -> bytes:
        """Return the body as one copy, for platforms that can't take pieces."""
        return b"".join(self.buffers)


Transport: TypeAlias = Callable[[Sequence[Buffer], Call], Reply]
"""
Carry a request's buffers to a peer and return its reply. Raises TransportFailed when there is no answer and
TimedOut when `call.deadline_s` passes first. A transport looks into no message.
"""

Answer: TypeAlias = Callable[[Buffer, Call], Reply]
"""What a platform adapter serves: one body in, one reply out; it never raises. `server.answerer(model)` is one."""
