"""The real thing to look at: `classy web` in a process of its own, with real models, records and kept pictures."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from default_model import default_model
from small_models import GRAPH_NAME, small_graph, small_manifest, write_folder

from classy.local.ports import free_port
from classy.models.default import NAME, VERSION
from classy.models.digits import write_digits
from classy.models.manifest import MANIFEST_NAME, Labels
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage

START_S = 60
DEFAULT, SQUASH, DIGITS, HOSTILE = f"{NAME}@{VERSION}", f"lite0-squash@{VERSION}", "digits@1", "hostile@1"
# Labels as nobody should write them: all of them must be read as text.
HOSTILE_LABELS = (
    "<img src=x onerror=\"window.hacked='img'\">",
    "<script>window.hacked='script'</script>",
    "</span><svg onload=window.hacked='svg'>&amp;\u202e",
)


def publish_models(store_uri: str, folder: Path, *, hostile: bool = True) -> None:
    """Publish the default model, the same one that sees pictures squashed, the digits, and maybe a hostile one."""
    store = ModelStore(ObjectStorage(Storage()), store_uri)
    default_folder, manifest = default_model()
    publish(default_folder, store)
    squash = folder / "squash"
    squash.mkdir(parents=True)
    for file in manifest.files:
        (squash / file.name).symlink_to(default_folder / file.name)
    squashed = replace(manifest.input, resize="squash", interpolation="nearest")
    said = "The same network; pictures are squashed"
    (squash / MANIFEST_NAME).write_bytes(
        replace(manifest, name="lite0-squash", input=squashed, description=said).to_json()
    )
    publish(squash, store)
    write_digits(folder / "digits")
    publish(folder / "digits", store)
    if not hostile:
        return
    files = {GRAPH_NAME: small_graph()}
    labels = Labels(names={"en": HOSTILE_LABELS, "ja": HOSTILE_LABELS})
    publish(write_folder(folder / "hostile", files, small_manifest(files, name="hostile", labels=labels)), store)


@contextmanager
def served(state_dir: Path, settings: Mapping[str, str], *, prefix: str = "") -> Iterator[str]:
    """Run `classy web`; yield the page's URL."""
    state_dir.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_"))}
    environ = {**kept, "CLASSY_MODEL_CACHE": "memory", "CLASSY_PLACES": "exact", **settings}
    command = [sys.executable, "-m", "classy.cli", "--state-dir", str(state_dir), "web", "--port", str(free_port())]
    log = state_dir / "web.log"
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--prefix", prefix], env=environ, stdout=file, stderr=file)
    try:
        yield _page_of(process, log)
    finally:
        process.terminate()
        process.wait(START_S)


def _page_of(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("page: "):
                return line.removeprefix("page: ")
        time.sleep(0.05)
    raise AssertionError(f"classy web has not started:\n{log.read_text()}")


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder's files as another site; yield its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
