"""Uploads on their way to a function: real storage, real queue, real function; none lost, poison set aside."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from local_agents import APP, Running, eventually, running, specs
from test_local_storage import stored

from classy.errors import StorageFailed
from classy.local.inbox import announce_missed
from classy.local.storage import LocalStorage
from classy.local.uploads import Delivery, Uploads, invoker


@dataclass
class Scene:
    """A storage, an agent whose receiver function notes what it gets, and the notes."""

    storage: LocalStorage
    agent: Running
    notes: Path
    uploads: Uploads

    def upload(self, *keys: str) -> None:
        """Put objects into the inbox."""
        s3 = self.storage.s3()
        for key in keys:
            s3.put_object(Bucket="inbox", Key=key, Body=b"x")
        s3.close()

    def noted(self) -> list[dict[str, Any]]:
        """Return what the function got, in order."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def keys(self) -> list[str]:
        """Return the object keys of the events that the function got."""
        return [json.loads(note["body"])["Records"][0]["s3"]["object"]["key"] for note in self.noted()]

    def messages(self, queue: str) -> int:
        """Return how many messages a queue holds, visible or not."""
        sqs = self.storage.sqs()
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.storage.queue_url(queue)
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # type: ignore[arg-type]
        sqs.close()
        return sum(map(int, attributes.values()))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStorage, Running, Path]]:
    folder = tmp_path_factory.mktemp("uploads")
    receiver = specs("receiver", config={"NOTES": str(folder / "notes")})
    with stored(folder) as storage, running(folder / "logs", receiver) as agent:
        yield storage, agent, folder / "notes"


@pytest.fixture
def scene(world: tuple[LocalStorage, Running, Path]) -> Iterator[Scene]:
    storage, agent, notes = world
    sqs = storage.sqs()
    for queue in ("uploads", "uploads-dead"):
        sqs.purge_queue(QueueUrl=storage.queue_url(queue))
    notes.unlink(missing_ok=True)
    invoke = invoker(agent.agent.invoke_url(APP, "receiver"), timeout_s=30)
    uploads = Uploads(sqs, storage.queue_url("uploads"), invoke, retry_s=0.0, poll_s=1)
    try:
        yield Scene(storage, agent, notes, uploads)
    finally:
        uploads.stop()
        assert eventually(lambda: not uploads.alive)
        sqs.close()


def test_every_upload_reaches_the_function(scene: Scene) -> None:
    """Each upload's event arrives, unchanged and as JSON, and is forgotten once it was dealt with."""
    keys = [f"picture {number}.jpg" for number in range(20)]
    scene.upload(*keys)
    scene.uploads.start()
    assert eventually(lambda: len(scene.keys()) == 20, timeout_s=20)
    assert sorted(scene.keys()) == sorted(key.replace(" ", "+") for key in keys)
    assert {note["type"] for note in scene.noted()} == {"application/json"}
    assert eventually(lambda: scene.messages("uploads") == 0)
    assert scene.messages("uploads-dead") == 0


def test_the_test_event_is_not_handed_on(scene: Scene) -> None:
    """S3's own test event is acknowledged and never reaches the function."""
    s3 = scene.storage.s3()
    configuration = s3.get_bucket_notification_configuration(Bucket="inbox")
    queues = configuration["QueueConfigurations"]
    s3.put_bucket_notification_configuration(
        Bucket="inbox", NotificationConfiguration={"QueueConfigurations": queues}
    )
    s3.close()
    assert scene.messages("uploads") == 1
    scene.uploads.start()
    assert eventually(lambda: scene.messages("uploads") == 0)
    assert scene.noted() == []


def test_poison_ends_in_the_dead_letter_queue(scene: Scene) -> None:
    """An event that the function fails on five times is set aside; the others are not held up."""
    scene.upload("poison.jpg", "good.jpg")
    scene.uploads.start()
    assert eventually(lambda: scene.messages("uploads-dead") == 1, timeout_s=20)
    assert (scene.keys().count("poison.jpg"), scene.keys().count("good.jpg")) == (5, 1)
    assert eventually(lambda: scene.messages("uploads") == 0)


def test_a_function_that_dies_gets_the_event_again(scene: Scene) -> None:
    """An event whose function process died is delivered again, and then forgotten."""
    scene.upload("deadly.jpg")
    scene.uploads.start()
    assert eventually(lambda: scene.keys() == ["deadly.jpg"] * 2)
    assert eventually(lambda: scene.messages("uploads") == 0)


