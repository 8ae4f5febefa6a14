"""
The container-image variant for AWS Lambda: built as its Dockerfile says, run by AWS's runtime client inside it.

`make test-fn-image` runs it, with the same engine and base image as for Fn's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from debian_base import PYTHON, base_tar
from default_model import default_model
from docker_engine import Engine, NoEngine, engine
from lambda_runtime.runtime import LambdaRuntime

from bundling.contents import MB
from bundling.packages import LAMBDA
from bundling.packages import main as make_packages
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage

BASE, IMAGE = "classy-check/base:1", "classy-check/lambda-fused:1"
MODELS = "/models"


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    """Run an engine that has built the image."""
    try:
        with engine() as running:
            running.load(base_tar(), BASE)
            into = running.folder / "packages"
            assert make_packages(["fused", "--image", "--python", PYTHON, "--into", str(into)]) == 0
            folder = into / f"python{PYTHON}-x86_64" / "fused-image"
            running.docker("build", "--tag", IMAGE, "--build-arg", f"BASE={BASE}", str(folder))
            yield running
    except NoEngine as exc:
        pytest.skip(f"no container is checked: {exc}")


def test_the_image_adds_no_more_than_the_package_weighs(docker: Engine) -> None:
    """Beside its base; the runtime client is 4 MB."""
    assert docker.size(IMAGE) - docker.size(BASE) < (LAMBDA["fused"].limit_mb + 5) * MB


def test_the_image_answers_lambdas_runtime_api(docker: Engine, tmp_path: Path) -> None:
    """Read-only but for /tmp, as nobody in particular: the article's question, a warm-up, and HTTP by Flask."""
    models = tmp_path / "models"
    publish(default_model()[0], ModelStore(ObjectStorage(Storage()), models.as_uri()))
    models.chmod(0o755)

    def command(environ: Mapping[str, str]) -> list[str]:
        given = {**environ, "CLASSY_MODEL_STORE": f"file://{MODELS}", "CLASSY_MODEL_CACHE": "memory"}
        given = {name: value for name, value in given.items() if name not in ("PATH", "PYTHONPATH")}
        flags = [word for name, value in given.items() for word in ("--env", f"{name}={value}")]
        own = [f"{name}={value}" for name, value in docker.environment().items()]
        run = ["docker", "run", "--rm", "--name", "classy-check-lambda", "--network", "host", "--read-only"]
        run += ["--tmpfs", "/tmp", "--user", "993:990", "--volume", f"{models}:{MODELS}:ro"]
        return ["env", "-i", *own, *run, *flags, IMAGE]

    page = {
        "version": "2.0",
        "rawPath": "/api/health",
        "headers": {"host": "x"},
        "requestContext": {"http": {"method": "GET"}, "stage": "$default"},
    }
    log = tmp_path / "function"
    log.mkdir()
    try:
        with LambdaRuntime(log, "lambda_function.handler", timeout_s=60, command=command) as runtime:
            answers = [
                json.loads(runtime.invoke("function", json.dumps(event).encode()).body)
                for event in ({}, {"warmup": True}, page)
            ]
    finally:
        docker.docker("rm", "--force", "classy-check-lambda", check=False)
    assert answers[0] == {"return": "espresso (score = 0.65994)"}
    assert answers[1]["cold"] is False
    assert json.loads(answers[2]["body"]) == {"health": "ok"}
