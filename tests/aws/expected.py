"""What the deployed functions must answer: what the same pipeline answers in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from default_model import default_model

from classy.front import Classy
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage
from classy.settings import Settings
from graphpipe_fn.messages import Call


class Witness:
    """Classify in this process."""

    def __init__(self, folder: Path) -> None:
        publish(default_model()[0], ModelStore(ObjectStorage(Storage()), folder.as_uri()))
        self._classy = Classy(Settings.from_env({"CLASSY_MODEL_STORE": folder.as_uri()}))

    def outcome(self, picture: bytes) -> tuple[int, float]:
        """Return a picture's likeliest class and its probability, or its error's code and 0."""
        value = json.loads(self._classy.answer(picture, Call(content_type="application/octet-stream")).body())
        return outcome_of(value)

    def close(self) -> None:
        self._classy.close()


def outcome_of(answer: dict[str, object]) -> tuple[int, float]:
    """Return what an answer says: class and probability to 4 digits, or an error's code and 0."""
    error = answer.get("error")
    if isinstance(error, dict):
        return int(error["code"]), 0.0
    return int(str(answer["class_index"])), round(float(str(answer["probability"])), 4)


@contextmanager
def witness(folder: Path) -> Iterator[Witness]:
    """Yield a witness whose model is in a folder."""
    there = Witness(folder)
    try:
        yield there
    finally:
        there.close()
