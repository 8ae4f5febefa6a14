"""The examples of docs/frameworks.md, run as they stand, but for the address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from served import Computed, io, served

from graphpipe_fn.keras import RemoteLayer
from graphpipe_fn.torch import RemoteModule

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
PYTORCH, KERAS, CACHE = (block.split("```")[0] for block in PAGE.split("```python\n")[1:])
ADDRESS = "http://127.0.0.1:9000/"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def backbone() -> Computed:
    """Return the model that the page describes."""
    weights = np.linspace(-0.01, 0.01, 3 * 32 * 32 * 64, dtype="float32").reshape(-1, 64)
    return Computed(
        (io("pictures", (-1, 3, 32, 32)),),
        (io("features", (-1, 64)),),
        lambda pictures: {"features": pictures.reshape(len(pictures), -1) @ weights},
    )


@pytest.fixture
def uri(backbone: Computed) -> Iterator[str]:
    """Serve it."""
    with served(backbone) as found:
        yield found


def run(block: str, uri: str) -> dict[str, Any]:
    """Run an example against a server, and return its names."""
    assert block.count(ADDRESS) == 1
    names: dict[str, Any] = {}
    exec(block.replace(ADDRESS, uri), names)
    return names


def test_the_example_for_pytorch_runs(uri: str, backbone: Computed, capsys: pytest.CaptureFixture[str]) -> None:
    """It trains its head and prints a class for each picture."""
    names = run(PYTORCH, uri)
    assert len(backbone.seen) == 2
    assert names["net"][1].weight.grad.abs().sum() > 0
    assert capsys.readouterr().out.count(",") == 7


def test_the_example_for_keras_runs(uri: str, backbone: Computed, capsys: pytest.CaptureFixture[str]) -> None:
    """It trains its head where the backend trains, and prints the network and a class for each picture."""
    names = run(KERAS, uri)
    assert len(backbone.seen) == 1 + (keras.backend.backend() != "numpy")
    assert names["net"].output_shape == (None, 10)
    assert "RemoteLayer" in capsys.readouterr().out


def test_the_example_of_a_cache_makes_a_model_for_both(uri: str, backbone: Computed) -> None:
    """What either has asked once, it never asks again."""
    names = run(CACHE, uri)
    pictures = np.ones((2, 3, 32, 32), "float32")
    module, layer = RemoteModule(names["remembering"]), RemoteLayer(names["remembering"])
    for _ in range(2):
        features = module(torch.from_numpy(pictures))
        np.testing.assert_array_equal(features.numpy(), keras.ops.convert_to_numpy(layer(pictures)))
    assert len(backbone.seen) == 2  # the layer asks by name, the module for whatever the default is
    names["client"].close()
