"""Publishing: in an order that never shows half a model, the same bytes for ever, and anybody's own ONNX file."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_models import GRAPH_NAME, small_graph, small_manifest, small_store, stored, write_folder

from classy.errors import BadRequest, ModelExists, ModelMissing, ModelSpoilt, StorageFailed
from classy.models.fetch import fetch_model
from classy.models.manifest import MANIFEST_NAME
from classy.models.publish import PRESETS, manifest_for, publish, write_model_folder
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from graphpipe_fn.errors import BadModel, GraphPipeError
from graphpipe_fn.messages import InferRequest
from graphpipe_fn.onnx import OnnxModel

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ABOUT: dict[str, Any] = {"name": "mine", "version": "1", "preset": "vgg", "licence": "MIT", "source": "here"}


class Recorded(ObjectStorage):
    """An object storage that notes what is written, and may break off at one of the writes."""

    def __init__(self, breaks_at: int = -1) -> None:
        super().__init__()
        self.written: list[str] = []
        self._breaks_at = breaks_at

    def put(self, uri: str, data: bytes, **options: Any) -> bool:
        if len(self.written) == self._breaks_at:
            raise StorageFailed("the connection broke")
        self.written.append(uri.rpartition("store/")[2])
        return super().put(uri, data, **options)


def folder_with(tmp_path: Path, *, seed: int = 0) -> Path:
    """Write the folder of a model with external data."""
    files = {GRAPH_NAME: small_graph(seed=seed), "weights.bin": np.arange(9, dtype=np.float32).tobytes()}
    return write_folder(tmp_path / f"folder{seed}", files, small_manifest(files))


def test_files_come_first_and_the_alias_last(tmp_path: Path) -> None:
    """Nobody finds a manifest whose files are not there, or an alias whose manifest is not."""
    objects = Recorded()
    publish(folder_with(tmp_path), ModelStore(objects, (tmp_path / "store").as_uri()))
    assert objects.written == [
        "small/1/graph.onnx",
        "small/1/weights.bin",
        "small/1/manifest.json",
        "small/current.json",
    ]


@pytest.mark.parametrize("breaks_at", range(4))
def test_a_publisher_that_was_stopped_shows_nothing_and_can_go_on(breaks_at: int, tmp_path: Path) -> None:
    """Wherever it broke off, the name means no model yet, and publishing again finishes the work."""
    uri = (tmp_path / "store").as_uri()
    with pytest.raises(StorageFailed):
        publish(folder_with(tmp_path), ModelStore(Recorded(breaks_at), uri))
    store = ModelStore(ObjectStorage(), uri)
    with pytest.raises(ModelMissing):
        store.resolve("small")
    manifest = publish(tmp_path / "folder0", store)
    assert store.resolve("small") == manifest
    assert bytes(fetch_model(store, "small", cache_dir=None).graph) == small_graph()


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    """Publishing twice writes the files once."""
    objects = Recorded()
    store = ModelStore(objects, (tmp_path / "store").as_uri())
    publish(folder_with(tmp_path), store)
    del objects.written[:]
    publish(tmp_path / "folder0", store)
    assert objects.written == ["small/current.json"]


def test_other_bytes_under_a_published_version_are_refused(tmp_path: Path) -> None:
    """A version is for ever: the error names it and the remedy, and the store is as it was."""
    store = ModelStore(ObjectStorage(), (tmp_path / "store").as_uri())
    manifest = publish(folder_with(tmp_path), store)
    with pytest.raises(ModelExists, match=r"^small@1 is published in file://.*; a version never changes, so publish"):
        publish(folder_with(tmp_path, seed=5), store)
    assert store.resolve("small") == manifest
    assert bytes(fetch_model(store, "small", cache_dir=None).graph) == small_graph()


def test_another_description_of_a_published_version_is_refused(tmp_path: Path) -> None:
    """Not only the weights: how a picture is prepared changes answers too."""
    store, manifest = small_store(tmp_path)
    changed = replace(manifest, input=replace(manifest.input, channel_order="BGR"))
    with pytest.raises(ModelExists):
        publish(write_folder(tmp_path / "changed", {GRAPH_NAME: small_graph()}, changed), store)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"), id="flipped"),
    ],
)
def test_publishing_again_repairs_a_spoilt_store(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    """The remedy that a fetch's error names is one: the folder's files replace the store's spoilt ones."""
    store, _ = small_store(tmp_path)
    spoil(stored(store) / GRAPH_NAME)
    with pytest.raises(ModelSpoilt, match="publish small@1 again from its folder"):
        fetch_model(store, "small", cache_dir=None)
    publish(tmp_path / "source", store)
    assert bytes(fetch_model(store, "small", cache_dir=None).graph) == small_graph()


