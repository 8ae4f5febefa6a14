"""
PyTorch's legacy weight files, read without torch and without running anything that they say.

Such a file is five pickles (a magic number, a version, the writer's system, the tensors' descriptions, the order
of the storages) and then each storage: its element count and its raw elements. A pickle is a program; `pickle`
itself would call what the file names. Here an interpreter of our own knows the 28 opcodes that a dictionary of
tensors is made of, calls nothing, and bounds its steps; whatever else a file holds refuses it.

Source: torch/serialization.py (_legacy_save), CPython's Lib/pickletools.py for the opcodes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classy.errors import ModelSpoilt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STEPS_MAX = 200_000  # EfficientNet-Lite0's 296 tensors take 12,000; a step makes at most one small object
RANK_MAX = 8
DTYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"


def read_torch_file(data: bytes, *, where: str) -> dict[str, NDArray[np.generic]]:
    """
    Read a state dict.

    Args:
        data: The whole file.
        where: Its name, for the error message.

    Returns:
        Each tensor under its name, a read-only view into `data`: no element is copied.

    Raises:
        ModelSpoilt: not such a file, cut short, too long, or with anything in it but dense float32 and int64 tensors.
    """
    try:
        return _tensors(data)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as exc:
        raise ModelSpoilt(f"{where} is not a PyTorch weight file that can be read: {exc!r}; fetch it again") from exc


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]  # the axes as they lie in memory, the slowest first


_MARK = object()


def _tensors(data: bytes) -> dict[str, NDArray[np.generic]]:
    import numpy as np

    place = 0
    parts = []
    for _ in range(5):
        reader = _Pickle(data, place)
        parts.append(reader.value())
        place = reader.place
    magic, version, system, described, keys = parts
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("wrong magic number or version")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("not written little-endian")
    if type(described) is not dict or not all(type(tensor) is _Tensor for tensor in described.values()):
        raise ValueError("not a dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in described.values()}
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("the list of storages is not the tensors'")

    starts: dict[str, int] = {}
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack_from("<q", data, place)
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} elements, not {storage.count}")
        starts[key] = place + 8
        place += 8 + count * np.dtype(storage.dtype).itemsize
        if place > len(data):
            raise ValueError(f"cut short in storage {key}")
    if place != len(data):
        raise ValueError(f"{len(data) - place} bytes follow the last storage")

    arrays: dict[str, NDArray[np.generic]] = {}
    for name, tensor in described.items():
        storage = tensor.storage
        if storage != storages[storage.key]:
            raise ValueError(f"storage {storage.key} is described twice")
        count = math.prod(tensor.shape)
        if tensor.offset + count > storage.count:
            raise ValueError(f"tensor {name!r:.80} goes over the end of its storage")
        dtype = np.dtype(storage.dtype)
        start = starts[storage.key] + tensor.offset * dtype.itemsize
        lying = np.frombuffer(data, dtype, count, start).reshape([tensor.shape[axis] for axis in tensor.order])
        arrays[name] = lying.transpose(np.argsort(tensor.order))
    return arrays


def _rebuilt(arguments: tuple[Any, ...]) -> _Tensor:
    storage, offset, shape, strides = arguments[:4]  # then requires_grad and the hooks, which mean nothing here
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("a tensor without a storage, shape or strides")
    if len(shape) > RANK_MAX or len(shape) != len(strides):
        raise ValueError(f"a tensor of {len(shape)} dimensions and {len(strides)} strides")
    if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)) or 0 in shape:
        # Unnamed: these may be nested tuples whose text would be as long as 2 to the power of their depth.
        raise ValueError("a tensor whose offset, shape or strides are no sizes")
    # Weights that came from TensorFlow lie transposed. Any order of the axes is fine, as long as the elements are
    # each there once: strides that repeat or skip elements are no tensor's own memory.
    order = tuple(sorted(range(len(shape)), key=lambda axis: strides[axis] if shape[axis] > 1 else 0, reverse=True))
    packed = 1
    for axis in reversed(order):
        if shape[axis] > 1 and strides[axis] != packed:
            raise ValueError(f"a tensor with gaps: shape {shape!r:.80}, strides {strides!r:.80}")
        packed *= shape[axis]
    return _Tensor(storage, offset, shape, order)


def _stored(identity: Any) -> _Storage:
    kind, dtype, key, _place, count = identity[:5]
    if kind != "storage" or type(dtype) is not _Global or type(key) is not str:
        raise ValueError("a persistent id that is no storage")
    if type(count) is not int or count < 0:
        raise ValueError("a storage whose number of elements is no size")
    return _Storage(DTYPES[dtype.name], key, count)


class _Pickle:
    """One pickle of protocol 2, from `place` to its STOP."""

    def __init__(self, data: bytes, place: int) -> None:
        self.place = place
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def value(self) -> Any:
        """Run to the STOP and return what is left."""
        for _ in range(STEPS_MAX):
            opcode = self._take(1)[0]
            if opcode == 0x2E:  # STOP
                (value,) = self._stack
                return value
            step = _STEPS.get(opcode)
            if step is None:
                raise ValueError(f"pickle opcode 0x{opcode:02x} at byte {self.place - 1}, which no tensor needs")
            step(self)
        raise ValueError(f"more than {STEPS_MAX} pickle opcodes")

    def _take(self, count: int) -> bytes:
        taken = self._data[self.place : self.place + count]
        if len(taken) != count:
            raise ValueError("cut short in a pickle")
        self.place += count
        return taken

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _line(self) -> str:
        end = self._data.index(b"\n", self.place, self.place + 256)
        return self._take(end + 1 - self.place)[:-1].decode("ascii")

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _proto(self) -> None:
        if self._number("<B") != 2:
            raise ValueError("not a pickle of protocol 2")

    def _global(self) -> None:
        name = f"{self._line()} {self._line()}"
        if name not in (*DTYPES, ORDERED_DICT, REBUILD_TENSOR):
            raise ValueError(f"it names {name!r:.80}, which no tensor needs")
        self._push(_Global(name))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise ValueError("a call of nothing that can be called")
        if function.name == REBUILD_TENSOR:
            self._push(_rebuilt(arguments))
        elif function.name == ORDERED_DICT and not arguments:
            self._push({})
        else:
            raise ValueError(f"a call of {function.name!r}")

    def _build(self) -> None:
        # The state dict's own attribute `_metadata`, layer versions; nothing that a tensor needs.
        self._stack.pop()
        if type(self._stack[-1]) is not dict:
            raise ValueError("attributes of something that is no dictionary")

    def _set(self, pairs: list[Any]) -> None:
        keys, values = pairs[::2], pairs[1::2]
        # Text only: hashing a nested tuple would take time that grows with the power of its depth.
        if type(self._stack[-1]) is not dict or not all(type(key) is str for key in keys):
            raise ValueError("a dictionary whose keys are not text")
        self._stack[-1].update(zip(keys, values, strict=True))

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _append(self) -> None:
        values = self._since_mark()
        if type(self._stack[-1]) is not list:
            raise ValueError("an append to something that is no list")
        self._stack[-1].extend(values)

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count or _MARK in self._stack[-count:]:
            raise ValueError("a tuple of nothing")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _keep(self, form: str) -> None:
        self._memo[self._number(form)] = self._stack[-1]

    def _text(self) -> None:
        self._push(self._take(self._number("<I")).decode())


_STEPS: dict[int, Callable[[_Pickle], None]] = {
    0x80: _Pickle._proto,
    0x28: lambda p: p._push(_MARK),  # MARK
    0x7D: lambda p: p._push({}),  # EMPTY_DICT
    0x5D: lambda p: p._push([]),  # EMPTY_LIST
    0x29: lambda p: p._push(()),  # EMPTY_TUPLE
    0x4E: lambda p: p._push(None),  # NONE
    0x88: lambda p: p._push(True),  # NEWTRUE
    0x89: lambda p: p._push(False),  # NEWFALSE
    0x4B: lambda p: p._push(p._number("<B")),  # BININT1
    0x4D: lambda p: p._push(p._number("<H")),  # BININT2
    0x4A: lambda p: p._push(p._number("<i")),  # BININT
    0x8A: lambda p: p._push(int.from_bytes(p._take(p._number("<B")), "little", signed=True)),  # LONG1
    0x58: _Pickle._text,  # BINUNICODE
    0x71: lambda p: p._keep("<B"),  # BINPUT
    0x72: lambda p: p._keep("<I"),  # LONG_BINPUT
    0x68: lambda p: p._push(p._memo[p._number("<B")]),  # BINGET
    0x6A: lambda p: p._push(p._memo[p._number("<I")]),  # LONG_BINGET
    0x74: lambda p: p._push(tuple(p._since_mark())),  # TUPLE
    0x85: lambda p: p._tuple(1),  # TUPLE1
    0x86: lambda p: p._tuple(2),  # TUPLE2
    0x65: _Pickle._append,  # APPENDS
    0x73: _Pickle._set_one,  # SETITEM
    0x75: lambda p: p._set(p._since_mark()),  # SETITEMS
    0x63: _Pickle._global,  # GLOBAL
    0x51: lambda p: p._push(_stored(p._stack.pop())),  # BINPERSID
    0x52: _Pickle._reduce,  # REDUCE
    0x62: _Pickle._build,  # BUILD
}
