"""
What must hold of any bytes at all, for the tests and for the fuzzer: they are refused with our own error, or what
they mean survives being written and read again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from graphpipe_fn import codec
from graphpipe_fn.errors import MalformedMessage, TooLarge
from graphpipe_fn.messages import StringTensor

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], list[Any]]

CODECS: dict[str, tuple[Encode, Decode]] = {
    "infer_request": (codec.encode_request, codec.decode_request),
    "metadata_request": (codec.encode_request, codec.decode_request),
    "infer_response": (codec.encode_response, codec.decode_response),
    "metadata_response": (codec.encode_metadata, codec.decode_metadata),
    "tensor": (codec.encode_tensor, codec.decode_tensor),
}


def joined(buffers: list[Any]) -> bytes:
    """Return what goes over the wire."""
    return b"".join(buffers)


def same(one: Any, other: Any) -> bool:
    """Return whether two messages or parts of them are equal, tensors by dtype, shape and bytes (NaN is NaN)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, StringTensor):
        return one == other
    if is_dataclass(one):
        return all(same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "dtype"):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    return bool(one == other)


def survives(kind: str, body: bytes) -> bool:
    """
    Return whether a body was accepted.

    Raises:
        AssertionError: it was, but does not come back the same.
        Exception: anything that is not the decoder's own error.
    """
    encode, decode = CODECS[kind]
    try:
        message = decode(body)
    except (MalformedMessage, TooLarge):
        return False
    written = joined(encode(message))
    again = decode(written)
    assert same(message, again), f"{message!r} came back as {again!r}"
    assert written == joined(encode(again))
    return True
