"""
Bytes to messages: what GraphPipe's tables hold, and what makes a tensor.

Whatever a client may have written is read: any order of tables, absent or empty fields, vectors at any alignment,
strings without their NUL. Whatever is no message is refused, with our own error and no other.
"""

from __future__ import annotations

import math
from functools import cache
from struct import Struct
from typing import Any, Final

from graphpipe_fn.codec.flatbuffer import FlatBuffer
from graphpipe_fn.codec.limits import DEFAULT_LIMITS, Limits
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.messages import (
    Call,
    DType,
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    MetadataRequest,
    StringTensor,
    Tensor,
)
from graphpipe_fn.model import Buffer
from graphpipe_fn.tensors import NUMERIC, RANK_MAX

_I64: Final = Struct("<q").unpack_from
_DIMS: Final = tuple(Struct(f"<{rank}q").unpack_from for rank in range(RANK_MAX + 1))
_DTYPES: Final = tuple(DType)
_NO_CALL: Final = Call()  # frozen, so one serves all

# Each table's fields: their widths in the order of their slots. 4 is an offset.
_REQUEST: Final = (1, 4)
_INFER_REQUEST: Final = (4, 4, 4, 4)
_TENSOR: Final = (1, 4, 4, 4)
_INFER_RESPONSE: Final = (4, 4)
_ERROR: Final = (8, 4)
_IO_METADATA: Final = (4, 4, 4, 1)
_METADATA: Final = (4, 4, 4, 4, 4, 4)

_INFER, _METADATA_REQUEST = 1, 2  # the union's types

_ELEMENTS_MAX: Final = 2**60 - 1  # numpy refuses even an empty array whose other dimensions make 2**63 bytes


def decode_request(body: Buffer, limits: Limits = DEFAULT_LIMITS) -> InferRequest | MetadataRequest:
    """
    Read a client's message.

    Args:
        body: The whole message; numeric tensors are read-only views into it, so it must stay as it is.
        limits: What is accepted.

    Raises:
        MalformedMessage: not a request. A request type that the schema does not have (0, or over 2) is refused,
            although the original servers take all of these for a request for metadata.
        TooLarge: over one of the limits.
    """
    reader = _Reader(body, limits)
    kind_at, value_at = reader.fields(reader.root(), _REQUEST, "the request")
    kind = reader.body[kind_at] if kind_at else 0
    if kind == _METADATA_REQUEST:
        if value_at:
            reader.fields(reader.follow(value_at, "the metadata request"), (), "the metadata request")
        return MetadataRequest()
    if kind != _INFER:
        raise MalformedMessage(f"request type {kind} is neither 1 (infer) nor 2 (metadata)")
    if not value_at:
        raise MalformedMessage("the infer request itself is missing")
    config_at, inputs_at, tensors_at, outputs_at = reader.fields(
        reader.follow(value_at, "the infer request"), _INFER_REQUEST, "the infer request"
    )
    return InferRequest(
        inputs=reader.tables(tensors_at, reader.tensor, limits.tensors, "input"),
        input_names=reader.texts(inputs_at, limits.names, "input name"),
        output_names=reader.texts(outputs_at, limits.names, "output name"),
        config=reader.text(config_at, "the config"),
        call=_NO_CALL,
    )


def decode_response(body: Buffer, limits: Limits = DEFAULT_LIMITS) -> InferResponse:
    """
    Read a server's answer to an InferRequest.

    Args:
        body: The whole message; numeric tensors are read-only views into it, so it must stay as it is.
        limits: What is accepted.

    Returns:
        Outputs, errors or both. Errors that can't be read are dropped where there are outputs: what the original
        Python server sends under flatbuffers 2.0.7 and newer has a spoilt vector there.

    Raises:
        MalformedMessage: not an answer.
        TooLarge: over one of the limits.
    """
    reader = _Reader(body, limits)
    outputs_at, errors_at = reader.fields(reader.root(), _INFER_RESPONSE, "the response")
    outputs = reader.tables(outputs_at, reader.tensor, limits.tensors, "output")
    try:
        errors = reader.tables(errors_at, reader.error, limits.errors, "error")
    except (MalformedMessage, TooLarge):
        if not outputs:
            raise
        errors = ()
    return InferResponse(outputs, errors)


