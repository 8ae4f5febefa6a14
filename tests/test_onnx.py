"""An ONNX file as a Model: what it says of itself, what it answers, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from default_model import default_model
from onnx_graphs import affine, dense, logical, mean_pool, reciprocal, runaway, text

from graphpipe_fn.errors import BadModel, BadTensor, GraphPipeError, TimedOut, UnknownName
from graphpipe_fn.messages import Call, DType, InferRequest, IOMetadata, Metadata, Tensor, strings
from graphpipe_fn.onnx import Engine, OnnxModel, ValueInput
from graphpipe_fn.onnx_file import node_outputs, with_outputs

WEIGHT = np.array([[1, -1], [2, 0], [0, 3]], "f4")
ROWS = np.array([[1, 2, 3], [-1, 0, 1]], "f4")


def floats(*values: float) -> np.ndarray:
    return np.array(values, "f4")


def test_metadata_is_the_graphs_own() -> None:
    """Symbolic sizes are -1, bool is uint8, the order is the graph's."""
    assert OnnxModel(affine(), name="affine", version="3").metadata() == Metadata(
        name="affine",
        version="3",
        server="graphpipe-fn",
        inputs=(IOMetadata("a", "", (-1, 2), DType.FLOAT32), IOMetadata("b", "", (-1, 2), DType.INT64)),
        outputs=(IOMetadata("sum", "", (-1, 2), DType.FLOAT32), IOMetadata("big", "", (-1, 2), DType.UINT8)),
    )


def test_a_file_is_named_by_its_stem(tmp_path: Path) -> None:
    """A model without a given name is called as its file is."""
    path = tmp_path / "pool.v2.onnx"
    path.write_bytes(mean_pool())
    assert OnnxModel(path).metadata().name == "pool.v2"


AB = (floats(1, 2).reshape(1, 2), np.array([[9, 8]]))
ANSWERS: list[tuple[str, bytes, InferRequest, list[Tensor]]] = [
    ("defaults", affine(), InferRequest(AB), [floats(10, 10).reshape(1, 2), np.array([[0, 0]], "u1")]),
    (
        "inputs by name, in another order",
        affine(),
        InferRequest(AB[::-1], ("b", "a"), ("sum",)),
        [floats(10, 10).reshape(1, 2)],
    ),
    ("one output", affine(), InferRequest(AB, (), ("big",)), [np.array([[0, 0]], "u1")]),
    ("empty name is the default", affine(), InferRequest(AB, (), ("", "sum")), [floats(10, 10).reshape(1, 2)] * 2),
    ("batch of two", dense(WEIGHT), InferRequest((ROWS,)), [-np.maximum(ROWS @ WEIGHT, 0)]),
    ("batch of none", dense(WEIGHT), InferRequest((ROWS[:0],)), [np.zeros((0, 2), "f4")]),
    (
        "strings",
        text(),
        InferRequest((strings(["a", "é", "with\0nul\0", ""]),)),
        [strings(["a", "é", "with\0nul\0", ""])],
    ),
    ("bool as uint8", logical(), InferRequest((np.array([0, 1, 7], "u1"),)), [np.array([1, 0, 0], "u1")]),
    ("an inner value", dense(WEIGHT), InferRequest((ROWS,), (), ("hidden",)), [ROWS @ WEIGHT]),
    (
        "inner values beside the output",
        dense(WEIGHT),
        InferRequest((ROWS,), (), ("active", "y", "hidden")),
        [np.maximum(ROWS @ WEIGHT, 0), -np.maximum(ROWS @ WEIGHT, 0), ROWS @ WEIGHT],
    ),
    ("not contiguous", dense(WEIGHT), InferRequest((np.asfortranarray(ROWS),)), [-np.maximum(ROWS @ WEIGHT, 0)]),
]


@pytest.mark.parametrize(
    ("data", "request_", "expected"), [case[1:] for case in ANSWERS], ids=[c[0] for c in ANSWERS]
)
def test_answers(data: bytes, request_: InferRequest, expected: list[Tensor]) -> None:
    """A graph's answer is the one that its nodes compute, in the order asked for."""
    outputs = OnnxModel(data).infer(request_).outputs
    assert len(expected) == len(outputs)
    for want, have in zip(expected, outputs, strict=True):
        if isinstance(want, np.ndarray):
            assert (want.dtype, want.shape) == (have.dtype, have.shape)  # type: ignore[union-attr]
            np.testing.assert_array_equal(want, have)
        else:
            assert want == have


