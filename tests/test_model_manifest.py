"""The manifest: what it says survives the journey through JSON, and what can't be right is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from small_models import GRAPH_NAME, small_graph, small_manifest

from classy.errors import ModelSpoilt
from classy.labels import LABEL_SETS, class_ids
from classy.models.default import default_manifest
from classy.models.manifest import LABEL_SET_SIZES, FileSpec, InputSpec, Labels, Manifest, parse_manifest

SMALL = small_manifest({GRAPH_NAME: small_graph()})
DEFAULT = default_manifest(FileSpec("graph.onnx", 1, "0" * 64), FileSpec("weights.bin", 1, "0" * 64))
GREY = replace(
    SMALL,
    input=InputSpec("x", 28, 28, 28, "squash", "lanczos", "L", "NHWC", (0.0,), (255.0,)),
    labels=Labels(names={"en": ("a", "b", "c"), "ja": ("あ", "い", "う")}, ids=("n1", "n2", "n3")),
    drawn=True,
)


@pytest.mark.parametrize("manifest", [SMALL, DEFAULT, GREY], ids=["small", "default", "grey"])
def test_json_and_back_is_the_same_manifest(manifest: Manifest) -> None:
    """Nothing is lost or changed on the way, and the same manifest is the same bytes."""
    text = manifest.to_json()
    assert parse_manifest(text, where="m") == manifest
    assert parse_manifest(text, where="m").to_json() == text


def test_a_manifest_from_before_drawings_is_one_of_photos() -> None:
    """A manifest without `drawn` reads as that of a model for photos, so what is published stays published."""
    data = json.loads(SMALL.to_json())
    del data["drawn"]
    assert parse_manifest(json.dumps(data).encode(), where="m") == SMALL


def test_label_sets_have_the_sizes_that_manifests_are_checked_by() -> None:
    """The table that spares manifests the reading of label files agrees with the files."""
    assert {name: len(class_ids(name)) for name in LABEL_SETS} == LABEL_SET_SIZES


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return change


def _drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return change


WRONG = {
    "format of the future": _set("format", to=2),
    "no format": _drop("format"),
    "no name": _drop("name"),
    "name with a folder": _set("name", to="a/b"),
    "name that climbs": _set("name", to=".."),
    "name with capitals": _set("name", to="VGG"),
    "name of 65 letters": _set("name", to="a" * 65),
    "name that is a number": _set("name", to=16),
    "name with a line break": _set("name", to="small\n"),
    "version that is a number": _set("version", to=1),
    "version that is the alias": _set("version", to="current.json"),
    "no files": _set("files", to=[]),
    "files as an object": _set("files", to={"name": "a"}),
    "file that climbs": _set("files", 0, "name", to="../graph.onnx"),
    "file with an absolute path": _set("files", 0, "name", to="/etc/passwd"),
    "file with a backslash": _set("files", 0, "name", to="..\\graph.onnx"),
    "hidden file": _set("files", 0, "name", to=".lock"),
    "file with a NUL": _set("files", 0, "name", to="graph\0.onnx"),
    "file that is the manifest": _set("files", 0, "name", to="manifest.json"),
    "file of no bytes": _set("files", 0, "bytes", to=0),
    "file of -1 bytes": _set("files", 0, "bytes", to=-1),
    "file of a fraction of bytes": _set("files", 0, "bytes", to=10.5),
    "file of true bytes": _set("files", 0, "bytes", to=True),
    "checksum too short": _set("files", 0, "sha256", to="ab"),
    "checksum in capitals": _set("files", 0, "sha256", to="A" * 64),
    "checksum that is none": _set("files", 0, "sha256", to=None),
    "file with a further field": _set("files", 0, "mode", to=7),
    "layout of no axes": _set("input", "layout", to="CHWN"),
    "unknown channel order": _set("input", "channel_order", to="RBG"),
    "unknown resize": _set("input", "resize", to="stretch"),
    "unknown interpolation": _set("input", "interpolation", to="cubic"),
    "layout that is a list": _set("input", "layout", to=["NCHW"]),
    "no height": _set("input", "height_px", to=0),
    "height of 5,000": _set("input", "height_px", to=5000),
    "width as text": _set("input", "width_px", to="224"),
    "crop larger than the picture": _set("input", "resize_px", to=3),
    "two means": _set("input", "mean", to=[1, 2]),
    "mean that is not a number": _set("input", "mean", to=[1, 2, float("nan")]),
    "infinite deviation": _set("input", "deviation", to=[1, 1, float("inf")]),
    "mean beyond floats": _set("input", "mean", to=[1, 2, 10**400]),
    "deviation 0": _set("input", "deviation", to=[1, 1, 0]),
    "no input name": _set("input", "name", to=""),
    "unknown output kind": _set("output", "kind", to="votes"),
    "no classes": _set("output", "classes", to=0),
    "classes as text": _set("output", "classes", to="3"),
    "skip of -1": _set("output", "skip", to=-1),
    "output name that is none": _set("output", "name", to=None),
    "two labels for three classes": _set("labels", "names", "en", to=["a", "b"]),
    "labels that are numbers": _set("labels", "names", "en", to=[1, 2, 3]),
    "two ids for three classes": _set("labels", "ids", to=["n1", "n2"]),
    "unknown label set": _set("labels", to={"set": "imagenet-22k"}),
    "label set of another size": _set("labels", to={"set": "imagenet-1k"}),
    "label set and labels": _set("labels", "set", to="imagenet-1k"),
    "no labels": _drop("labels"),
    "no licence": _set("licence", to=""),
    "no source": _drop("source"),
    "licence that is a list": _set("licence", to=["MIT"]),
    "opset 0": _set("opset", to=0),
    "opset as text": _set("opset", to="13"),
    "description that is a number": _set("description", to=5),
    "drawn that is a text": _set("drawn", to="yes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused(name: str) -> None:
    """A manifest with one wrong value is refused by our own error, which names the manifest and the remedy."""
    data = json.loads(SMALL.to_json())
    WRONG[name](data)
    with pytest.raises(ModelSpoilt, match=r"^the manifest s3://m/x can't be used: .*; publish the model again$"):
        parse_manifest(json.dumps(data).encode(), where="s3://m/x")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="number"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="deep list"),
        pytest.param(b'{"format":1,"a":' + b'{"a":' * 100_000, id="deep object"),
        pytest.param(SMALL.to_json()[:-20], id="cut"),
        pytest.param(SMALL.to_json() * 2, id="doubled"),
        pytest.param(b'{"format": 1' + b"0" * 5000 + b"}", id="number of 5,000 digits"),
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    """Whatever the bytes, nothing but our own error comes out."""
    with pytest.raises(ModelSpoilt):
        parse_manifest(text, where="m")


def test_two_files_of_one_name_are_refused() -> None:
    """The second would overwrite the first, after both were checked."""
    twice = replace(SMALL, files=(SMALL.files[0], SMALL.files[0]))
    with pytest.raises(ModelSpoilt, match="twice"):
        parse_manifest(twice.to_json(), where="m")
