"""Legacy PyTorch files, written opcode by opcode: whole ones, and ones that want something else than to be read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


def number(value: int) -> bytes:
    """Return the opcodes of an integer."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def text(value: str) -> bytes:
    """Return the opcodes of a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    """Return the opcodes of a global."""
    return f"c{module}\n{name}\n".encode()


def row(*values: bytes) -> bytes:
    """Return the opcodes of a tuple."""
    return b"(" + b"".join(values) + b"t"


def pickled(*opcodes: bytes) -> bytes:
    """Return a pickle of protocol 2."""
    return b"\x80\x02" + b"".join(opcodes) + b"."


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """Return the opcodes of a reference to a storage."""
    return row(text("storage"), named("torch", kind), text(key), text("cpu"), number(count), b"N") + b"Q"


def tensor(
    held: bytes, *, offset: int = 0, shape: Sequence[int] = (2, 3), strides: Sequence[int] | None = None
) -> bytes:
    """Return the opcodes of a tensor; packed unless strides are given."""
    if strides is None:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    sizes, steps = (row(*map(number, values)) for values in (shape, strides))
    hooks = named("collections", "OrderedDict") + b")R"
    return (
        named("torch._utils", "_rebuild_tensor_v2") + row(held, number(offset), sizes, steps, b"\x89", hooks) + b"R"
    )


def state(**tensors: bytes) -> bytes:
    """Return the opcodes of a state dict."""
    pairs = b"".join(text(name) + value for name, value in tensors.items())
    return named("collections", "OrderedDict") + b")R(" + pairs + b"u}b"


def torch_file(
    described: bytes,
    storages: Mapping[str, np.ndarray],
    *,
    magic: int = MAGIC,
    version: int = 1001,
    little_endian: bytes = b"\x88",
    keys: Sequence[str] | None = None,
) -> bytes:
    """Return a file: the opcodes that describe the tensors, and the storages' elements."""
    system = b"}(" + text("protocol_version") + number(1001) + text("little_endian") + little_endian + b"u"
    listed = b"](" + b"".join(map(text, storages if keys is None else keys)) + b"e"
    parts = [pickled(number(magic)), pickled(number(version)), pickled(system), pickled(described), pickled(listed)]
    for values in storages.values():
        parts.append(struct.pack("<q", values.size) + values.tobytes())
    return b"".join(parts)


VALUES = np.arange(8, dtype="<f4")
COUNTS = np.arange(3, dtype="<i8")


def whole() -> bytes:
    """Return a file with three tensors: `a` and `b` share a storage, `n` is int64."""
    held = storage("0", 8)
    described = state(
        a=tensor(held),
        b=tensor(held, offset=2, shape=(3, 2), strides=(1, 3)),
        n=tensor(storage("1", 3, "LongStorage"), offset=1, shape=()),
    )
    return torch_file(described, {"0": VALUES, "1": COUNTS})


def with_state(described: bytes) -> bytes:
    """Return a file with other opcodes where the tensors are described."""
    return torch_file(described, {"0": VALUES})


def with_tensor(value: bytes) -> bytes:
    """Return a file of one tensor."""
    return with_state(state(a=value))


def _bomb(levels: int) -> bytes:
    # Each level is a pair of the one before: hashing or printing it takes 2 to the power of the levels.
    return b")" + b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(levels))


