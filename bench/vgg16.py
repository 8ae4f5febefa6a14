"""VGG-16 with made-up weights: 553 MB and 15.5 G multiplications, as the published ones, and no package to fetch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0 halves the sides
DENSE = (4096, 4096, 1000)
SEED = 16


def write_vgg16(path: Path) -> None:
    """
    Write the graph: float32 (N, 3, 224, 224) `data` → probabilities (N, 1000), everything in one file.

    Source: Simonyan and Zisserman, Very Deep Convolutional Networks, configuration D.
    """
    rng = np.random.default_rng(SEED)
    initializers, nodes = [], []
    last, width, side = "data", 3, 224

    def weights(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        scale = np.float32(np.sqrt(2 / fan_in)) if len(shape) > 1 else np.float32(0)
        values = rng.standard_normal(shape, dtype=np.float32) * scale
        initializers.append(numpy_helper.from_array(values, name))
        return name

    def add(kind: str, inputs: list[str], **options: object) -> str:
        out = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [out], **options))
        return out

    for place, channels in enumerate(CHANNELS):
        if not channels:
            last, side = add("MaxPool", [last], kernel_shape=[2, 2], strides=[2, 2]), side // 2
            continue
        kernel, bias = weights(f"w{place}", channels, width, 3, 3), weights(f"b{place}", channels)
        last = add("Relu", [add("Conv", [last, kernel, bias], kernel_shape=[3, 3], pads=[1, 1, 1, 1])])
        width = channels
    last, width = add("Flatten", [last]), width * side * side
    for place, columns in enumerate(DENSE):
        kernel, bias = weights(f"fc{place}", columns, width), weights(f"fb{place}", columns)
        last, width = add("Gemm", [last, kernel, bias], transB=1), columns
        if place < len(DENSE) - 1:
            last = add("Relu", [last])
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "vgg16",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 1000])],
        initializers,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
