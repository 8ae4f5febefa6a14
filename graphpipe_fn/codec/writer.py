"""
Messages to bytes: one head, which holds every table, shape and name, and the tensors' own memory behind it.

Each tensor's bytes start at a multiple of 64 and are never copied. docs/protocol.md draws the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, Final

from graphpipe_fn.codec.forward import ForwardWriter, check_size
from graphpipe_fn.errors import MalformedMessage
from graphpipe_fn.messages import (
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
from graphpipe_fn.tensors import NUMERIC, RANK_MAX, as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PATCH: Final = Struct("<I").pack_into

# The tables' vtables, at fixed places at the message's start: (their own size, the table's size, *slots).
_TENSOR_VTABLES: Final = pack("<5H", 10, 16, 12, 4, 8) + pack("<6H", 12, 16, 12, 4, 0, 8)
_STRING_VTABLE: Final = 10  # from the numeric tensors' vtable, which has no slot for strings, to the other

# A Tensor's table and its shape: the way to the vtable, to the shape, to the data (patched), the type, the shape.
_TENSORS: Final = tuple(Struct(f"<iIIB7xI{rank}q").pack for rank in range(RANK_MAX + 1))

# Root; vtables of Request, InferRequest and Tensor; the Request; the InferRequest with four offsets to patch.
_REQUEST_VTABLE, _INFER_VTABLE, _TENSOR_VTABLE = 4, 12, 24
_REQUEST, _INFER = 48, 60
_CONFIG, _INPUT_NAMES, _INPUTS, _OUTPUT_NAMES = _INFER + 4, _INFER + 8, _INFER + 12, _INFER + 16
_REQUEST_HEAD: Final = (
    pack("<I4H6H", _REQUEST, 8, 12, 8, 4, 12, 20, 4, 8, 12, 16)
    + _TENSOR_VTABLES
    + pack("<2xiIB3x", _REQUEST - _REQUEST_VTABLE, 8, 1)
    + pack("<i16x", _INFER - _INFER_VTABLE)
)
_METADATA_REQUEST: Final = pack("<I4H2HiIB3xi", 16, 8, 12, 8, 4, 4, 4, 12, 8, 2, 16)

# Root; vtables of InferResponse, Tensor and Error; the InferResponse with two offsets to patch.
_RESPONSE_TENSOR_VTABLE, _ERROR_VTABLE, _RESPONSE = 12, 34, 44
_OUTPUTS, _ERRORS = _RESPONSE + 4, _RESPONSE + 8
_RESPONSE_HEAD: Final = (
    pack("<I4H", _RESPONSE, 8, 12, 4, 8) + _TENSOR_VTABLES + pack("<4H2x", 8, 16, 4, 12) + pack("<i8x", _RESPONSE - 4)
)
# The same without errors: their slot is empty, since the original clients take any vector there for a failure.
_SUCCESS_HEAD: Final = _RESPONSE_HEAD[:10] + bytes(2) + _RESPONSE_HEAD[12:]

# Root; vtables of MetadataResponse and IOMetadata; the MetadataResponse with six offsets to patch.
_IO_VTABLE, _METADATA = 20, 32
_METADATA_HEAD: Final = pack("<I8H6Hi24x", _METADATA, 16, 28, 4, 8, 12, 16, 20, 24, 12, 20, 4, 8, 12, 16, 28)


def encode_request(request: InferRequest | MetadataRequest) -> list[Buffer]:
    """
    Write a client's message.

    Returns:
        The body in pieces, to be sent one after the other. Numeric tensors that are C-contiguous and little-endian
        are views of their own memory: they must not change until the pieces are sent.

    Raises:
        BadTensor: an input that can't be sent.
        MalformedMessage: text that UTF-8 can't carry.
        TooLarge: over 2 GiB.
    """
    if isinstance(request, MetadataRequest):
        return [_METADATA_REQUEST]
    if request.config or request.input_names or request.output_names:
        writer = _named(request.config, request.input_names, request.output_names)
    elif len(request.inputs) == 1:
        return _lone(request.inputs[0], response=False)
    else:
        writer = _Writer(_PLAIN_HEAD)
    writer.tensors(_INPUTS, request.inputs, _TENSOR_VTABLE)
    return writer.finish()


def encode_response(response: InferResponse) -> list[Buffer]:
    """
    Write a server's answer to an InferRequest.

    Returns:
        The body in pieces, as of `encode_request`.

    Raises:
        BadTensor: an output that can't be sent.
        MalformedMessage: text that UTF-8 can't carry.
        TooLarge: over 2 GiB.
    """
    if response.errors:
        writer = _Writer(_RESPONSE_HEAD)
        writer.errors(_ERRORS, response.errors)
    elif len(response.outputs) == 1:
        return _lone(response.outputs[0], response=True)
    else:
        writer = _Writer(_SUCCESS_HEAD)
    writer.tensors(_OUTPUTS, response.outputs, _RESPONSE_TENSOR_VTABLE)
    return writer.finish()


def encode_metadata(metadata: Metadata) -> list[Buffer]:
    """
    Write a server's answer to a MetadataRequest.

    Raises:
        MalformedMessage: text that UTF-8 can't carry, or a shape of over 32 dimensions.
    """
    writer = _Writer(_METADATA_HEAD)
    texts = (metadata.name, metadata.version, metadata.server, metadata.description)
    for place, text in enumerate(texts):
        writer.text(_METADATA + 4 + 4 * place, text)
    writer.io_metadata(_METADATA + 20, metadata.inputs)
    writer.io_metadata(_METADATA + 24, metadata.outputs)
    return writer.finish()


def encode_tensor(tensor: Tensor) -> list[Buffer]:
    """
    Write a bare tensor, as the original client's `load_tensor` reads it.

    Returns:
        The file in pieces, as of `encode_request`.

    Raises:
        BadTensor: it can't be sent.
        TooLarge: over 2 GiB.
    """
    writer = _Writer(bytes(4) + _TENSOR_VTABLES + bytes(2))
    writer.tensor(tensor, 0, 4)()
    return writer.finish()


def _named(config: str, input_names: Sequence[str], output_names: Sequence[str]) -> _Writer:
    writer = _Writer(_REQUEST_HEAD)
    # The original servers take these three for granted, so they are written even when empty.
    writer.text(_CONFIG, config)
    writer.texts(_INPUT_NAMES, input_names)
    writer.texts(_OUTPUT_NAMES, output_names)
    return writer


def _lone(tensor: Tensor, *, response: bool) -> list[Buffer]:
    """Write a message that holds one tensor and nothing else, as most do: of one shape, all begin the same."""
    value = as_tensor(tensor)
    if isinstance(value, StringTensor):
        head, at, vtable = _LONE[response]
        writer = _Writer(head)
        writer.tensors(at, (value,), vtable)
        return writer.finish()
    data = _data_of(value)
    begin = _lone_head(response, NUMERIC[value.dtype.str], value.shape, len(data))
    return [begin, data] if data else [begin]


@lru_cache(maxsize=256)
def _lone_head(response: bool, dtype: DType, shape: tuple[int, ...], size: int) -> bytes:
    head, at, vtable = _LONE[response]
    writer = _Writer(head)
    writer.length(writer.table(dtype, shape, writer.vector(at, 1), vtable), size)
    begin = b"".join(writer.finish())
    check_size(len(begin) + size)
    return begin


def _data_of(array: NDArray[Any]) -> Buffer:
    """Return an array's bytes in C order: its own memory where it has that order."""
    if not array.size:
        return b""
    if not array.flags.c_contiguous:
        array = array.copy()
    return array.reshape(-1).view("u1").data


