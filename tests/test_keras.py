"""RemoteLayer in real Keras 3, on each backend; the cases are in frameworks/remote_layer.py."""

from __future__ import annotations

import re

import pytest
from frameworks_environment import run_cases, tensorflow_python, torch_python


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "tensorflow"])
def test_remote_layer_works_in_keras(backend: str) -> None:
    """All cases pass on the backend, and few are left out."""
    python = tensorflow_python() if backend == "tensorflow" else torch_python()
    printed = run_cases(python, "remote_layer.py", keras_backend=backend)
    assert int(re.findall(r"(\d+) passed", printed)[0]) > 40
