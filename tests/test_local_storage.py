"""The local object storage: real S3 and SQS calls against the emulator, over its restarts and its death."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from local_agents import children, eventually, gone, kill

from classy.errors import StorageFailed
from classy.local.ports import PortTaken, free_port, listen
from classy.local.reaper import Reaper
from classy.local.storage import LocalStorage, StorageSettings


@contextmanager
def stored(tmp_path: Path, **settings: Any) -> Iterator[LocalStorage]:
    """Run a storage that keeps its data below tmp_path."""
    reaper = Reaper()
    try:
        everything = StorageSettings(data_dir=tmp_path / "data", log_file=tmp_path / "storage.log", **settings)
        storage = LocalStorage(everything, reaper, port=free_port())
        try:
            storage.start()
            yield storage
        finally:
            storage.stop()
    finally:
        reaper.stop()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    with stored(tmp_path_factory.mktemp("storage")) as started:
        yield started


def _received(storage: LocalStorage) -> list[dict[str, Any]]:
    sqs = storage.sqs()
    url = storage.queue_url(storage.settings.queue)
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.close()
    return [json.loads(message["Body"]) for message in messages]


def test_the_buckets_are_there(storage: LocalStorage) -> None:
    """A started storage has its buckets."""
    s3 = storage.s3()
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"models", "inbox", "results"}
    s3.close()


def test_twenty_megabytes_go_in_and_out(storage: LocalStorage) -> None:
    """A model-sized object comes back byte for byte, whole and in a range."""
    s3, body = storage.s3(), os.urandom(20_000_000)
    s3.put_object(Bucket="models", Key="big", Body=body)
    assert s3.get_object(Bucket="models", Key="big")["Body"].read() == body
    part = s3.get_object(Bucket="models", Key="big", Range="bytes=5000000-9999999")["Body"].read()
    assert part == body[5_000_000:10_000_000]
    s3.close()


def test_new_objects_of_the_inbox_are_announced(storage: LocalStorage) -> None:
    """An upload to the inbox leads to an S3 event in the queue, one to another bucket does not."""
    assert [event.get("Event") for event in _received(storage)] == ["s3:TestEvent"]
    s3 = storage.s3()
    s3.put_object(Bucket="results", Key="not announced", Body=b"x")
    s3.put_object(Bucket="inbox", Key="ein Bild ü.jpg", Body=b"x")
    s3.close()
    (event,) = eventually(lambda: _received(storage))
    (record,) = event["Records"]
    assert (record["eventName"], record["s3"]["bucket"]["name"]) == ("ObjectCreated:Put", "inbox")
    assert record["s3"]["object"]["key"] == "ein+Bild+%C3%BC.jpg"
    assert record["s3"]["object"]["sequencer"]


def test_it_listens_on_this_machine_only(storage: LocalStorage) -> None:
    """The emulator listens on 127.0.0.1 and on nothing else."""
    inodes = {
        os.readlink(f"/proc/{storage.pid}/fd/{fd}").removeprefix("socket:[").rstrip("]")
        for fd in os.listdir(f"/proc/{storage.pid}/fd")
        if os.path.exists(f"/proc/{storage.pid}/fd/{fd}") or os.path.islink(f"/proc/{storage.pid}/fd/{fd}")
    }
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}
    assert listening == {"0100007F"}


def test_the_users_own_aws_settings_do_not_matter(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile, an endpoint or a proxy of the user's leads no call elsewhere."""
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    s3 = storage.s3()
    assert s3.list_buckets()["Buckets"]
    s3.close()


@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.slow), "kill"])
def test_objects_outlive_the_emulator(tmp_path: Path, how: str) -> None:
    """What was stored is there at the next start, whether the emulator was stopped or killed."""
    with stored(tmp_path) as storage:
        s3 = storage.s3()
        s3.put_object(Bucket="models", Key="a/b c", Body=b"kept")
        if how == "kill":
            os.killpg(storage.pid, signal.SIGKILL)
            assert eventually(lambda: not storage.alive)
        storage.stop()
        storage.start()
        assert s3.get_object(Bucket="models", Key="a/b c")["Body"].read() == b"kept"
        _received(storage)
        s3.put_object(Bucket="inbox", Key="new", Body=b"x")
        assert eventually(lambda: [event for event in _received(storage) if "Records" in event])
        s3.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_what_could_not_be_written_to_disk_is_known(tmp_path: Path) -> None:
    """The emulator answers 200 to what it only holds in memory; its log says so, and so does this, once."""
    with stored(tmp_path) as storage:
        s3 = storage.s3()
        s3.put_object(Bucket="models", Key="small", Body=b"x")
        assert storage.unsaved() == []
        resource.prlimit(storage.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # as a full disk would
        s3.put_object(Bucket="models", Key="too large", Body=bytes(2_000_000))
        s3.close()
        (unsaved,) = eventually(storage.unsaved)
        assert unsaved.startswith("models/too large: ")
        assert storage.unsaved() == []


@pytest.mark.slow
def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    """A stopped storage leaves no process, even when it ignores SIGTERM."""
    before = set(children())
    with stored(tmp_path) as storage:
        pid = storage.pid
        os.kill(pid, signal.SIGSTOP)  # it will not see SIGTERM
        storage.stop()
        assert gone(pid)
    assert set(children()) == before


def test_a_taken_port_is_a_clear_refusal(tmp_path: Path) -> None:
    """A port that another program has is refused when it was asked for, and passed over when not."""
    with listen() as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            free_port(port, fixed=True)
        assert free_port(port) != port
        reaper = Reaper()
        settings = StorageSettings(data_dir=tmp_path, log_file=tmp_path / "storage.log")
        storage = LocalStorage(settings, reaper, port=port)
        try:
            with pytest.raises(StorageFailed, match=r"storage\.log"):
                storage.start()
            assert not storage.alive
        finally:
            reaper.stop()


def test_the_reaper_ends_what_was_not_stopped(tmp_path: Path) -> None:
    """When the run is over, the emulator goes, even if nobody stopped it."""
    reaper = Reaper()
    settings = StorageSettings(data_dir=tmp_path, log_file=tmp_path / "storage.log")
    storage = LocalStorage(settings, reaper, port=free_port())
    storage.start()
    try:
        reaper.stop()
        assert eventually(lambda: not storage.alive)
        assert not reaper.run_dir.exists()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", storage.port))
    finally:
        kill(storage.pid)
        storage.stop()
