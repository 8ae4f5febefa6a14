from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from photos import photo
from small_models import small_store, stored

from graphpipe_fn.transports import connect

CLASSY = [sys.executable, "-m", "classy.cli"]


@pytest.fixture
def environ(model_store: str, tmp_path: Path) -> dict[str, str]:
    """Return an environment with the default model published and nothing of this machine's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_"))}
    return {
        **kept,
        "CLASSY_MODEL_STORE": model_store,
        "CLASSY_STATE_DIR": str(tmp_path),
        "CLASSY_MODEL_CACHE": "memory",
    }


def classy(environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLASSY, *args], env=environ, capture_output=True, text=True, timeout=60)


def test_classify_prints_labels_in_both_languages_and_the_hops(environ: dict[str, str], tmp_path: Path) -> None:
    """A person reads what it is, how sure the model is, and what it cost."""
    (tmp_path / "cup.png").write_bytes(photo("coffee.png"))
    done = classy(environ, "classify", str(tmp_path / "cup.png"), "--top-k", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"95\.\d\d%  █+ +espresso · エスプレッソ", done.stdout)
    assert re.search(r"preprocessor [\d.]+ ms → vgg [\d.]+ ms", done.stdout)


def test_json_has_one_object_per_picture_and_a_bad_one_sets_the_status(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """A script reads lines, and sees that one of them is a refusal."""
    (tmp_path / "cup.png").write_bytes(photo("coffee.png"))
    (tmp_path / "notes.txt").write_text("no picture")
    done = classy(environ, "classify", "--json", str(tmp_path / "cup.png"), str(tmp_path / "notes.txt"))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [line.get("class_index") for line in lines] == [967, None]
    assert lines[1]["error"]["code"] == 42211


def test_any_number_of_pictures_is_classified_in_parts(environ: dict[str, str], tmp_path: Path) -> None:
    """A folder of photos is more than one request may hold, in number and in bytes, and that is nobody's concern."""
    (tmp_path / "cup.png").write_bytes(photo("coffee.png"))
    limits = {"CLASSY_LIMIT_ROWS": "4", "CLASSY_LIMIT_REQUEST_BYTES": "1000000"}  # the photo has 467 kB
    done = classy({**environ, **limits}, "classify", "--json", *[str(tmp_path / "cup.png")] * 10)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line).get("class_index") for line in done.stdout.splitlines()] == [967] * 10


MISTAKES = [
    pytest.param(["classify", "/no/such/file.jpg"], {}, 2, "/no/such/file.jpg: No such file", id="no such file"),
    pytest.param(["classify", "x://y", "--model", "nope"], {}, 1, "nope", id="no such model"),
    pytest.param(["model", "list"], {"CLASSY_TOPK": "3"}, 2, "unknown setting CLASSY_TOPK", id="unknown setting"),
    pytest.param(["model", "publish", "/no/such/folder"], {}, 1, "/no/such/folder", id="no such folder"),
]


@pytest.mark.parametrize(("args", "more", "status", "words"), MISTAKES)
def test_a_mistake_is_one_line_and_a_status(
    environ: dict[str, str], args: list[str], more: dict[str, str], status: int, words: str
) -> None:
    """No traceback, but what was wrong."""
    done = classy({**environ, **more}, *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("classy: ")
    assert words in done.stderr


def test_a_spoilt_manifest_does_not_hide_the_other_models(environ: dict[str, str], tmp_path: Path) -> None:
    """The list is whole but for that one, which is named apart from it, and the status says so."""
    store, manifest = small_store(tmp_path)
    (stored(store).parent / "2").mkdir()
    (stored(store).parent / "2" / "manifest.json").write_text("{")
    done = classy({**environ, "CLASSY_MODEL_STORE": store.uri}, "model", "list")
    assert (done.returncode, [line.split("\t")[0] for line in done.stdout.splitlines()]) == (1, [manifest.ref])
    assert re.fullmatch(r"classy: .*small/2/manifest\.json.* \(code 50312\)\n", done.stderr)


@pytest.fixture
def server(environ: dict[str, str]) -> Iterator[str]:
    """Run `classy model serve` on a free port; yield its URI."""
    command = [*CLASSY, "model", "serve", "efficientnet-lite0", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        yield said.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_published_model_can_be_served_without_fn(server: str) -> None:
    """Any GraphPipe client asks it, and its metadata is the manifest's."""
    with connect(server) as client:
        assert client.metadata().name == "efficientnet-lite0"
        (probabilities,) = client.run(np.zeros((2, 3, 224, 224), np.float32))
    assert probabilities.shape == (2, 1000)
