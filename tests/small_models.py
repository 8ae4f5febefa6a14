"""Small classifiers of every shape that the real ones have, with their manifests, in folders and in stores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from classy.models.manifest import MANIFEST_NAME, FileSpec, InputSpec, Labels, Manifest, OutputSpec
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage

SIDE_PX, CLASSES = 4, 3
GRAPH_NAME = "graph.onnx"


def dense_weights(columns: int = CLASSES, *, seed: int = 0) -> np.ndarray:
    """Return the weights that the small graphs multiply the mean colour by, float32 (3, columns)."""
    return np.random.default_rng(seed).standard_normal((3, columns)).astype(np.float32)


def small_graph(
    *,
    columns: int = CLASSES,
    seed: int = 0,
    layout: str = "NCHW",
    batch: str | int = "N",
    end: str = "Softmax",
    squares: bool = False,
    ballast_bytes: int = 0,
    external: str = "",
    dtype: int = TensorProto.FLOAT,
) -> bytes:
    """
    Return a graph: pictures `x` → mean colour `mean` → `logits` → `y`.

    Args:
        end: The last operator: Softmax, Identity (for logits), or Log of the logits (NaN where they are negative).
        squares: Let the output be (N, columns, 1, 1), as SqueezeNet's is.
        ballast_bytes: Random weights that do nothing, for a file of some size.
        external: The file that the dense layer's weights lie in.
    """
    weights = dense_weights(columns, seed=seed)
    initializers = [numpy_helper.from_array(weights, "w")]
    nodes = []
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["x"], ["x_nchw"], perm=[0, 3, 1, 2]))
    source = "x_nchw" if layout == "NHWC" else "x"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [source], ["x_float"], to=TensorProto.FLOAT))
        source = "x_float"
    nodes += [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node(end, ["logits"], ["flat" if squares else "y"], **({"axis": 1} if end == "Softmax" else {})),
    ]
    shape: list[Any] = [batch, columns]
    if squares:
        initializers.append(numpy_helper.from_array(np.array([0, columns, 1, 1]), "squares"))
        nodes.append(helper.make_node("Reshape", ["flat", "squares"], ["y"]))
        shape += [1, 1]
    if ballast_bytes:
        noise = np.random.default_rng(seed).bytes(ballast_bytes)
        initializers.append(numpy_helper.from_array(np.frombuffer(noise, np.uint8), "ballast"))
    if external:
        initializers[0].ClearField("raw_data")
        initializers[0].data_location = TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", "0"), ("length", str(weights.nbytes))):
            initializers[0].external_data.add(key=key, value=value)
    sides: list[Any] = [3, SIDE_PX, SIDE_PX] if layout == "NCHW" else [SIDE_PX, SIDE_PX, 3]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", dtype, [batch, *sides])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if not external:
        onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def spec_of(name: str, data: bytes) -> FileSpec:
    """Return a file as a manifest names it."""
    return FileSpec(name, len(data), hashlib.sha256(data).hexdigest())


def small_manifest(files: Mapping[str, bytes], **changes: Any) -> Manifest:
    """Return the manifest of a small graph and its further files."""
    columns = changes.pop("columns", CLASSES)
    manifest = Manifest(
        name="small",
        version="1",
        files=tuple(spec_of(name, data) for name, data in files.items()),
        input=InputSpec("x", SIDE_PX, SIDE_PX, SIDE_PX),
        output=OutputSpec("y", columns),
        labels=Labels(names={"en": tuple(f"class {index}" for index in range(columns))}),
        licence="CC0-1.0",
        source="made by the tests",
        opset=13,
    )
    return replace(manifest, **changes)


def write_folder(folder: Path, files: Mapping[str, bytes], manifest: Manifest) -> Path:
    """Write a folder as `publish` takes it."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST_NAME).write_bytes(manifest.to_json())
    return folder


def small_store(folder: Path, **graph: Any) -> tuple[ModelStore, Manifest]:
    """Publish a small model in a store on disk."""
    files = {GRAPH_NAME: small_graph(**graph)}
    manifest = small_manifest(files)
    store = ModelStore(ObjectStorage(), (folder / "store").as_uri())
    publish(write_folder(folder / "source", files, manifest), store)
    return store, manifest


def stored(store: ModelStore) -> Path:
    """Return the folder of a store on disk that holds small@1."""
    return Path(store.uri.removeprefix("file://")) / "small" / "1"
