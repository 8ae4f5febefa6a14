"""The classifier: every kind of graph gives probabilities, and what can't be classified is an error of its row."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from default_model import default_model
from direct import direct_input, direct_probabilities
from onnx import helper
from photos import PHOTOS, photo
from small_models import CLASSES, GRAPH_NAME, SIDE_PX, dense_weights, small_graph, small_manifest

from classy.classifier import Classifier
from classy.errors import ModelSpoilt
from classy.models.fetch import FetchedModel
from classy.models.manifest import InputSpec, OutputSpec
from classy.models.publish import manifest_for
from graphpipe_fn.errors import BadTensor, TimedOut, TooLarge, UnknownName
from graphpipe_fn.messages import Call, DType, InferRequest, StringTensor, strings
from graphpipe_fn.rows import decode_row_errors

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def classifier(graph: bytes | None = None, **changes: Any) -> Classifier:
    """Return the classifier of a small graph."""
    limit_rows = changes.pop("limit_rows", 64)
    graph = small_graph() if graph is None else graph
    manifest = small_manifest({GRAPH_NAME: graph}, **changes)
    return Classifier(FetchedModel(manifest, memoryview(graph)), limit_rows=limit_rows)


def batch(rows: int, *, layout: str = "NCHW", seed: int = 1) -> np.ndarray:
    """Return a batch of noise."""
    pixels = np.random.default_rng(seed).standard_normal((rows, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    return pixels if layout == "NCHW" else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def softmax(pixels: np.ndarray, *, columns: int = CLASSES, skip: int = 0) -> np.ndarray:
    """Return what a small graph's probabilities are, by float64; skipped columns count in the softmax."""
    means = pixels.astype(np.float64).mean((2, 3))
    powers = np.exp(means @ dense_weights(columns).astype(np.float64))
    return (powers / powers.sum(1, keepdims=True))[:, skip:]


def ask(model: Classifier, *inputs: Any, names: tuple[str, ...] = (), **more: Any) -> tuple[Any, ...]:
    """Return the outputs of one request."""
    return model.infer(InferRequest(inputs, output_names=names, **more)).outputs


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize(
    ("graph", "changes"),
    [
        pytest.param({}, {}, id="probabilities"),
        pytest.param({"end": "Identity"}, {"output": OutputSpec("y", CLASSES, "logits")}, id="logits"),
        pytest.param({"squares": True}, {}, id="four dimensions"),
        pytest.param({"batch": 1}, {}, id="one row at a time"),
        pytest.param(
            {"batch": 1, "squares": True, "end": "Identity"},
            {"output": OutputSpec("y", CLASSES, "logits")},
            id="logits of four dimensions, one row at a time",
        ),
        pytest.param(
            {"layout": "NHWC"},
            {"input": InputSpec("x", SIDE_PX, SIDE_PX, SIDE_PX, layout="NHWC")},
            id="channels last",
        ),
    ],
)
def test_every_kind_of_graph_gives_probabilities(graph: dict[str, Any], changes: dict[str, Any], rows: int) -> None:
    """Float32 (N, classes), one row for each picture, whatever the graph's own shape and end."""
    model = classifier(small_graph(**graph), **changes)
    (answer,) = ask(model, batch(rows, layout=graph.get("layout", "NCHW")))
    assert (answer.dtype, answer.shape) == (np.float32, (rows, CLASSES))
    assert answer == pytest.approx(softmax(batch(rows)), abs=1e-6)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_columns_that_are_no_class_are_dropped(kind: Any) -> None:
    """TensorFlow's background column is skipped; of logits the softmax is over the classes that are left."""
    end = "Softmax" if kind == "probabilities" else "Identity"
    output = OutputSpec("y", CLASSES, kind, skip=1)
    (answer,) = ask(classifier(small_graph(columns=CLASSES + 1, end=end), output=output), batch(2))
    want = softmax(batch(2), columns=CLASSES + 1, skip=1)
    if kind == "logits":
        want = want / want.sum(1, keepdims=True)
    assert answer == pytest.approx(want, abs=1e-6)


