"""
FlatBuffers' tables, vectors and strings, with every offset, length and count checked before it is followed.

Two rules keep a hostile message cheap. Counts are compared with the limits before anything is made of them. And
whatever is reached is charged, at its size on the wire, to a budget of the message's own size: an honest message
is a tree and never costs more than itself, one whose offsets share or overlap runs out. It knows no GraphPipe.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NoReturn, TypeVar

from graphpipe_fn.codec.limits import Limits
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.model import Buffer

_T = TypeVar("_T")

_U32: Final = Struct("<I").unpack_from
_I32: Final = Struct("<i").unpack_from
_U16_2: Final = Struct("<HH").unpack_from
_SLOTS: Final = tuple(Struct(f"<{count}H").unpack_from for count in range(7))  # no table here has more than 6


class FlatBuffer:
    """
    Walk one message; positions are counted from the body's first byte, and 0 stands for an absent field.

    Args:
        body: The whole message.
        limits: What is accepted.

    Raises:
        TooLarge: the body is over the limit. All methods raise it, or MalformedMessage, and nothing else.
    """

    __slots__ = ("_budget", "_size", "_strings", "_text", "body", "limits")

    def __init__(self, body: Buffer, limits: Limits) -> None:
        if not isinstance(body, bytes):
            view = memoryview(body)
            # A cast refuses what is not contiguous, or empty.
            body = view.cast("B").toreadonly() if view.c_contiguous and view.nbytes else view.tobytes()
        self.body = body
        self.limits = limits
        self._size = len(body)
        if self._size > limits.message_bytes:
            raise TooLarge(f"the message has {self._size:,} bytes; the limit is {limits.message_bytes:,}")
        self._budget = self._size + limits.shared_bytes
        self._strings = limits.strings
        self._text = limits.text_bytes

    def root(self) -> int:
        """Return where the root table lies."""
        if self._size < 8:
            raise MalformedMessage(f"{self._size} bytes are no GraphPipe message")
        return self.follow(0, "the message")

    def follow(self, at: int, what: str) -> int:
        """Return where the offset at a position leads to; at least 4 bytes can be read there."""
        (offset,) = _U32(self.body, at)
        target: int = at + offset
        if offset < 4 or target + 4 > self._size:
            _refuse(what)
        return target

    def fields(self, table: int, widths: tuple[int, ...], what: str) -> list[int]:
        """Return the positions of a table's fields; at each, as many bytes as `widths` says can be read."""
        body, size = self.body, self._size
        # Every builder aligns tables to 4. Vectors are not always aligned, so that is asked of tables only.
        (way,) = _I32(body, table)
        vtable = table - way
        if table & 3 or vtable < 0 or vtable + 4 > size:
            _refuse(what)
        vtable_bytes, table_bytes = _U16_2(body, vtable)
        if vtable_bytes < 4 or vtable_bytes & 1 or vtable + vtable_bytes > size:
            _refuse(what)
        if table_bytes < 4 or table + table_bytes > size:
            _refuse(what)
        self._budget -= table_bytes
        if self._budget < 0:
            _refuse_shared()
        positions = []
        count = min(vtable_bytes - 4 >> 1, len(widths))
        # Not strict: a shorter vtable is an older writer's, whose last fields are absent.
        for slot, width in zip(_SLOTS[count](body, vtable + 4), widths, strict=False):
            if slot == 0:
                positions.append(0)
            elif 4 <= slot <= table_bytes - width:
                positions.append(table + slot)
            else:
                _refuse(what)
        return positions if count == len(widths) else positions + [0] * (len(widths) - count)

    def vector(self, at: int, item_bytes: int, what: str) -> tuple[int, int]:
        """Return where a vector's items begin, and their number; an absent vector has none."""
        if not at:
            return 0, 0
        vector = self.follow(at, what)
        (count,) = _U32(self.body, vector)
        end = vector + 4 + count * item_bytes
        if end > self._size:
            _refuse(what)
        self._budget -= end - vector
        if self._budget < 0:
            _refuse_shared()
        return vector + 4, count

    def tables(self, at: int, read: Callable[[int, str], _T], limit: int, what: str) -> tuple[_T, ...]:
        """Read a vector of tables."""
        start, count = self.vector(at, 4, what + "s")
        if count > limit:
            raise TooLarge(f"the message has {count:,} {what}s; the limit is {limit:,}")
        items = []
        for place in range(count):
            name = f"{what} {place}"
            items.append(read(self.follow(start + 4 * place, name), name))
        return tuple(items)

    def texts(self, at: int, limit: int, what: str) -> tuple[str, ...]:
        """Read a vector of strings as text."""
        start, count = self.vector(at, 4, what + "s")
        if count > limit:
            raise TooLarge(f"the message has {count:,} {what}s; the limit is {limit:,}")
        if not count:
            return ()
        # The original JavaScript client writes the offset 0 for every name: it means none.
        slots = range(start, start + 4 * count, 4)
        return tuple([self.text(slot, what) if any(self.body[slot : slot + 4]) else "" for slot in slots])

    def text(self, at: int, what: str) -> str:
        """Read a string as text; bytes that are no UTF-8 become surrogate escapes."""
        start, count = self.vector(at, 1, what)
        self._text -= count
        if self._text < 0:
            raise TooLarge(f"{what} goes over the limit of {self.limits.text_bytes:,} bytes for all text together")
        return str(self.body[start : start + count], "utf-8", "surrogateescape") if count else ""

    def strings(self, at: int, what: str) -> tuple[bytes, ...]:
        """Read a vector of strings as bytes."""
        start, count = self.vector(at, 4, what)
        self._strings -= count
        if self._strings < 0:
            raise TooLarge(f"{what} goes over the limit of {self.limits.strings:,} strings")
        body: Any = self.body
        size, budget = self._size, self._budget - 4 * count  # their lengths
        offsets = array("I")  # 4 bytes an offset, where a tuple of them would take 36
        offsets.frombytes(memoryview(body)[start : start + 4 * count])
        if sys.byteorder == "big":
            offsets.byteswap()
        values = []
        plain = isinstance(body, bytes)  # whose slices are bytes already
        slot = start + 4  # what is counted from here leads behind the string's length
        for offset in offsets:
            begin = slot + offset
            if offset < 4 or begin > size:
                _refuse(what)
            (length,) = _U32(body, begin - 4)
            end = begin + length
            if end > size:
                _refuse(what)
            budget -= length
            if budget < 0:
                _refuse_shared()
            values.append(body[begin:end] if plain else bytes(body[begin:end]))
            slot += 4
        self._budget = budget
        return tuple(values)


def _refuse(what: str) -> NoReturn:
    raise MalformedMessage(f"{what} is cut short, or its offsets lead out of the message; send the whole message")


def _refuse_shared() -> NoReturn:
    raise MalformedMessage("the message's offsets lead to the same bytes again and again; send each value on its own")
