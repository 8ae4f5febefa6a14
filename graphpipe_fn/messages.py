"""
The values that GraphPipe's messages carry, and what travels beside them.

It knows no bytes (codec), no socket (transports) and no clock. Numpy is imported by type checkers only: a
function that handles nothing but strings starts without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DType(IntEnum):
    """The schema's element types. Source: graphpipe.fbs, enum Type."""

    NULL = 0
    UINT8 = 1
    INT8 = 2
    UINT16 = 3
    INT16 = 4
    UINT32 = 5
    INT32 = 6
    UINT64 = 7
    INT64 = 8
    FLOAT16 = 9
    FLOAT32 = 10
    FLOAT64 = 11
    STRING = 12


@dataclass(frozen=True, eq=False, slots=True)
class StringTensor:
    """
    Hold a tensor of byte strings, NULs and all.

    Args:
        values: The strings in C order. `str` is encoded as UTF-8 by `strings()`, not here.
        shape: Dimensions; their product is the number of values.

    Raises:
        BadTensor: the shape does not hold that many values.
    """

    values: tuple[bytes, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(dim < 0 for dim in self.shape) or math.prod(self.shape) != len(self.values):
            raise BadTensor(f"a String tensor of shape {list(self.shape)} can't hold {len(self.values)} strings")

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.values)

    def __getitem__(self, index: int) -> bytes:
        return self.values[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StringTensor):
            return NotImplemented
        return self.shape == other.shape and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # compared by value, like an array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.object_]:
        """Return the strings as an object array: numpy's own `S` dtype would drop trailing NULs."""
        import numpy as np

        array = np.empty(len(self.values), dtype=object)
        array[:] = self.values
        array = array.reshape(self.shape)
        return array if dtype is None else array.astype(dtype)


def strings(values: Sequence[str | bytes], shape: Sequence[int] | None = None) -> StringTensor:
    """
    Make a String tensor from text and bytes.

    Args:
        values: In C order; `str` is encoded as UTF-8 (surrogate escapes restored to their bytes).
        shape: Dimensions; (len(values),) unless given.
    """
    encoded = tuple(v if isinstance(v, bytes) else v.encode("utf-8", "surrogateescape") for v in values)
    return StringTensor(encoded, (len(encoded),) if shape is None else tuple(shape))


Tensor: TypeAlias = "NDArray[Any] | StringTensor"
"""A numeric numpy array of one of the schema's dtypes, or strings."""


@dataclass(frozen=True, slots=True)
class Timing:
    """
    Say what one hop cost; sent in HTTP's `Server-Timing` header, beside the message.

    Args:
        name: The stage, an HTTP token: `downloader`, `vgg`, …
        seconds: Wall time in that stage alone, without the hops that it called.
        cold: Whether this call started the stage (process, import, model load); None where it isn't known.
    """

    name: str
    seconds: float
    cold: bool | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """
    What travels beside a request: not in the message but in the platform's own headers.

    Args:
        id: The call's name in every log line, kept from hop to hop; "" where nobody gave one.
        deadline_s: When the caller stops waiting, on `time.monotonic()`'s scale; None for never.
        traceparent: W3C trace context, passed on unread; "" for none.
        content_type: The body's media type as the caller gave it; never looked at for GraphPipe messages.
        method, query: Of the HTTP request, where a platform's gateway tells; for applications, as before.
    """

    id: str = ""
    deadline_s: float | None = None
    traceparent: str = ""
    content_type: str = ""
    method: str = "POST"
    query: str = ""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """
    Ask a model for outputs.

    Args:
        inputs: One tensor per input, in the order of `input_names`.
        input_names: As many as inputs, or none for the model's own order; "" means the model's default at that
            place.
        output_names: What is wanted; none for the model's default outputs; "" means the default at that place.
        config: An opaque string for the model; bytes that are no UTF-8 are kept as surrogate escapes.
        call: What travels beside the message.
    """

    inputs: tuple[Tensor, ...] = ()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    config: str = ""
    call: Call = field(default_factory=Call)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """Ask a model what it is."""


@dataclass(frozen=True, slots=True)
class Error:
    """One error of a response: `code` is this library's HTTP status × 100 + serial, or a foreign server's own."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class InferResponse:
    """
    Answer a request.

    Args:
        outputs: One tensor per wanted output, in the order wanted.
        errors: Why there are none; empty on success.
        timings: What each hop cost, the first one first; sent beside the message.
    """

    outputs: tuple[Tensor, ...] = ()
    errors: tuple[Error, ...] = ()
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True, slots=True)
class IOMetadata:
    """
    Describe one input or output.

    Args:
        shape: Dimensions, -1 for any; the first is the batch where the model takes batches.
        dtype: DType.NULL where the server does not say.
    """

    name: str
    description: str = ""
    shape: tuple[int, ...] = ()
    dtype: DType = DType.NULL


@dataclass(frozen=True, slots=True)
class Metadata:
    """Describe a model: the server's answer to a MetadataRequest."""

    name: str = ""
    version: str = ""
    server: str = ""
    description: str = ""
    inputs: tuple[IOMetadata, ...] = ()
    outputs: tuple[IOMetadata, ...] = ()


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's dimensions as Python integers."""
    return tuple(int(dim) for dim in tensor.shape)
