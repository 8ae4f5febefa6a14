"""
A second opinion on GraphPipe's bytes, which shares no code with the codec.

`verified` follows the rules of the C++ library's Verifier (Python's has none): bounds, alignment, strings ending
with NUL. It reads by way of the `flatbuffers` package's own Table, by slot numbers. `built` lets that package's
Builder write a message from the same nested values, back to front and with shared vtables, as most clients do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

SIZES = {"u8": 1, "i64": 8, "text": 4}
READERS = {"u8": number_types.Uint8Flags, "i64": number_types.Int64Flags}


@dataclass(frozen=True)
class Vector:
    """A vector field of `u8`, `i64`, `text` or a table."""

    item: Any


Schema = tuple[Any, ...]
TENSOR: Schema = ("u8", Vector("i64"), Vector("u8"), Vector("text"))
INFER_REQUEST: Schema = ("text", Vector("text"), Vector(TENSOR), Vector("text"))
METADATA_REQUEST: Schema = ()
ERROR: Schema = ("i64", "text")
INFER_RESPONSE: Schema = (Vector(TENSOR), Vector(ERROR))
IO_METADATA: Schema = ("text", "text", Vector("i64"), "u8")
METADATA: Schema = ("text", "text", "text", "text", Vector(IO_METADATA), Vector(IO_METADATA))
REQUESTS: dict[int, Schema] = {1: ("u8", INFER_REQUEST), 2: ("u8", METADATA_REQUEST)}


class Refused(Exception):
    """The C++ Verifier would say no."""


def verified(body: bytes, schema: Schema | None = None) -> list[Any]:
    """
    Read a message after checking it as the C++ Verifier does.

    Args:
        body: A whole message.
        schema: Its root table; None for a Request, whose union is followed.

    Returns:
        One value for each slot: a number, bytes, a list, None for an absent field.
    """
    reader = _Verifier(body)
    root = reader.offset(0)
    if schema is None:
        schema = REQUESTS[reader.table(root, ("u8",))[0]]
    return reader.table(root, schema)


class _Verifier:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def check(self, at: int, size: int, alignment: int) -> None:
        if at % alignment:
            raise Refused(f"{at} is not a multiple of {alignment}")
        if at < 0 or at + size > len(self.body):
            raise Refused(f"{size} bytes at {at} are not in {len(self.body)}")

    def offset(self, at: int) -> int:
        self.check(at, 4, 4)
        offset = Table(self.body, at).Get(number_types.Uint32Flags, at)
        if offset == 0:
            raise Refused(f"the offset at {at} is 0")
        return int(at + offset)

    def table(self, at: int, schema: Schema) -> list[Any]:
        self.check(at, 4, 4)
        table = Table(self.body, at)
        vtable = at - table.Get(number_types.SOffsetTFlags, at)
        self.check(vtable, 4, 2)
        size = table.Get(number_types.VOffsetTFlags, vtable)
        if size % 2:
            raise Refused(f"the vtable at {vtable} has {size} bytes")
        self.check(vtable, size, 2)
        values = []
        for slot, kind in enumerate(schema):
            place = table.Offset(4 + 2 * slot)
            values.append(self.field(at + place, kind) if place else None)
        return values

    def field(self, at: int, kind: Any) -> Any:
        if kind in READERS:
            self.check(at, SIZES[kind], SIZES[kind])
            return Table(self.body, at).Get(READERS[kind], at)
        target = self.offset(at)
        if kind == "text":
            count = self.vector(target, 1)
            end = target + 4 + count
            self.check(end, 1, 1)
            if self.body[end]:
                raise Refused(f"the string at {target} does not end with NUL")
            return Table(self.body, at).String(at)
        if isinstance(kind, Vector):
            size = SIZES.get(kind.item, 4) if isinstance(kind.item, str) else 4
            count = self.vector(target, size)
            if kind.item == "u8":
                return self.body[target + 4 : target + 4 + count]
            return [self.field(target + 4 + size * place, kind.item) for place in range(count)]
        return self.table(target, kind)

    def vector(self, at: int, size: int) -> int:
        self.check(at, 4, 4)
        count = int(Table(self.body, at).Get(number_types.Uint32Flags, at))
        self.check(at + 4, count * size, size)
        return count


def built(values: list[Any], schema: Schema) -> bytes:
    """
    Let flatbuffers.Builder write a message.

    Args:
        values: One for each slot: a number, bytes, a list, None for an absent field.
        schema: The root table.
    """
    builder = flatbuffers.Builder(64)
    builder.Finish(_table(builder, values, schema))
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, values: list[Any], schema: Schema) -> int:
    prepared = [
        value if value is None or kind in READERS else build(builder, value, kind)
        for value, kind in zip(values, schema, strict=True)
    ]
    builder.StartObject(len(schema))
    for slot, (value, kind) in enumerate(zip(prepared, schema, strict=True)):
        if value is None:
            continue
        if kind == "u8":
            builder.PrependUint8Slot(slot, value, 0)
        elif kind == "i64":
            builder.PrependInt64Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def build(builder: flatbuffers.Builder, value: Any, kind: Any) -> int:
    """Let a builder write what an offset leads to, and return where it is."""
    if kind == "text":
        return int(builder.CreateString(value))
    if not isinstance(kind, Vector):
        return _table(builder, value, kind)
    if kind.item == "u8":
        return int(builder.CreateByteVector(value))
    if kind.item == "i64":
        builder.StartVector(8, len(value), 8)
        for number in reversed(value):
            builder.PrependInt64(number)
        return int(builder.EndVector())
    items = [build(builder, item, kind.item) for item in value]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())