def decode_metadata(body: Buffer, limits: Limits = DEFAULT_LIMITS) -> Metadata:
    """
    Read a server's answer to a MetadataRequest.

    Args:
        body: The whole message.
        limits: What is accepted.

    Returns:
        Absent texts as "", negative dimensions as -1.

    Raises:
        MalformedMessage: not an answer.
        TooLarge: over one of the limits.
    """
    reader = _Reader(body, limits)
    name_at, version_at, server_at, description_at, inputs_at, outputs_at = reader.fields(
        reader.root(), _METADATA, "the metadata"
    )
    return Metadata(
        name=reader.text(name_at, "the name"),
        version=reader.text(version_at, "the version"),
        server=reader.text(server_at, "the server"),
        description=reader.text(description_at, "the description"),
        inputs=reader.tables(inputs_at, reader.io_metadata, limits.names, "input"),
        outputs=reader.tables(outputs_at, reader.io_metadata, limits.names, "output"),
    )


def decode_tensor(body: Buffer, limits: Limits = DEFAULT_LIMITS) -> Tensor:
    """
    Read a bare tensor, as the original client's `save_tensor` writes it.

    Args:
        body: The whole file; a numeric tensor is a read-only view into it.
        limits: What is accepted.

    Raises:
        MalformedMessage: not a tensor.
        TooLarge: over one of the limits.
    """
    reader = _Reader(body, limits)
    return reader.tensor(reader.root(), "the tensor")


class _Reader(FlatBuffer):
    """Read GraphPipe's own tables."""

    __slots__ = ()

    def error(self, table: int, what: str) -> Error:
        """Read an Error."""
        code_at, message_at = self.fields(table, _ERROR, what)
        return Error(_I64(self.body, code_at)[0] if code_at else 0, self.text(message_at, what))

    def io_metadata(self, table: int, what: str) -> IOMetadata:
        """Read an IOMetadata."""
        name_at, description_at, shape_at, type_at = self.fields(table, _IO_METADATA, what)
        return IOMetadata(
            name=self.text(name_at, what),
            description=self.text(description_at, what),
            shape=tuple(max(dim, -1) for dim in self._shape(shape_at, what)),
            dtype=self._dtype(type_at, what),
        )

    def tensor(self, table: int, what: str) -> Tensor:
        """Read a Tensor."""
        type_at, shape_at, data_at, strings_at = self.fields(table, _TENSOR, what)
        dtype = self._dtype(type_at, what)
        if dtype is DType.NULL:
            raise MalformedMessage(f"{what} has no type")
        shape = self._shape(shape_at, what)
        elements = math.prod(shape)
        # Where there are elements, their number is compared with the data; where there are none, nothing else is.
        if shape and (min(shape) < 0 or (not elements and math.prod(filter(None, shape)) > _ELEMENTS_MAX)):
            raise MalformedMessage(f"{what} has the shape {list(shape)}, which no tensor can have")
        if dtype is DType.STRING:
            values = self.strings(strings_at, what)
            if not values and not shape:
                shape, elements = (0,), 0
            if elements != len(values):
                raise MalformedMessage(f"{what} has {len(values)} strings, not what its shape {list(shape)} needs")
            return StringTensor(values, shape)

        start, count = self.vector(data_at, 1, what)
        ndarray, empty, dtypes = _numpy()
        if not count and not shape:
            # A Go client sends a scalar like this, without its value: that there is none is all that can be told.
            shape, elements = (0,), 0
        numpy_dtype, itemsize = dtypes[dtype]
        if elements * itemsize != count:
            raise MalformedMessage(
                f"{what} has {count:,} bytes, not what {dtype.name.lower()} of its shape {list(shape)} needs"
            )
        tensor: Tensor = ndarray(shape, numpy_dtype, self.body, start) if count else empty(shape, numpy_dtype)
        return tensor

    def _dtype(self, at: int, what: str) -> DType:
        number = self.body[at] if at else 0
        if number > DType.STRING:
            raise MalformedMessage(f"{what} has the type {number}, which GraphPipe does not have")
        return _DTYPES[number]

    def _shape(self, at: int, what: str) -> tuple[int, ...]:
        start, rank = self.vector(at, 8, what)
        if rank > self.limits.rank:
            raise TooLarge(f"{what} has {rank:,} dimensions; the limit is {self.limits.rank}")
        return _DIMS[rank](self.body, start)


@cache
def _numpy() -> tuple[Any, Any, list[Any]]:
    """Return what makes an array, what makes an empty one, and each numeric type as (dtype, bytes) by its number."""
    import numpy as np

    dtypes: list[Any] = [None] * len(_DTYPES)
    for name, dtype in NUMERIC.items():
        dtypes[dtype] = np.dtype(name), np.dtype(name).itemsize
    return np.ndarray, _empty, dtypes


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    array = np.empty(shape, dtype)
    array.flags.writeable = False  # as every other decoded tensor
    return array
