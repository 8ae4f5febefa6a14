"""Environments with PyTorch, Keras, jax and tensorflow, and how the cases of tests/frameworks are run in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from environments import environment
from packages import CHECKOUT

CASES = Path(__file__).parent / "frameworks"
# On x86 Linux the usual build of torch is one for CUDA, of gigabytes. pip finds the small one where it has been told
# of a place that has it; elsewhere the tests are skipped.
TORCH = (
    "torch==2.13.0+cpu; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "torch==2.13.0; platform_system != 'Linux' or platform_machine != 'x86_64'",
)
PYTEST = "pytest>=9"
TIMEOUT_S = 900


def torch_python() -> Path:
    """Return the Python of an environment with PyTorch, Keras and jax."""
    extras = f"{CHECKOUT}[torch,keras]"
    return environment("torch", TORCH, ("--editable", extras, "keras==3.15.1", "jax", PYTEST))


def tensorflow_python() -> Path:
    """Return the Python of an environment with Keras and tensorflow."""
    return environment("tensorflow", ("--editable", f"{CHECKOUT}[keras]", "keras==3.15.1", "tensorflow-cpu", PYTEST))


def run_cases(python: Path, cases: str, *, keras_backend: str = "torch") -> str:
    """
    Run one file of tests/frameworks, which must pass.

    Returns:
        What pytest printed.
    """
    command = [python, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:logging"]
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(python.parents[1]),  # a person's own Keras settings are none of ours
        "KERAS_BACKEND": keras_backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [*command, CASES / cases], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    return done.stdout
