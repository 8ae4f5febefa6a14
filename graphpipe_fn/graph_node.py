"""
A model as a node of another framework's graph: always the same question, to which only the tensors change.

torch.RemoteModule and keras.RemoteLayer stand on it. It knows neither framework, and no way back for gradients.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from graphpipe_fn.messages import InferRequest, Metadata, Tensor
from graphpipe_fn.model import Model
from graphpipe_fn.tensors import as_tensor
from graphpipe_fn.transports import connect

TIMEOUT_S = 30.0


class NoGradient(RuntimeError):
    """A gradient was asked for that would have to come through a remote model, which answers with values alone."""


class GraphNode:
    """
    Ask one model the same question again and again.

    A node made of a URI can be pickled and copied, and the copy opens connections of its own.

    Args:
        model: A URI, as `transports.connect` takes it, or any Model: a Client with options of its own, a Cached one.
        input_names: Of the tensors, in their order; none for the model's own order.
        output_names: What is wanted; none for the model's default outputs.
        config: For the model, unread.
        timeout_s: How long a request to a URI may take; None for ever.

    Raises:
        BadConfig: not a URI that can be called.
    """

    def __init__(
        self,
        model: str | Model,
        *,
        input_names: Sequence[str] | str = (),
        output_names: Sequence[str] | str = (),
        config: str = "",
        timeout_s: float | None = TIMEOUT_S,
    ) -> None:
        self.uri = model if isinstance(model, str) else ""
        self.input_names = _names(input_names)
        self.output_names = _names(output_names)
        self.config = config
        self.timeout_s = timeout_s
        self._model = self._connected() if isinstance(model, str) else model

    @property
    def name(self) -> str:
        """Return what an error message calls the model."""
        return self.uri or type(self._model).__name__

    def metadata(self) -> Metadata:
        """Return the model's metadata; a remote one is asked for it once."""
        return self._model.metadata()

    def infer(self, inputs: Sequence[object], output_names: Sequence[str] = ()) -> tuple[Tensor, ...]:
        """
        Ask the model.

        Args:
            inputs: Anything that makes a tensor.
            output_names: Instead of the node's own.

        Raises:
            GraphPipeError: see Client.infer.
        """
        tensors = tuple(as_tensor(value) for value in inputs)
        names = tuple(output_names) or self.output_names
        return self._model.infer(InferRequest(tensors, self.input_names, names, self.config)).outputs

    def no_gradient(self) -> NoGradient:
        """Return the error that says why nothing can be learned through this node, and what to do."""
        return NoGradient(
            f"no gradient passes through the remote model {self.name}: nothing before it can be trained through it. "
            "Cut its inputs off from what is trained (torch: x.detach(); Keras: keras.ops.stop_gradient(x)), "
            "or leave it out of the loss"
        )

    def close(self) -> None:
        """Close the connections that are kept, if any are."""
        close = getattr(self._model, "close", None)
        if close is not None:
            close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None} if self.uri else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.uri:
            self._model = self._connected()

    def _connected(self) -> Model:
        client = connect(self.uri, timeout_s=self.timeout_s)
        weakref.finalize(self, client.close)  # a graph that is thrown away is not taken apart before
        return client


def _names(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
