"""
The original Python client's names, over this library's client: `from graphpipe_fn import remote` is a drop-in.

    remote.execute(uri, array)          as in the original
    remote(uri, array)                  the same, shorter

Connections to the last few URIs are kept between calls. What differs from the original: lists and text go in as
well as arrays; errors are GraphPipeErrors with the server's own words; names come back as text; metadata() returns
this library's Metadata and is asked for once per URI; strings come back with their trailing NULs.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphpipe_fn.client import Client
from graphpipe_fn.messages import DType, InferRequest, IOMetadata, Metadata, Tensor
from graphpipe_fn.tensors import NUMERIC, as_tensor
from graphpipe_fn.transports import connect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIENTS_MAX = 16  # URIs whose connections are kept

_lock = threading.Lock()
_clients: OrderedDict[str, Client] = OrderedDict()


def execute(
    uri: str, inp: Any, input_name: str | None = None, output_name: str | None = None
) -> NDArray[Any] | list[NDArray[Any]]:
    """
    Ask a server with one input.

    Args:
        input_name, output_name: None for the model's own.

    Returns:
        The output; a list where the model answers with another number than one.

    Raises:
        GraphPipeError: see Client.infer.
    """
    outputs = execute_multi(
        uri, [inp], None if input_name is None else [input_name], None if output_name is None else [output_name]
    )
    return outputs[0] if len(outputs) == 1 else outputs


def execute_multi(
    uri: str,
    inputs: Sequence[Any],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    config: str | None = None,
) -> list[NDArray[Any]]:
    """
    Ask a server with several inputs.

    Returns:
        One array per output; strings as an object array of bytes.

    Raises:
        GraphPipeError: see Client.infer.
    """
    request = InferRequest(
        tuple(as_tensor(value) for value in inputs), tuple(input_names or ()), tuple(output_names or ()), config or ""
    )
    return [_array(output) for output in _client(uri).infer(request).outputs]


def metadata(uri: str) -> Metadata:
    """Return what a server says of its model; asked for once per URI."""
    return _client(uri).metadata()


def get_input_names(uri: str) -> list[str]:
    """Return the inputs' names."""
    return [io.name for io in metadata(uri).inputs]


def get_output_names(uri: str) -> list[str]:
    """Return the outputs' names."""
    return [io.name for io in metadata(uri).outputs]


def get_input_types(uri: str) -> list[np.dtype[Any] | None]:
    """Return the inputs' numpy dtypes: object for strings, None where the server does not say."""
    return [_dtype(io.dtype) for io in metadata(uri).inputs]


def get_output_types(uri: str) -> list[np.dtype[Any] | None]:
    """Return the outputs' numpy dtypes: object for strings, None where the server does not say."""
    return [_dtype(io.dtype) for io in metadata(uri).outputs]


def get_input_shapes(uri: str) -> list[list[int | None]]:
    """Return the inputs' shapes, None for any size."""
    return [_shape(io) for io in metadata(uri).inputs]


def get_output_shapes(uri: str) -> list[list[int | None]]:
    """Return the outputs' shapes, None for any size."""
    return [_shape(io) for io in metadata(uri).outputs]


def close() -> None:
    """Close all kept connections; the next call opens new ones."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    for client in clients:
        client.close()


def _client(uri: str) -> Client:
    dropped = None
    with _lock:
        client = _clients.get(uri)
        if client is None:
            client = _clients[uri] = connect(uri)
            if len(_clients) > CLIENTS_MAX:
                _, dropped = _clients.popitem(last=False)
        _clients.move_to_end(uri)
    if dropped is not None:
        dropped.close()
    return client


def _array(tensor: Tensor) -> NDArray[Any]:
    import numpy as np

    return np.asarray(tensor)


def _dtype(dtype: DType) -> np.dtype[Any] | None:
    import numpy as np

    if dtype is DType.NULL:
        return None
    return np.dtype(
        object if dtype is DType.STRING else next(name for name, value in NUMERIC.items() if value is dtype)
    )


def _shape(io: IOMetadata) -> list[int | None]:
    return [None if dim < 0 else dim for dim in io.shape]


class CallableModule(ModuleType):
    """
    Be this module, which can be called: `remote(uri, x)` is `remote.execute(uri, x)`.

    Python lets a module have a class of its own (data model, "Customizing module attribute access"). The functions
    are named here once more for type checkers, which know modules as things that can't be called.
    """

    __call__ = staticmethod(execute)
    execute = staticmethod(execute)
    execute_multi = staticmethod(execute_multi)
    metadata = staticmethod(metadata)
    get_input_names = staticmethod(get_input_names)
    get_output_names = staticmethod(get_output_names)
    get_input_types = staticmethod(get_input_types)
    get_output_types = staticmethod(get_output_types)
    get_input_shapes = staticmethod(get_input_shapes)
    get_output_shapes = staticmethod(get_output_shapes)
    close = staticmethod(close)


sys.modules[__name__].__class__ = CallableModule
