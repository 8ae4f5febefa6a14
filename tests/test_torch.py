"""RemoteModule in real PyTorch; the cases are in frameworks/remote_module.py."""

from __future__ import annotations

import re

import pytest
from frameworks_environment import run_cases, torch_python


@pytest.mark.slow
def test_remote_module_works_in_pytorch() -> None:
    """All cases pass in an environment that has PyTorch, and few are left out."""
    printed = run_cases(torch_python(), "remote_module.py")
    assert int(re.findall(r"(\d+) passed", printed)[0]) > 40


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_pages_examples_run(backend: str) -> None:
    """docs/frameworks.md can be followed as it stands, with Keras on either backend."""
    run_cases(torch_python(), "page.py", keras_backend=backend)