def test_an_event_outlives_an_agent_that_is_away(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """While nobody answers, an event stays in the queue and the log says why."""
    nowhere = invoker("http://127.0.0.1:9/invoke/x", timeout_s=1)
    sqs = scene.storage.sqs()
    away = Uploads(sqs, scene.storage.queue_url("uploads"), nowhere, workers=1, retry_s=1.0, poll_s=1)
    scene.upload("kept.jpg")
    away.start()
    assert eventually(lambda: "no answer" in caplog.text)
    away.stop()
    scene.uploads.start()
    assert eventually(lambda: scene.keys() == ["kept.jpg"])
    assert eventually(lambda: not away.alive)
    sqs.close()


def test_it_goes_on_after_a_storage_that_was_away(scene: Scene) -> None:
    """Deliveries go on when the storage comes back."""
    scene.uploads.start()
    scene.storage.stop()
    scene.storage.start()
    scene.upload("after.jpg")
    assert eventually(lambda: scene.keys() == ["after.jpg"], timeout_s=15)
    assert scene.uploads.alive


def test_uploads_whose_events_were_lost_are_announced_again(tmp_path: Path) -> None:
    """A storage that is killed forgets its queue; every object without a result is announced once it is back."""
    config = {"NOTES": str(tmp_path / "notes")}
    with stored(tmp_path) as storage, running(tmp_path / "logs", specs("receiver", config=config)) as agent:
        invoke = invoker(agent.agent.invoke_url(APP, "receiver"), timeout_s=30)
        sqs = storage.sqs()
        uploads = Uploads(sqs, storage.queue_url("uploads"), invoke, retry_s=0.0, poll_s=1)
        scene = Scene(storage, agent, tmp_path / "notes", uploads)
        keys = ["a b ü.jpg", "folder/c+d.jpg", *(f"{number}.jpg" for number in range(20))]
        scene.upload(*keys, "done.jpg", "done before.jpg")
        s3 = storage.s3()
        s3.put_object(Bucket="inbox", Key="folder/", Body=b"")  # as file browsers make them
        (etag,) = {
            entry["ETag"].strip('"') for entry in s3.list_objects_v2(Bucket="inbox", Prefix="done")["Contents"]
        }
        s3.put_object(Bucket="results", Key=f"inbox/done.jpg/{etag}.small@1.json", Body=b"{}")
        s3.put_object(Bucket="results", Key="inbox/done before.jpg/anotheretag.small@1.json", Body=b"{}")
        s3.close()
        assert scene.messages("uploads") == len(keys) + 4  # the two, the folder and S3's test event
        os.killpg(storage.pid, signal.SIGKILL)
        storage.stop()
        storage.start()
        assert scene.messages("uploads") <= 1
        assert announce_missed(storage, results="results") == len(keys) + 1
        uploads.start()
        expected = sorted(quote_plus(key, safe="/") for key in [*keys, "done before.jpg"])
        assert eventually(lambda: sorted(scene.keys()) == expected, timeout_s=20)
        uploads.stop()
        assert eventually(lambda: not uploads.alive)
        sqs.close()
        for _ in range(2):
            assert announce_missed(storage, results="") == len(keys) + 2  # where nothing tells what was done
            assert scene.messages("uploads") == len(keys) + 2  # once each, however often the storage is started


def test_what_the_queue_refuses_is_no_announcement(tmp_path: Path) -> None:
    """A batch is answered with success though some of it was refused; that is told, and the rest is announced."""
    with stored(tmp_path) as storage:
        s3, sqs = storage.s3(), storage.sqs()
        for key in ("short.jpg", "long" * 200):
            s3.put_object(Bucket="inbox", Key=key, Body=b"x")
        queue_url = storage.queue_url("uploads")
        sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"MaximumMessageSize": "1024"})
        with pytest.raises(StorageFailed, match=r"refused 1 of 2 events: .*1024"):
            announce_missed(storage, results="results")
        (message,) = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)["Messages"]
        assert "short.jpg" in message["Body"]
        s3.close()
        sqs.close()


def test_rubbish_is_handed_on_as_it_is(scene: Scene) -> None:
    """A message that is no event is the function's to judge."""
    got: list[bytes] = []
    arrived = threading.Event()

    def invoke(body: bytes) -> Delivery:
        got.append(body)
        arrived.set()
        return Delivery(200, {}, b"")

    sqs = scene.storage.sqs()
    sqs.send_message(QueueUrl=scene.storage.queue_url("uploads"), MessageBody="[" * 50_000)
    uploads = Uploads(sqs, scene.storage.queue_url("uploads"), invoke, workers=1, poll_s=1)
    uploads.start()
    assert arrived.wait(10)
    uploads.stop()
    assert eventually(lambda: not uploads.alive)
    sqs.close()
    assert got == [b"[" * 50_000]


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, True),
        (200, {"fn-http-status": "200"}, True),
        (200, {"fn-http-status": "404"}, False),
        (200, {"fn-http-status": "x"}, False),
        (202, {}, False),
        (404, {}, False),
        (502, {}, False),
        (504, {}, False),
    ],
)
def test_what_counts_as_success(status: int, headers: dict[str, str], expected: bool) -> None:
    """Only Fn's 200, without another status that the function asked for, lets an event be forgotten."""
    assert Delivery(status, headers, b"").succeeded == expected