def test_a_stopped_publishers_other_bytes_are_not_overwritten(tmp_path: Path) -> None:
    """Files without a manifest may be another publisher's, half way: they are refused, not replaced."""
    uri = (tmp_path / "store").as_uri()
    with pytest.raises(StorageFailed):
        publish(folder_with(tmp_path), ModelStore(Recorded(2), uri))
    with pytest.raises(ModelExists, match="somebody is publishing it, or was stopped"):
        publish(folder_with(tmp_path, seed=5), ModelStore(ObjectStorage(), uri))


def test_of_publishers_at_once_one_wins_whole(tmp_path: Path) -> None:
    """Eight publishers of two models under one version: what can be fetched then is one of them, undamaged."""
    folders = [folder_with(tmp_path, seed=seed) for seed in (0, 5)]
    store = ModelStore(ObjectStorage(), (tmp_path / "store").as_uri())
    ready = threading.Barrier(8)
    refused: list[int] = []

    def run(place: int) -> None:
        ready.wait()
        try:
            publish(folders[place % 2], store)
        except ModelExists:
            refused.append(place % 2)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    graph = bytes(fetch_model(store, "small", cache_dir=None).graph)
    assert graph in (small_graph(), small_graph(seed=5))
    assert set(refused) == {1 if graph == small_graph() else 0}


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda f: (f / "manifest.json").unlink(), "manifest.json can't be read", id="no manifest"),
        pytest.param(lambda f: (f / "weights.bin").unlink(), "weights.bin can't be read", id="no file"),
        pytest.param(
            lambda f: (f / "weights.bin").write_bytes(b"1" * 36), "not the manifest's 36 and", id="other file"
        ),
        pytest.param(lambda f: (f / "manifest.json").write_text("{}"), "can't be used", id="no manifest in it"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    spoil: Callable[[Path], object], complaint: str, tmp_path: Path
) -> None:
    """Nothing of it is uploaded."""
    objects = Recorded()
    folder = folder_with(tmp_path)
    spoil(folder)
    with pytest.raises(ModelSpoilt, match=complaint):
        publish(folder, ModelStore(objects, (tmp_path / "store").as_uri()))
    assert objects.written == []


