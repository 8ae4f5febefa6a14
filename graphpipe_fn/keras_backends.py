"""
The roads between Keras's backends and a model: a backend's tensors → numpy → the model → numpy → its tensors.

Each backend is imported when it is the one in use. Tensorflow and jax trace a function once and run it later, so
what the model will answer must be known beforehand, and is checked when it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.graph_node import GraphNode
from graphpipe_fn.messages import DType, Tensor, shape_of


@dataclass(frozen=True, slots=True)
class Expected:
    """
    What is known of an output beforehand.

    Args:
        shape: None for any size.
        dtype: Keras's name for it; "" for any.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Question:
    """
    A node, with what it is known to take and expected to answer.

    Args:
        input_dtypes: One per input; NULL for any.
        expected: One per output.
    """

    node: GraphNode
    input_dtypes: Sequence[DType]
    expected: Sequence[Expected]

    def answer(self, inputs: Sequence[object]) -> list[Tensor]:
        """
        Ask the model.

        Raises:
            GraphPipeError: see Client.infer.
            BadTensor: a whole number does not fit the model's dtype, or the outputs are others than expected.
        """
        cast = [_cast(value, dtype) for value, dtype in zip(inputs, self.input_dtypes, strict=True)]
        outputs = self.node.infer(cast, [each.name for each in self.expected])
        if len(outputs) != len(self.expected):
            raise BadTensor(
                f"{self.node.name} answered {len(outputs)} outputs where {len(self.expected)} were asked for"
            )
        for output, expected in zip(outputs, self.expected, strict=True):
            shape = shape_of(output)
            dtype = output.dtype.name if isinstance(output, np.ndarray) else "string"
            fits = len(shape) == len(expected.shape) and all(
                want in (None, have) for want, have in zip(expected.shape, shape, strict=True)
            )
            if not fits or expected.dtype not in ("", dtype):
                raise BadTensor(
                    f'{self.node.name} answered {dtype} of shape {list(shape)} for "{expected.name}", described as '
                    f"{expected.dtype or 'any dtype'} of {list(expected.shape)}; tell what it is with outputs=[…]"
                )
        return list(outputs)


def _cast(value: object, dtype: DType) -> object:
    """
    Return a value in the dtype that the model takes, where both are floats or both are whole numbers.

    It is done here and not by the backend: jax has no int64, and Keras's torch no uint64.
    """
    if isinstance(value, bytes | str):  # tensorflow's way to hand over a single string
        return value
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    if dtype in (DType.NULL, DType.STRING):
        return array
    wanted = np.dtype(dtype.name.lower())
    kinds = array.dtype.kind + wanted.kind
    if array.dtype == wanted or not (kinds == "ff" or set(kinds) <= set("iu")):
        return array
    cast = array.astype(wanted)
    if kinds != "ff" and not np.array_equal(cast, array):
        raise BadTensor(f"an input has values from {array.min()} to {array.max()}, where the model takes {wanted}")
    return cast


def answers(question: Question, tensors: Sequence[Any]) -> list[Any]:
    """
    Ask the model with tensors of Keras's backend.

    Returns:
        One tensor of the backend per output.

    Raises:
        RuntimeError: a backend that is not known here.
        GraphPipeError: see Question.answer.
    """
    backend = keras.backend.backend()
    road = _ROADS.get(backend)
    if road is None:
        raise RuntimeError(f"there is no road through Keras's backend {backend!r}; use one of {', '.join(_ROADS)}")
    return road(question, tensors)


def _numpy(question: Question, tensors: Sequence[Any]) -> list[Any]:
    return list(question.answer(tensors))


def _torch(question: Question, tensors: Sequence[Any]) -> list[Any]:
    import torch

    from graphpipe_fn.torch import array_of, outputs_of

    if any(tensor.is_meta for tensor in tensors):  # Keras's trainer asks for shapes only, before the first batch
        dtypes = [getattr(torch, each.dtype or keras.config.floatx()) for each in question.expected]
        return [
            torch.empty(each.shape, dtype=dtype, device="meta")
            for each, dtype in zip(question.expected, dtypes, strict=True)
        ]
    return list(outputs_of(question.node, tensors, question.answer([array_of(tensor) for tensor in tensors])))


def _tensorflow(question: Question, tensors: Sequence[Any]) -> list[Any]:
    import tensorflow as tf

    dtypes = [tf.as_dtype(each.dtype or keras.config.floatx()) for each in question.expected]

    def ask(*arrays: Any) -> list[Any]:
        return [np.asarray(output) for output in question.answer(arrays)]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def remote(*given: Any) -> tuple[list[Any], Callable[..., Any]]:
        if tf.executing_eagerly():
            outputs = [tf.convert_to_tensor(output) for output in ask(*(tensor.numpy() for tensor in given))]
        else:
            outputs = tf.numpy_function(ask, given, dtypes)
            for output, expected in zip(outputs, question.expected, strict=True):
                output.set_shape(expected.shape)

        def refuse(*_: Any) -> Any:
            raise question.node.no_gradient()

        return outputs, refuse

    return list(remote(*tensors))


def _jax(question: Question, tensors: Sequence[Any]) -> list[Any]:
    import jax

    def ask(*arrays: Any) -> list[Any]:
        outputs = [np.asarray(output) for output in question.answer([np.asarray(array) for array in arrays])]
        # As jax itself does: without x64 it has no wider types than 32 bits.
        return [output.astype(jax.dtypes.canonicalize_dtype(output.dtype)) for output in outputs]

    if not any(isinstance(tensor, jax.core.Tracer) for tensor in tensors):
        return [jax.numpy.asarray(output) for output in ask(*tensors)]

    specs = []
    for each in question.expected:
        if None in each.shape:
            raise BadTensor(
                f'the output "{each.name}" of {question.node.name} is described as {list(each.shape)}; what jax '
                "compiles has no open size but the batch's: tell it with outputs=[…]"
            )
        dtype = jax.dtypes.canonicalize_dtype(each.dtype or keras.config.floatx())
        specs.append(jax.ShapeDtypeStruct(each.shape, dtype))

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def remote(*given: Any) -> Any:
        return jax.pure_callback(ask, specs, *given)

    def forward(*given: Any) -> tuple[Any, None]:
        return remote(*given), None

    def refuse(*_: Any) -> Any:
        raise question.node.no_gradient()

    remote.defvjp(forward, refuse)
    return list(remote(*tensors))


_ROADS: dict[str, Callable[[Question, Sequence[Any]], list[Any]]] = {
    "numpy": _numpy,
    "torch": _torch,
    "tensorflow": _tensorflow,
    "jax": _jax,
}
