"""The codec on honest messages: our own, strangers' captures, and those of a second implementation."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from codec_invariants import CODECS, joined, same, survives
from flatbuffers import number_types
from flatbuffers.table import Table
from flatbuffers_witness import INFER_RESPONSE, METADATA, REQUESTS, TENSOR, Vector, build, built, verified
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphpipe_fn.codec import (
    DEFAULT_LIMITS,
    Limits,
    decode_metadata,
    decode_request,
    decode_response,
    decode_tensor,
    encode_metadata,
    encode_request,
    encode_response,
    encode_tensor,
)
from graphpipe_fn.errors import BadTensor, MalformedMessage, TooLarge
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
    strings,
)

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
CAPTURES = [entry for entry in MANIFEST if entry["kind"] in CODECS]

EDGES = np.array([0, 1, 2, 127, 128, 255, 65_535, 2**31 - 1, 2**31, 2**63 - 1], "u8")
FLOATS = np.array([0.0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan, 6e-8, 65_504.0, 1e-3])

NUMERIC: dict[str, np.ndarray[Any, Any]] = {
    **{name: EDGES.astype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")},
    **{name: FLOATS.astype(name) for name in ("f2", "f4", "f8")},
    "0-d": np.array(2.5, "f4"),
    "0-d u1": np.array(7, "u1"),
    "empty": np.empty(0, "f4"),
    "empty rows": np.empty((0, 3), "i8"),
    "empty and huge": np.empty((0, 2**59), "f8"),
    "odd bytes": np.arange(35, dtype="u1").reshape(5, 7),
    "32-d": np.arange(4, dtype="i2").reshape((1,) * 30 + (2, 2)),
    "read-only": np.frombuffer(b"12345678", "f4"),
    "image": np.arange(3 * 8 * 8, dtype="f4").reshape(1, 3, 8, 8),
}
STRINGS: dict[str, StringTensor] = {
    "strings": strings(["", "a", "né", "日本語"]),
    "NULs": strings([b"\0", b"a\0b\0", b"\0\0\0\0"]),
    "not UTF-8": strings([b"\xff\xfe", bytes(range(256))]),
    "every length": strings([b"x" * size for size in range(9)], (3, 3)),
    "0-d string": strings(["only"], ()),
    "no strings": strings([], (0,)),
    "no strings but columns": strings([], (0, 4)),
    "large strings": strings([b"p" * 4_096, b"q" * 4_097, b"", b"r" * 100_001]),
}
# What is sent in another form than it came.
CHANGED: dict[str, tuple[Any, np.ndarray[Any, Any]]] = {
    "transposed": (np.arange(12, dtype="f4").reshape(3, 4).T, np.arange(12, dtype="f4").reshape(3, 4).T.copy()),
    "every second": (np.arange(10, dtype="i8")[::2], np.array([0, 2, 4, 6, 8], "i8")),
    "backwards": (np.arange(3, dtype="u2")[::-1], np.array([2, 1, 0], "u2")),
    "broadcast": (np.broadcast_to(np.float32(3), (2, 2)), np.full((2, 2), 3, "f4")),
    "big-endian": (np.array([1, 2, 258], ">i4"), np.array([1, 2, 258], "<i4")),
    "big-endian columns": (np.arange(6, dtype=">f8").reshape(2, 3).T, np.arange(6, dtype="<f8").reshape(2, 3).T),
    "bool": (np.array([True, False]), np.array([1, 0], "u1")),
}
TENSORS: dict[str, Tensor] = {**NUMERIC, **STRINGS}


def each(cases: dict[str, Any]) -> list[Any]:
    """Return a table's values as parameters with their names."""
    return [
        pytest.param(*value, id=name) if type(value) is tuple else pytest.param(value, id=name)
        for name, value in cases.items()
    ]


def witness(tensor: Tensor) -> list[Any]:
    """Return a tensor as the second implementation has it: one value for each slot."""
    if isinstance(tensor, StringTensor):
        return [12, list(tensor.shape), None, list(tensor.values)]
    return [DType[tensor.dtype.name.upper()], list(tensor.shape), tensor.tobytes(), None]