@pytest.mark.parametrize(
    ("graph", "preset", "want"),
    [
        pytest.param(
            {"columns": 1000}, "vgg",
            {"layout": "NCHW", "channel_order": "BGR", "mean": (103.939, 116.779, 123.68), "deviation": (1, 1, 1)},
            id="vgg",
        ),
        pytest.param(
            {"columns": 1000, "layout": "NHWC"}, "caffe",
            {"layout": "NHWC", "channel_order": "BGR", "interpolation": "bilinear", "resize_px": 5},
            id="caffe, channels last",
        ),
        pytest.param(
            {"columns": 1000, "squares": True}, "torchvision",
            {"channel_order": "RGB", "mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)},
            id="torchvision, output of four dimensions",
        ),
        pytest.param(
            {"columns": 1000, "batch": 1}, "efficientnet-lite",
            {"interpolation": "bicubic", "mean": (127.0,) * 3, "deviation": (128.0,) * 3, "height_px": 4},
            id="efficientnet-lite, one row at a time",
        ),
        pytest.param({"columns": 1000}, "tensorflow", {"mean": (127.5,) * 3, "resize_px": 5}, id="tensorflow"),
    ],
)  # fmt: skip
def test_a_graph_says_its_own_names_and_shapes(
    graph: dict[str, Any], preset: str, want: dict[str, Any], tmp_path: Path
) -> None:
    """Names, sizes and axis order come from the graph; the preset gives what it can't know."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_graph(**graph))
    manifest = manifest_for(path, **ABOUT | {"preset": preset})
    have = {name: getattr(manifest.input, name) for name in want}
    assert have == want
    assert (manifest.input.name, manifest.output.name, manifest.output.classes, manifest.output.skip) == (
        "x", "y", 1000, 0,
    )  # fmt: skip
    assert (manifest.opset, manifest.files[0].name, manifest.labels.set) == (13, "mine.onnx", "imagenet-1k")


def test_presets_are_those_of_a_224_px_model() -> None:
    """VGG's short side is 256 for a crop of 224, and TensorFlow's background column is skipped."""
    manifest = manifest_for(LIGHT / "light_vgg19.onnx", **ABOUT)
    spec = manifest.input
    assert (spec.name, spec.height_px, spec.width_px, spec.resize_px, spec.resize) == (
        "data_0", 224, 224, 256, "short-side",
    )  # fmt: skip
    assert (manifest.output.name, manifest.output.classes, manifest.opset) == ("prob_1", 1000, 9)


def test_the_background_column_is_skipped(tmp_path: Path) -> None:
    """A graph with one column more than there are labels starts with the background."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_graph(columns=1001))
    output = manifest_for(path, **ABOUT).output
    assert (output.classes, output.skip) == (1000, 1)


def test_labels_come_from_a_file(tmp_path: Path) -> None:
    """One label per line, in UTF-8, with or without a byte order mark and a last line end."""
    (tmp_path / "mine.onnx").write_bytes(small_graph())
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\r\n犬\nbird \n\n".encode())
    manifest = manifest_for(tmp_path / "mine.onnx", **ABOUT, labels=str(tmp_path / "labels.txt"))
    assert manifest.labels.names == {"en": ("cat", "犬", "bird")}


@pytest.mark.parametrize(
    ("graph", "about", "error", "complaint"),
    [
        pytest.param(b"", {}, BadModel, "the graph takes", id="empty file"),
        pytest.param(b"<html>" * 9, {}, BadModel, "no ONNX file", id="html"),
        pytest.param(small_graph()[:99], {}, BadModel, "no ONNX file", id="cut"),
        pytest.param(small_graph(), {"preset": "yolo"}, BadRequest, "there are vgg, caffe", id="unknown preset"),
        pytest.param(small_graph(), {"labels": "coco"}, BadRequest, "no label set", id="unknown labels"),
        pytest.param(small_graph(), {}, ModelSpoilt, "3 classes do not fit", id="labels of another size"),
        pytest.param(small_graph(columns=1000), {"name": "My VGG"}, ModelSpoilt, "is no name", id="bad name"),
        pytest.param(small_graph(columns=1000), {"licence": ""}, ModelSpoilt, "licence and source", id="no licence"),
        pytest.param(
            small_graph(columns=1000, external="../w.bin"),
            {},
            ModelSpoilt,
            "no file beside it",
            id="weights elsewhere",
        ),
        pytest.param(
            small_graph(columns=1000, external="w.bin"), {}, ModelSpoilt, "no file beside it", id="weights missing"
        ),
    ],
)
def test_what_can_not_be_described_is_refused(
    graph: bytes, about: dict[str, Any], error: type[GraphPipeError], complaint: str, tmp_path: Path
) -> None:
    """Each mistake is our own error with the culprit in it."""
    (tmp_path / "mine.onnx").write_bytes(graph)
    with pytest.raises(error, match=complaint):
        manifest_for(tmp_path / "mine.onnx", **ABOUT | about)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        pytest.param([("x", ["N", 3, 8, 8]), ("z", [1])], [("y", ["N", 1000])], id="two inputs"),
        pytest.param([("x", ["N", 3, "H", "W"])], [("y", ["N", 1000])], id="free sides"),
        pytest.param([("x", ["N", 1, 8, 8])], [("y", ["N", 1000])], id="grey pictures"),
        pytest.param([("x", ["N", 192])], [("y", ["N", 1000])], id="no picture"),
        pytest.param([("x", ["N", 3, 8, 8])], [("y", ["N", 1000]), ("z", ["N", 4])], id="two outputs"),
        pytest.param([("x", ["N", 3, 8, 8])], [("y", ["N", 8, 8, 21])], id="segmentation"),
        pytest.param([("x", ["N", 3, 8, 8])], [("y", ["N", "classes"])], id="free classes"),
    ],
)
def test_a_graph_that_is_no_picture_classifier_is_refused(
    inputs: list[tuple[str, list[Any]]], outputs: list[tuple[str, list[Any]]], tmp_path: Path
) -> None:
    """The error says what the graph takes or gives, and what a classifier has."""
    values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side]
              for side in (inputs, outputs)]  # fmt: skip
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *values)
    (tmp_path / "mine.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(BadModel, match=r"a classifier (takes|has) one"):
        manifest_for(tmp_path / "mine.onnx", **ABOUT)


def test_ones_own_model_goes_from_a_file_to_a_fetched_model(tmp_path: Path) -> None:
    """A folder is made of an ONNX file with external data, published, and fetched as it was."""
    (tmp_path / "mine.onnx").write_bytes(small_graph(columns=1000, external="weights.bin"))
    weights = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32).tobytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    manifest = write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT)
    assert [file.name for file in manifest.files] == ["mine.onnx", "weights.bin"]
    assert write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT) == manifest
    store = ModelStore(ObjectStorage(), (tmp_path / "store").as_uri())
    assert publish(tmp_path / "folder", store) == manifest
    fetched = fetch_model(store, "mine", cache_dir=tmp_path / "cache")
    assert isinstance(fetched.graph, Path)
    assert fetched.graph.with_name("weights.bin").read_bytes() == weights