LATE = Call(deadline_s=0.0)
REFUSALS: list[tuple[str, bytes, InferRequest, type[GraphPipeError], str]] = [
    ("dtype", dense(WEIGHT), InferRequest((ROWS.astype("f8"),)), BadTensor, "takes float32, not float64"),
    ("rank", dense(WEIGHT), InferRequest((ROWS[0],)), BadTensor, "takes shape [-1, 3]"),
    ("size", dense(WEIGHT), InferRequest((ROWS[:, :2],)), BadTensor, "takes shape [-1, 3]"),
    ("rows disagree", affine(), InferRequest((np.ones((2, 2), "f4"), np.ones((3, 2), "i8"))), BadTensor, "Add"),
    ("NaN in", dense(WEIGHT), InferRequest((ROWS * np.nan,)), BadTensor, 'input "x" holds NaN'),
    ("infinity in", dense(WEIGHT), InferRequest((floats(1, -np.inf, 0).reshape(1, 3),)), BadTensor, 'input "x"'),
    ("infinity out", reciprocal(), InferRequest((floats(0),)), BadTensor, 'output "y" holds NaN or infinity'),
    ("string that is no UTF-8", text(), InferRequest((strings([b"\xff"]),)), BadTensor, "no UTF-8"),
    ("missing input", affine(), InferRequest(AB[:1]), UnknownName, '"b"'),
    ("too many inputs", dense(WEIGHT), InferRequest((ROWS, ROWS)), UnknownName, "2 inputs"),
    ("no such value", dense(WEIGHT), InferRequest((ROWS,), (), ("hiden",)), UnknownName, 'do you mean "hidden"'),
    ("an input is no output", dense(WEIGHT), InferRequest((ROWS,), (), ("x",)), UnknownName, 'output "x"'),
    ("deadline passed", dense(WEIGHT), InferRequest((ROWS,), call=LATE), TimedOut, "deadline"),
]


@pytest.mark.parametrize(
    ("data", "request_", "error", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals(data: bytes, request_: InferRequest, error: type[GraphPipeError], words: str) -> None:
    """What a graph can't take is refused by name, and nothing of onnxruntime's source or paths is told."""
    with pytest.raises(error) as caught:
        OnnxModel(data).infer(request_)
    assert words in caught.value.message
    assert "onnxruntime" not in caught.value.message


def test_a_refused_run_writes_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    """onnxruntime writes no line that callers could provoke."""
    with pytest.raises(BadTensor):
        OnnxModel(affine()).infer(InferRequest((np.ones((2, 2), "f4"), np.ones((3, 2), "i8"))))
    assert capfd.readouterr() == ("", "")


def test_not_finite_values_pass_where_they_mean_something() -> None:
    """check_finite=False lets infinity in and out."""
    outputs = OnnxModel(reciprocal(), check_finite=False).infer(InferRequest((floats(0, np.inf),))).outputs
    assert outputs[0].tolist() == [np.inf, 0]  # type: ignore[union-attr]


def test_a_runaway_graph_stops_at_the_deadline() -> None:
    """A run that would take minutes ends within 0.3 s of its deadline, and the model still works."""
    model = OnnxModel(runaway())
    began = time.monotonic()
    with pytest.raises(TimedOut, match="while the model ran"):
        model.infer(InferRequest((np.array(10**12),), call=Call(deadline_s=began + 0.2)))
    assert 0.2 <= time.monotonic() - began < 0.5
    call = Call(deadline_s=time.monotonic() + 60)
    assert model.infer(InferRequest((np.array(5),), call=call)).outputs[0] == 5


def test_inner_values_need_no_external_data_in_memory(tmp_path: Path) -> None:
    """A graph whose weights lie in a second file answers inner values from there too."""
    model = onnx.load_from_string(dense(np.ones((512, 2), "f4")))
    path = tmp_path / "graph.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    row = np.ones((1, 512), "f4")
    assert OnnxModel(path).infer(InferRequest((row,), (), ("hidden",))).outputs[0].tolist() == [[512, 512]]
    weights = (tmp_path / "weights.bin").read_bytes()
    os.remove(tmp_path / "weights.bin")
    kept = OnnxModel(path.read_bytes(), external_data={"weights.bin": weights}, engine=Engine(prepack=False))
    assert kept.infer(InferRequest((row,), (), ("y", "hidden"))).outputs[1].tolist() == [[512, 512]]


def test_inner_outputs_can_be_closed() -> None:
    """A server that closes its graph answers the listed outputs only."""
    with pytest.raises(UnknownName, match='this model has "y"'):
        OnnxModel(dense(WEIGHT), inner_outputs=False).infer(InferRequest((ROWS,), (), ("hidden",)))


def test_an_inner_value_can_be_the_default() -> None:
    """`outputs` chooses what is answered by default, bottlenecks too, on every engine."""
    model = OnnxModel(dense(WEIGHT), outputs=("active",), engine=Engine(count=2))
    assert [io.name for io in model.metadata().outputs] == ["active"]
    for _ in range(3):
        np.testing.assert_array_equal(np.maximum(ROWS @ WEIGHT, 0), model.infer(InferRequest((ROWS,))).outputs[0])


def test_threads_ask_for_different_values_at_once() -> None:
    """Callers that ask for different inner values side by side each get their own."""
    model = OnnxModel(dense(WEIGHT))
    expected = {"hidden": ROWS @ WEIGHT, "active": np.maximum(ROWS @ WEIGHT, 0), "y": -np.maximum(ROWS @ WEIGHT, 0)}

    def ask(name: str) -> None:
        for _ in range(20):
            output = model.infer(InferRequest((ROWS,), (), (name,))).outputs[0]
            np.testing.assert_array_equal(expected[name], output)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, (*expected, *expected))) == [None] * 6