@pytest.mark.parametrize("tensor", each(TENSORS))
def test_tensors_come_back_as_they_were(tensor: Tensor) -> None:
    """A tensor in a request, a response or a file of its own is read back with dtype, shape and bytes."""
    request, response = InferRequest((tensor, tensor)), InferResponse((tensor,))
    assert same(request, decode_request(joined(encode_request(request))))
    assert same(response, decode_response(joined(encode_response(response))))
    assert same(tensor, decode_tensor(joined(encode_tensor(tensor))))


@pytest.mark.parametrize(("given_", "sent"), each(CHANGED))
def test_what_can_not_be_sent_as_it_lies_is_converted(given_: Any, sent: Any) -> None:
    """Arrays that are not contiguous, little-endian or numeric arrive with the same values in C order."""
    assert same(np.ascontiguousarray(sent), decode_tensor(joined(encode_tensor(given_))))


@pytest.mark.parametrize("tensor", each(TENSORS))
def test_a_second_implementation_accepts_what_is_written(tensor: Tensor) -> None:
    """The Verifier's rules hold for what is written, and the flatbuffers package reads the same values in it."""
    request = InferRequest((tensor, tensor), ("a", "b" * 5), ("é",), "config")
    expected = [1, [b"config", [b"a", b"bbbbb"], [witness(tensor)] * 2, ["é".encode()]]]
    assert expected == verified(joined(encode_request(request)))
    for _ in range(2):  # a message of one tensor begins with bytes kept from the last one of its shape
        assert verified(joined(encode_request(InferRequest((tensor,))))) == [1, [b"", [], [witness(tensor)], []]]
        assert verified(joined(encode_response(InferResponse((tensor,)))), INFER_RESPONSE) == [
            [witness(tensor)],
            None,
        ]
    response = InferResponse((tensor,), (Error(40001, "no"), Error(-1, "")))
    expected = [[witness(tensor)], [[40001, b"no"], [-1, b""]]]
    assert expected == verified(joined(encode_response(response)), INFER_RESPONSE)
    assert witness(tensor) == verified(joined(encode_tensor(tensor)), TENSOR)


@pytest.mark.parametrize("tensor", each(TENSORS))
def test_what_a_second_implementation_writes_is_read(tensor: Tensor) -> None:
    """Messages of flatbuffers.Builder, back to front and with vtables shared between tables, are read."""
    body = built([1, [b"config", [b"a", b"\xff"], [witness(tensor)] * 3, []]], REQUESTS[1])
    assert same(InferRequest((tensor,) * 3, ("a", "\udcff"), (), "config"), decode_request(body))
    body = built([[witness(tensor)] * 2, [[7, b"x"], [None, None]]], INFER_RESPONSE)
    assert same(InferResponse((tensor,) * 2, (Error(7, "x"), Error(0, ""))), decode_response(body))
    assert same(tensor, decode_tensor(built(witness(tensor), TENSOR)))


def test_vtables_behind_their_tables_are_read() -> None:
    """Builders that share vtables leave them behind some of the tables that use them."""
    body = built([[witness(np.arange(3, dtype="u1"))] * 2, []], INFER_RESPONSE)
    offset = number_types.UOffsetTFlags
    root = Table(body, Table(body, 0).Get(offset, 0))
    vector = root.Vector(root.Offset(4))
    tables = [place + root.Get(offset, place) for place in (vector, vector + 4)]
    backwards = [Table(body, table).Get(number_types.SOffsetTFlags, table) < 0 for table in tables]
    assert sorted(backwards, reverse=True) == [True, False]
    assert same((np.arange(3, dtype="u1"),) * 2, decode_response(body).outputs)


METADATA_CASES = {
    "empty": Metadata(),
    "full": Metadata(
        "vgg16",
        "1.0",
        "graphpipe-fn",
        "ImageNet",
        (IOMetadata("x", "pictures", (-1, 3, 224, 224), DType.FLOAT32), IOMetadata("names", dtype=DType.STRING)),
        (IOMetadata("y", "", (-1, 1000), DType.FLOAT32),),
    ),
    "32-d": Metadata(inputs=(IOMetadata("x", shape=(-1,) * 32),)),
}


