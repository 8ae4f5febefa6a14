"""What the modules and layers of the frameworks are tested with: real models behind a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen
from graphpipe_fn.binding import bind
from graphpipe_fn.messages import (
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
    strings,
)
from graphpipe_fn.model import Model
from graphpipe_fn.rows import ERRORS
from graphpipe_fn.server import answerer

ANY = (-1, -1)


@dataclass
class Computed:
    """Be a model whose outputs are functions of its inputs; remembers its requests."""

    inputs: tuple[IOMetadata, ...]
    outputs: tuple[IOMetadata, ...]
    compute: Callable[..., dict[str, Tensor]]
    defaults: tuple[str, ...] = ()
    seen: list[InferRequest] = field(default_factory=list)

    def metadata(self) -> Metadata:
        """Describe inputs and outputs."""
        return Metadata("computed", "1", "tests", "", self.inputs, self.outputs)

    def infer(self, request: InferRequest) -> InferResponse:
        """Compute what is wanted."""
        self.seen.append(request)
        bound = bind(request, self.metadata(), default_outputs=self.defaults)
        found = self.compute(**bound.inputs)
        return InferResponse(tuple(found[name] for name in bound.outputs))


def io(name: str, shape: tuple[int, ...] = ANY, dtype: DType = DType.FLOAT32) -> IOMetadata:
    """Describe one input or output."""
    return IOMetadata(name, "", shape, dtype)


def features() -> Computed:
    """Return a frozen feature extractor: float32 (N, 4) → float32 (N, 3), each row by itself."""
    weights = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    return Computed(
        (io("x", (-1, 4)),),
        (io("features", (-1, 3)), IOMetadata(ERRORS, "", (-1,), DType.STRING)),
        lambda x: {"features": np.tanh(x @ weights), ERRORS: strings([""] * len(x))},
        ("features",),
    )


def sums() -> Computed:
    """Return a model of two inputs and two outputs: float32 (N, 4) and int64 (N,) → their sum, and each row's top."""
    return Computed(
        (io("x", (-1, 4)), io("offset", (-1,), DType.INT64)),
        (io("sum", (-1, 4)), io("top", (-1,), DType.INT64)),
        lambda x, offset: {"sum": (x + offset[:, None]).astype("float32"), "top": x.argmax(1)},
    )


def identity(dtype: DType = DType.NULL, shape: tuple[int, ...] = ()) -> Computed:
    """Return the identity, on whatever it is asked with unless a dtype or shape is told."""
    return Computed((io("x", shape, dtype),), (io("y", shape, dtype),), lambda x: {"y": x})


def lengths() -> Computed:
    """Return a model of strings: String (N,) → int64 (N,) lengths, and the strings turned round."""

    def compute(text: Tensor) -> dict[str, Tensor]:
        assert isinstance(text, StringTensor)
        return {
            "length": np.array([len(value) for value in text], "int64"),
            "turned": strings([value[::-1] for value in text]),
        }

    outputs = (io("length", (-1,), DType.INT64), io("turned", (-1,), DType.STRING))
    return Computed((io("text", (-1,), DType.STRING),), outputs, compute)


@contextmanager
def served(model: Model) -> Iterator[str]:
    """Serve a model over HTTP; yield its URI."""
    with HttpServer(Endpoints(answerer(model)), Listen(port=0)) as server:
        yield server.uri
