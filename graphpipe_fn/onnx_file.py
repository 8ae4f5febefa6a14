"""
The little of ONNX's file format that serving needs: which values a graph computes, and how to ask for more of them.

An ONNX file is one protobuf message. It is read here by hand because the `onnx` package (with protobuf, tens of
megabytes) has no place in a function's image. It knows nothing of onnxruntime and does not check graphs.

Source: onnx.proto3: ModelProto.graph = 7, GraphProto.node = 1 and .output = 12, NodeProto.output = 2,
ValueInfoProto.name = 1 (the numbers for external data stand below); protobuf's encoding guide: a singular message
that occurs twice is merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphpipe_fn.errors import BadModel
from graphpipe_fn.model import Buffer

_GRAPH, _NODE, _OUTPUT, _NODE_OUTPUT, _NAME = 7, 1, 12, 2, 1
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
# Per kind of message: where tensors are, and where messages are that hold some, with their kind.
_TENSORS = {
    "model": (),
    "graph": (5,),  # initializer
    "function": (),
    "node": (),
    "attribute": (5, 10),  # t, tensors
    "sparse": (1, 2),  # values, indices
}
_HOLDERS = {
    "model": ((_GRAPH, "graph"), (25, "function")),
    "graph": ((_NODE, "node"), (15, "sparse")),
    "function": ((7, "node"),),
    "node": ((5, "attribute"),),
    "attribute": ((6, "graph"), (11, "graph"), (22, "sparse"), (23, "sparse")),
    "sparse": (),
}
_DEPTH_MAX = 100  # protobuf's own limit
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10  # the longest varint: 64 bits, 7 in a byte


def node_outputs(model: Buffer) -> list[str]:
    """
    Return the names of all values that the main graph's nodes compute, in the file's order.

    Args:
        model: The file's bytes; weights in it are skipped unread, so a mapped file costs few pages.

    Raises:
        BadModel: the bytes are no ONNX file.
    """
    with memoryview(model).cast("B") as view:
        names = [
            bytes(name).decode("utf-8", "surrogateescape")
            for graph in _submessages(view, _GRAPH)
            for node in _submessages(graph, _NODE)
            for name in _submessages(node, _NODE_OUTPUT)
        ]
    return [name for name in names if name]  # "" stands for an optional output that is left out


def external_files(model: Buffer) -> list[str]:
    """
    Return the files that the graph's weights lie in, as it names them; none where all are in the model itself.

    Raises:
        BadModel: the bytes are no ONNX file.
    """
    with memoryview(model).cast("B") as view:
        names = [
            bytes(value).decode("utf-8", "surrogateescape")
            for tensor in _tensors(view, "model")
            for entry in _submessages(tensor, _EXTERNAL_DATA)
            if any(bytes(key) == b"location" for key in _submessages(entry, _KEY))
            for value in _submessages(entry, _VALUE)
        ]
    return list(dict.fromkeys(names))


def with_outputs(model: Buffer, names: Sequence[str]) -> bytes:
    """
    Return the model with more graph outputs.

    Protobuf merges a second occurrence of the graph into the first, so the outputs are appended and nothing is
    parsed; their types are left to the runtime's inference.
    """
    outputs = b"".join(_field(_OUTPUT, _field(_NAME, name.encode("utf-8", "surrogateescape"))) for name in names)
    return b"".join((model, _field(_GRAPH, outputs)))


def _tensors(message: memoryview, kind: str, depth: int = 0) -> Iterator[memoryview]:
    if depth > _DEPTH_MAX:
        raise BadModel(f"this is no ONNX file: messages lie {depth} deep in each other")
    for number in _TENSORS[kind]:
        yield from _submessages(message, number)
    for number, inner in _HOLDERS[kind]:
        for submessage in _submessages(message, number):
            yield from _tensors(submessage, inner, depth + 1)


def _submessages(view: memoryview, wanted: int) -> Iterator[memoryview]:
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(view, at)
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise BadModel(f"this is no ONNX file: protobuf wire type {kind} at byte {at}")
        if size > len(view) - at:
            raise BadModel(f"this is no whole ONNX file: {size} bytes are announced at byte {at}, fewer are there")
        if key >> 3 == wanted and kind == _BYTES:
            yield view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(view[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise BadModel(f"this is no ONNX file: there is no protobuf number at byte {at}")


def _field(number: int, payload: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _encoded(len(payload)) + payload


def _encoded(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