@pytest.mark.parametrize("metadata", each(METADATA_CASES))
def test_metadata_comes_back_as_it_was(metadata: Metadata) -> None:
    """Metadata is read back by us, and by a second implementation."""
    body = joined(encode_metadata(metadata))
    assert metadata == decode_metadata(body)
    ios = [
        [[io.name.encode(), io.description.encode(), list(io.shape), int(io.dtype)] for io in ios]
        for ios in (metadata.inputs, metadata.outputs)
    ]
    texts = [text.encode() for text in (metadata.name, metadata.version, metadata.server, metadata.description)]
    assert [*texts, *ios] == verified(body, METADATA)
    assert metadata == decode_metadata(built([*texts, *ios], METADATA))


def test_a_metadata_request_comes_back_as_it_was() -> None:
    """A MetadataRequest is read, with its empty table or without."""
    body = joined(encode_request(MetadataRequest()))
    assert verified(body) == [2, []]
    assert MetadataRequest() == decode_request(body)
    assert MetadataRequest() == decode_request(built([2, None], REQUESTS[2]))


def test_absent_fields_are_empty() -> None:
    """Fields that a client leaves out are empty, and a tensor without a shape has rank 0."""
    assert InferRequest() == decode_request(built([1, [None] * 4], REQUESTS[1]))
    assert InferResponse() == decode_response(built([None, None], INFER_RESPONSE))
    assert Metadata() == decode_metadata(built([None] * 6, METADATA))
    assert Metadata(outputs=(IOMetadata(""),)) == decode_metadata(built([None] * 5 + [[[None] * 4]], METADATA))
    assert same(np.array(1, "u1"), decode_tensor(built([1, None, b"\1", None], TENSOR)))
    assert same(np.empty(0, "u1"), decode_tensor(built([1, [0], None, None], TENSOR)))
    assert strings([b"x"], ()) == decode_tensor(built([12, None, None, [b"x"]], TENSOR))


@pytest.mark.parametrize(
    ("slots", "expected"), [([10, [], b"", None], np.empty(0, "f4")), ([12, [], None, []], strings([]))]
)
def test_a_scalar_without_its_value_is_an_empty_tensor(slots: list[Any], expected: Tensor) -> None:
    """The Go client loses a scalar's value; no value is made up in its place."""
    assert same(expected, decode_tensor(built(slots, TENSOR)))


def test_negative_dimensions_in_metadata_mean_any() -> None:
    """Servers differ in how they write an unknown dimension."""
    body = built([None] * 4 + [[[b"x", None, [-1, -2, -(2**63), 4], 10]], None], METADATA)
    assert decode_metadata(body).inputs[0].shape == (-1, -1, -1, 4)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["file"]) for entry in CAPTURES])
def test_captures_hold_what_their_manifest_says(entry: dict[str, Any]) -> None:
    """What the original clients and servers put on the wire is read value by value, and survives re-encoding."""
    body = (GOLDEN / entry["file"]).read_bytes()
    message = CODECS[entry["kind"]][1](body)
    if entry["kind"] == "metadata_request":
        assert MetadataRequest() == message
    elif entry["kind"] == "metadata_response":
        assert entry["metadata"] == as_manifest(message, entry["metadata"])
    else:
        tensors = {"infer_request": "inputs", "infer_response": "outputs"}
        found = [message] if entry["kind"] == "tensor" else getattr(message, tensors[entry["kind"]])
        assert (entry["tensors"] or []) == [
            described(tensor, expected) for tensor, expected in zip(found, entry["tensors"] or [], strict=True)
        ]
    if entry["kind"] == "infer_request":
        assert bytes.fromhex(entry["config_hex"] or "") == message.config.encode("utf-8", "surrogateescape")
        assert (entry["input_names"] or [], entry["output_names"] or []) == (
            list(message.input_names),
            list(message.output_names),
        )
    if entry["kind"] == "infer_response":
        assert (entry["errors"] or []) == [{"code": e.code, "message": e.message} for e in message.errors]
    assert survives(entry["kind"], body)


