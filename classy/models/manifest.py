"""
The manifest: what a published model says of itself.

Preprocessor, Classifier and Classy read the same one, so they can't disagree about size, channel order or labels.
A published model is a folder in object storage: `<name>/<version>/manifest.json` beside the files it names, and
`<name>/current.json`, the alias that names the version in use.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal, get_args

from classy.errors import ModelSpoilt
from graphpipe_fn.values import dataclass

MANIFEST_NAME = "manifest.json"
ALIAS_NAME = "current.json"
FORMAT = 1

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR", "L"]
Resize = Literal["short-side", "squash"]
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]
OutputKind = Literal["probabilities", "logits"]

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # safe as an object key, a folder and part of name@version
FILE_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # no folder, no hidden file, no other system's path
MANIFEST_LIMIT_BYTES = 4_000_000  # 1,000 labels in ten languages are 300 KB
LABEL_SET_SIZES = {"imagenet-1k": 1000}  # of classy.labels, here so that checking a manifest reads no label file


@dataclass(frozen=True, slots=True)
class InputSpec:
    """
    How the model was trained to see a picture.

    Args:
        name: The graph's input.
        height_px, width_px: What the graph takes, after the crop.
        resize: "short-side" keeps the aspect ratio and crops the centre; "squash" resizes straight to the size.
        resize_px: What the short side becomes before the crop; unused by "squash".
        interpolation: Of the resize, antialiased.
        channel_order: "L" is one grey channel.
        layout: Axis order of the batch.
        mean, deviation: (value − mean) / deviation per channel in `channel_order`, of values 0 to 255; unit-less.
    """

    name: str
    height_px: int
    width_px: int
    resize_px: int
    resize: Resize = "short-side"
    interpolation: Interpolation = "bicubic"
    channel_order: ChannelOrder = "RGB"
    layout: Layout = "NCHW"
    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    deviation: tuple[float, ...] = (127.5, 127.5, 127.5)

    @property
    def channels(self) -> int:
        """Return the number of channels, 1 or 3."""
        return 1 if self.channel_order == "L" else 3

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """Return one picture's shape: (C, H, W) for NCHW, (H, W, C) for NHWC."""
        if self.layout == "NCHW":
            return (self.channels, self.height_px, self.width_px)
        return (self.height_px, self.width_px, self.channels)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """
    What comes out.

    Args:
        name: The graph's output, (N, classes) or (N, classes, 1, 1).
        kind: "logits" are put through softmax, "probabilities" are not.
        classes: Columns that are left after `skip`.
        skip: Leading columns that are no class (the background class of TensorFlow's models).
    """

    name: str
    classes: int
    kind: OutputKind = "probabilities"
    skip: int = 0


