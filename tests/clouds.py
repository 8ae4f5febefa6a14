"""A local cloud with all functions, as its users run it: `classy up --detach`, and `classy down`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from default_model import default_model

from classy.local.cloud import BUCKETS, STAGES, storage_of
from classy.local.ids import invoke_url
from classy.local.state import read_state
from classy.local.storage import environment_of
from classy.objects import ObjectStorage

APP = "classy-fn"


@dataclass(frozen=True)
class Cloud:
    """A running local cloud: where its endpoint, storage and logs are."""

    agent_url: str
    storage_url: str
    log_dir: Path

    def url(self, function: str) -> str:
        """Return a function's invoke URL."""
        return invoke_url(self.agent_url, APP, function)

    @property
    def objects(self) -> ObjectStorage:
        """Return its object storage."""
        return ObjectStorage(storage_of(environment_of(self.storage_url)))

    def settings(self, topology: str) -> dict[str, str]:
        """Return the environment of a Classy in this test's own process, in front of the cloud's functions."""
        return {
            **environment_of(self.storage_url),
            "CLASSY_TOPOLOGY": topology,
            "CLASSY_MODEL_STORE": "s3://classy-models",
            "CLASSY_DOWNLOAD_ALLOW": self.storage_url.removeprefix("http://"),
            "CLASSY_BUCKETS": " ".join(BUCKETS),
            **{f"CLASSY_{stage.upper()}": self.url(stage) for stage in STAGES},
        }


@contextmanager
def running_cloud(state_dir: Path, **settings: str) -> Iterator[Cloud]:
    """Run `classy up --detach` on free ports, and `classy down` after it; what it keeps stays in the state folder."""
    shutil.copytree(default_model()[0], state_dir / "default-model", dirs_exist_ok=True)
    command = [sys.executable, "-m", "classy.cli", "--state-dir", str(state_dir)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_", "OTEL_"))}
    environ |= settings
    started = subprocess.run([*command, "up", "--detach"], env=environ, capture_output=True, text=True, timeout=120)
    assert started.returncode == 0, started.stderr + started.stdout
    try:
        state = read_state(state_dir)
        assert state is not None
        yield Cloud(state.agent_url, state.storage_url, state_dir / "logs")
    finally:
        stopped = subprocess.run([*command, "down"], env=environ, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 0, stopped.stderr
