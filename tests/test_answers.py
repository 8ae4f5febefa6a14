from __future__ import annotations

import json

import numpy as np
import pytest

from classy import answers
from classy.models.manifest import FileSpec, InputSpec, Labels, Manifest, OutputSpec
from graphpipe_fn.messages import Error, Timing


def manifest(labels: Labels, classes: int) -> Manifest:
    return Manifest(
        name="m",
        version="1",
        files=(FileSpec("graph.onnx", 1, "0" * 64),),
        input=InputSpec("x", 2, 2, 2),
        output=OutputSpec("y", classes),
        labels=labels,
        licence="MIT",
        source="tests",
        opset=13,
    )


IMAGENET = manifest(Labels(set="imagenet-1k"), 1000)


def test_the_talks_answer_has_its_two_keys_and_six_decimals() -> None:
    """The old English sheepdog reads as it did on the slide."""
    probabilities = np.zeros(1000, np.float32)
    probabilities[229] = 0.993492
    answer = answers.result(0, probabilities, IMAGENET, k=2, language="ja")
    assert answer["Id"] == 0
    assert answer["Message"] == "result_class=オールドイングリッシュシープドッグ, probability=0.993492"
    assert (answer["class_index"], answer["class_id"]) == (229, "n02105641")
    assert answer["label"]["en"] == "Old English sheepdog"
    assert [entry["class_index"] for entry in answer["top_k"]] == [229, 0]


def test_own_labels_come_from_the_manifest() -> None:
    """A model with its own classes needs no label set, and a language that it lacks falls back to one it has."""
    own = manifest(Labels(names={"en": ("cat", 'dog "quoted"')}), 2)
    answer = answers.result(1, np.array([0.25, 0.75], np.float32), own, k=5, language="ja")
    assert answer["Message"] == 'result_class=dog "quoted", probability=0.750000'
    assert json.loads(answers.encode(answer)) == answer


def test_ties_go_to_the_lower_index() -> None:
    """The same probabilities give the same order everywhere."""
    assert answers.top_k(np.array([0.2, 0.4, 0.4], np.float32), 3) == [1, 2, 0]


def test_a_refusal_says_whether_to_try_again() -> None:
    """Code, words and retryable are all a caller needs."""
    assert answers.refusal(3, Error(42211, "no picture"), retryable=False) == {
        "Id": 3,
        "error": {"code": 42211, "message": "no picture", "retryable": False},
    }


def test_timings_say_cold_only_where_it_is_known() -> None:
    """A hop's network time is neither cold nor warm."""
    assert answers.timings([Timing("vgg", 0.0125, True), Timing("hop", 0.001)]) == [
        {"name": "vgg", "ms": 12.5, "cold": True},
        {"name": "hop", "ms": 1.0},
    ]


def test_not_a_number_never_reaches_json() -> None:
    """A bare NaN would be read by no other JSON reader."""
    with pytest.raises(ValueError, match="Out of range float"):
        answers.encode({"probability": float("nan")})
