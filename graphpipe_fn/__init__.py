"""
GraphPipe for functions: a Model has metadata() and infer(), and where the network runs is an argument.

    remote(uri, x)                          ask a server
    connect(uri)                            the model behind a URI
    reply(model, body), answerer(model)     a model as bytes → bytes, for the adapters

The names are imported when they are first used: a function's cold start pays for its own road only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpipe_fn.aio import AsyncClient as AsyncClient
    from graphpipe_fn.chain import Chain as Chain
    from graphpipe_fn.chain import Configured as Configured
    from graphpipe_fn.client import Client as Client
    from graphpipe_fn.errors import GraphPipeError as GraphPipeError
    from graphpipe_fn.errors import RemoteError as RemoteError
    from graphpipe_fn.loading import Loading as Loading
    from graphpipe_fn.messages import Call as Call
    from graphpipe_fn.messages import DType as DType
    from graphpipe_fn.messages import InferRequest as InferRequest
    from graphpipe_fn.messages import InferResponse as InferResponse
    from graphpipe_fn.messages import IOMetadata as IOMetadata
    from graphpipe_fn.messages import Metadata as Metadata
    from graphpipe_fn.messages import StringTensor as StringTensor
    from graphpipe_fn.messages import strings as strings
    from graphpipe_fn.model import Model as Model
    from graphpipe_fn.remote import CallableModule
    from graphpipe_fn.remote import execute_multi as remote_multi
    from graphpipe_fn.routed import Routed as Routed
    from graphpipe_fn.server import answerer as answerer
    from graphpipe_fn.server import reply as reply
    from graphpipe_fn.serving import serve as serve
    from graphpipe_fn.tensors import as_tensor as as_tensor
    from graphpipe_fn.transports import connect as connect

    remote: CallableModule

_HOMES = {
    "AsyncClient": "aio",
    "Call": "messages",
    "Chain": "chain",
    "Client": "client",
    "Configured": "chain",
    "DType": "messages",
    "GraphPipeError": "errors",
    "IOMetadata": "messages",
    "InferRequest": "messages",
    "InferResponse": "messages",
    "Loading": "loading",
    "Metadata": "messages",
    "Model": "model",
    "RemoteError": "errors",
    "Routed": "routed",
    "StringTensor": "messages",
    "answerer": "server",
    "as_tensor": "tensors",
    "connect": "transports",
    "reply": "server",
    "serve": "serving",
    "strings": "messages",
}

__all__ = [*_HOMES, "remote", "remote_multi"]


def __getattr__(name: str) -> Any:
    if name == "remote":  # the module, which can be called
        return import_module("graphpipe_fn.remote")
    if name == "remote_multi":
        return import_module("graphpipe_fn.remote").execute_multi
    if name in _HOMES:
        return getattr(import_module(f"graphpipe_fn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'graphpipe_fn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
