"""
MiniStack as a whole AWS Lambda: real deployments of zips, signatures and rights checked, processes that it starts.

Beside what runtime.py has, it checks signatures and IAM's policies, runs several environments of a function,
throttles, knows versions and aliases, and has function URLs and API Gateway in front. It has no 6 MB limits.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from graphpipe_fn.transports.aws_access import AwsAccess

REGION = "us-east-1"
ROOT = "test"  # the account's root: the emulator knows it without being told
TESTS = Path(__file__).parent.parent
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass
class Emulator:
    """A running MiniStack."""

    url: str
    log: Path

    def client(self, service: str) -> Any:
        """Return boto3's client as the account's root."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=ROOT,
            aws_secret_access_key=ROOT,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def access(self, key_id: str = ROOT, secret: str = ROOT) -> AwsAccess:
        """Return our own access to it."""
        return AwsAccess(region=REGION, access_key_id=key_id, secret_access_key=secret, endpoint_url=self.url)

    def deploy(self, name: str, source: str, *, handler: str = "func.handler", timeout_s: int = 30) -> None:
        """Make a function of graphpipe_fn, the contract's model and this func.py."""
        role = self._role()
        self.client("lambda").create_function(
            FunctionName=name,
            Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            Role=role,
            Handler=handler,
            Timeout=timeout_s,
            Code={"ZipFile": bundle(source)},
        )

    def user(self, name: str, *actions: str) -> AwsAccess:
        """Make a user who may do nothing but these, and return the access with its key."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if actions:
            policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
            iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return self.access(key["AccessKeyId"], key["SecretAccessKey"])

    def _role(self) -> str:
        iam = self.client("iam")
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName="functions", AssumeRolePolicyDocument=json.dumps(TRUST))
        return str(iam.get_role(RoleName="functions")["Role"]["Arn"])


def bundle(source: str) -> bytes:
    """Return the zip that is deployed; numpy is the emulator's own, as its functions run in its interpreter."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("func.py", source)
        archive.write(TESTS / "contract_model.py", "contract_model.py")
        package = TESTS.parent / "graphpipe_fn"
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
    return written.getvalue()


@contextmanager
def ministack() -> Iterator[Emulator]:
    """Start MiniStack on a free port of 127.0.0.1 and end it, and all that it started."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, socket.socket() as reserved:
        folder = Path(name)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        log = folder / "log"
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": name,
            "TMPDIR": name,
            "BIND_HOST": "127.0.0.1",  # its own default is every interface
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",  # these two would listen on every interface
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",
            "LOG_LEVEL": "WARNING",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": ROOT,
            "MINISTACK_REGION": REGION,
        }
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            _wait_until_healthy(process, port, log)
            yield Emulator(f"http://127.0.0.1:{port}", log)
        finally:
            _end(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, f"MiniStack does not answer: {log.read_text()}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/_ministack/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its functions too: they outlive it otherwise
    process.wait(10)
