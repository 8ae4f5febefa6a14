"""Tiny ONNX graphs, made here so that each test says what it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
Value = tuple[str, int, Sequence[int | str]]


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> bytes:
    """Return an ONNX file's bytes."""
    body = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(weights),
    )
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def mean_pool() -> bytes:
    """x float32 (N, 3, H, W) → "pooled" (N, 3, 1, 1) → y = flatten(pooled) (N, 3)."""
    return graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["y"]),
        ],
        [("x", FLOAT, ["N", 3, "H", "W"])],
        [("y", FLOAT, ["N", 3])],
    )


def dense(weight: np.ndarray) -> bytes:
    """x float32 (N, I) → "hidden" = x·W → "active" = relu(hidden) → y = −active (N, O)."""
    return graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Neg", ["active"], ["y"]),
        ],
        [("x", FLOAT, ["N", weight.shape[0]])],
        [("y", FLOAT, ["N", weight.shape[1]])],
        [helper.make_tensor("W", FLOAT, weight.shape, weight.astype("f4").tobytes(), raw=True)],
    )


def affine() -> bytes:
    """Two inputs of two dtypes, two outputs: "sum" = a + float(b), "big" = sum > 10."""
    return graph(
        [
            helper.make_node("Cast", ["b"], ["b_float"], to=FLOAT),
            helper.make_node("Add", ["a", "b_float"], ["sum"]),
            helper.make_node("Greater", ["sum", "ten"], ["big"]),
        ],
        [("a", FLOAT, ["N", 2]), ("b", INT64, ["N", 2])],
        [("sum", FLOAT, ["N", 2]), ("big", BOOL, ["N", 2])],
        [helper.make_tensor("ten", FLOAT, [], [10.0])],
    )


def text() -> bytes:
    """s String (N,) → y String (N,), the same strings."""
    return graph([helper.make_node("Identity", ["s"], ["y"])], [("s", STRING, ["N"])], [("y", STRING, ["N"])])


def logical() -> bytes:
    """x bool (N,) → y = not x, bool (N,)."""
    return graph([helper.make_node("Not", ["x"], ["y"])], [("x", BOOL, ["N"])], [("y", BOOL, ["N"])])


def reciprocal() -> bytes:
    """x float32 (N,) → y = 1 / x: infinite at 0."""
    return graph([helper.make_node("Reciprocal", ["x"], ["y"])], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])])


def runaway() -> bytes:
    """n int64 scalar → y = n after n turns of a loop: as slow as the caller likes."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Add", ["count_in", "one"], ["count_out"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go_in", BOOL, []),
            helper.make_tensor_value_info("count_in", INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_out", BOOL, []),
            helper.make_tensor_value_info("count_out", INT64, []),
        ],
    )
    return graph(
        [helper.make_node("Loop", ["n", "yes", "zero"], ["y"], body=body)],
        [("n", INT64, [])],
        [("y", INT64, [])],
        [
            helper.make_tensor("yes", BOOL, [], [True]),
            helper.make_tensor("zero", INT64, [], [0]),
            helper.make_tensor("one", INT64, [], [1]),
        ],
    )
