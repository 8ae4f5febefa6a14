"""
FlatBuffers written forward: all offsets lead to what is written later.

So a message can be handed to a socket as it grows: a head, and behind it pieces of foreign memory with a few bytes
between them, never joined. It knows no GraphPipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack
from typing import Final

from graphpipe_fn.codec.limits import MESSAGE_BYTES_MAX
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.model import Buffer

_DATA_ALIGNMENT: Final = 64  # a cache line, and what vector instructions like best
_COPIED_BYTES_MAX: Final = 4_096  # a string up to this size is cheaper to copy than to send as a piece of its own

_U32: Final = Struct("<I").pack
_PATCH: Final = Struct("<I").pack_into
_ZEROS: Final = tuple(bytes(count) for count in range(_DATA_ALIGNMENT))


class ForwardWriter:
    """
    Write one message; positions are counted from its first byte.

    Every table and all text lie in the head, the first piece, so that offsets in it can be patched until the end.

    Args:
        head: What the message begins with: root, vtables, the root table.
    """

    __slots__ = ("_pieces", "_start", "_tail", "head")

    def __init__(self, head: bytes) -> None:
        self.head = self._tail = bytearray(head)
        self._pieces: list[Buffer] = [self.head]
        self._start = 0  # the position of the tail's first byte

    def finish(self) -> list[Buffer]:
        """
        Return the pieces.

        Raises:
            TooLarge: they have over 2 GiB.
        """
        if not self._tail:
            self._pieces.pop()
        check_size(sum(map(len, self._pieces)))
        return self._pieces

    def link(self, at: int) -> None:
        """Point the head's offset at a position to the place that is written next."""
        offset = self._start + len(self._tail) - at
        check_size(offset)
        _PATCH(self.head, at, offset)

    def pad(self, alignment: int, place: int) -> None:
        """Add zeros until the next byte lies `place` bytes behind a multiple of `alignment`."""
        self._tail += _ZEROS[(place - self._start - len(self._tail)) % alignment]

    def vector(self, at: int, count: int) -> int:
        """Write a vector of offsets yet to be known, and its own into the head; return where they belong."""
        self.link(at)
        self.head += _U32(count) + bytes(4 * count)
        return len(self.head) - 4 * count

    def text(self, at: int, text: str) -> None:
        """Write a string, and its offset into the head."""
        self.link(at)
        self._string(_utf8(text))

    def texts(self, at: int, texts: Sequence[str]) -> None:
        """Write a vector of strings, and its offset into the head."""
        self.link(at)
        self._strings([_utf8(text) for text in texts])

    def strings(self, at: int, values: Sequence[bytes]) -> None:
        """Write a vector of strings, and its offset into the head; large ones are handed out uncopied."""
        self.pad(4, 0)
        self.link(at)
        self._strings(values, _COPIED_BYTES_MAX)

    def length(self, at: int, size: int) -> None:
        """Write how many bytes of data follow, and the data's offset into the head."""
        self.pad(_DATA_ALIGNMENT if size else 4, _DATA_ALIGNMENT - 4 if size else 0)
        self.link(at)
        self._tail += _U32(size)

    def data(self, at: int, data: Buffer) -> None:
        """Write a vector of bytes, and its offset into the head; they are handed out uncopied."""
        self.length(at, len(data))
        if data:
            self._hand_out(data)

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


def check_size(size: int) -> None:
    """
    Refuse what FlatBuffers' offsets can't span.

    Raises:
        TooLarge: over 2 GiB.
    """
    if size > MESSAGE_BYTES_MAX:
        raise TooLarge(f"the message would have {size:,} bytes; a FlatBuffers message has less than 2 GiB")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise MalformedMessage(f"the text {text[:40]!r} has a lone surrogate, which UTF-8 can't carry") from exc