def test_large_logits_do_not_overflow() -> None:
    """The softmax is stable: logits of ±80,000 are a certain class, not NaN."""
    model = classifier(small_graph(end="Identity"), output=OutputSpec("y", CLASSES, "logits"))
    (answer,) = ask(model, batch(2) * np.float32(1e5))
    assert np.isfinite(answer).all()
    assert answer.sum(1) == pytest.approx([1, 1])
    assert answer.argmax(1).tolist() == softmax(batch(2)).argmax(1).tolist()


def test_metadata_names_what_is_served() -> None:
    """Name and version are the manifest's, the input the graph's; the batch is free even where the graph's is not."""
    metadata = classifier(small_graph(batch=1), description="small").metadata()
    assert (metadata.name, metadata.version, metadata.server, metadata.description) == (
        "small",
        "1",
        "classy",
        "small",
    )
    assert [(io.name, io.shape, io.dtype) for io in metadata.inputs] == [("x", (-1, 3, 4, 4), DType.FLOAT32)]
    assert [(io.name, io.shape, io.dtype) for io in metadata.outputs] == [
        ("probabilities", (-1, CLASSES), DType.FLOAT32),
        ("errors", (-1,), DType.STRING),
        ("model", (-1,), DType.STRING),
        ("about", (-1,), DType.STRING),
    ]


@pytest.mark.parametrize("names", [(), ("",), ("x",), ("input",)], ids=str)
def test_the_input_goes_by_its_own_name_and_by_input(names: tuple[str, ...]) -> None:
    """Nobody has to know what the graph calls its input."""
    (answer,) = ask(classifier(), batch(1), input_names=names)
    assert answer == pytest.approx(softmax(batch(1)), abs=1e-6)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_outputs_come_in_the_order_asked(one_by_one: bool) -> None:
    """The classifier's own outputs and any of the graph's values, in one answer."""
    model = classifier(small_graph(batch=1 if one_by_one else "N"))
    names = ("model", "mean", "probabilities", "errors", "logits", "y")
    refs, mean, probabilities, errors, logits, last = ask(model, batch(2), names=names)
    assert refs == strings(["small@1", "small@1"])
    assert errors == strings(["", ""])
    assert mean == pytest.approx(batch(2).mean((2, 3)), abs=1e-6)
    assert logits == pytest.approx(batch(2).mean((2, 3)) @ dense_weights(), abs=1e-6)
    assert probabilities == pytest.approx(softmax(batch(2)), abs=1e-6)
    assert last.tolist() == probabilities.tolist()


