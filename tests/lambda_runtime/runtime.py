"""
One function as AWS Lambda runs it: AWS's real runtime client, awslambdaric, as a child process; in front of it the
Runtime API that it asks for work, and the Invoke operation that callers use, both on one port of 127.0.0.1.

Kept of Lambda's behaviour: its environment variables, cold start at the first call, one call at a time (a second one
is throttled, as with a reserved concurrency of 1), the timeout that kills the process, 6 MB both ways, and the error
that each of these, an init failure or a dead process leads to. Not kept: frozen processes, memory limits, versions,
and signatures (MiniStack checks these).

Source: AWS, "Using the Lambda runtime API"; Lambda API reference, Invoke.
"""

from __future__ import annotations

import http.server
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

REQUEST_MAX = 6_291_456
ANSWER_MAX = 6_291_556
INIT_S = 10.0  # Lambda's own limit; what takes longer is started again within the call
TESTS = Path(__file__).parent.parent

_INVOKE = re.compile(r"/2015-03-31/functions/([^/?]+)/invocations(?:\?.*)?")
_RESULT = re.compile(r"/2018-06-01/runtime/invocation/([^/]+)/(response|error)")


@dataclass
class Answer:
    """What Invoke answers."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Work:
    """One call, on its way to the runtime client."""

    id: str
    payload: bytes
    deadline_ms: int


class Environment:
    """Lambda's word for one process of a function, from its start to its end."""

    def __init__(self, command: list[str], folder: Path, environ: Mapping[str, str], log: Path) -> None:
        self.waiting = threading.Event()
        self.init_error = b""
        self.work: queue.Queue[Work | None] = queue.Queue()
        self.results: queue.Queue[tuple[str, str, bytes]] = queue.Queue()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(command, cwd=folder, env=dict(environ), stdout=stream, stderr=stream)

    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Kill the process and let go of the thread that holds its question for work."""
        self.process.kill()
        self.process.wait(10)
        self.work.put(None)


class LambdaRuntime:
    """
    Serve one function; a context manager.

    Args:
        folder: The function's code, as in /var/task.
        handler: `module.function`.
        timeout_s: The function's.
        environ: Its own environment variables.
        command: Makes of Lambda's environment variables what runs the function; this Python's client unless given.
    """

    def __init__(
        self,
        folder: Path,
        handler: str,
        *,
        name: str = "function",
        timeout_s: float = 30.0,
        environ: Mapping[str, str] | None = None,
        command: Callable[[Mapping[str, str]], list[str]] | None = None,
    ) -> None:
        self.command = command or (lambda environ: [sys.executable, "-m", "awslambdaric", handler])
        self.folder, self.handler, self.name, self.timeout_s = folder, handler, name, timeout_s
        self.own_environ = dict(environ or {})
        self.log = folder / "log"
        self.starts = 0
        self.environment: Environment | None = None
        self._turn = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.runtime = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """Return what an SDK takes for Lambda's endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def busy(self) -> bool:
        """Return whether a call is under way."""
        return self._turn.locked()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.environment is not None:
            self.environment.end()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def invoke(self, name: str, payload: bytes) -> Answer:
        """Answer as Lambda's API does."""
        if name != self.name:
            return _service_error(404, "ResourceNotFoundException", f"Function not found: {name}")
        if len(payload) > REQUEST_MAX:
            message = f"Request must be smaller than {REQUEST_MAX} bytes for the InvokeFunction operation"
            return _service_error(413, "RequestTooLargeException", message)
        try:
            json.loads(payload)
        except ValueError as exc:
            return _service_error(400, "InvalidRequestContentException", f"Could not parse request body: {exc}")
        if not self._turn.acquire(blocking=False):
            answer = _service_error(429, "TooManyRequestsException", "Rate Exceeded.")
            answer.headers["Retry-After"] = "1"
            return answer
        try:
            return self._run(payload)
        finally:
            self._turn.release()

    def next_work(self) -> Work | None:
        """Hand out the next call; None for a process that is to end."""
        environment = self.environment
        assert environment is not None
        environment.waiting.set()
        return environment.work.get()

    def _run(self, payload: bytes) -> Answer:
        call_id = str(uuid.uuid4())
        environment = self._started()
        if environment.init_error:
            environment.end()
            return _function_error(call_id, environment.init_error)
        ends = time.monotonic() + self.timeout_s
        environment.work.put(Work(call_id, payload, int((time.time() + self.timeout_s) * 1000)))
        while True:
            try:
                about, what, body = environment.results.get(timeout=0.01)
            except queue.Empty:
                if not environment.alive():
                    status = environment.process.returncode
                    return _died(call_id, "Runtime.ExitError", f"Runtime exited with error: exit status {status}")
                if time.monotonic() > ends:
                    environment.end()
                    return _died(call_id, "Sandbox.Timedout", f"Task timed out after {self.timeout_s:.2f} seconds")
                continue
            if about != call_id:
                continue
            if what == "error":
                return _function_error(call_id, body)
            if len(body) > ANSWER_MAX:
                environment.end()  # the runtime client ends itself when its answer is refused, a moment later
                message = f"Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."
                return _died(call_id, "Function.ResponseSizeTooLarge", message)
            return Answer(200, body, {"X-Amz-Executed-Version": "$LATEST", "X-Amzn-RequestId": call_id})

    def _started(self) -> Environment:
        if self.environment is not None and self.environment.alive():
            return self.environment
        if self.environment is not None:
            self.environment.end()
        environ = self._environ()
        self.environment = environment = Environment(self.command(environ), self.folder, environ, self.log)
        self.starts += 1
        ends = time.monotonic() + INIT_S
        while not environment.waiting.wait(0.01) and not environment.init_error and environment.alive():
            assert time.monotonic() < ends, f"the runtime does not ask for work: {self.log.read_text()}"
        return environment

    def _environ(self) -> dict[str, str]:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "HOME": "/tmp",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "_HANDLER": self.handler,
            "AWS_LAMBDA_RUNTIME_API": self.url.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{uuid.uuid4().hex}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_SESSION_TOKEN": "test",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            **self.own_environ,
        }


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    runtime: LambdaRuntime

    def handle_error(self, request: object, client_address: object) -> None:
        """Let connections that killed processes and impatient callers leave behind end without a word."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second waits 40 ms for the first one's acknowledgement
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/2018-06-01/runtime/invocation/next":
            return self._send(Answer(404, b""))
        work = self.server.runtime.next_work()
        if work is None:
            self.close_connection = True
            return None
        headers = {
            "Lambda-Runtime-Aws-Request-Id": work.id,
            "Lambda-Runtime-Deadline-Ms": str(work.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:us-east-1:000000000000:function:{work.id}",
            "Content-Type": "application/json",
        }
        return self._send(Answer(200, work.payload, headers))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        runtime = self.server.runtime
        invoked, result = _INVOKE.fullmatch(self.path), _RESULT.fullmatch(self.path)
        if invoked:
            return self._send(runtime.invoke(invoked[1], body))
        environment = runtime.environment
        assert environment is not None
        if result:
            environment.results.put((result[1], result[2], body))
            too_large = result[2] == "response" and len(body) > ANSWER_MAX
            return self._send(Answer(413 if too_large else 202, b"{}"))
        if self.path == "/2018-06-01/runtime/init/error":
            environment.init_error = body
            return self._send(Answer(202, b"{}"))
        return self._send(Answer(404, b""))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _service_error(status: int, name: str, message: str) -> Answer:
    headers = {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/coral/com.amazonaws.awsgirapi/"}
    return Answer(status, json.dumps({"Type": "User", "message": message}).encode(), headers)


def _function_error(call_id: str, body: bytes) -> Answer:
    return Answer(200, body, {"X-Amz-Function-Error": "Unhandled", "X-Amzn-RequestId": call_id})


def _died(call_id: str, kind: str, message: str) -> Answer:
    error = {"errorType": kind, "errorMessage": f"RequestId: {call_id} Error: {message}"}
    return _function_error(call_id, json.dumps(error).encode())
