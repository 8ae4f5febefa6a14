"""The codec on hostile bytes: refused with our own error and no other, in little time and memory."""

from __future__ import annotations

import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from codec_invariants import CODECS, joined, survives
from flatbuffers_witness import ERROR, IO_METADATA, TENSOR, Vector, build

from graphpipe_fn.codec import (
    DEFAULT_LIMITS,
    Limits,
    decode_request,
    decode_tensor,
    encode_request,
    encode_response,
    encode_tensor,
)
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
    strings,
)

GOLDEN = Path(__file__).parent / "golden"
CORRUPT = sorted((GOLDEN / "corrupt").iterdir())

SECONDS_PER_MB = 0.05
# What any refusal takes, however small the message: the exception, its text and its traceback.
REFUSAL_BYTES = 8_192
# With limits so wide, only the budget is left to refuse a message.
WIDE = Limits(**dict.fromkeys(("tensors", "strings", "names", "errors", "text_bytes"), 10**9))


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of this thread in the best of three runs; others run on the same cores."""
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        work()
        best = min(best, time.thread_time() - begin)
    return best


def peak_bytes(work: Callable[[], Any]) -> int:
    """Return the bytes allocated at the highest point."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def cost(work: Callable[[], Any]) -> tuple[float, int]:
    """Return the CPU seconds of this thread, and the bytes at the highest point, that a refusal takes."""

    def refused() -> None:
        with pytest.raises((MalformedMessage, TooLarge)):
            work()

    return cpu_seconds(refused), peak_bytes(refused)


@pytest.mark.parametrize("file", CORRUPT, ids=lambda file: file.stem)
@pytest.mark.parametrize("kind", CODECS)
def test_corrupt_messages_are_refused(file: Path, kind: str) -> None:
    """Every captured corruption is refused as a request, and costs nothing to speak of as anything else."""
    body = file.read_bytes()
    if kind == "infer_request":
        seconds, peak = cost(lambda: CODECS[kind][1](body))
        assert seconds < 0.05
        assert peak <= 2 * len(body) + REFUSAL_BYTES
    else:
        survives(kind, body)


@pytest.mark.parametrize(
    "body",
    [
        bytes(256),
        b"\xff" * 256,
        b"{}",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        bytes(7),
        bytes(8),
    ],
    ids=["zeros", "ones", "JSON", "HTTP", "PNG", "7 zeros", "8 zeros"],
)
@pytest.mark.parametrize("kind", CODECS)
def test_what_is_no_message_is_refused(kind: str, body: bytes) -> None:
    """Zeros, which the original decoders take for a request for metadata, and other files are refused."""
    assert survives(kind, body) is False


def patched(body: bytes, old: bytes, new: bytes, *, behind: int = 0) -> bytes:
    """Return a body with the first occurrence of some bytes replaced by as many others."""
    at = body.index(old, behind)
    assert len(old) == len(new)
    return body[:at] + new + body[at + len(old) :]


STRING = joined(encode_tensor(strings(["", "ab"])))
NUMBERS = joined(encode_tensor(np.arange(2, dtype="u1")))
EMPTY = joined(encode_tensor(np.empty(0, "u1")))
METADATA_REQUEST = joined(encode_request(MetadataRequest()))
FAILURE = joined(encode_response(InferResponse(errors=(Error(1, "no"),))))
VTABLE = struct.pack("<5H", 10, 16, 12, 4, 8)  # a numeric Tensor's: its size, the table's, type, shape, data

STRICT: dict[str, tuple[str, bytes]] = {
    "a string's offset is 0": ("tensor", patched(STRING, struct.pack("<3I", 2, 8, 12), struct.pack("<3I", 2, 0, 12))),
    "a vector's offset is 0": ("tensor", patched(EMPTY, struct.pack("<I", 16), bytes(4), behind=28)),
    "a table at 2 modulo 4": ("tensor", struct.pack("<I", NUMBERS[0] + 2) + bytes(2) + NUMBERS[4:]),
    "a vtable of 11 bytes": ("tensor", patched(NUMBERS, VTABLE[:2], struct.pack("<H", 11))),
    "a vtable of 2 bytes": ("tensor", patched(NUMBERS, VTABLE[:2], struct.pack("<H", 2))),
    "a table of 0 bytes": (
        "metadata_request",
        patched(METADATA_REQUEST, struct.pack("<2H", 4, 4), struct.pack("<2H", 4, 0), behind=12),
    ),
    "a table without room for a field": ("tensor", patched(NUMBERS, VTABLE[:4], struct.pack("<2H", 10, 12))),
    "a field that begins inside the offset to the vtable": (
        "infer_response",
        patched(FAILURE, struct.pack("<4H", 8, 16, 4, 12), struct.pack("<4H", 8, 16, 1, 12)),
    ),
}


