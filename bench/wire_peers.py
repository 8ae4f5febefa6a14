"""
The formats that bench/wire.py measures: each one a pair of functions, from a float32 array to bytes and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import orjson
import pyarrow as pa
import safetensors.numpy
import tritonclient.http as triton
import ujson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from graphpipe_fn import codec
from graphpipe_fn.messages import InferRequest, InferResponse

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Peer:
    """
    A format.

    Args:
        encode: From an array to what goes to the socket.
        decode: From what was received to an array.
        join: From what goes to the socket to what is received; not measured.
        scaled: Whether it is so slow that it gets a slice, whose time is multiplied.
    """

    name: str
    encode: Callable[[Array], Any]
    decode: Callable[[Any], Array]
    join: Callable[[Any], Any] = bytes
    scaled: bool = False


def _predict_request() -> Any:
    """Make TensorFlow Serving's PredictRequest, as far as a tensor needs it. Source: its .proto files' numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="predict.proto", package="wire", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    tables: dict[str, list[tuple[str, int, int, bool, str]]] = {
        "Dim": [("size", 1, field.TYPE_INT64, False, ""), ("name", 2, field.TYPE_STRING, False, "")],
        "TensorShape": [("dim", 2, field.TYPE_MESSAGE, True, "Dim")],
        "Tensor": [
            ("dtype", 1, field.TYPE_INT32, False, ""),  # an enum on the wire is an int32
            ("tensor_shape", 2, field.TYPE_MESSAGE, False, "TensorShape"),
            ("tensor_content", 4, field.TYPE_BYTES, False, ""),
        ],
        "ModelSpec": [("name", 1, field.TYPE_STRING, False, "")],
        "Input": [("key", 1, field.TYPE_STRING, False, ""), ("value", 2, field.TYPE_MESSAGE, False, "Tensor")],
        # map<string, Tensor> is a repeated message of key and value.
        "Predict": [
            ("model_spec", 1, field.TYPE_MESSAGE, False, "ModelSpec"),
            ("inputs", 2, field.TYPE_MESSAGE, True, "Input"),
        ],
    }
    for name, rows in tables.items():
        message = file.message_type.add(name=name)
        for label, number, kind, repeated, other in rows:
            message.field.add(
                name=label,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=f".wire.{other}" if other else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wire.Predict"))


_Predict = _predict_request()
_DT_FLOAT = 1


def _protobuf_encode(array: Array) -> bytes:
    request = _Predict()
    request.model_spec.name = "model"
    entry = request.inputs.add(key="x")
    entry.value.dtype = _DT_FLOAT
    for size in array.shape:
        entry.value.tensor_shape.dim.add(size=size)
    entry.value.tensor_content = array.tobytes()
    return bytes(request.SerializeToString())


def _protobuf_decode(body: bytes) -> Array:
    request = _Predict()
    request.ParseFromString(body)
    value = request.inputs[0].value
    return np.frombuffer(value.tensor_content, np.float32).reshape([dim.size for dim in value.tensor_shape.dim])


def _kserve_encode(array: Array) -> Any:
    value = triton.InferInput("x", list(array.shape), "FP32")
    value.set_data_from_numpy(array, binary_data=True)
    return triton.InferenceServerClient.generate_request_body([value])


def _kserve_received(request: tuple[bytes, int]) -> tuple[bytes, int]:
    """Return a response and its header's length, which HTTP carries: what servers answer, with the request's data."""
    body, header_bytes = request
    value = json.loads(body[:header_bytes])["inputs"][0]
    header = json.dumps({"model_name": "model", "outputs": [value]}).encode()
    return header + body[header_bytes:], len(header)


def _kserve_decode(received: tuple[bytes, int]) -> Array:
    body, header_bytes = received
    array: Array = triton.InferenceServerClient.parse_response_body(body, header_length=header_bytes).as_numpy("x")
    return array


def _arrow_encode(array: Array) -> Any:
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    return sink.getvalue()


def _json_array(values: Any) -> Array:
    return np.array(values, np.float32)


def graphpipe_fn(*, response: bool) -> Peer:
    """Return this library, reading and writing requests or responses."""
    if response:
        return Peer(
            "graphpipe_fn",
            lambda array: codec.encode_response(InferResponse((array,))),
            lambda body: codec.decode_response(body).outputs[0],
            b"".join,
        )
    return Peer(
        "graphpipe_fn",
        lambda array: codec.encode_request(InferRequest((array,))),
        lambda body: codec.decode_request(body).inputs[0],
        b"".join,
    )


def joined(*, response: bool) -> Peer:
    """Return this library where a platform takes one body only, as functions do."""
    pieces = graphpipe_fn(response=response)
    return Peer("graphpipe_fn, joined", lambda array: b"".join(pieces.encode(array)), pieces.decode)


PEERS = [
    Peer("ujson lists", lambda a: ujson.dumps(a.tolist()), lambda b: _json_array(ujson.loads(b)), str.encode, True),
    Peer("orjson lists", lambda a: orjson.dumps(a.tolist()), lambda b: _json_array(orjson.loads(b)), scaled=True),
    Peer(
        "orjson numpy",
        lambda a: orjson.dumps(a, option=orjson.OPT_SERIALIZE_NUMPY),
        lambda b: _json_array(orjson.loads(b)),
        scaled=True,
    ),
    Peer("TF Serving PredictRequest", _protobuf_encode, _protobuf_decode),
    Peer("KServe v2 binary", _kserve_encode, _kserve_decode, _kserve_received),
    Peer(
        "msgpack-numpy",
        lambda a: msgpack.packb(a, default=msgpack_numpy.encode),
        lambda b: msgpack.unpackb(b, object_hook=msgpack_numpy.decode),
    ),
    Peer(
        "Arrow IPC tensor",
        _arrow_encode,
        lambda b: pa.ipc.read_tensor(pa.py_buffer(b)).to_numpy(),
        pa.Buffer.to_pybytes,
    ),
    Peer("safetensors", lambda a: safetensors.numpy.save({"x": a}), lambda b: safetensors.numpy.load(b)["x"]),
]
