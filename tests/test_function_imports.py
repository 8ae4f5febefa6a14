"""What each function's process loads: its own needs and nothing else, because imports are the cold start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUNCTIONS = Path(__file__).parent.parent / "functions"
# Loads func.py as the FDK does, answers one request that fails early, and says what was loaded by then.
SCRIPT = """
import asyncio, importlib.util, io, json, sys
spec = importlib.util.spec_from_file_location("func", "func.py")
func = importlib.util.module_from_spec(spec)
spec.loader.exec_module(func)
at_start = sorted(sys.modules)
class Context:
    def Headers(self): return {}
    def RequestURL(self): return None
    def CallID(self): return "x"
    def Deadline(self): return None
    def SetResponseHeaders(self, headers, status): pass
body = bytes.fromhex(sys.argv[1])
answer = asyncio.run(func.handler(Context(), io.BytesIO(body)))
print(json.dumps([at_start, sorted(sys.modules), answer.status()]))
"""
PLATFORMS = {"boto3", "botocore", "flask", "werkzeug", "waitress", "requests", "onnx", "torch", "sqlalchemy"}
FORBIDDEN: list[Any] = [
    ("downloader", {"numpy", "onnxruntime", "PIL", "obstore", *PLATFORMS}, {"CLASSY_DOWNLOAD_TIMEOUT": "1"}),
    ("preprocessor", {"onnxruntime", "httpcore", *PLATFORMS}, {}),
    ("vgg", {"PIL", "httpcore", *PLATFORMS}, {"CLASSY_MODEL_CACHE": "memory"}),
    ("classy", {"onnxruntime", "PIL", "httpcore", *PLATFORMS}, {}),
]


@pytest.mark.parametrize(("name", "forbidden", "environ"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_a_function_loads_only_what_it_needs(
    name: str, forbidden: set[str], environ: dict[str, str], model_store: str
) -> None:
    """Neither at its start nor in its first call does it load another's packages."""
    from graphpipe_fn.codec import encode_request
    from graphpipe_fn.messages import InferRequest, strings

    if name == "classy":
        body = b'{"name": 7}'
        environ = {f"CLASSY_{stage}": "http://127.0.0.1:9/" for stage in ("DOWNLOADER", "PREPROCESSOR", "VGG")}
        environ["CLASSY_TOPOLOGY"] = "caller-led"
        environ["CLASSY_RECORDS"] = "sqlite:////nowhere/records.db"  # opened with the first thing to record
    else:
        body = b"".join(encode_request(InferRequest((strings(["http://127.0.0.1/"]),))))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, body.hex()],
        cwd=FUNCTIONS / name,
        env={"CLASSY_MODEL_STORE": model_store, "PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    at_start, after_a_call, _ = json.loads(done.stdout.splitlines()[-1])
    assert {module.partition(".")[0] for module in at_start} & forbidden == set()
    assert {module.partition(".")[0] for module in after_a_call} & forbidden == set()


@pytest.mark.parametrize("name", [row[0] for row in FORBIDDEN])
def test_a_function_folder_is_wiring(name: str) -> None:
    """About fifteen lines; the work is in the packages."""
    assert len((FUNCTIONS / name / "func.py").read_text().splitlines()) <= 16
