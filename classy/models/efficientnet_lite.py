"""
EfficientNet-Lite0 as an ONNX graph, made of the weights that its PyTorch port was published with.

The graph is the network at inference: each batch normalisation is folded into the convolution before it, in
float64, and the padding is TensorFlow's "SAME", which depends on the picture's size; so height and width are fixed
and the batch is free. The same weights give the same bytes.

Source: Tan & Le 2019 (EfficientNet), the lite variants of tensorflow/tpu (no squeeze-and-excite, ReLU6, stem and
head of fixed width) and the port's layer names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from classy.errors import ModelSpoilt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE_PX = 224
CLASSES = 1000
OPSET = 13
IR_VERSION = 8  # of ONNX 1.10, which every onnxruntime of the last five years reads
EPSILON = 1e-3  # of the batch normalisations, TensorFlow's value
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def build_graph(weights: Mapping[str, NDArray[Any]]) -> bytes:
    """
    Build the network.

    Args:
        weights: The port's state dict; every tensor must be there, be of the right shape, and be used.

    Returns:
        An ONNX file: `input` float32 (N, 3, 224, 224) to `probabilities` float32 (N, 1000). Inner nodes have names
        that can be asked for: `stem`, `block_00` to `block_15`, `features` (N, 1280), `logits`.

    Raises:
        ModelSpoilt: a tensor is missing, left over, not finite or of another shape.
    """
    network = _Network(weights)
    node = network.convolution("input", "stem", ("_conv_stem", "_bn0"), channels=STEM_CHANNELS, kernel=3, stride=2)
    index = 0
    for stage in STAGES:
        for place in range(stage.blocks):
            stride = stage.stride if place == 0 else 1
            node = network.block(node, index, stage, stride=stride, residual=place > 0)
            index += 1
    network.convolution(node, "head", ("_conv_head", "_bn1"), channels=HEAD_CHANNELS, kernel=1)
    network.classify("head")
    return network.to_bytes()


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's "SAME" padding of one axis, before and after; the odd pixel goes after."""
    out = -(-side // stride)
    total = max((out - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class _Network:
    """The graph so far. It knows the number of channels and the side that the last convolution left."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._channels = 3
        self._side = SIDE_PX
        import numpy as np

        self._limits = [self._store("relu6_min", np.float32(0)), self._store("relu6_max", np.float32(6))]

    def block(self, source: str, index: int, stage: Stage, *, stride: int, residual: bool) -> str:
        """Add an inverted residual block."""
        name, layer = f"block_{index:02}", f"_blocks.{index}."
        node = source
        if stage.expansion != 1:
            node = self.convolution(
                node, f"{name}_expand", (f"{layer}_expand_conv", f"{layer}_bn0"),
                channels=self._channels * stage.expansion, kernel=1,
            )  # fmt: skip
        node = self.convolution(
            node, f"{name}_depthwise", (f"{layer}_depthwise_conv", f"{layer}_bn1"),
            channels=self._channels, kernel=stage.kernel, stride=stride, depthwise=True,
        )  # fmt: skip
        project = f"{name}_project" if residual else name
        node = self.convolution(
            node, project, (f"{layer}_project_conv", f"{layer}_bn2"),
            channels=stage.channels, kernel=1, activation=False,
        )  # fmt: skip
        if residual:
            node = self._node("Add", [node, source], name)
        return node

    def convolution(
        self,
        source: str,
        name: str,
        layers: tuple[str, str],
        *,
        channels: int,
        kernel: int,
        stride: int = 1,
        depthwise: bool = False,
        activation: bool = True,
    ) -> str:
        """Add a convolution with its batch normalisation (`layers` names both) folded in, and its ReLU6."""
        import numpy as np

        conv, norm = layers
        inputs = 1 if depthwise else self._channels
        kernels = self._take(f"{conv}.weight", (channels, inputs, kernel, kernel))
        gamma, beta, mean, variance = (
            self._take(f"{norm}.{part}", (channels,)) for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise ModelSpoilt(f"the weights can't be used: {norm}.running_var is negative; fetch them again")
        scale = gamma / np.sqrt(variance + EPSILON)
        padding = same_padding(self._side, kernel, stride)
        before, after = padding
        folded = [
            self._store(f"{name}_weight", kernels * scale[:, None, None, None]),
            self._store(f"{name}_bias", beta - mean * scale),
        ]
        linear = f"{name}_linear" if activation else name
        self._node(
            "Conv", [source, *folded], linear,
            kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[before, before, after, after],
            group=channels if depthwise else 1,
        )  # fmt: skip
        self._channels, self._side = channels, -(-self._side // stride)
        return self._node("Clip", [linear, *self._limits], name) if activation else linear

    def classify(self, source: str) -> None:
        """Add the average over the picture, the classes' logits and the softmax."""
        self._node("GlobalAveragePool", [source], "pooled")
        self._node("Flatten", ["pooled"], "features", axis=1)
        matrix = self._store("logits_weight", self._take("_fc.weight", (CLASSES, HEAD_CHANNELS)))
        bias = self._store("logits_bias", self._take("_fc.bias", (CLASSES,)))
        self._node("Gemm", ["features", matrix, bias], "logits", transB=1)
        self._node("Softmax", ["logits"], "probabilities", axis=1)

    def to_bytes(self) -> bytes:
        """Return the finished graph as a file."""
        from onnx import TensorProto, checker, helper

        if self._weights:
            left = ", ".join(sorted(self._weights)[:3])
            raise ModelSpoilt(f"the weights are another network's: nothing uses {left}; fetch them again")
        shape: list[str | int | None] = ["N", 3, SIDE_PX, SIDE_PX]
        graph = helper.make_graph(
            self._nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
            self._initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="classy")
        checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _take(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        import numpy as np

        value = self._weights.pop(name, None)
        if value is None or value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
            found = "missing" if value is None else f"{value.dtype} {list(value.shape)}, or not finite"
            raise ModelSpoilt(
                f"the weights can't be used: {name} is {found}, not finite float32 {list(shape)}; fetch them again"
            )
        return value.astype(np.float64)

    def _store(self, name: str, value: Any) -> str:
        import numpy as np
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.asarray(value, np.float32, order="C"), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