def described(tensor: Tensor, expected: dict[str, Any]) -> dict[str, Any]:
    """Return a tensor as the manifest describes it."""
    description: dict[str, Any] = {"type_id": witness(tensor)[0], "shape": list(tensor.shape)}
    if isinstance(tensor, StringTensor):
        return {**description, "strings_sha256": [hashlib.sha256(value).hexdigest() for value in tensor]}
    description["data_sha256"] = hashlib.sha256(tensor.tobytes()).hexdigest()
    if "values_head" in expected:
        description["values_head"] = [str(value) for value in tensor.ravel()[:8].tolist()]
    return description


def as_manifest(metadata: Metadata, expected: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as the manifest has it, which tells an absent text (None) from an empty one."""

    def text(value: str, as_given: str | None) -> str | None:
        return None if as_given is None and value == "" else value

    described = {
        key: text(getattr(metadata, key), expected[key]) for key in ("name", "version", "server", "description")
    }
    for side in ("inputs", "outputs"):
        described[side] = [
            {
                "name": io.name,
                "description": text(io.description, given_["description"]),
                "shape": list(io.shape),
                "type": int(io.dtype),
            }
            for io, given_ in zip(getattr(metadata, side), expected[side], strict=True)
        ]
    return described


def spoilt_errors(tensors: list[Tensor]) -> bytes:
    """Return a response as the original Python server writes it with flatbuffers 2.0.7 or newer."""
    builder = flatbuffers.Builder(64)
    outputs = build(builder, [witness(tensor) for tensor in tensors], Vector(TENSOR))
    builder.StartVector(4, len(tensors), 4)  # as many errors as tensors are announced, and none is written
    errors = builder.EndVector()
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, outputs, 0)
    builder.PrependUOffsetTRelativeSlot(1, errors, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@pytest.mark.parametrize("count", range(1, 17))
def test_spoilt_errors_beside_good_outputs_are_dropped(count: int) -> None:
    """A server's unreadable errors do not cost its outputs."""
    tensors = [np.arange(place + 1, dtype="f4") for place in range(count)]
    assert same(InferResponse(tuple(tensors)), decode_response(spoilt_errors(list(tensors))))


def test_spoilt_errors_without_outputs_are_refused() -> None:
    """With nothing else in the answer, unreadable errors are an unreadable answer."""
    body = built([[], [[7, b"some words"]]], INFER_RESPONSE)
    with pytest.raises(MalformedMessage):
        decode_response(body.replace(b"\x0a\0\0\0some words", b"\xff\0\0\0some words"))


@pytest.mark.parametrize("kind", [0, 3, 255])
def test_unknown_request_types_are_refused(kind: int) -> None:
    """The original servers answer any unknown request with metadata; here it is refused by its number."""
    with pytest.raises(MalformedMessage, match=f"request type {kind} "):
        decode_request(built([kind, [None] * 4], REQUESTS[1]))


def test_any_bytes_survive_as_text() -> None:
    """Config and names that are no UTF-8 come back byte by byte."""
    text = bytes(range(256)).decode("utf-8", "surrogateescape")
    request = InferRequest((), (text,), (text, ""), text)
    body = joined(encode_request(request))
    assert request == decode_request(body)
    assert bytes(range(256)) == verified(body)[1][0]


def test_text_that_no_bytes_can_hold_is_refused() -> None:
    """A lone surrogate that is no escaped byte can't be written."""
    with pytest.raises(MalformedMessage, match="surrogate"):
        encode_request(InferRequest(config="\ud800"))


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda body: memoryview(bytearray(body)).cast("I")])
def test_decoded_arrays_are_read_only_views(wrap: Callable[[bytes], Any]) -> None:
    """No numeric tensor is copied, whatever kind of buffer the body is, and none can change it."""
    body = wrap(joined(encode_request(InferRequest((np.arange(16, dtype="f4"),)))))
    tensor = decode_request(body).inputs[0]
    assert np.shares_memory(tensor, np.frombuffer(body, "u1"))
    assert not tensor.flags.writeable


def test_strided_and_empty_bodies_are_read() -> None:
    """A buffer that is not contiguous is copied, and an empty one is refused as one."""
    body = joined(encode_request(InferRequest((np.arange(3, dtype="f4"),))))
    spread = memoryview(bytes(byte for pair in zip(body, body, strict=True) for byte in pair))[::2]
    assert same(decode_request(body), decode_request(spread))
    for empty in (b"", bytearray(), memoryview(b"")):
        with pytest.raises(MalformedMessage, match="0 bytes"):
            decode_request(empty)