HELD = storage("0", 8)
HOSTILE: Mapping[str, Callable[[str], bytes]] = {
    "os.system": lambda mark: with_state(named("os", "system") + row(text(f"touch {mark}")) + b"R"),
    "posix.system": lambda mark: with_state(named("posix", "system") + row(text(f"touch {mark}")) + b"R"),
    "builtins.eval": lambda mark: with_state(
        named("builtins", "eval") + row(text(f"__import__('pathlib').Path({mark!r}).touch()")) + b"R"
    ),
    "builtins.open": lambda mark: with_tensor(named("builtins", "open") + row(text(mark), text("w")) + b"R"),
    "an allowed name's attribute": lambda mark: with_tensor(named("torch", "FloatStorage.__init__")),
    "a name of two dots": lambda mark: with_tensor(named("torch._utils", "os.system")),
    "numpy object array": lambda mark: with_tensor(named("numpy.core.multiarray", "_reconstruct")),
    "torch.load": lambda mark: with_tensor(named("torch", "load") + row(text(mark)) + b"R"),
    "newer torch storage": lambda mark: with_tensor(tensor(storage("0", 8, "UntypedStorage"))),
    "stack global": lambda mark: with_tensor(
        text("os") + text("system") + b"\x93" + row(text(f"touch {mark}")) + b"R"
    ),
    "inst": lambda mark: with_tensor(b"(" + text(f"touch {mark}") + b"ios\nsystem\n"),
    "obj": lambda mark: with_tensor(b"(" + named("collections", "OrderedDict") + b"o"),
    "newobj": lambda mark: with_tensor(named("collections", "OrderedDict") + b")\x81"),
    "extension registry": lambda mark: with_tensor(b"\x82\x01"),
    "text persistent id": lambda mark: with_tensor(b"Pstorage\n"),
    "next buffer": lambda mark: with_tensor(b"\x97"),
    "string of an old protocol": lambda mark: with_tensor(b"S'a'\n"),
    "another protocol": lambda mark: whole().replace(b"\x80\x02", b"\x80\x04", 1),
    "call of a tensor": lambda mark: with_tensor(tensor(HELD) + b")R"),
    "call of text": lambda mark: with_tensor(text("os.system") + row(text(mark)) + b"R"),
    "call of a storage type": lambda mark: with_tensor(named("torch", "FloatStorage") + b")R"),
    "dictionary called with pairs": lambda mark: with_tensor(named("collections", "OrderedDict") + row(b"]") + b"R"),
    "attributes of a function": lambda mark: with_tensor(named("torch._utils", "_rebuild_tensor_v2") + b"}b"),
    "attributes of a tensor": lambda mark: with_tensor(tensor(HELD) + b"}b"),
    "keys that take for ever to hash": lambda mark: with_state(b"}" + _bomb(100) + b"Ns"),
    "a value that takes for ever to print": lambda mark: with_tensor(_bomb(100)),
    "a shape that takes for ever to print": lambda mark: with_tensor(
        named("torch._utils", "_rebuild_tensor_v2") + row(HELD, number(0), row(_bomb(100)), row(number(1))) + b"R"
    ),
    "endless steps": lambda mark: with_state(b"N" * 1_000_000),
    "endless stack of marks": lambda mark: with_state(b"(" * 1_000_000),
    "text of 4 GB": lambda mark: with_state(b"X\xff\xff\xff\xff"),
    "memo of 4 billion": lambda mark: with_state(state() + b"r\xff\xff\xff\xff" * 2 + b"j\xfe\xff\xff\xff"),
    "unknown memo": lambda mark: with_tensor(b"h\x07"),
    "empty stack": lambda mark: with_state(b"R"),
    "two values left": lambda mark: with_state(state() + b"N"),
    "append to a dictionary": lambda mark: with_state(state() + b"(Ne"),
    "items without a value": lambda mark: with_state(b"}(" + text("a") + b"u"),
    "tuple over a mark": lambda mark: with_tensor(b"((\x86"),
    "no end of line": lambda mark: with_state(b"c" + b"a" * 5000),
    "list of tensors": lambda mark: with_state(b"](" + tensor(HELD) + b"e"),
    "no tensor": lambda mark: with_tensor(number(1)),
    "tensor of nothing": lambda mark: with_tensor(tensor(b"N")),
    "tensor over the end": lambda mark: with_tensor(tensor(HELD, shape=(3, 3))),
    "tensor behind the end": lambda mark: with_tensor(tensor(HELD, offset=7)),
    "tensor before the start": lambda mark: with_tensor(tensor(HELD, offset=-1)),
    "negative dimension": lambda mark: with_tensor(tensor(HELD, shape=(-2, -3), strides=(3, 1))),
    "empty tensor": lambda mark: with_tensor(tensor(HELD, shape=(0, 3))),
    "repeated elements": lambda mark: with_tensor(tensor(HELD, shape=(1000, 1000), strides=(0, 0))),
    "skipped elements": lambda mark: with_tensor(tensor(HELD, shape=(2, 2), strides=(4, 2))),
    "overlapping elements": lambda mark: with_tensor(tensor(HELD, shape=(2, 3), strides=(1, 1))),
    "more strides than dimensions": lambda mark: with_tensor(tensor(HELD, shape=(2,), strides=(1, 1))),
    "truth as a dimension": lambda mark: with_tensor(
        named("torch._utils", "_rebuild_tensor_v2") + row(HELD, number(0), row(b"\x88"), row(number(1))) + b"R"
    ),
    "64 dimensions": lambda mark: with_tensor(tensor(HELD, shape=(1,) * 64)),
    "rebuilt of too little": lambda mark: with_tensor(
        named("torch._utils", "_rebuild_tensor_v2") + row(HELD, number(0)) + b"R"
    ),
    "storage of 2^60 elements": lambda mark: with_tensor(tensor(storage("0", 2**60))),
    "storage of -8 elements": lambda mark: with_tensor(tensor(storage("0", -8))),
    "storage described twice": lambda mark: with_state(
        state(a=tensor(HELD), b=tensor(storage("0", 8, "LongStorage")))
    ),
    "storage that is not there": lambda mark: with_tensor(tensor(storage("9", 8))),
    "persistent id that is no tuple": lambda mark: with_tensor(number(5) + b"Q"),
    "persistent id of a module": lambda mark: with_tensor(
        row(text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), number(8)) + b"Q"
    ),
    "storage listed twice": lambda mark: torch_file(state(a=tensor(HELD)), {"0": VALUES}, keys=["0", "0"]),
    "keys of another kind": lambda mark: whole().replace(b"](X", b"](N" + b"X", 1),
    "storage list that takes for ever to sort": lambda mark: (
        whole()[: whole().index(b"](X")] + b"](" + _bomb(100) + _bomb(100) + b"e." + bytes(200)
    ),
    "count that takes for ever to print": lambda mark: with_tensor(
        row(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), _bomb(100)) + b"Q"
    ),
    "wrong magic number": lambda mark: torch_file(state(a=tensor(HELD)), {"0": VALUES}, magic=1),
    "another version": lambda mark: torch_file(state(a=tensor(HELD)), {"0": VALUES}, version=1002),
    "big-endian": lambda mark: torch_file(state(a=tensor(HELD)), {"0": VALUES}, little_endian=b"\x89"),
    "fewer elements than announced": lambda mark: torch_file(state(a=tensor(HELD)), {"0": VALUES[:7]}),
    "doubled": lambda mark: whole() * 2,
    "one byte more": lambda mark: whole() + b"\0",
    "empty": lambda mark: b"",
    "a zip archive": lambda mark: b"PK\x03\x04" + bytes(100),
    "a real pickle of protocol 5": lambda mark: b"\x80\x05\x95\x05\0\0\0\0\0\0\0]\x94.",
}
"""Hostile files by name; each is made with the path of a file that must not come to be."""
