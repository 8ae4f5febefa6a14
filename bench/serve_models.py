"""The two models of bench/serve.py, with random weights: one that costs next to nothing, and a MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

# Source: Sandler et al., MobileNetV2, table 2: expansion, channels, repeats, stride.
_BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
_CLASSES = 1000


def tiny(path: Path) -> None:
    """Write x (N, 3, 224, 224) → the mean of each channel (N, 3)."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["y"])]
    _save(path, nodes, [], 3)


def mobilenet(path: Path) -> None:
    """Write x (N, 3, 224, 224) → probabilities (N, 1000), about 10 ms on one core."""
    graph = _Graph()
    value = graph.convolution("x", 3, 32, size=3, stride=2, clip=True)
    channels = 32
    for expansion, width, repeats, first_stride in _BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            inner, hidden = value, channels * expansion
            if expansion > 1:
                inner = graph.convolution(inner, channels, hidden, size=1, clip=True)
            inner = graph.convolution(inner, hidden, hidden, size=3, stride=stride, group=hidden, clip=True)
            inner = graph.convolution(inner, hidden, width, size=1)
            value = graph.node("Add", [inner, value]) if stride == 1 and channels == width else inner
            channels = width
    value = graph.convolution(value, channels, 1280, size=1, clip=True)
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])])
    weights = graph.weights((1280, _CLASSES), 1280)
    value = graph.node("MatMul", [value, weights])
    graph.nodes.append(helper.make_node("Softmax", [value], ["y"]))
    _save(path, graph.nodes, graph.initializers, _CLASSES)


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(5)
        self._limits = [self._constant(np.float32(0)), self._constant(np.float32(6))]

    def node(self, kind: str, inputs: Sequence[str], **attributes: object) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def convolution(
        self, value: str, channels: int, width: int, *, size: int, stride: int = 1, group: int = 1, clip: bool = False
    ) -> str:
        fan_in = channels // group * size * size
        weights = self.weights((width, channels // group, size, size), fan_in)
        pads = [size // 2] * 4
        made = self.node(
            "Conv", [value, weights], kernel_shape=[size, size], strides=[stride] * 2, pads=pads, group=group
        )
        return self.node("Clip", [made, *self._limits]) if clip else made

    def weights(self, shape: tuple[int, ...], fan_in: int) -> str:
        return self._constant((self._random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32))

    def _constant(self, value: np.ndarray | np.float32) -> str:
        array = np.asarray(value)
        name = f"w{len(self.initializers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.tobytes(), raw=True))
        return name


def _save(path: Path, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], classes: int) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