@dataclass(frozen=True, slots=True)
class FileSpec:
    """
    One file of a model: its name in the folder, its size and its SHA-256 in hex, by which it is known.

    Args:
        blake3: The same bytes' BLAKE3 in hex, by which a cold start checks them: a tenth of the time, for most
            processors have no instructions for SHA-256. "" in manifests that have none.
    """

    name: str
    bytes: int
    sha256: str
    blake3: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Labels:
    """
    The classes' names.

    Args:
        set: A label set that Classy ships ("imagenet-1k"), or "" where the lists are here.
        names: Per language, one name per class.
        ids: One id per class (WordNet ids for ImageNet), or none.
    """

    set: str = ""
    names: Mapping[str, tuple[str, ...]] | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    A published model.

    Args:
        name, version: Together the model's identity; the version never changes its bytes.
        files: The graph first, then its external data.
        input, output, labels: See their types.
        licence, source: Of the weights: an SPDX name, and where they come from.
        opset: The ONNX opset of the graph.
        description: One line for people.
        drawn: Whether it was trained on drawings, so that the page offers a canvas to draw on.
    """

    name: str
    version: str
    files: tuple[FileSpec, ...]
    input: InputSpec
    output: OutputSpec
    labels: Labels
    licence: str
    source: str
    opset: int
    description: str = ""
    drawn: bool = False

    @property
    def ref(self) -> str:
        """Return `name@version`, as every record and answer names a model."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """Return the graph's SHA-256."""
        return self.files[0].sha256

    def to_json(self) -> bytes:
        """Return the manifest as JSON, the same bytes for the same manifest."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n").encode()


def parse_manifest(text: bytes, *, where: str) -> Manifest:
    """
    Read and check a manifest.

    Args:
        text: The JSON file.
        where: Its place, for the error message.

    Raises:
        ModelSpoilt: not JSON, of another format, or a value that can't be right.
    """
    try:
        data = json.loads(text)
        if data.get("format") != FORMAT:
            raise ValueError(f"format {data.get('format')!r}; this version reads format {FORMAT}")
        labels = data["labels"]
        names = labels.get("names")
        manifest = Manifest(
            name=data["name"],
            version=data["version"],
            files=tuple(FileSpec(**entry) for entry in data["files"]),
            input=InputSpec(**{**data["input"], **_tuples(data["input"], "mean", "deviation")}),
            output=OutputSpec(**data["output"]),
            labels=Labels(
                labels.get("set", ""),
                None if names is None else {lang: tuple(lines) for lang, lines in names.items()},
                tuple(labels.get("ids", ())),
            ),
            **{key: data[key] for key in ("licence", "source", "opset")},
            description=data.get("description", ""),
            drawn=data.get("drawn", False),
        )
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise ModelSpoilt(f"the manifest {where} can't be used: {exc!r}; publish the model again") from exc
    return manifest


def _tuples(data: Mapping[str, Any], *keys: str) -> dict[str, tuple[float, ...]]:
    return {key: tuple(float(value) for value in data[key]) for key in keys if key in data}


def _check(manifest: Manifest) -> None:
    if not NAME_PATTERN.fullmatch(manifest.name) or not NAME_PATTERN.fullmatch(manifest.version):
        raise ValueError(f"{manifest.ref!r:.140} is no name: use a-z, 0-9, '.', '_' and '-', 64 at most")
    if manifest.version == ALIAS_NAME:
        raise ValueError(f"{ALIAS_NAME} is the alias beside the versions, not a version")
    for text in (manifest.licence, manifest.source, manifest.description):
        if type(text) is not str:
            raise TypeError("licence, source and description must be text")
    if type(manifest.drawn) is not bool:
        raise TypeError("drawn must be true or false")
    if not manifest.licence or not manifest.source:
        raise ValueError("licence and source of the weights must be named")
    if not _count(manifest.opset, least=1):
        raise ValueError(f"opset is {manifest.opset!r:.20}")
    _check_files(manifest.files)
    _check_input(manifest.input)
    _check_output(manifest.output)
    _check_labels(manifest.labels, manifest.output.classes)


def _check_files(files: tuple[FileSpec, ...]) -> None:
    names = [file.name for file in files]
    if not names or not all(FILE_PATTERN.fullmatch(name) for name in names) or MANIFEST_NAME in names:
        raise ValueError("files must name plain files of the model's folder, the graph first")
    if len(set(names)) != len(names):
        raise ValueError("files names one of them twice")
    if not all(_count(file.bytes, least=1) and re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in files):
        raise ValueError("each file needs its size and its SHA-256 in hex")
    if not all(re.fullmatch(r"([0-9a-f]{64})?", file.blake3) for file in files):
        raise ValueError("a file's BLAKE3 must be in hex, or left out")


def _check_input(spec: InputSpec) -> None:
    for name, choices in (
        ("layout", Layout),
        ("channel_order", ChannelOrder),
        ("resize", Resize),
        ("interpolation", Interpolation),
    ):
        if getattr(spec, name) not in get_args(choices):
            raise ValueError(f"input.{name} is {getattr(spec, name)!r:.40}, not one of {get_args(choices)}")
    sides = (spec.height_px, spec.width_px, spec.resize_px)
    if not all(_count(side, least=1) and side <= 4096 for side in sides):
        raise ValueError("input sizes must be 1 to 4096 px")
    if spec.resize == "short-side" and spec.resize_px < max(spec.height_px, spec.width_px):
        raise ValueError("input.resize_px must not be smaller than the crop")
    if len(spec.mean) != spec.channels or len(spec.deviation) != spec.channels or 0 in spec.deviation:
        raise ValueError(f"input.mean and input.deviation need {spec.channels} values, no deviation 0")
    if not all(map(math.isfinite, (*spec.mean, *spec.deviation))):
        raise ValueError("input.mean and input.deviation must be finite")
    _check_tensor_name("input.name", spec.name)


def _check_output(output: OutputSpec) -> None:
    if output.kind not in get_args(OutputKind):
        raise ValueError(f"output.kind is {output.kind!r:.40}, not one of {get_args(OutputKind)}")
    if not _count(output.classes, least=1) or not _count(output.skip, least=0):
        raise ValueError("output.classes must be at least 1, output.skip at least 0")
    _check_tensor_name("output.name", output.name)


def _check_labels(labels: Labels, classes: int) -> None:
    if labels.set and LABEL_SET_SIZES.get(labels.set) != classes:
        raise ValueError(f"{classes} classes do not fit the label set {labels.set!r:.40}; known: {LABEL_SET_SIZES}")
    if labels.set and (labels.names or labels.ids):
        raise ValueError("labels has both a set and lists; leave one out")
    for lang, lines in (labels.names or {}).items():
        if len(lines) != classes or not all(type(line) is str for line in lines):
            raise ValueError(f"{len(lines)} labels in {lang!r:.20} for {classes} classes, or not text")
    if labels.ids and (len(labels.ids) != classes or not all(type(line) is str for line in labels.ids)):
        raise ValueError(f"{len(labels.ids)} ids for {classes} classes, or not text")


def _check_tensor_name(field: str, name: object) -> None:
    if type(name) is not str or not name:
        raise TypeError(f"{field} must be the graph's name for it")


def _count(value: object, *, least: int) -> bool:
    # bool is an int to Python, and 1e3 a float to JSON; neither is a size.
    return type(value) is int and value >= least
