"""
Bytes to messages and back: the only package that knows FlatBuffers.

It reads whatever any GraphPipe client writes and refuses everything else with our own error; it writes one layout,
described in docs/protocol.md. It knows no names' meaning (binding), no HTTP, and no numpy until a numeric tensor
is met. Why not the `flatbuffers` package: it checks nothing, copies every tensor and imports numpy on its own.
"""

from __future__ import annotations

from graphpipe_fn.codec.limits import DEFAULT_LIMITS, Limits
from graphpipe_fn.codec.reader import decode_metadata, decode_request, decode_response, decode_tensor
from graphpipe_fn.codec.writer import encode_metadata, encode_request, encode_response, encode_tensor

__all__ = [
    "DEFAULT_LIMITS",
    "Limits",
    "decode_metadata",
    "decode_request",
    "decode_response",
    "decode_tensor",
    "encode_metadata",
    "encode_request",
    "encode_response",
    "encode_tensor",
]
