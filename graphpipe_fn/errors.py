"""
Every error that this library raises, and the one number from which its HTTP status follows.

    GraphPipeError(code)              status = code // 100
    ├── MalformedMessage    40001     the bytes are no GraphPipe message
    ├── UnknownName         40002     an input or output that the model does not have
    ├── BadConfig           40003     the request's config string can't be used
    ├── NotFound            40400     no such path, model or object
    ├── MethodNotAllowed    40500
    ├── TooLarge            41300     a message, tensor or batch over a limit
    ├── BadTensor           42200     dtype, shape or values that the model can't take
    ├── Busy                42900     try again later: a queue is full
    ├── InternalError       50000     a bug; the detail is in the log only
    ├── BadModel            50001     the model's file is missing, spoilt, or can't be served
    ├── TransportFailed     50200     the peer did not answer
    │   └── ConnectFailed   50200     … because it can't be reached: nothing was sent, so asking again is safe
    ├── Unavailable         50300     try again later: still loading, or shutting down
    ├── TimedOut            50400     the deadline passed
    └── RemoteError         as sent   the peer answered with an error

It knows no transport and no model. Applications derive their own classes with their own serial numbers.
"""

from __future__ import annotations

from typing import ClassVar


class GraphPipeError(Exception):
    """
    Be refused, or fail, with a code that a peer can act on.

    Args:
        message: Names the culprit and the remedy; it is sent to the caller, so it holds no secret.
        retry_after_s: For retryable errors, when to try again, in seconds.
    """

    code: int = 50000
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """Return the HTTP status, 400 to 599."""
        return status_of(self.code)


class MalformedMessage(GraphPipeError):
    """The bytes are no GraphPipe message, or go over a limit of the decoder."""

    code = 40001


class UnknownName(GraphPipeError):
    """A request names an input or output that the model does not have, twice, or too many."""

    code = 40002


class BadConfig(GraphPipeError):
    """The request's config string can't be read, or asks for what is not allowed."""

    code = 40003


class NotFound(GraphPipeError):
    """No such path, model or object."""

    code = 40400


class MethodNotAllowed(GraphPipeError):
    """An HTTP verb that this path does not take."""

    code = 40500


class TooLarge(GraphPipeError):
    """A message, tensor or batch is over a limit."""

    code = 41300


class BadTensor(GraphPipeError):
    """A tensor's dtype, shape or values are not what the model takes, or can't be sent."""

    code = 42200


class Busy(GraphPipeError):
    """The queue is full; the same request may succeed later."""

    code = 42900
    retryable = True


class InternalError(GraphPipeError):
    """A bug: the caller learns the call id only, the detail is in the log."""

    code = 50000


class BadModel(GraphPipeError):
    """The model's file is missing, is no model, or has inputs that GraphPipe can't carry."""

    code = 50001


class TransportFailed(GraphPipeError):
    """The peer did not answer, or not with anything that can be read."""

    code = 50200


class ConnectFailed(TransportFailed):
    """The peer can't be reached; nothing was sent."""


class Unavailable(GraphPipeError):
    """The model can't answer yet or any more; the same request may succeed later."""

    code = 50300
    retryable = True


class TimedOut(GraphPipeError):
    """The deadline passed before an answer was there."""

    code = 50400


class RemoteError(GraphPipeError):
    """
    The peer answered, with an error.

    Args:
        message: The peer's own words.
        code: The peer's code, kept. Foreign codes (a bare HTTP status, 0, …) keep their value too.
    """

    def __init__(self, message: str, *, code: int, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code


def status_of(code: int) -> int:
    """
    Return the HTTP status of an error code.

    Returns:
        `code // 100` where that is 400 to 599; 502 for anything else, as a peer's code of another scheme is.
    """
    status = code // 100
    return status if 400 <= status <= 599 else 502
