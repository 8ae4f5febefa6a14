"""The HTTP API for tests: the application with a small model behind it, and `classy web` as a process of its own."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
from PIL import Image
from small_models import GRAPH_NAME, small_graph, small_manifest, small_store, write_folder

from classy.front import Classy
from classy.local.ports import free_port
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.settings import Settings
from classy.web.app import create_app

START_S = 60.0


def picture(red: int = 200, green: int = 30, blue: int = 30, kind: str = "PNG") -> bytes:
    """Return a picture of one colour: each colour is another file."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (red, green, blue)).save(file, kind)
    return file.getvalue()


def settings_of(folder: Path, **more: Any) -> Settings:
    """Publish a small model in a folder, and return settings that keep everything there."""
    if not (folder / "store").exists():
        small_store(folder)
    values: dict[str, Any] = {
        "model": "small",
        "model_store": (folder / "store").as_uri(),
        "model_cache": "memory",
        "records": f"sqlite:///{folder / 'records.db'}",
        "pictures": (folder / "pictures").as_uri(),
    }
    return Settings(**{**values, **more})


def publish_second(folder: Path, version: str = "2") -> None:
    """Publish small@2, which sees other classes, and leave small@1 the current one."""
    files = {GRAPH_NAME: small_graph(seed=5)}
    source = write_folder(folder / f"source-{version}", files, small_manifest(files, version=version))
    publish(source, ModelStore(ObjectStorage(), (folder / "store").as_uri()), make_current=False)


@contextmanager
def web_app(
    folder: Path, *, hosts: frozenset[str] = frozenset(), web_assets: Path | None = None, **settings: Any
) -> Iterator[flask.Flask]:
    """Yield the application."""
    made = settings_of(folder, **settings)
    classy = Classy(made)
    try:
        yield create_app(classy, made, hosts=hosts, web_assets=web_assets)
    finally:
        classy.close()


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers by their names in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class WebServer:
    """A running `classy web`."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 60,
    ) -> Answer:
        """Send one request and read its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def descriptors(self) -> int:
        """Return how many files and sockets it holds open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss_mb(self) -> float:
        """Return the memory that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def web_server(folder: Path, *arguments: str, **environ: str) -> Iterator[WebServer]:
    """Run `classy web` with a small model; it must end by itself when it is told to."""
    settings_of(folder)
    port, log = free_port(), folder / "web.log"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "CLASSY_MODEL": "small",
        "CLASSY_MODEL_STORE": (folder / "store").as_uri(),
        "CLASSY_MODEL_CACHE": "memory",
        **environ,
    }
    command = [sys.executable, "-W", "error", "-m", "classy.cli", "--state-dir", str(folder / "state")]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "web", "--port", str(port), *arguments],
            stdout=subprocess.PIPE,
            stderr=stream,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # closed when the process ends: it does not wait for ever
        assert line.startswith(b"page: http://"), f"it did not start: {log.read_text()}"
        yield WebServer(port, process, log)
        if process.poll() is None:
            process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
