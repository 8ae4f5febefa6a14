"""
The execution environment itself: what a function finds on Lambda it finds here, and what it does not it does not.

The functions here are a few lines each and deployed by Lambda's own API, so that a failure names the place.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packages import CHECKOUT

from aws import sandbox
from aws.cloud import ACCOUNT, Cloud, until

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
PROBE = """
import importlib.util, json, os, sys

LOADED = os.getpid()

def handler(event, context):
    told = {"event": event, "pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(), "environ": dict(os.environ)}
    told["same"] = LOADED == os.getpid()
    told["left_ms"] = context.get_remaining_time_in_millis()
    told["arn"] = context.invoked_function_arn
    told["memory_mb"] = context.memory_limit_in_mb
    told["boto3"] = importlib.util.find_spec("boto3").origin
    told["ours"] = [name for name in ("ministack", "pytest", "classy") if importlib.util.find_spec(name)]
    told["exists"] = [path for path in event.get("exists", []) if os.path.exists(path)]
    told["wrote"] = {}
    for path in event.get("write", []):
        try:
            with open(path, "w") as file:
                file.write("x")
            told["wrote"][path] = ""
        except OSError as exc:
            told["wrote"][path] = os.strerror(exc.errno)
    return told

def large(event, context):
    return {"bytes": len(b"x" * event["bytes"])}

def raises(event, context):
    raise KeyError("a reason")

def exits(event, context):
    os._exit(3)

def slow(event, context):
    import time
    time.sleep(60)
"""
KILLED = """
import time
from aws.cloud import Cloud

with Cloud() as cloud:
    print("cloud", cloud.pid, cloud.folder, flush=True)
    time.sleep(60)
"""
BROKEN = "import nothing_of_that_name\n\ndef handler(event, context): ...\n"


def zipped(source: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("func.py", source)
    return written.getvalue()


class Functions:
    """Make functions of the probe and call them."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._lambda = cloud.client("lambda")
        self._role = cloud.client("iam").create_role(RoleName="probe", AssumeRolePolicyDocument=json.dumps(TRUST))

    def make(self, name: str, source: str = PROBE, *, memory_mb: int = 128, timeout_s: int = 10) -> None:
        self._lambda.create_function(
            FunctionName=name,
            Runtime=self.cloud.python.runtime,
            Role=self._role["Role"]["Arn"],
            Handler=f"func.{name.partition('-')[0]}",
            MemorySize=memory_mb,
            Timeout=timeout_s,
            Code={"ZipFile": zipped(source)},
            Environment={"Variables": {"OWN": "value"}},
        )

    def call(self, name: str, event: Any = None) -> Any:
        """Return what a function answers, or how it failed."""
        answer = self._lambda.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode())
        return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def functions() -> Iterator[Functions]:
    if sandbox.missing():
        pytest.skip(f"nothing is sandboxed here: {sandbox.missing()}")
    with Cloud() as cloud:
        made = Functions(cloud)
        made.make("handler", memory_mb=256)
        yield made


def test_the_code_is_read_only_and_tmp_is_private(functions: Functions) -> None:
    """A function may write to /tmp and nowhere else, and what is in this machine's /tmp is not in its."""
    paths = ["/var/task/x", "/var/runtime/x", "/usr/x", "/etc/x", "/dev/shm/x", "/tmp/x"]
    told = functions.call(
        "handler", {"write": paths, "exists": [str(functions.cloud.folder), __file__, "/sys/devices"]}
    )
    assert told["wrote"].pop("/tmp/x") == ""
    assert set(told["wrote"].values()) == {os.strerror(30)}
    assert told["exists"] == []
    assert not Path("/tmp/x").exists()