def test_value_inputs_fill_in_what_the_graph_leaves_open() -> None:
    """Declared sizes appear in the metadata and hold for requests."""
    model = OnnxModel(mean_pool(), value_inputs={"x": ValueInput(DType.FLOAT32, (-1, 3, 8, 8))})
    assert model.metadata().inputs[0].shape == (-1, 3, 8, 8)
    with pytest.raises(BadTensor):
        model.infer(InferRequest((np.ones((1, 3, 9, 9), "f4"),)))


UNUSABLE: list[tuple[str, bytes | str, dict[str, object], str]] = [
    ("no such file", "/nowhere/model.onnx", {}, "model.onnx"),
    ("garbage", b"\x00garbage", {}, "can't be loaded"),
    ("cut short", mean_pool()[:-9], {}, "can't be loaded"),
    ("empty", b"", {}, "can't be loaded"),
    ("unknown input", affine(), {"inputs": ("c",)}, 'no input "c"'),
    ("input left out", affine(), {"inputs": ("a",)}, 'also needs input "b"'),
    ("value inputs of another dtype", mean_pool(), {"value_inputs": {"x": ValueInput(DType.INT8, ())}}, "INT8"),
    ("value inputs of another size", mean_pool(), {"value_inputs": {"x": ValueInput(DType.FLOAT32, (1,))}}, "(1,)"),
    ("value inputs of no input", mean_pool(), {"value_inputs": {"z": ValueInput(DType.INT8, ())}}, '"z"'),
]


@pytest.mark.parametrize(("data", "options", "words"), [c[1:] for c in UNUSABLE], ids=[c[0] for c in UNUSABLE])
def test_models_that_cannot_be_served(data: bytes | str, options: dict[str, object], words: str) -> None:
    """A model that can't be served says so when it is loaded, without the host's folders."""
    with pytest.raises(BadModel) as caught:
        OnnxModel(data, **options)  # type: ignore[arg-type]
    assert words in caught.value.message
    assert "/nowhere" not in caught.value.message


def test_unknown_default_output_is_refused_at_load() -> None:
    """A default output that the graph does not compute is refused before the first request."""
    with pytest.raises(UnknownName, match='"hidden"'):
        OnnxModel(dense(WEIGHT), outputs=("hiddn",))


def test_node_outputs_are_what_onnx_says() -> None:
    """The hand-made reader of ONNX files sees the names that onnx's own reader sees."""
    for data in (mean_pool(), dense(WEIGHT), affine(), runaway()):
        expected = [name for node in onnx.load_from_string(data).graph.node for name in node.output]
        assert expected == node_outputs(data)


def test_more_outputs_make_a_whole_model() -> None:
    """The appended outputs are part of the graph for onnx's own reader too."""
    names = ["hidden", "n" * 300]
    outputs = [value.name for value in onnx.load_from_string(with_outputs(dense(WEIGHT), names)).graph.output]
    assert outputs == ["y", *names]


def test_broken_files_raise_nothing_but_our_error() -> None:
    """Cut and altered files are read or refused; no other exception leaves the reader."""
    whole = dense(WEIGHT)
    rng = np.random.default_rng(7)
    broken = [whole[:size] for size in range(len(whole))]
    for _ in range(500):
        altered = bytearray(whole)
        altered[rng.integers(len(whole))] = rng.integers(256)
        broken.append(bytes(altered))
    for data in broken:
        with contextlib.suppress(BadModel):
            node_outputs(data)


@pytest.mark.slow
def test_the_originals_vgg_answers_its_own_shape() -> None:
    """VGG-19 as ONNX ships it takes (1, 3, 224, 224), answers 1,000 probabilities, and its fc7 by name."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    model = OnnxModel(folder / "light_vgg19.onnx", check_finite=False)
    about = model.metadata()
    assert [(io.name, io.shape, io.dtype) for io in about.inputs] == [("data_0", (1, 3, 224, 224), DType.FLOAT32)]
    picture = np.zeros((1, 3, 224, 224), "f4")
    assert model.infer(InferRequest((picture,))).outputs[0].shape == (1, 1000)
    bottleneck = node_outputs((folder / "light_vgg19.onnx").read_bytes())[-4]
    assert model.infer(InferRequest((picture,), (), (bottleneck,))).outputs[0].shape == (1, 4096)


def test_nothing_is_reported_about_its_users(tmp_path: Path) -> None:
    """onnxruntime keeps no device id in the home folder, where it would begin to report to its maker."""
    graph = default_model()[0] / "graph.onnx"
    home = tmp_path / "home"
    home.mkdir()
    script = "import sys; from graphpipe_fn.onnx import OnnxModel; OnnxModel(sys.argv[1]).metadata()"
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", script, str(graph)], env=environ, check=True, timeout=60)
    assert list(home.rglob("*")) == []