@pytest.mark.parametrize("shift", range(8))
def test_any_alignment_is_read(shift: int) -> None:
    """Where a body begins in memory, and so where its numbers lie, does not matter."""
    for tensor in (np.arange(5, dtype="f8"), strings(["a", b"\0"])):
        body = joined(encode_tensor(tensor))
        assert same(tensor, decode_tensor(memoryview(b"x" * shift + body)[shift:]))


def test_a_tensors_memory_is_handed_out() -> None:
    """A contiguous tensor goes to the socket as it lies, at a multiple of 64 from the message's start."""
    tensors = (np.arange(1000, dtype="f4").reshape(10, 100), np.arange(7, dtype="u1"), np.arange(3, dtype="f8"))
    for pieces in (encode_request(InferRequest(tensors, config="x" * 77)), encode_response(InferResponse(tensors))):
        position, found = 0, []
        for piece in pieces:
            if isinstance(piece, memoryview):
                assert position % 64 == 0
                found.append(piece)
            position += len(piece)
        assert len(found) == 3
        for piece, tensor in zip(found, tensors, strict=True):
            assert np.shares_memory(np.frombuffer(piece, "u1"), tensor)


def test_large_strings_are_handed_out_and_small_ones_are_joined() -> None:
    """Ten thousand short strings make one piece; a picture's bytes are a piece of their own."""
    assert len(encode_tensor(strings([b"abc"] * 10_000))) == 1
    picture = b"\xff\xd8" * 50_000
    assert any(piece is picture for piece in encode_tensor(strings([picture, b"abc"])))


def test_long_text_stays_in_the_header() -> None:
    """Names and config of any length go with the header, whose offsets are patched to the end."""
    long = "n" * 10_000
    request = InferRequest((np.arange(2, dtype="f4"),), (long,), (long,), long)
    assert same(request, decode_request(joined(encode_request(request))))
    assert [1, [long.encode(), [long.encode()], [witness(request.inputs[0])], [long.encode()]]] == verified(
        joined(encode_request(request))
    )


def test_a_success_has_no_errors_field() -> None:
    """The original clients take any errors vector for a failure's, so there is none unless there are errors."""
    assert verified(joined(encode_response(InferResponse())), INFER_RESPONSE) == [[], None]


def test_requests_always_have_config_and_names() -> None:
    """The original servers read these three without asking whether they are there."""
    assert verified(joined(encode_request(InferRequest()))) == [1, [b"", [], [], []]]


@pytest.mark.parametrize(
    "encode",
    [
        lambda: encode_tensor(strings(["a"], (1,) * 33)),
        lambda: encode_response(InferResponse((np.zeros(2, "c8"),))),
        lambda: encode_request(InferRequest((np.array(["2020-01-01"], "M8[D]"),))),
    ],
    ids=["33-d strings", "complex", "dates"],
)
def test_what_no_message_can_hold_is_refused(encode: Callable[[], Any]) -> None:
    """Tensors outside the schema are refused when they are written."""
    with pytest.raises(BadTensor):
        encode()


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(lambda: (np.empty(2**31, "u1"),), id="one tensor"),
        pytest.param(lambda: (np.empty(2**30, "u1"), np.empty(2**30, "u1"), np.empty(1, "u1")), id="many tensors"),
        pytest.param(lambda: (StringTensor((bytes(2**20),) * 2**11, (2**11,)),), id="strings"),
    ],
)
def test_messages_over_2_gib_are_refused(inputs: Callable[[], tuple[Tensor, ...]]) -> None:
    """What FlatBuffers' offsets can't span is refused before it is sent, and without touching it."""
    with pytest.raises(TooLarge, match="2 GiB"):
        encode_request(InferRequest(inputs()))


LIMITED: dict[str, tuple[str, bytes, dict[str, int]]] = {}


def limited(name: str, kind: str, message: Any, **limits: int) -> None:
    """Add a case that is just over a limit, and fits when the limit is one more."""
    LIMITED[name] = (kind, joined(CODECS[kind][0](message)), limits)


