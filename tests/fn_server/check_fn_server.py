"""
A real Fn server and the real fn CLI: deploy everything, then the talk's demonstration.

`make test-fn-server` runs it where FN_API_URL and CLASSY_FN_BIN are set; it is skipped, with the reason, where not.
The functions' own settings come from this environment too, because only the operator knows what the server's
containers can reach: CLASSY_MODEL_STORE and, for a store on S3, AWS_ENDPOINT_URL, AWS_REGION and the keys.
FN_FUNCTIONS_URL is the server's address as a container sees it, where that is another than FN_API_URL.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from photos import photo

from classy.local.functions import read_app, read_function
from classy.pipeline import object_storage
from classy.settings import Settings

ROOT = Path(__file__).parents[2]
APP = read_app(ROOT / "app.yaml").name
STAGES = ("downloader", "preprocessor", "vgg")
DEPLOY_S, COMMAND_S = 1200.0, 120.0
PHOTO = "classy-check/coffee.png"


class Fn:
    """The fn CLI with a HOME of its own: its cache of endpoints outlives the functions."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._environ = {**os.environ, "HOME": str(home), "FN_REGISTRY": os.environ.get("FN_REGISTRY", "classycheck")}

    def __call__(self, *arguments: str, stdin: bytes = b"", timeout_s: float = COMMAND_S) -> str:
        """Run one command in the checkout; return what it prints."""
        done = subprocess.run(
            [self._program, *arguments],
            cwd=ROOT,
            env=self._environ,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, f"fn {' '.join(arguments)}\n{said}\n{done.stderr.decode()}"
        return said


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Return the functions' settings, as far as this environment has them."""
    if not (os.environ.get("FN_API_URL") and os.environ.get("CLASSY_FN_BIN")):
        pytest.skip("no Fn server is checked: set FN_API_URL and CLASSY_FN_BIN to a server and its CLI")
    found = Settings.from_env(os.environ)
    if not found.model_store.startswith("s3://"):
        pytest.skip("no Fn server is checked: set CLASSY_MODEL_STORE to s3://BUCKET with a published model")
    return found


@pytest.fixture(scope="session")
def fn(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fn]:
    """Deploy everything to the server, configured; delete the app at the end."""
    command = Fn(os.environ["CLASSY_FN_BIN"], tmp_path_factory.mktemp("home"))
    specs = {path: path.read_bytes() for path in (ROOT / "func.yaml", *ROOT.glob("functions/*/func.yaml"))}
    try:
        command("deploy", "--create-app", "--all", "--local", "--no-bump", timeout_s=DEPLOY_S)
        for name, value in _config(settings).items():
            command("config", "app", APP, name, value)
        seen = os.environ.get("FN_FUNCTIONS_URL") or os.environ["FN_API_URL"]
        for stage in STAGES:
            endpoint = command("inspect", "function", "--endpoint", APP, stage).strip()
            path = re.sub(r"^https?://[^/]+", "", endpoint)
            command("config", "function", APP, "classy-func", f"CLASSY_{stage.upper()}", seen.rstrip("/") + path)
        command("config", "function", APP, "classy-func", "CLASSY_TOPOLOGY", "caller-led")
        yield command
        command("delete", "app", "-f", "-r", APP)
    finally:
        for path, text in specs.items():
            path.write_bytes(text)


def _config(settings: Settings) -> dict[str, str]:
    bucket = settings.model_store.removeprefix("s3://").partition("/")[0]
    ours = {
        name: value for name, value in os.environ.items() if name.startswith("CLASSY_") and name != "CLASSY_FN_BIN"
    }
    aws = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return {**ours, **{name: os.environ[name] for name in aws if os.environ.get(name)}, "CLASSY_BUCKETS": bucket}


def test_the_app_is_listed(fn: Fn) -> None:
    """`fn list apps`."""
    assert APP in fn("list", "apps")


def test_the_functions_are_listed(fn: Fn) -> None:
    """`fn list functions classy-fn`: the four, and the one that is all of them."""
    listed = fn("list", "functions", APP)
    for path in (ROOT, *(path.parent for path in ROOT.glob("functions/*/func.yaml"))):
        assert read_function(path).name in listed


@pytest.mark.parametrize("function", ["classy-func", "classy-fused"])
def test_the_talks_invoke_gives_the_talks_answer(fn: Fn, settings: Settings, function: str) -> None:
    """`echo -n '{"name": …}' | fn invoke classy-fn classy-func`, with a real photo."""
    bucket = settings.model_store.removeprefix("s3://").partition("/")[0]
    object_storage(settings).put(f"s3://{bucket}/{PHOTO}", photo("coffee.png"))
    answer = json.loads(fn("invoke", APP, function, stdin=json.dumps({"name": f"s3://{bucket}/{PHOTO}"}).encode()))
    assert answer["class_index"] == 967, answer
    assert re.fullmatch(r"result_class=\S+, probability=0\.\d{6}", answer["Message"])