WRONG = {
    "no rows": ((batch(0),), {}, BadTensor, "an empty batch; send at least one row"),
    "too many rows": ((batch(5),), {}, TooLarge, "5 rows in one request; the limit is 4, send them in parts"),
    "float64": ((batch(1).astype(np.float64),), {}, BadTensor, "takes float32, not float64"),
    "uint8": ((batch(1).astype(np.uint8),), {}, BadTensor, "takes float32, not uint8"),
    "text": ((strings(["cat.jpg"]),), {}, BadTensor, "takes float32, not string"),
    "one picture without a batch": ((batch(1)[0],), {}, BadTensor, r"takes shape \[-1, 3, 4, 4\]"),
    "channels last": ((batch(1, layout="NHWC"),), {}, BadTensor, r"not \[1, 4, 4, 3\]"),
    "another size": ((np.zeros((1, 3, 5, 4), np.float32),), {}, BadTensor, r"not \[1, 3, 5, 4\]"),
    "a number": ((np.float32(1).reshape(()),), {}, BadTensor, r"not \[\]"),
    "no input": ((), {}, UnknownName, "no tensor for input"),
    "two inputs": ((batch(1), batch(1)), {}, UnknownName, "2 inputs were sent"),
    "unknown input": ((batch(1),), {"input_names": ("data_0",)}, UnknownName, 'unknown input "data_0"'),
    "unknown output": ((batch(1),), {"names": ("top5",)}, UnknownName, 'unknown output "top5"'),
    "unknown output beside known ones": ((batch(1),), {"names": ("", "errors", "top5")}, UnknownName, '"top5"'),
    "deadline over": ((batch(1),), {"call": Call(deadline_s=time.monotonic() - 1)}, TimedOut, "deadline"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_model_can_not_take_is_refused(case: str) -> None:
    """The whole request is refused, by an error that names the culprit, and never by a 500."""
    inputs, more, error, complaint = WRONG[case]
    with pytest.raises(error, match=complaint) as refused:
        ask(classifier(limit_rows=4), *inputs, **more)
    assert refused.value.status < 500 or error is TimedOut


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_does_not_spoil_the_others(value: float, one_by_one: bool) -> None:
    """Its error is in its place, its probabilities are zeros, and the other rows are as if it were not there."""
    pixels = batch(3)
    pixels[1, 2, 3, 0] = value
    model = classifier(small_graph(batch=1 if one_by_one else "N"))
    probabilities, errors, refs, mean = ask(model, pixels, names=("", "errors", "model", "mean"))
    good = softmax(batch(3))
    assert probabilities == pytest.approx(np.stack([good[0], np.zeros(CLASSES), good[2]]), abs=1e-6)
    assert mean[1].tolist() == [0, 0, 0]
    first, second, third = decode_row_errors(errors)
    assert (first, third) == (None, None)
    assert second is not None
    assert (second.code, second.message) == (42200, "it holds NaN or infinity; send finite numbers")
    assert refs == strings(["small@1"] * 3)


def test_a_bad_row_is_named_where_row_errors_were_not_asked_for() -> None:
    """The original clients know no row errors: they get the first bad row's, with its place."""
    pixels = batch(3)
    pixels[1:, 0, 0, 0] = np.nan
    with pytest.raises(BadTensor, match=r"^row 2 of 3: it holds NaN or infinity; send finite numbers$"):
        ask(classifier(), pixels)
    with pytest.raises(BadTensor, match=r"^it holds NaN"):
        ask(classifier(), pixels[1:2])


def test_where_every_row_is_bad_each_has_its_error() -> None:
    """There is nothing to run then, and the answer still has its shape."""
    probabilities, errors, mean = ask(classifier(), np.full_like(batch(2), np.nan), names=("", "errors", "mean"))
    assert (probabilities.shape, probabilities.any()) == ((2, CLASSES), False)
    assert [error.code for error in decode_row_errors(errors) if error] == [42200, 42200]
    assert mean == StringTensor((), (0,))


def test_huge_values_are_the_callers_fault() -> None:
    """Finite numbers that no picture has lead to an error of their row, never to NaN, and not to a 500."""
    pixels = batch(2)
    pixels[0] = 3e38
    model = classifier(small_graph(end="Identity"), output=OutputSpec("y", CLASSES, "logits"))
    probabilities, errors = ask(model, pixels, names=("", "errors"))
    assert probabilities == pytest.approx(np.stack([np.zeros(3), softmax(batch(2))[1]]), abs=1e-6)
    first, second = decode_row_errors(errors)
    assert second is None
    assert first is not None
    assert first.code == 42200
    assert first.message.startswith("values up to 3e+38 lead to no probabilities; send normalised pixels")


@pytest.mark.parametrize(
    ("end", "kind", "complaint"),
    [
        pytest.param("Log", "logits", "answered nan to nan where its manifest says logits", id="NaN"),
        pytest.param("Identity", "probabilities", "where its manifest says probabilities", id="logits unannounced"),
    ],
)
def test_an_answer_that_is_none_is_never_class_0(end: str, kind: Any, complaint: str) -> None:
    """NaN out of ordinary pixels, or numbers that are no probabilities, are the model's fault and say so."""
    model = classifier(small_graph(end=end), output=OutputSpec("y", CLASSES, kind))
    probabilities, errors = ask(model, batch(1) * 50, names=("", "errors"))
    assert not probabilities.any()
    (error,) = decode_row_errors(errors)
    assert error is not None
    assert (error.code, complaint in error.message) == (ModelSpoilt.code, True)
    with pytest.raises(ModelSpoilt, match=complaint):
        ask(model, batch(1) * 50)


def test_a_value_without_rows_is_had_only_where_no_row_failed() -> None:
    """The weights themselves can be asked for; beside a failed row they are refused, not torn apart."""
    data = onnx.load_from_string(small_graph())
    data.graph.node.append(helper.make_node("Neg", ["w"], ["negated"]))
    model = classifier(data.SerializeToString())
    assert ask(model, batch(2), names=("negated",))[0] == pytest.approx(-dense_weights())
    pixels = batch(2)
    pixels[0, 0, 0, 0] = np.nan
    with pytest.raises(BadTensor, match='"negated" has no rows'):
        ask(model, pixels, names=("negated", "errors"))


def test_callers_side_by_side_get_their_own_answers() -> None:
    """Eight threads, 50 requests each, one of them with a bad row each time."""
    model = classifier()
    wrong: list[str] = []

    def run(seed: int) -> None:
        pixels = batch(2, seed=seed)
        want = softmax(pixels)
        for _ in range(50):
            if seed == 0:
                pixels[0, 0, 0, 0] = np.nan
                want[0] = 0
            (answer, errors) = ask(model, pixels, names=("", "errors"))
            failed = [error is not None for error in decode_row_errors(errors)]
            if np.abs(answer - want).max() > 1e-6 or failed != [seed == 0, False]:
                wrong.append(f"thread {seed}")

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def default() -> Classifier:
    """The default model's classifier, from its file."""
    folder, manifest = default_model()
    return Classifier(FetchedModel(manifest, folder / manifest.files[0].name))


def test_photos_are_classified_as_by_hand(default: Classifier) -> None:
    """25 real photos in two batches: the probabilities are those of onnxruntime by itself, row by row."""
    folder, manifest = default_model()
    names = list(PHOTOS)
    pixels = np.concatenate([direct_input(photo(name)) for name in names])
    answers = np.concatenate([ask(default, pixels[:8])[0], ask(default, pixels[8:])[0]])
    want = np.stack([direct_probabilities(photo(name), folder / manifest.files[0].name) for name in names])
    assert np.abs(answers - want).max() < 1e-5
    right = sum(int(row.argmax()) in PHOTOS[name].classes for name, row in zip(names, answers, strict=True))
    assert right == 23


def test_bottleneck_features_can_be_asked_for(default: Classifier) -> None:
    """What users took from the original servers: the layer before the classes."""
    features, probabilities = ask(default, direct_input(photo("coffee.png")), names=("features", "probabilities"))
    assert features.shape == (1, 1280)
    assert int(probabilities.argmax()) == 967


def test_a_graph_of_vggs_shape_is_served() -> None:
    """onnx's light VGG-19 (its weights are all alike): 143 million parameters, one row at a time, uniform answers."""
    manifest = manifest_for(
        LIGHT / "light_vgg19.onnx", name="vgg19", version="1", preset="vgg", licence="Apache-2.0", source="onnx"
    )
    model = Classifier(FetchedModel(manifest, LIGHT / "light_vgg19.onnx"), threads=2)
    pixels = np.random.default_rng(0).uniform(-120, 150, (2, 3, 224, 224)).astype(np.float32)
    (answer,) = ask(model, pixels)
    assert answer == pytest.approx(np.full((2, 1000), 0.001), abs=1e-6)


@pytest.mark.parametrize("graph", ["light_squeezenet", "light_densenet121", "light_resnet50", "light_inception_v1"])
def test_other_published_shapes_are_served(graph: str) -> None:
    """Outputs of four dimensions and graphs without a softmax, as the model zoo has them."""
    path = LIGHT / f"{graph}.onnx"
    logits = graph == "light_densenet121"
    manifest = manifest_for(
        path, name="zoo", version="1", preset="torchvision", licence="Apache-2.0", source="onnx", logits=logits
    )
    (answer,) = ask(Classifier(FetchedModel(manifest, path)), np.zeros((1, 3, 224, 224), np.float32))
    assert answer.shape == (1, 1000)
    assert answer.sum() == pytest.approx(1, abs=1e-4)