X = np.arange(2, dtype="f4")
limited("tensors", "infer_request", InferRequest((X,) * 4), tensors=3)
limited("outputs", "infer_response", InferResponse((X,) * 4), tensors=3)
limited("rank", "tensor", np.zeros((1,) * 5, "f4"), rank=4)
limited("strings", "infer_request", InferRequest((strings(["a"] * 3), strings(["b"] * 3))), strings=5)
limited("input names", "infer_request", InferRequest(input_names=("a",) * 3), names=2)
limited("output names", "infer_request", InferRequest(output_names=("a",) * 3), names=2)
limited("inputs in metadata", "metadata_response", Metadata(inputs=(IOMetadata("a"),) * 3), names=2)
limited("rank in metadata", "metadata_response", Metadata(inputs=(IOMetadata("a", shape=(1, 2, 3)),)), rank=2)
limited("errors", "infer_response", InferResponse(errors=(Error(1, "a"),) * 3), errors=2)
limited("text", "infer_request", InferRequest((), ("abc",), ("de",), "fghi"), text_bytes=8)
limited("error text", "infer_response", InferResponse(errors=(Error(1, "abcd"),)), text_bytes=3)


@pytest.mark.parametrize(("kind", "body", "limits"), each(LIMITED))
def test_limits_are_the_callers(kind: str, body: bytes, limits: dict[str, int]) -> None:
    """Each limit refuses what is over it, names itself, and lets pass what just fits."""
    decode: Any = CODECS[kind][1]
    ((name, value),) = limits.items()
    with pytest.raises(TooLarge, match=rf"limit (is|of) {value}\b"):
        decode(body, Limits(**limits))
    decode(body, Limits(**{name: value + 1}))


def test_a_message_over_the_limit_is_refused_unread() -> None:
    """The size of the body is a limit, too."""
    body = joined(encode_request(InferRequest((X,))))
    decode_request(body, Limits(message_bytes=len(body)))
    with pytest.raises(TooLarge, match=f"{len(body)} bytes; the limit is {len(body) - 1}"):
        decode_request(body, Limits(message_bytes=len(body) - 1))


@pytest.mark.parametrize("limits", [{"rank": 33}, {"tensors": -1}], ids=str)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    """A limit is at least 0, and no array has over 32 dimensions."""
    with pytest.raises(ValueError, match="the limit"):
        Limits(**limits)
    assert Limits() == DEFAULT_LIMITS


