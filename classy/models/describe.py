"""
A manifest for somebody's own ONNX file: what the graph says by itself is read, what it can't say is asked for.

The graph knows its names, sizes and axis order. How pictures were prepared in training, the classes' names, the
licence and the source it does not; a family's preset and the caller give these. `onnx` is imported to read it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from classy.errors import BadRequest, ModelExists, ModelSpoilt
from classy.models.files import described, mapped, write_whole
from classy.models.manifest import (
    LABEL_SET_SIZES,
    MANIFEST_NAME,
    Labels,
    Layout,
    Manifest,
    OutputSpec,
    parse_manifest,
)
from classy.models.presets import PRESETS, preset_input
from graphpipe_fn.errors import BadModel
from graphpipe_fn.onnx_file import external_files

WEIGHTS_APART_BYTES = 32_000_000  # graphs from this size on get their weights into a file of their own
WEIGHT_BYTES = 1024  # smaller ones stay in the graph
WEIGHTS_NAME = "weights.bin"


def manifest_for(
    onnx_path: Path,
    *,
    name: str,
    version: str,
    preset: str,
    labels: str = "imagenet-1k",
    licence: str,
    source: str,
    logits: bool = False,
    description: str = "",
) -> Manifest:
    """
    Describe an ONNX classifier.

    Args:
        onnx_path: The graph; its external data lies beside it.
        preset: How the model was trained to see a picture, one of PRESETS.
        labels: A label set, or the path of a UTF-8 file with one label per line. A graph with one column more than
            there are labels is one of TensorFlow's, whose first column is the background.
        licence, source: Of the weights: an SPDX name, and where they come from.
        logits: Whether the graph ends before its softmax.

    Raises:
        BadModel: the file is no ONNX graph, or none with one picture batch in and classes out.
        BadRequest: an unknown preset, or labels that can't be read.
        ModelSpoilt: a value that no manifest can have.
    """
    if preset not in PRESETS:
        raise BadRequest(f"unknown preset {preset!r:.80}; there are {', '.join(PRESETS)}")
    model = _loaded(onnx_path)
    input_name, height_px, width_px, layout = _picture_input(model.graph)
    output_name, columns = _class_output(model.graph)
    lists, count = _labels(labels)
    skip = 1 if columns == count + 1 else 0
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    manifest = Manifest(
        name=name,
        version=version,
        files=tuple(described(path) for path in (onnx_path, *_external_files(onnx_path))),
        input=preset_input(preset, name=input_name, height_px=height_px, width_px=width_px, layout=layout),
        output=OutputSpec(output_name, columns - skip, "logits" if logits else "probabilities", skip),
        labels=lists,
        licence=licence,
        source=source,
        opset=opset,
        description=description,
    )
    return parse_manifest(manifest.to_json(), where=f"of {onnx_path.name}")  # checks what the caller gave


def write_model_folder(onnx_path: Path, into: Path, **about: Any) -> Manifest:
    """
    Make a folder that can be published, of an ONNX file and what manifest_for() asks for.

    The model is run once, on noise: what can't be served is refused here and not at a cold start. The weights of a
    large graph are put into a file of their own, which onnxruntime maps instead of parsing it: VGG-16 is loaded in a
    twentieth of the time.

    Args:
        into: Made if need be; the graph and its weights are copied into it.

    Raises:
        BadModel, BadRequest, ModelSpoilt: see manifest_for().
        ModelExists: another model's folder.
        OSError: the folder can't be written.
    """
    if onnx_path.is_file() and onnx_path.stat().st_size >= WEIGHTS_APART_BYTES:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".weights-") as temporary:
            return _written(_weights_apart(onnx_path, Path(temporary)), into, about)
    return _written(onnx_path, into, about)


def _weights_apart(onnx_path: Path, folder: Path) -> Path:
    """Return a copy of a graph in a folder, its weights beside it."""
    import onnx

    copy = folder / onnx_path.name
    onnx.save_model(
        _loaded(onnx_path, whole=True),
        copy,
        save_as_external_data=True,
        location=WEIGHTS_NAME,
        size_threshold=WEIGHT_BYTES,
    )
    return copy


def _written(onnx_path: Path, into: Path, about: dict[str, Any]) -> Manifest:
    manifest = manifest_for(onnx_path, **about)
    _check_folder(into, manifest)
    try_model(manifest, onnx_path)
    into.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        if not (into / file.name).exists() or described(into / file.name) != file:
            part = into / f".{file.name}.{os.getpid()}.part"
            try:
                shutil.copyfile(onnx_path.parent / file.name, part)
                part.replace(into / file.name)
            finally:
                part.unlink(missing_ok=True)
    write_whole(into / MANIFEST_NAME, manifest.to_json())
    return manifest


def _check_folder(into: Path, manifest: Manifest) -> None:
    """
    Refuse to write over another model.

    Another version counts as one: its graph would be gone, and its name would be this one's.
    """
    where = into / MANIFEST_NAME
    try:
        there = parse_manifest(where.read_bytes(), where=str(where))
    except FileNotFoundError:
        return
    except ModelSpoilt as exc:
        raise ModelExists(
            f"{into} holds a manifest.json that is no model's ({exc.message}); name another folder"
        ) from exc
    if there.ref != manifest.ref:
        raise ModelExists(f"{into} holds {there.ref} and would hold {manifest.ref}; name another folder")


def try_model(manifest: Manifest, graph: Path) -> None:
    """
    Load a model and classify one picture of noise.

    Raises:
        ModelSpoilt: it can't be loaded, is not what the manifest says, or answers no probabilities.
    """
    import numpy as np

    from classy.classifier import Classifier
    from classy.models.fetch import FetchedModel
    from graphpipe_fn.messages import InferRequest

    spec = manifest.input
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height_px, spec.width_px, spec.channels))
    picture = ((pixels - np.array(spec.mean)) / np.array(spec.deviation)).astype(np.float32)
    batch = picture.transpose(2, 0, 1)[None] if spec.layout == "NCHW" else picture[None]
    Classifier(FetchedModel(manifest, graph)).infer(InferRequest((batch,)))


def _loaded(path: Path, *, whole: bool = False) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=whole)
    except (OSError, DecodeError, ValueError) as exc:
        raise BadModel(f"{path} is no ONNX file that can be read ({exc}); export it again") from exc


def _picture_input(graph: Any) -> tuple[str, int, int, Layout]:
    weights = {tensor.name for tensor in graph.initializer}  # older files list these among the inputs too
    inputs = [value for value in graph.input if value.name not in weights]
    shapes = [_shape(value) for value in inputs]
    if len(inputs) == 1 and len(shapes[0]) == 4:
        shape = shapes[0]
        sides = {"NCHW": shape[2:], "NHWC": shape[1:3]}
        layouts: tuple[tuple[Layout, int], ...] = (("NCHW", 1), ("NHWC", 3))
        for layout, axis in layouts:
            if shape[axis] == 3 and all(side > 0 for side in sides[layout]):
                return inputs[0].name, sides[layout][0], sides[layout][1], layout
    raise BadModel(
        f"the graph takes {[(value.name, shape) for value, shape in zip(inputs, shapes, strict=True)]}; a classifier "
        "takes one batch of colour pictures, (N, 3, height, width) or (N, height, width, 3), both sides fixed"
    )


def _class_output(graph: Any) -> tuple[str, int]:
    value = graph.output[0] if len(graph.output) == 1 else None
    shape = _shape(value) if value is not None else []
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    if value is None or len(shape) != 2 or shape[1] < 1:
        raise BadModel(
            f"the graph's outputs are {[(value.name, _shape(value)) for value in graph.output]}; a classifier has "
            "one, (N, classes) or (N, classes, 1, 1)"
        )
    return value.name, shape[1]


def _shape(value: Any) -> list[int]:
    """Return the dimensions, -1 for those that the graph leaves open."""
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]


def _labels(labels: str) -> tuple[Labels, int]:
    if labels in LABEL_SET_SIZES:
        return Labels(set=labels), LABEL_SET_SIZES[labels]
    try:
        lines = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(
            f"the labels {labels!r:.200} are no label set ({', '.join(LABEL_SET_SIZES)}) and no UTF-8 file ({exc})"
        ) from exc
    names = tuple(line.strip() for line in lines if line.strip())
    return Labels(names={"en": names}), len(names)


def _external_files(graph: Path) -> list[Path]:
    names = external_files(mapped(graph))
    for name in names:
        if name != os.path.basename(name) or not (graph.parent / name).is_file():
            raise ModelSpoilt(
                f"the graph's weights lie in {name!r:.200}, which is no file beside it; save it again with its "
                "external data in its own folder"
            )
    return [graph.parent / name for name in names]
