"""
The object storage of the local cloud: MiniStack, an emulator of S3 and SQS, as a child process on 127.0.0.1.

Why MiniStack and not moto's server, the other S3 emulator on PyPI that delivers notifications to a queue (1.5.33 and
5.2.5, 2 cores, one run each): both read 20 MB in 0.02 to 0.03 s, whole or in ranges, and write it in 0.15 s; but
MiniStack starts in 0.5 s rather than 1.4 s, takes 200 small uploads in 0.6 s rather than 2.4 s and hands out their
events in 0.6 s rather than 4.0 s, holds 124 MB rather than 224 MB after 20 MB objects, keeps objects on disk, puts
`sequencer` into its events as S3 does, and emulates Lambda and CloudFormation too, so that one emulator serves all.
Its long polls notice a message 0.1 s late. It is young: its version is pinned.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classy.errors import StorageFailed
from classy.local.launch import LAUNCHER
from classy.local.reaper import Reaper

if TYPE_CHECKING:
    from boto3 import Session
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

REGION = "us-east-1"
HEALTH_PATH = "/_ministack/health"
KEY = "test"  # the emulator's account: any key will do
START_WAIT_S = 120.0  # it reads every object's description first: 12 s for 40,000 here
STOP_WAIT_S = 3.0
POLL_S = 0.02
LOG_BYTES = 10 << 20  # of the emulator's log, before it becomes LOG.1 at the next start
UNSAVED = re.compile(rb"Failed to persist S3 object (.*)")  # what it logs, and tells nobody: it answers 200
RECEIVES = 5  # of one event before it goes to the dead-letter queue


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """
    What the local storage holds.

    Args:
        data_dir: Keeps the objects from run to run.
        log_file: Gets what the emulator says.
        buckets: Created where they are missing.
        inbox: The one of them whose new objects are announced in the queue.
        visibility_s: How long an event that somebody received stays hidden from others.
    """

    data_dir: Path
    log_file: Path
    buckets: Sequence[str] = ("models", "inbox", "results")
    inbox: str = "inbox"
    queue: str = "uploads"
    dead_queue: str = "uploads-dead"
    visibility_s: int = 360


class LocalStorage:
    """
    Run the emulator; start() it from a thread that lives as long as it is to live (see launcher.py).

    Args:
        settings: See StorageSettings.
        reaper: Ends the emulator when we are gone.
        port: A free one; kept over restarts.
    """

    def __init__(self, settings: StorageSettings, reaper: Reaper, *, port: int) -> None:
        self.settings = settings
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._log_read = 0
        self._session: Session | None = None  # kept: what it reads at its first client takes 0.1 s

    @property
    def alive(self) -> bool:
        """Return whether the emulator's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """Return where the emulator's own log is."""
        return self.settings.log_file

    @property
    def pid(self) -> int:
        """Return the emulator's process id, 0 when it does not run."""
        return self._process.pid if self._process else 0

    @property
    def environment(self) -> dict[str, str]:
        """Return what points an AWS client, and Classy's settings, to this storage."""
        return environment_of(self.endpoint)

    def start(self) -> None:
        """
        Start the emulator, and make its buckets, queues and notifications.

        Raises:
            StorageFailed: it ended, or does not answer.
        """
        settings = self.settings
        temporary = self._reaper.run_dir / "storage"
        for folder in (settings.data_dir, settings.log_file.parent, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(temporary),
            "LANG": "C.UTF-8",
            "TMPDIR": str(temporary),
            "BIND_HOST": "127.0.0.1",  # its own default is every interface
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "s3,sqs",
            "IOT_MTLS_ENABLED": "0",  # these two would listen on every interface
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # it would look for containers of its own to remove
            "LOG_LEVEL": "WARNING",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "MINISTACK_REGION": REGION,
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str((settings.data_dir / "objects").resolve()),
            "PERSIST_STATE": "1",
            "STATE_DIR": str((settings.data_dir / "services").resolve()),
        }
        if settings.log_file.exists() and settings.log_file.stat().st_size > LOG_BYTES:
            settings.log_file.replace(settings.log_file.with_name(settings.log_file.name + ".1"))
        with settings.log_file.open("ab") as log:
            self._log_read = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                [
                    *(sys.executable, "-I", "-S", LAUNCHER, str(os.getpid()), "0"),
                    *(sys.executable, "-I", "-m", "ministack"),
                ],
                env=environ,
                cwd=temporary,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.add(self._process.pid)
        try:
            self._wait_until_ready()
            self._set_up()
        except BaseException as exc:
            self.stop()
            if isinstance(exc, client_errors()):
                raise StorageFailed(f"the object storage can't be set up: {exc}") from exc
            raise

    def stop(self) -> None:
        """End the emulator: kindly, so that it writes its queues to disk, then by force."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WAIT_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it was seen to survive SIGTERM, and to leave workers
        process.wait()
        self._reaper.remove(process.pid)

    def unsaved(self) -> list[str]:
        """Return the objects that could not be written to disk since the last call, each with the reason."""
        try:
            with self.settings.log_file.open("rb") as log:
                log.seek(self._log_read)
                *lines, rest = log.read().split(b"\n")
                self._log_read = log.tell() - len(rest)
        except OSError:  # somebody removed it
            return []
        return [found[1].decode("utf-8", "replace") for line in lines if (found := UNSAVED.search(line))]

    def s3(self) -> S3Client:
        """Return a new S3 client of this storage."""
        from botocore.config import Config

        config = Config(
            proxies={},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return self._aws().client("s3", endpoint_url=self.endpoint, config=config)

    def sqs(self) -> SQSClient:
        """Return a new SQS client of this storage; it may be used by several threads."""
        from botocore.config import Config

        config = Config(proxies={}, retries={"max_attempts": 0}, max_pool_connections=20)
        return self._aws().client("sqs", endpoint_url=self.endpoint, config=config)

    def queue_url(self, name: str) -> str:
        """Return a queue's URL."""
        return f"{self.endpoint}/000000000000/{name}"

    def _aws(self) -> Session:
        """Return a session that does not look into the user's own AWS configuration."""
        if self._session is None:
            import boto3
            from botocore.session import get_session

            nowhere, unset = (None, None, os.devnull, None), (None, None, None, None)
            self._session = boto3.Session(
                aws_access_key_id=KEY,
                aws_secret_access_key=KEY,
                region_name=REGION,
                botocore_session=get_session({"profile": unset, "config_file": nowhere, "credentials_file": nowhere}),
            )
        return self._session

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise StorageFailed(f"the object storage ended at once; {self.settings.log_file} says why")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", HEALTH_PATH)
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(POLL_S)
            finally:
                connection.close()
        raise StorageFailed(f"the object storage does not answer; {self.settings.log_file} may say why")

    def _set_up(self) -> None:
        settings, s3, sqs = self.settings, self.s3(), self.sqs()
        try:
            have = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
            for bucket in settings.buckets:
                if bucket not in have:
                    s3.create_bucket(Bucket=bucket)
            arns = {}
            for name in (settings.dead_queue, settings.queue):
                url = sqs.create_queue(QueueName=name)["QueueUrl"]
                answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
                arns[name] = answer["Attributes"]["QueueArn"]
            redrive = {"deadLetterTargetArn": arns[settings.dead_queue], "maxReceiveCount": str(RECEIVES)}
            sqs.set_queue_attributes(
                QueueUrl=self.queue_url(settings.queue),
                Attributes={"VisibilityTimeout": str(settings.visibility_s), "RedrivePolicy": json.dumps(redrive)},
            )
            s3.put_bucket_notification_configuration(
                Bucket=settings.inbox,
                NotificationConfiguration={
                    "QueueConfigurations": [{"QueueArn": arns[settings.queue], "Events": ["s3:ObjectCreated:*"]}]
                },
            )
        finally:
            s3.close()
            sqs.close()


def client_errors() -> tuple[type[Exception], ...]:
    """Return what the clients of s3() and sqs() raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def environment_of(endpoint: str) -> dict[str, str]:
    """Return the environment variables that point an AWS client, and Classy's settings, to a local storage."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
    }