def test_the_environment_is_lambdas(functions: Functions) -> None:
    """Variables, user, folder and context are Lambda's; nothing of this machine's own is there."""
    told = functions.call("handler")
    runtime = functions.cloud.python.runtime
    environ = told["environ"]
    expected = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": "handler",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": "/var/task",
        "TZ": ":UTC",
        "_HANDLER": "func.handler",
        "OWN": "value",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert environ["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert not {"HOME", "VIRTUAL_ENV", "CLOUD_CONFIG", "CLOUD_SCRIPT"} & set(environ)
    assert (told["uid"], told["cwd"], told["memory_mb"]) == (993, "/var/task", "256")
    assert told["arn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:handler"
    assert 9_000 < told["left_ms"] <= 10_000
    assert told["boto3"] == "/var/runtime/boto3/__init__.py"
    assert told["ours"] == []


def test_a_process_is_kept_and_a_killed_one_replaced(functions: Functions) -> None:
    """A second call finds the first one's process; once a killed one's death is known, a call starts another."""
    first, second = functions.call("handler"), functions.call("handler")
    assert first["same"]
    assert second["same"]
    assert first["environ"]["AWS_LAMBDA_LOG_STREAM_NAME"] == second["environ"]["AWS_LAMBDA_LOG_STREAM_NAME"]
    (pid,) = functions.cloud.processes("handler")
    os.kill(pid, signal.SIGKILL)
    outcomes: list[Any] = []
    until(lambda: outcomes.append(functions.call("handler")) or "environ" in outcomes[-1], 10)
    *failed, third = outcomes
    assert {outcome["errorType"] for outcome in failed} <= {"Runtime.ExitError"}  # sent to the dying one
    assert third["environ"]["AWS_LAMBDA_LOG_STREAM_NAME"] != first["environ"]["AWS_LAMBDA_LOG_STREAM_NAME"]


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("raises", PROBE, "KeyError"),
        ("exits", PROBE, "Runtime.ExitError"),
        ("slow", PROBE, "Sandbox.Timedout"),
        ("handler-missing-import", BROKEN, "Runtime.ImportModuleError"),
    ],
)
def test_failures_have_lambdas_names(functions: Functions, name: str, source: str, kind: str) -> None:
    """What goes wrong in a function is told as Lambda tells it, and the next call is served."""
    functions.make(name, source, timeout_s=1)
    for _ in range(2):
        assert functions.call(name)["errorType"] == kind


def test_memory_is_limited(functions: Functions) -> None:
    """A function that takes more memory than it was given is killed; another goes on."""
    if not functions.cloud.limits_memory:
        pytest.skip("this machine has no control groups for memory that we may write to")
    functions.make("large", memory_mb=256)
    assert functions.call("large", {"bytes": 50_000_000}) == {"bytes": 50_000_000}
    assert functions.call("large", {"bytes": 500_000_000})["errorType"] == "Runtime.ExitError"
    assert functions.call("large", {"bytes": 50_000_000}) == {"bytes": 50_000_000}


def test_nothing_outlives_the_cloud() -> None:
    """Ended by force in the middle of a call, the cloud leaves no process, no folder and no control group."""
    if sandbox.missing():
        pytest.skip(f"nothing is sandboxed here: {sandbox.missing()}")
    with Cloud() as cloud:
        Functions(cloud).make("handler")
        assert cloud.client("lambda").invoke(FunctionName="handler", Payload=b"{}")["StatusCode"] == 200
        assert len(cloud.processes("")) == 1
        os.kill(cloud.pid, signal.SIGSTOP)  # so that SIGTERM can't be heard
        folder, group = cloud.folder, cloud.groups.folder
    assert cloud.processes("") == []
    assert not folder.exists()
    assert not group.exists()


def test_nothing_outlives_a_test_that_was_killed(tmp_path: Path) -> None:
    """When the test run itself is killed, the cloud notices within seconds and ends, with all that it started."""
    program = tmp_path / "run.py"
    program.write_text(KILLED)
    paths = os.pathsep.join([str(CHECKOUT / "tests"), str(CHECKOUT)])
    command, environ = [sys.executable, str(program)], {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid, folder = next(line for line in run.stdout if line.startswith("cloud ")).split()[1:]
        run.kill()
    until(lambda: not Path("/proc", pid).exists() or Path("/proc", pid, "cmdline").read_bytes() == b"", 15)
    assert not Path(folder).exists()


def test_functions_run_where_nothing_can_be_sandboxed() -> None:
    """On a machine that permits no namespaces the same runtime client runs the same code, with fewer walls."""
    with Cloud(walled=False) as cloud:
        functions = Functions(cloud)
        functions.make("handler")
        told = functions.call("handler", {"exists": [str(cloud.folder)]})
        assert told["exists"] == [str(cloud.folder)]
        assert told["cwd"] == told["environ"]["LAMBDA_TASK_ROOT"]
        assert told["cwd"].startswith(str(cloud.folder))
        assert told["boto3"].startswith(told["environ"]["LAMBDA_RUNTIME_DIR"])
        assert told["ours"] == []
