"""
Messages to bytes: one header, written once, and the tensors' own memory behind it.

All offsets lead forward, so a message can be handed to a socket as it grows: the header (every table, shape and
name), then each tensor's bytes, which start at a multiple of 64 and are never copied, with a few bytes between
them. docs/protocol.md draws the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from struct import Struct, pack
from typing import Final

from graphpipe_fn.codec.limits import MESSAGE_BYTES_MAX
from graphpipe_fn.errors import MalformedMessage, TooLarge
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

_DATA_ALIGNMENT: Final = 64  # a cache line, and what vector instructions like best
_COPIED_BYTES_MAX: Final = 4_096  # a string up to this size is cheaper to copy than to send as a piece of its own

_U32: Final = Struct("<I").pack
_PATCH: Final = Struct("<I").pack_into
_ZEROS: Final = tuple(bytes(count) for count in range(_DATA_ALIGNMENT))

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
    writer = _Writer(_PLAIN_HEAD)
    if request.config or request.input_names or request.output_names:
        writer = _named(request.config, request.input_names, request.output_names)
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
    writer = _Writer(_RESPONSE_HEAD if response.errors else _SUCCESS_HEAD)
    if response.errors:
        writer.errors(_ERRORS, response.errors)
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
    writer = _Writer(_U32(0) + _TENSOR_VTABLES + bytes(2))
    writer.tensor(tensor, 0, 4)()
    return writer.finish()


def _named(config: str, input_names: Sequence[str], output_names: Sequence[str]) -> _Writer:
    writer = _Writer(_REQUEST_HEAD)
    # The original servers take these three for granted, so they are written even when empty.
    writer.text(_CONFIG, config)
    writer.texts(_INPUT_NAMES, input_names)
    writer.texts(_OUTPUT_NAMES, output_names)
    return writer


class _Writer:
    """
    Write forward.

    The head, the first piece, holds every table and all text, so its offsets can be patched until the end; what
    is handed out in pieces comes behind it.
    """

    __slots__ = ("_head", "_pieces", "_start", "_tail")

    def __init__(self, head: bytes) -> None:
        self._head = self._tail = bytearray(head)
        self._pieces: list[Buffer] = [self._head]
        self._start = 0  # the position of the tail's first byte in the message

    def finish(self) -> list[Buffer]:
        """Return the pieces."""
        if not self._tail:
            self._pieces.pop()
        size = sum(map(len, self._pieces))
        if size > MESSAGE_BYTES_MAX:
            raise TooLarge(f"the message would have {size:,} bytes; a FlatBuffers message has less than 2 GiB")
        return self._pieces

    def text(self, at: int, text: str) -> None:
        """Write a string, and its offset into the head."""
        self._link(at)
        self._string(_utf8(text))

    def texts(self, at: int, texts: Sequence[str]) -> None:
        """Write a vector of strings, and its offset into the head."""
        self._link(at)
        self._strings([_utf8(text) for text in texts])

    def errors(self, at: int, errors: Sequence[Error]) -> None:
        """Write a vector of errors, and its offset into the head."""
        vector = self._vector(at, len(errors))
        for place, error in enumerate(errors):
            self._pad(8, 4)
            table = len(self._head)
            _PATCH(self._head, vector + 4 * place, table - (vector + 4 * place))
            self._head += pack("<iqI", table - _ERROR_VTABLE, error.code, 4)
            self._string(_utf8(error.message))

    def io_metadata(self, at: int, described: Sequence[IOMetadata]) -> None:
        """Write a vector of descriptions, and its offset into the head."""
        vector = self._vector(at, len(described))
        for place, item in enumerate(described):
            if len(item.shape) > RANK_MAX:
                raise MalformedMessage(f'"{item.name}" has {len(item.shape)} dimensions; the limit is {RANK_MAX}')
            table = len(self._head)
            _PATCH(self._head, vector + 4 * place, table - (vector + 4 * place))
            self._head += pack("<i12xB3x", table - _IO_VTABLE, item.dtype)
            self.text(table + 4, item.name)
            self.text(table + 8, item.description)
            self._pad(8, 4)
            self._link(table + 12)
            self._head += pack(f"<I{len(item.shape)}q", len(item.shape), *item.shape)

    def tensors(self, at: int, tensors: Sequence[Tensor], vtable: int) -> None:
        """Write a vector of tensors, and its offset into the head: first all tables, then all data."""
        vector = self._vector(at, len(tensors))
        writes = [self.tensor(tensor, vector + 4 * place, vtable) for place, tensor in enumerate(tensors)]
        for write in writes:
            write()

    def tensor(self, tensor: Tensor, at: int, vtable: int) -> partial[None]:
        """Write a tensor's table, and its offset into the head; return what writes its data."""
        value = as_tensor(tensor)
        shape = value.shape
        self._pad(8, 0)
        head = self._head
        table = len(head)
        _PATCH(head, at, table - at)
        if isinstance(value, StringTensor):
            vtable += _STRING_VTABLE
            dtype, write = DType.STRING, partial(self._string_values, table + 8, value.values)
        else:
            dtype = NUMERIC[value.dtype.str]
            array = value if value.flags.c_contiguous else value.copy()
            data = array.reshape(-1).view("u1").data if array.size else b""
            write = partial(self._data, table + 8, data)
        head += _TENSORS[len(shape)](table - vtable, 16, 0, dtype, len(shape), *shape)
        return write

    def _data(self, at: int, data: Buffer) -> None:
        self._pad(_DATA_ALIGNMENT if data else 4, _DATA_ALIGNMENT - 4 if data else 0)
        self._link(at)
        self._tail += _U32(len(data))
        if data:
            self._hand_out(data)

    def _string_values(self, at: int, values: Sequence[bytes]) -> None:
        self._pad(4, 0)
        self._link(at)
        self._strings(values, _COPIED_BYTES_MAX)

    def _link(self, at: int) -> None:
        """Point the head's offset at a position to the place that is written next."""
        offset = self._start + len(self._tail) - at
        if offset > MESSAGE_BYTES_MAX:
            raise TooLarge("the message would have over 2 GiB, more than FlatBuffers can hold; send less at once")
        _PATCH(self._head, at, offset)

    def _pad(self, alignment: int, place: int) -> None:
        """Add zeros until the next byte lies `place` bytes behind a multiple of `alignment`."""
        self._tail += _ZEROS[(place - self._start - len(self._tail)) % alignment]

    def _vector(self, at: int, count: int) -> int:
        self._link(at)
        self._head += _U32(count) + bytes(4 * count)
        return len(self._head) - 4 * count

    def _strings(self, values: Sequence[bytes], copied_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        offsets = []
        offset = 4 * len(values)
        for value in values:
            offsets.append(offset)
            offset += (len(value) + 8 & ~3) - 4  # the next string lies behind this one, its slot behind this slot
        if offset > MESSAGE_BYTES_MAX:
            raise TooLarge("the strings have over 2 GiB, more than FlatBuffers can hold; send less at once")
        self._tail += pack(f"<I{len(values)}I", len(values), *offsets)
        for value in values:
            self._string(value, copied_bytes_max)

    def _string(self, value: bytes, copied_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        """Write one string, its NUL, and zeros up to a multiple of 4."""
        size = len(value)
        self._tail += _U32(size)
        if size <= copied_bytes_max:
            self._tail += value
        else:
            self._hand_out(value)
        self._tail += _ZEROS[4 - (size & 3)]

    def _hand_out(self, data: Buffer) -> None:
        """Let a piece of foreign memory follow, and a fresh tail behind it."""
        self._start += len(self._tail) + len(data)
        self._tail = bytearray()
        self._pieces += (data, self._tail)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise MalformedMessage(f"the text {text[:40]!r} has a lone surrogate, which UTF-8 can't carry") from exc


_PLAIN_HEAD: Final = b"".join(_named("", (), ()).finish())  # what most requests begin with
