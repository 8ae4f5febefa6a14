"""The whole pipeline on real photos, beside the same weights run by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from default_model import default_model
from direct import direct_probabilities
from photos import PHOTOS, photo

from classy.front import Classy
from classy.settings import Settings
from graphpipe_fn.messages import Call

SHARE = 58 / 70  # of the photos that these weights named rightly when they were measured by themselves
TOLERANCE = {"png": 1e-3, "jpg": 0.03}  # JPEGs are decoded at a reduced scale


@pytest.fixture(scope="module")
def front(model_store: str) -> Iterator[Classy]:
    """Return a Classy that runs all stages in this process."""
    settings = {"CLASSY_MODEL_STORE": model_store, "CLASSY_MODEL_CACHE": "memory"}
    front = Classy(Settings.from_env(settings))
    yield front
    front.close()


def answered(front: Classy, name: str, *, top_k: int = 1000) -> dict[str, Any]:
    """Return the answer for one photo, its probabilities for all classes."""
    ask = {"image": base64.b64encode(photo(name)).decode(), "top_k": top_k}
    answer: dict[str, Any] = json.loads(front.answer(json.dumps(ask).encode(), Call()).body())
    return answer


@pytest.mark.parametrize("name", PHOTOS)
def test_the_pipeline_answers_what_the_weights_say(front: Classy, name: str) -> None:
    """The same top class as the direct run, and every probability near it."""
    answer = answered(front, name)
    probabilities = np.zeros(1000)
    for entry in answer["top_k"]:
        probabilities[entry["class_index"]] = entry["probability"]
    direct = direct_probabilities(photo(name), default_model()[0] / "graph.onnx")
    assert answer["class_index"] == int(direct.argmax())
    np.testing.assert_allclose(probabilities, direct, atol=TOLERANCE[name.rpartition(".")[2]])


def test_the_share_of_right_classes_is_that_of_the_weights(front: Classy) -> None:
    """Real photos are named as well as the weights can."""
    right = [answered(front, name, top_k=1)["class_index"] in PHOTOS[name].classes for name in PHOTOS]
    assert len(right) >= 8
    assert sum(right) / len(right) >= SHARE