@pytest.mark.parametrize(("kind", "body"), STRICT.values(), ids=STRICT)
def test_what_no_builder_writes_is_refused(kind: str, body: bytes) -> None:
    """Structure that only a corruption can have is refused, even where something could be read from it."""
    assert survives("tensor", STRING)
    assert survives("tensor", NUMBERS)
    assert survives("tensor", EMPTY)
    assert survives("metadata_request", METADATA_REQUEST)
    assert survives("infer_response", FAILURE)
    assert not survives(kind, body)


def test_a_request_without_its_value_is_refused_as_such() -> None:
    """A union that has a type and no value says so."""
    with pytest.raises(MalformedMessage, match="the infer request itself is missing"):
        decode_request((GOLDEN / "corrupt" / "12_union_value_absent.bin").read_bytes())


class Shared:
    """Writes one message in which one value is reached again and again."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def value(self, value: Any, kind: Any) -> int:
        return build(self.builder, value, kind)

    def vector(self, offsets: Iterator[int] | list[int]) -> int:
        offsets = list(offsets)
        self.builder.StartVector(4, len(offsets), 4)
        for offset in offsets:
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def table(self, count: int, fields: dict[int, int], kind: int = 0) -> int:
        """Write a table of offsets; with a kind, the union's type or a Tensor's in slot 0."""
        self.builder.StartObject(count)
        for slot, offset in fields.items():
            self.builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        if kind:
            self.builder.PrependUint8Slot(0, kind, 0)
        return int(self.builder.EndObject())

    def finished(self, root: int) -> bytes:
        self.builder.Finish(root)
        return bytes(self.builder.Output())

    def request(self, fields: dict[int, int]) -> bytes:
        return self.finished(self.table(2, {1: self.table(4, fields)}, 1))


def one_string(count: int, size: int) -> bytes:
    """A String tensor whose elements are all one string."""
    shared = Shared()
    text = shared.value(b"x" * size, "text")
    values, shape = shared.vector([text] * count), shared.value([count], Vector("i64"))
    return shared.finished(shared.table(4, {1: shape, 3: values}, 12))


def one_tensor(count: int, size: int) -> bytes:
    """A request whose inputs are all one tensor."""
    shared = Shared()
    tensor = shared.value([1, [size], bytes(size), None], TENSOR)
    return shared.request({2: shared.vector([tensor] * count)})


def one_data(count: int, size: int) -> bytes:
    """A request whose inputs all have the same bytes and the same shape, each with a table of its own."""
    shared = Shared()
    data, shape = shared.value(bytes(size), Vector("u8")), shared.value([size], Vector("i64"))
    return shared.request({2: shared.vector([shared.table(4, {1: shape, 2: data}, 1) for _ in range(count)])})


def one_name(count: int, size: int) -> bytes:
    """A request whose names are all one text."""
    shared = Shared()
    name = shared.value(b"n" * size, "text")
    return shared.request({1: shared.vector([name] * count)})


def one_error(count: int, size: int) -> bytes:
    """A response whose errors are all one error."""
    shared = Shared()
    error = shared.value([40001, b"e" * size], ERROR)
    return shared.finished(shared.table(2, {1: shared.vector([error] * count)}))


def one_description(count: int, size: int) -> bytes:
    """Metadata whose inputs are all one input."""
    shared = Shared()
    io = shared.value([b"x", b"d" * size, [-1], 10], IO_METADATA)
    return shared.finished(shared.table(6, {4: shared.vector([io] * count)}))


def overlapping_strings(count: int, size: int) -> bytes:
    """A String tensor whose strings begin inside one another: every word of the first is a length."""
    body = bytearray(joined(encode_tensor(strings([struct.pack("<I", size) * (size // 2), *[b""] * count]))))
    slots = body.index(struct.pack("<I", count + 1), 40) + 4
    content = body.index(struct.pack("<II", size, size))
    for place in range(1, count + 1):
        slot = slots + 4 * place
        struct.pack_into("<I", body, slot, content + 4 * (place % (size // 8)) - slot)
    return bytes(body)


def overlapping_tables(count: int) -> bytes:
    """A request whose inputs' tables begin inside one another, each 60,000 bytes long."""
    shared = Shared()
    tensor = shared.value([1, [1], b"x", None], TENSOR)
    body = bytearray(shared.request({2: shared.vector([tensor] * count)}) + bytes(60_000))
    vtable = body.index(struct.pack("<HH", 10, 16))
    struct.pack_into("<H", body, vtable + 2, 60_000)
    return bytes(body)


