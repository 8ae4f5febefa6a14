"""
A remote model as a Keras 3 layer (extra `keras`), on the backends numpy, torch, tensorflow and jax.

No gradient passes through it. What comes after it can be trained; what comes before it can't, and a training that
would have to says so instead of leaving weights untrained in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import keras

from graphpipe_fn.errors import BadTensor, GraphPipeError, UnknownName
from graphpipe_fn.graph_node import TIMEOUT_S, GraphNode
from graphpipe_fn.keras_backends import Expected, Question, answers
from graphpipe_fn.messages import DType, IOMetadata
from graphpipe_fn.model import Model
from graphpipe_fn.rows import ERRORS


@keras.saving.register_keras_serializable(package="graphpipe_fn")
class RemoteLayer(keras.layers.Layer):  # type: ignore[misc]  # Any where Keras is not installed
    """
    Be a layer whose work is done by a GraphPipe server.

    It has no weights. It is called with one tensor, or with a list of tensors, one per input. Where the model's
    metadata says dtypes, floating-point inputs are sent in its floating-point dtype, whatever the dtype policy made
    of them, and whole numbers in its integer dtype if they fit. Made of a URI it is saved with its model; whoever
    loads that imports this module first, and calls that URI.

    Args:
        model: A URI, as `transports.connect` takes it, or any Model: a Client with options of its own, a Cached one.
        input_names: Of the inputs, in their order; none for the model's own order.
        output_names: What the layer returns; none for all that the model's metadata lists, but for row errors.
        config: For the model, unread.
        timeout_s: How long a request to a URI may take; None for ever.
        outputs: What the layer returns, in place of `output_names`, where the model's metadata does not describe it
            or is wrong. The model is then never asked for its metadata.
        kwargs: A Layer's own: `name`, `dtype`, …

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
        outputs: Sequence[IOMetadata] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if outputs and output_names:
            raise ValueError("give output_names or outputs, which has the names too, not both")
        self.node = GraphNode(
            model, input_names=input_names, output_names=output_names, config=config, timeout_s=timeout_s
        )
        self.described = tuple(outputs)
        # Tensorflow's compiler knows no calls to Python; Keras leaves it out where a layer says so.
        self.supports_jit = keras.backend.backend() == "jax"

    def call(self, inputs: Any) -> Any:
        """
        Ask the model.

        Returns:
            The output, or a list of several.

        Raises:
            GraphPipeError: see Client.infer. Inside a compiled function of tensorflow or jax it comes as their own
                exception, with these words.
            BadTensor: the model's outputs are not what its metadata says.
        """
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        with _our_errors_kept():
            expected = self._expected([tuple(tensor.shape) for tensor in tensors])
            dtypes = [self._input_dtype(place) for place in range(len(tensors))]
            found = answers(Question(self.node, dtypes, expected), tensors)
        return found[0] if len(found) == 1 else found

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the outputs' shapes as the metadata says them; where it leaves the batch open, the input's."""
        several = bool(input_shape) and isinstance(input_shape[0], list | tuple)
        shapes = [each.shape for each in self._expected(list(input_shape) if several else [tuple(input_shape)])]
        return shapes[0] if len(shapes) == 1 else shapes

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return what call() would, without values."""
        tensors = inputs if isinstance(inputs, list | tuple) else [inputs]
        with _our_errors_kept():
            expected = self._expected([tuple(tensor.shape) for tensor in tensors])
        specs = [keras.KerasTensor(each.shape, each.dtype or keras.config.floatx()) for each in expected]
        return specs[0] if len(specs) == 1 else specs

    def get_config(self) -> dict[str, Any]:
        """
        Return what from_config() makes this layer of.

        Raises:
            ValueError: the layer was made of a Model and not of a URI.
        """
        if not self.node.uri:
            raise ValueError(f"a RemoteLayer around {self.node.name} can't be saved: it was not made of a URI")
        return {
            **super().get_config(),
            "model": self.node.uri,
            "input_names": list(self.node.input_names),
            "output_names": list(self.node.output_names),
            "config": self.node.config,
            "timeout_s": self.node.timeout_s,
            "outputs": [{**asdict(io), "shape": list(io.shape), "dtype": io.dtype.name} for io in self.described],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RemoteLayer:
        """Return the layer that get_config() was asked of."""
        outputs = [
            IOMetadata(**{**io, "shape": tuple(io["shape"]), "dtype": DType[io["dtype"]]})
            for io in config.get("outputs", ())
        ]
        return cls(**{**config, "outputs": outputs})

    def close(self) -> None:
        """Close the connections that are kept, if any are."""
        self.node.close()

    def _input_dtype(self, place: int) -> DType:
        """Return what the model's metadata says of one input, NULL for nothing."""
        if self.described:
            return DType.NULL
        ios, names = self.node.metadata().inputs, self.node.input_names
        if place < len(names) and names[place]:
            return next((io.dtype for io in ios if io.name == names[place]), DType.NULL)
        return ios[place].dtype if place < len(ios) else DType.NULL

    def _expected(self, input_shapes: Sequence[Sequence[int | None]]) -> list[Expected]:
        """Describe the outputs for inputs of these shapes."""
        batch = input_shapes[0][0] if input_shapes and input_shapes[0] else None
        expected = []
        for io in self.described or self._listed():
            shape = tuple(None if dim < 0 else dim for dim in io.shape)
            if shape and shape[0] is None:
                shape = (batch, *shape[1:])
            dtype = "" if io.dtype is DType.NULL else io.dtype.name.lower()
            if dtype == "string" and keras.backend.backend() != "tensorflow":
                raise BadTensor(
                    f'the output "{io.name}" is strings, which Keras knows on tensorflow only; ask for others'
                )
            expected.append(Expected(io.name, shape, dtype))
        return expected

    def _listed(self) -> list[IOMetadata]:
        """Return what the model's metadata says of the outputs that are asked for."""
        listed = self.node.metadata().outputs
        names = self.node.output_names or [io.name for io in listed if io.name != ERRORS]
        known = {io.name: io for io in listed}
        found = []
        for place, name in enumerate(names):
            io = known.get(name) if name or place >= len(listed) else listed[place]
            if io is None:
                raise UnknownName(f'{self.node.name} describes no output "{name}"; describe it with outputs=[…]')
            if not io.shape:  # what servers send that do not say; a true scalar is told by `outputs`
                raise BadTensor(
                    f'{self.node.name} does not tell the shape of its output "{io.name}"; tell it with outputs=[…]'
                )
            found.append(io)
        if not found:
            raise BadTensor(f"{self.node.name} describes no outputs; describe them with outputs=[…]")
        return found


@contextmanager
def _our_errors_kept() -> Iterator[None]:
    """Mark our errors for Keras, which else makes a new exception of the words: without the code, or the class."""
    try:
        yield
    except GraphPipeError as exc:
        exc._keras_call_info_injected = True  # type: ignore[attr-defined]
        raise