class _Writer(ForwardWriter):
    """Write GraphPipe's own tables."""

    __slots__ = ()

    def errors(self, at: int, errors: Sequence[Error]) -> None:
        """Write a vector of errors, and its offset into the head."""
        vector = self.vector(at, len(errors))
        for place, error in enumerate(errors):
            self.pad(8, 4)
            table = len(self.head)
            _PATCH(self.head, vector + 4 * place, table - (vector + 4 * place))
            self.head += pack("<iqI", table - _ERROR_VTABLE, error.code, 0)
            self.text(table + 12, error.message)

    def io_metadata(self, at: int, described: Sequence[IOMetadata]) -> None:
        """Write a vector of descriptions, and its offset into the head."""
        vector = self.vector(at, len(described))
        for place, item in enumerate(described):
            if len(item.shape) > RANK_MAX:
                raise MalformedMessage(f'"{item.name}" has {len(item.shape)} dimensions; the limit is {RANK_MAX}')
            table = len(self.head)
            _PATCH(self.head, vector + 4 * place, table - (vector + 4 * place))
            self.head += pack("<i12xB3x", table - _IO_VTABLE, item.dtype)
            self.text(table + 4, item.name)
            self.text(table + 8, item.description)
            self.pad(8, 4)
            self.link(table + 12)
            self.head += pack(f"<I{len(item.shape)}q", len(item.shape), *item.shape)

    def tensors(self, at: int, tensors: Sequence[Tensor], vtable: int) -> None:
        """Write a vector of tensors, and its offset into the head: first all tables, then all data."""
        vector = self.vector(at, len(tensors))
        writes = [self.tensor(tensor, vector + 4 * place, vtable) for place, tensor in enumerate(tensors)]
        for write in writes:
            write()

    def tensor(self, tensor: Tensor, at: int, vtable: int) -> partial[None]:
        """Write a tensor's table, and its offset into the head; return what writes its data."""
        value = as_tensor(tensor)
        if isinstance(value, StringTensor):
            place = self.table(DType.STRING, value.shape, at, vtable + _STRING_VTABLE)
            return partial(self.strings, place, value.values)
        place = self.table(NUMERIC[value.dtype.str], value.shape, at, vtable)
        return partial(self.data, place, _data_of(value))

    def table(self, dtype: DType, shape: tuple[int, ...], at: int, vtable: int) -> int:
        """Write a tensor's table and shape, and its offset into the head; return where its data's offset belongs."""
        self.pad(8, 0)
        table = len(self.head)
        _PATCH(self.head, at, table - at)
        self.head += _TENSORS[len(shape)](table - vtable, 16, 0, dtype, len(shape), *shape)
        return table + 8


_PLAIN_HEAD: Final = b"".join(_named("", (), ()).finish())  # what most requests begin with

# What a message of one tensor begins with, where the offset to its vector of tensors belongs, and the vtable.
_LONE: Final = ((_PLAIN_HEAD, _INPUTS, _TENSOR_VTABLE), (_SUCCESS_HEAD, _OUTPUTS, _RESPONSE_TENSOR_VTABLE))
