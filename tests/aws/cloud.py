"""
A local AWS: MiniStack with AWS's own function runtime, a TLS front, and the Serverless Framework pointed to it.

It takes the name of a real region, so that the URLs that a deployment prints are those of AWS; curl is told to
connect to the front instead. Everything listens on 127.0.0.1 alone. IAM is enforced: a role that lacks a statement
fails here too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from packages import CHECKOUT

from aws import sandbox
from aws.front import Front
from aws.parts import function_python, node_folder, runtime_folder
from classy.local.ports import free_port

REGION = "us-east-1"
ACCOUNT = "000000000000"
ROOT = "test"  # the account's root: the emulator knows it without being told
HOST = f"{REGION}.amazonaws.com"
START_S, STOP_S, DEPLOY_S = 30.0, 3.0, 300.0


class Cloud:
    """
    Run the local AWS; a context manager.

    Args:
        walled: Whether the functions run in a sandbox; by default wherever this machine can.
        environ: More of MiniStack's own settings.
    """

    def __init__(self, *, walled: bool | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.walled = not sandbox.missing() if walled is None else walled
        self.own_environ = dict(environ or {})
        self.folder = Path(tempfile.mkdtemp(prefix="classy-aws-"))
        self.log = self.folder / "ministack.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.front = Front(self.port, self.folder)
        self.groups = sandbox.MemoryGroups(f"classy-aws-{os.getpid()}-{self.port}")
        self.python = function_python()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.front.start()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def limits_memory(self) -> bool:
        """Return whether a function can't have more memory than it is given."""
        return self.groups.usable

    @property
    def pid(self) -> int:
        """Return MiniStack's process id."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End everything that was started, by its process id: kindly first, then by force."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it was seen to survive SIGTERM, and to leave functions
            process.wait(10)
        self.groups.close()
        self.front.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, service: str, **options: Any) -> Any:
        """Return boto3's client as the account's root."""
        client: Any = boto3.client  # its type knows four hundred services by name, and no other string
        return client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=ROOT,
            aws_secret_access_key=ROOT,
            config=Config(
                retries={"total_max_attempts": 2},
                s3={"addressing_style": "path"},
                proxies={},
                read_timeout=120,
                **options,
            ),
        )

    @property
    def environ(self) -> dict[str, str]:
        """Return what a tool needs to deploy here."""
        return {
            "PATH": f"{node_folder()}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": ROOT,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_NOTIFICATIONS_MODE": "off",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def serverless(
        self, *arguments: str, parts: Path, cwd: Path, environ: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """
        Run the Serverless Framework.

        Args:
            arguments: Of `serverless`.
            parts: The node_modules that has it.
            cwd: Has serverless.yml.
            environ: More environment variables.
            check: Whether anything but success fails.
        """
        own = {**self.environ, "NODE_PATH": str(parts), **(environ or {})}
        command = [str(node_folder() / "node"), str(parts / ".bin" / "serverless"), *arguments]
        done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, timeout=DEPLOY_S)
        assert not check or done.returncode == 0, f"serverless {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    def curl(self, *arguments: str, local: bool = False, check: bool = True) -> bytes:
        """
        Return what curl prints.

        Args:
            arguments: Of curl.
            local: Whether the URL is this machine's; otherwise names of AWS lead to the front, whose certificate is
                believed.
            check: Whether anything but an answer fails.
        """
        command = ["curl", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]
        if not local:
            command += ["--cacert", str(self.front.certificate), "--connect-to", f"::127.0.0.1:{self.front.port}"]
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=90)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout

    def processes(self, function: str) -> list[int]:
        """Return the process ids of a function's runtime clients, of this cloud; "" is all functions."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                environ = (folder / "environ").read_bytes().split(b"\0")
                words = (folder / "cmdline").read_bytes().split(b"\0")
                ours = f"AWS_ENDPOINT_URL={self.front.endpoint}".encode() in environ
                named = not function or f"AWS_LAMBDA_FUNCTION_NAME={function}".encode() in environ
                if ours and named and words[1:4] == [b"-S", b"-m", b"awslambdaric"]:
                    found.append(int(folder.name))
        return found

    def _start(self) -> None:
        config = {
            "python": str(self.python.path),
            "prefix": str(self.python.prefix),
            "runtime": str(runtime_folder(self.python)),
            "walled": self.walled,
            "groups": self.groups.folder.name,
            "endpoint": self.front.endpoint,
            "parent": os.getpid(),
        }
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "PYTHONPATH": str(CHECKOUT / "tests"),
            "CLOUD_CONFIG": json.dumps(config),
            "BIND_HOST": "127.0.0.1",  # its own default is every interface
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": HOST,
            "MINISTACK_REGION": REGION,
            "IOT_MTLS_ENABLED": "0",  # these two would listen on every interface
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",
            "LOG_LEVEL": "WARNING",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": ROOT,
            **self.own_environ,
        }
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aws.cloud_process"],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        until(self._healthy, START_S, lambda: f"MiniStack does not answer: {self.log.read_text()}")

    def _healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def until(reached: Callable[[], Any], within_s: float, told: Callable[[], str] = lambda: "") -> Any:
    """Ask again and again until there is something true, and return that; fail after a time."""
    give_up = time.monotonic() + within_s
    while True:
        found = reached()
        if found:
            return found
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {told()}"
        time.sleep(0.05)