AMPLIFIED: dict[str, tuple[str, bytes]] = {
    "one string of 64 KiB, 2,000 times": ("tensor", one_string(2_000, 65_536)),
    "one empty string, 60,000 times": ("tensor", one_string(60_000, 0)),
    "one short string, 60,000 times": ("tensor", one_string(60_000, 2)),
    "one short string, 100,000 times": ("tensor", one_string(100_000, 2)),
    "one tensor, 100,000 times": ("infer_request", one_tensor(100_000, 48)),
    "one tensor, 1,000 times": ("infer_request", one_tensor(1_000, 48)),
    "one large tensor, twice": ("infer_request", one_tensor(2, 100_000)),
    "one tensor's data, 1,000 times": ("infer_request", one_data(1_000, 65_536)),
    "one name of 64 KiB, 1,000 times": ("infer_request", one_name(1_000, 65_536)),
    "one name, 100,000 times": ("infer_request", one_name(100_000, 1)),
    "one error, 100,000 times": ("infer_response", one_error(100_000, 1)),
    "one error of 64 KiB, 1,000 times": ("infer_response", one_error(1_000, 65_536)),
    "one input's metadata, 100,000 times": ("metadata_response", one_description(100_000, 1)),
    "one description of 64 KiB, 1,000 times": ("metadata_response", one_description(1_000, 65_536)),
    "overlapping strings": ("tensor", overlapping_strings(2_000, 32_768)),
    "overlapping tables": ("infer_request", overlapping_tables(1_000)),
}


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, WIDE], ids=["default limits", "wide limits"])
@pytest.mark.parametrize(("kind", "body"), AMPLIFIED.values(), ids=AMPLIFIED)
def test_nothing_is_amplified(kind: str, body: bytes, limits: Limits) -> None:
    """However often offsets lead to the same bytes, a message costs O(its size) time and twice its size in memory."""
    decode: Any = CODECS[kind][1]
    seconds, peak = cost(lambda: decode(body, limits))
    assert seconds < SECONDS_PER_MB * max(1, len(body) / 1e6)
    assert peak <= 2 * len(body) + REFUSAL_BYTES


@pytest.mark.parametrize("count", [2, 40])
def test_a_little_sharing_is_allowed(count: int) -> None:
    """Builders that store equal strings once, as C++'s CreateSharedString does, are read."""
    assert survives("tensor", one_string(count, 60))
    assert survives("infer_request", one_name(count, 10))
    with pytest.raises(MalformedMessage, match="again and again"):
        decode_tensor(one_string(count, 60), Limits(shared_bytes=0))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("infer_request", InferRequest((strings([bytes([0, place % 251]) for place in range(65_536)]),))),
        ("infer_request", InferRequest((strings([b"\xff\xd8" * 200_000] * 3),))),
        ("infer_request", InferRequest(config="a" * 262_140 + "😀")),
        ("infer_request", InferRequest(tuple(np.zeros(0, "u1") for _ in range(1_024)))),
        ("infer_response", InferResponse(errors=tuple(Error(1, "no") for _ in range(1_024)))),
        ("metadata_response", Metadata(inputs=tuple(IOMetadata("x", shape=(1,) * 32) for _ in range(1_024)))),
    ],
    ids=["short strings", "pictures", "wide text", "empty tensors", "errors", "metadata"],
)
def test_an_honest_message_costs_what_its_limits_say(kind: str, message: Any) -> None:
    """At the limits, decoding takes the message's size at most, 80 bytes a string, and 1.5 MiB for all the rest."""
    body = joined(CODECS[kind][0](message))
    decode: Any = CODECS[kind][1]
    # A quiet machine takes half of what is allowed per MB. What is looked for is not a factor but a power.
    assert cpu_seconds(lambda: decode(body)) < 4 * SECONDS_PER_MB * max(1, len(body) / 1e6)
    inputs = message.inputs if kind == "infer_request" else ()
    count = sum(len(tensor) for tensor in inputs if isinstance(tensor, StringTensor))
    assert peak_bytes(lambda: decode(body)) <= len(body) + 80 * count + 1.5 * 2**20