def test_strings_need_no_numpy() -> None:
    """A process that handles strings only never imports numpy, which would cost its cold start."""
    program = """
import sys
from graphpipe_fn import codec, tensors
from graphpipe_fn.messages import Error, InferRequest, InferResponse, Metadata, MetadataRequest
def joined(pieces): return b"".join(pieces)
request = InferRequest((tensors.as_tensor([["http://a", b"b"]]), tensors.as_tensor("c")), ("x", "y"), (), "d")
assert codec.decode_request(joined(codec.encode_request(request))) == request
response = InferResponse(request.inputs, (Error(1, "e"),))
assert codec.decode_response(joined(codec.encode_response(response))) == response
assert codec.decode_metadata(joined(codec.encode_metadata(Metadata("m")))) == Metadata("m")
assert codec.decode_request(joined(codec.encode_request(MetadataRequest()))) == MetadataRequest()
loaded = [name for name in sys.modules if name.split(".")[0] in ("numpy", "flatbuffers")]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


DTYPES = st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
ARRAYS = st.builds(lambda dtype, shape: (np.dtype("<" + dtype), shape), DTYPES, SHAPES).flatmap(
    lambda pair: hnp.arrays(pair[0], pair[1])
)
TEXTS = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
STRING_TENSORS = st.lists(st.binary(max_size=60), max_size=6).map(strings)
ANY_TENSORS = st.lists(ARRAYS | STRING_TENSORS, max_size=3).map(tuple)
TEXT_TUPLES = st.lists(TEXTS, max_size=3).map(tuple)
REQUESTS_ANY = st.builds(InferRequest, ANY_TENSORS, TEXT_TUPLES, TEXT_TUPLES, TEXTS)
ERRORS = st.builds(Error, st.integers(-(2**63), 2**63 - 1), TEXTS)
RESPONSES_ANY = st.builds(InferResponse, ANY_TENSORS, st.lists(ERRORS, max_size=3).map(tuple))
DIMS = st.lists(st.integers(-1, 2**63 - 1), max_size=5).map(tuple)
IOS = st.lists(st.builds(IOMetadata, TEXTS, TEXTS, DIMS, st.sampled_from(DType)), max_size=3).map(tuple)
METADATA_ANY = st.builds(Metadata, TEXTS, TEXTS, TEXTS, TEXTS, IOS, IOS)


@settings(deadline=None, max_examples=150)
@given(REQUESTS_ANY)
def test_any_request_comes_back(request_: InferRequest) -> None:
    """Whatever a request holds, both readers find it in its bytes."""
    body = joined(encode_request(request_))
    assert same(request_, decode_request(body))
    assert [witness(tensor) for tensor in request_.inputs] == verified(body)[1][2]


@settings(deadline=None, max_examples=150)
@given(RESPONSES_ANY)
def test_any_response_comes_back(response: InferResponse) -> None:
    """Whatever a response holds, both readers find it in its bytes."""
    body = joined(encode_response(response))
    assert same(response, decode_response(body))
    assert [witness(tensor) for tensor in response.outputs] == verified(body, INFER_RESPONSE)[0]


@settings(deadline=None, max_examples=100)
@given(METADATA_ANY)
def test_any_metadata_comes_back(metadata: Metadata) -> None:
    """Whatever metadata holds, both readers find it in its bytes."""
    body = joined(encode_metadata(metadata))
    assert metadata == decode_metadata(body)
    assert metadata.description.encode("utf-8", "surrogateescape") == verified(body, METADATA)[3]


PAGE = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()


def dumped(name: str) -> bytes:
    """Return the bytes of a hex dump in the protocol's page, after checking that each row begins where it says."""
    body = b""
    for row in PAGE.split(f"<!-- {name} -->\n```\n")[1].split("\n```")[0].splitlines():
        position, cells = row[:4], row[6:42].strip()
        assert int(position) == len(body)
        zeros = cells.removeprefix("00 × ")
        body += bytes(int(zeros)) if zeros != cells else bytes.fromhex(cells)
    return body


def test_the_protocols_page_shows_real_bytes() -> None:
    """The page's worked examples are what this library writes, and hold what the page says."""
    request = InferRequest((np.array([[1, 2]], "f4"),), ("x",))
    assert dumped("request") == joined(encode_request(request))
    assert same(request, decode_request(dumped("request")))
    failure = InferResponse(errors=(Error(42200, "no"),))
    assert dumped("failure") == joined(encode_response(failure))
    assert same(failure, decode_response(dumped("failure")))


def test_the_protocols_page_computes_right() -> None:
    """Each "at A + B = C" and "A − B = C" of the page's dumps is right, and is what stands in the bytes."""
    for name in ("request", "failure"):
        body = dumped(name)
        sums = re.findall(
            r"(\d+) ([+−]) (\d+)(?: = (\d+))?$", PAGE.split(f"<!-- {name} -->")[1].split("\n```\n")[1], re.M
        )
        assert len(sums) > 5
        for at, sign, offset, target in sums:
            step = int(offset) if sign == "+" else -int(offset)
            assert abs(step) == int.from_bytes(body[int(at) : int(at) + 4], "little")
            assert int(target or step) == int(at) + step


def test_the_protocols_page_holds_a_client() -> None:
    """The page's client, which knows no library, writes requests that verify and reads our answers."""
    client: dict[str, Any] = {}
    exec(PAGE.split("```python\n")[1].split("```")[0], client)
    for tensor in (np.array([[1.5, 2]], "f4"), np.array(7, "u1"), np.zeros((0, 3), "i8"), np.arange(5, dtype="f8")):
        slots = witness(tensor)
        body = client["encode"](slots[0], slots[1], slots[2])
        assert verified(body) == [1, [b"", [], [slots], []]]
        assert same(InferRequest((tensor,)), decode_request(body))
        answer = joined(encode_response(InferResponse((tensor, tensor))))
        assert client["decode"](answer) == [(slots[0], tensor.shape, slots[2])] * 2
    with pytest.raises(RuntimeError, match=r"^42200: no$"):
        client["decode"](dumped("failure"))
