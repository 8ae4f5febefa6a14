"""
MiniStack whose Python functions are run by AWS's own awslambdaric in a sandbox, not by its worker script.

Its worker script runs functions in MiniStack's own interpreter and packages, in a writable folder, under error types
of its own, whatever `runtime:` says. Its Runtime API for `provided.*` is the real thing's shape, so Python functions
are sent there. This leans on MiniStack's insides: its version is pinned, and this module fails at its import where
a name is gone. Run as a program by cloud.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from aws.sandbox import MemoryGroups, Sandbox

BOOTSTRAP = '#!/bin/sh\nscript="$CLOUD_SCRIPT"\nunset CLOUD_SCRIPT\neval "$script"\n'
KEPT = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

config = json.loads(os.environ["CLOUD_CONFIG"])
folder = Path(os.environ["TMPDIR"])
sandbox = Sandbox(Path(config["python"]), Path(config["prefix"]), Path(config["runtime"]), config["walled"])
groups = MemoryGroups(config["groups"])
plain_code_folder = lambda_svc._provided_runtime_code_dir
plain_environ = lambda_svc._provided_worker_env
plain_execute = lambda_svc._execute_function_warm
plain_class = lambda_runtime._worker_class_for


def is_python(function: dict[str, Any]) -> bool:
    return str(function.get("Runtime", "")).startswith("python")


def code_folder(code_zip: bytes) -> str:
    """Return a folder with the program that MiniStack starts; the function's own code stays as it came."""
    code = Path(plain_code_folder(code_zip))
    if (code / "bootstrap").exists():
        return str(code)
    place = folder / "code" / code.name
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "bootstrap").exists():
        (place / "task").symlink_to(code)
        written = place / f"bootstrap-{os.getpid()}"
        written.write_text(BOOTSTRAP)
        written.chmod(0o755)
        written.rename(place / "bootstrap")
    return str(place)


def environ(function: dict[str, Any], code: str, port: int) -> dict[str, str]:
    """Return the environment that Lambda documents, and nothing of this machine's."""
    if not is_python(function):
        return dict(plain_environ(function, code, port))
    if function.get("Layers"):
        raise RuntimeError("this local AWS has no layers")
    full, name = plain_environ(function, code, port), str(function["FunctionName"])
    own, task = environment_folder(port), Path(code, "task").resolve()
    (own / "tmp").mkdir(parents=True)
    group = groups.make(str(port), int(function.get("MemorySize", 128)))
    task_place, runtime_place = sandbox.places(task)
    return {
        **{key: full[key] for key in KEPT if full.get(key)},
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LD_LIBRARY_PATH": f"/var/lang/lib:/lib64:/usr/lib64:{runtime_place}:{task_place}:{task_place}/lib:/opt/lib",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PYTHONPATH": runtime_place,
        "SHLVL": "0",
        "_HANDLER": str(function.get("Handler", "")),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function['Runtime']}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": str(function.get("Version", "$LATEST")),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.get("MemorySize", 128)),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": full["AWS_LAMBDA_LOG_STREAM_NAME"],
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": task_place,
        "LAMBDA_RUNTIME_DIR": runtime_place,
        "AWS_ENDPOINT_URL": config["endpoint"],
        **lambda_svc._runtime_env_vars(function),
        "CLOUD_SCRIPT": sandbox.script(str(function.get("Handler", "")), task=task, tmp=own / "tmp", group=group),
    }


def environment_folder(port: int) -> Path:
    return folder / "environments" / str(port)


class PythonEnvironment(lambda_runtime.ProvidedWorker):  # type: ignore[misc]
    """An execution environment that leaves nothing behind, and tells of a failed initialisation as Lambda does."""

    def _await_init(self, init_timeout: float | None = None) -> None:
        try:
            super()._await_init(init_timeout)
        except RuntimeError:
            error = self._init_error
            if isinstance(error, dict):
                raise lambda_runtime.ProvidedRuntimeError(error["errorMessage"], error["errorType"]) from None
            raise

    def _shutdown_server(self) -> None:
        server = self._server
        super()._shutdown_server()
        if server is not None:
            port = server.server_address[1]
            if groups.usable:
                groups.remove(groups.folder / str(port))
            shutil.rmtree(environment_folder(port), ignore_errors=True)


def execute(function: dict[str, Any], event: dict[str, Any], request_id: str) -> Any:
    if is_python(function.get("config") or function):
        return lambda_svc._execute_function_provided_warm(function, event, request_id)
    return plain_execute(function, event, request_id)


lambda_svc._provided_runtime_code_dir = code_folder
lambda_svc._provided_worker_env = environ
lambda_svc._execute_function_warm = execute
lambda_runtime._worker_class_for = lambda function: (
    PythonEnvironment if is_python(function) else plain_class(function)
)


def end_with(parent: int) -> None:
    """End everything once the test that started this is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    groups.close()  # with all functions
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    from ministack.app import main

    threading.Thread(target=end_with, args=(int(config["parent"]),), daemon=True).start()
    main()