def base_messages() -> list[tuple[str, bytes]]:
    """Return honest messages to spoil: every small capture, and our own layout."""
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    bases = [(e["kind"], (GOLDEN / e["file"]).read_bytes()) for e in manifest if e["kind"] in CODECS]
    x = np.arange(6, dtype="f4").reshape(2, 3)
    words = strings(["a", b"\0", "日本語", b""], (2, 2))
    own: list[tuple[str, Any]] = [
        ("infer_request", InferRequest((x, words, x.astype("i8")), ("x", "", "é"), ("y",), "{}")),
        ("infer_request", InferRequest((np.zeros((0, 3)),))),
        ("metadata_request", MetadataRequest()),
        ("infer_response", InferResponse((x, words), (Error(42200, "no"), Error(-1, "")))),
        ("metadata_response", Metadata("m", "1", "s", "d", (IOMetadata("x", "", (-1, 3), DType.UINT8),) * 2)),
        ("tensor", words),
    ]
    return [base for base in bases if len(base[1]) < 2_000] + [
        (kind, joined(CODECS[kind][0](message))) for kind, message in own
    ]


def mutated(rng: random.Random, body: bytes, other: bytes) -> bytes:
    """Return a body with one to four things done to it."""
    spoilt = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(spoilt)
        if size < 8:
            break
        at = rng.randrange(size)
        match rng.randrange(8):
            case 0 | 1:
                spoilt[at] ^= 1 << rng.randrange(8)
            case 2:
                word = rng.choice((0, 1, 4, 8, size, size - 4, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 1 - at))
                struct.pack_into("<I", spoilt, (at & ~3) if at + 4 <= size else size - 4, word)
            case 3:
                struct.pack_into(
                    "<H", spoilt, min(at & ~1, size - 2), rng.choice((0, 2, 3, 4, 6, 12, size & 0xFFFF, 0xFFFF))
                )
            case 4:
                del spoilt[at:]
            case 5:
                del spoilt[at : at + rng.choice((1, 4, 8))]
            case 6:
                begin = rng.randrange(len(other))
                piece = other[begin : begin + rng.choice((1, 4, 16, 64))]
                spoilt[at : at + rng.choice((0, len(piece)))] = piece
            case 7:
                # An offset of another place: what shares and overlaps is made of these.
                source = rng.randrange(0, size - 3, 4)
                spoilt[at & ~3 : (at & ~3) + 4] = spoilt[source : source + 4]
    return bytes(spoilt)


def spoil(count: int, seed: int) -> tuple[int, float]:
    """Return how many of so many mutants were accepted, and the CPU seconds of the slowest."""
    rng = random.Random(seed)
    bases = base_messages()
    accepted, slowest = 0, 0.0
    for number in range(count):
        kind, body = rng.choice(bases)
        case = mutated(rng, body, rng.choice(bases)[1])
        begin = time.thread_time()
        try:
            accepted += survives(kind, case)
        except BaseException as exc:
            exc.add_note(f"seed {seed}, mutant {number}, {kind}: {case.hex()}")
            raise
        slowest = max(slowest, time.thread_time() - begin)
    print(f"seed {seed}: {count} mutants, {accepted} accepted, the slowest in {slowest * 1e3:.2f} ms")
    return accepted, slowest


def test_spoilt_messages_are_refused_or_mean_something() -> None:
    """Of 5,000 mutants each is refused with our own error, or comes back the same when written again."""
    accepted, slowest = spoil(5_000, 20_261_121)
    assert 500 < accepted < 4_500  # else the mutants test only one of the two
    assert slowest < SECONDS_PER_MB


@pytest.mark.slow
def test_a_hundred_thousand_spoilt_messages() -> None:
    """The same holds of 100,000 mutants, of a seed that is new each time and printed."""
    _, slowest = spoil(100_000, random.SystemRandom().randrange(2**32))
    assert slowest < SECONDS_PER_MB


def test_every_truncation_is_refused() -> None:
    """A message that lost its end is refused at any length, unless what was lost is padding."""
    body = joined(encode_request(InferRequest((np.arange(4, dtype="f4"), strings(["abc"])), ("a", "b"), (), "c")))
    accepted = [size for size in range(len(body)) if survives("infer_request", body[:size])]
    assert accepted == [len(body) - 1]  # the last string's NUL, which some clients never write


def test_every_flipped_bit_is_refused_or_means_something() -> None:
    """Every single-bit error in a message of each kind of value is survived."""
    body = joined(encode_request(InferRequest((np.arange(2, dtype="f4"), strings(["ab"])), ("a", ""), ("c",), "d")))
    for bit in range(8 * len(body)):
        spoilt = bytearray(body)
        spoilt[bit >> 3] ^= 1 << (bit & 7)
        survives("infer_request", bytes(spoilt))
