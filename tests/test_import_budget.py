"""What an import brings along: the cold start of every function that uses this library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "http.client",
    "http.server",
    "flask",
    "werkzeug",
    "boto3",
    "botocore",
    "onnxruntime",
    "onnx",
    "PIL",
    "fdk",
    "obstore",
    "httpcore",
    "lmdb",
    "requests",
}


def loaded(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has after running the code."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    # -S and an explicit path: what the site's .pth files load is not ours.
    path = json.dumps([entry for entry in sys.path if entry])
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys\nsys.path[:] = {path}\n{code}"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


TEXT_CALL = """
from graphpipe_fn.messages import InferRequest, InferResponse, Metadata, strings
from graphpipe_fn.client import Client
from graphpipe_fn.transports.local import local

class Echo:
    def metadata(self):
        return Metadata("echo")
    def infer(self, request):
        return InferResponse(request.inputs)

assert Client(local(Echo())).infer(InferRequest((strings(["a"]),))).outputs == (strings(["a"]),)
assert Client(local(Echo())).metadata().name == "echo"
"""


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import graphpipe_fn", set()),
        ("import graphpipe_fn.server", set()),
        ("import graphpipe_fn.client", set()),
        ("import graphpipe_fn.transports.http", set()),
        ("import graphpipe_fn.transports.fn", set()),
        ("from graphpipe_fn import connect; connect('http://127.0.0.1:9/')", set()),
        ("import graphpipe_fn.remote", set()),
        ("import graphpipe_fn.aio", set()),
        ("import graphpipe_fn.adapters.wsgi", set()),
        ("import graphpipe_fn.adapters.fn", set()),
        ("from graphpipe_fn.adapters.fn import handler; handler(lambda body, call: None)", set()),
        (TEXT_CALL, set()),
        ("from graphpipe_fn import connect; connect('https://127.0.0.1:9/')", set()),
        (TEXT_CALL + "Client(local(Echo())).run([1.5])", {"numpy"}),
    ],
    ids=[
        "package",
        "server",
        "client",
        "http",
        "fn road",
        "connect",
        "remote",
        "aio",
        "wsgi",
        "fn",
        "fn handler",
        "a call with strings",
        "connect https",
        "a call with numbers",
    ],
)
def test_an_import_brings_nothing_heavy(code: str, allowed: set[str]) -> None:
    """Until the first tensor of numbers there is no numpy, and no SDK before the call that needs it."""
    found = {name for name in loaded(code) if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY)}
    assert {name.split(".")[0] for name in found} == allowed


def test_the_package_itself_brings_nothing_at_all() -> None:
    """`import graphpipe_fn` loads none of its own modules, and each name is found when it is asked for."""
    assert {name for name in loaded("import graphpipe_fn") if name.startswith("graphpipe_fn")} == {"graphpipe_fn"}
    assert "graphpipe_fn.server" in loaded("from graphpipe_fn import answerer")


def test_every_public_name_can_be_had() -> None:
    """The table of names and the modules agree."""
    import graphpipe_fn

    for name in graphpipe_fn.__all__:
        assert getattr(graphpipe_fn, name) is not None
    assert dir(graphpipe_fn) == sorted(graphpipe_fn.__all__)
    with pytest.raises(AttributeError, match="nope"):
        _ = graphpipe_fn.nope