def test_a_large_graphs_weights_lie_apart(tmp_path: Path) -> None:
    """They are mapped at a cold start instead of being parsed; the answers are those of the single file."""
    (tmp_path / "mine.onnx").write_bytes(small_graph(columns=1000, ballast_bytes=33_000_000))
    manifest = write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT)
    assert [file.name for file in manifest.files] == ["mine.onnx", "weights.bin"]
    assert manifest.files[0].bytes < 10_000
    assert manifest.files[1].bytes >= 33_000_000
    assert write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "mine.onnx"]  # nothing is left over
    batch = np.random.default_rng(1).random((1, *manifest.input.row_shape), dtype=np.float32)
    whole, apart = (
        np.asarray(OnnxModel(path).infer(InferRequest((batch,))).outputs[0])
        for path in (tmp_path / "mine.onnx", tmp_path / "folder" / "mine.onnx")
    )
    np.testing.assert_array_equal(whole, apart)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"name": "other"}, "holds mine@1 and would hold other@1", id="another name"),
        pytest.param({"version": "2"}, "holds mine@1 and would hold mine@2", id="another version"),
        pytest.param(None, "no model's", id="another program's manifest.json"),
    ],
)
def test_another_models_folder_is_refused_and_stays_as_it_was(
    change: dict[str, str] | None, words: str, tmp_path: Path
) -> None:
    """A slip in --into costs nobody a model."""
    (tmp_path / "mine.onnx").write_bytes(small_graph(columns=1000))
    (tmp_path / "folder").mkdir()
    if change is None:
        (tmp_path / "folder" / MANIFEST_NAME).write_text('{"short_name": "a web app"}')
    else:
        write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT)
    before = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    (tmp_path / "mine.onnx").write_bytes(small_graph(columns=1000, seed=3))
    with pytest.raises(ModelExists, match=words):
        write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **{**ABOUT, **(change or {})})
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}


@pytest.mark.parametrize("end", ["Softmax", "Identity"])
def test_a_model_is_run_before_it_is_published(end: str, tmp_path: Path) -> None:
    """Whoever forgets to say that a graph ends in logits is told so at once."""
    (tmp_path / "mine.onnx").write_bytes(small_graph(columns=1000, end=end))
    if end == "Softmax":
        write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT)
    else:
        with pytest.raises(ModelSpoilt, match="where its manifest says probabilities; publish it again"):
            write_model_folder(tmp_path / "mine.onnx", tmp_path / "folder", **ABOUT)
        assert not (tmp_path / "folder").exists()
    write_model_folder(tmp_path / "mine.onnx", tmp_path / "logits", **ABOUT, logits=True)


def test_the_command_line_publishes_ones_own_model(tmp_path: Path) -> None:
    """`classy model manifest`, then `classy model publish`, then `classy model list` shows it."""
    (tmp_path / "vgg16.onnx").write_bytes(small_graph(columns=1000))
    run = [sys.executable, "-m", "classy.cli", "--state-dir", str(tmp_path / "state"), "model"]
    about = [
        "--name",
        "vgg16",
        "--version",
        "1",
        "--preset",
        "vgg",
        "--licence",
        "CC-BY-4.0",
        "--source",
        "Oxford VGG",
    ]
    commands = [
        [*run, "manifest", str(tmp_path / "vgg16.onnx"), "--into", str(tmp_path / "folder"), *about],
        [*run, "publish", str(tmp_path / "folder")],
        [*run, "list"],
    ]
    said = [subprocess.run(command, capture_output=True, text=True, timeout=60) for command in commands]
    assert [(done.returncode, done.stderr) for done in said] == [(0, "")] * 3
    assert said[2].stdout.startswith("vgg16@1\t")


def test_the_command_lines_presets_exist() -> None:
    """The command line lists presets without importing this; what it lists is there."""
    from classy.commands.arguments import PRESETS as OFFERED

    assert set(OFFERED) <= set(PRESETS)
