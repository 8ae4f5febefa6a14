"""
500 events of uploads through a bad hour: duplicates, any order, throttling, silence, timeouts and killed processes.

All of it is real but the cause: the queue, its redrive and the functions' processes are those of the other checks.
Faults come from the front, where the functions' own requests to AWS pass, and from SIGKILL. They are drawn with a
fixed seed, and end after a number of each, as a bad hour does.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from aws.cloud import until
from aws.deployed import FUNCTIONS, Deployment
from aws.expected import witness
from aws.front import Fault, Passing
from aws.observed import bucket_records, notification, outcome, queue_length, root_access, set_visibility
from classy.errors import UnreadablePicture
from classy.records.store import open_records

SEED = 20_261_121
OBJECTS, EVENTS, RUBBISH = 120, 500, 6
STORM_S = 480.0
# Shorter than the stack's own, and in the same order: a stage, a request that hangs, the front, the queue.
STAGE_S, STALL_S, FRONT_S, VISIBILITY_S = 6, 9.0, 20, 20
AT_ONCE = 3
POISON = (
    '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
    '{"Records": "none"}',
    "not JSON",
    '{"hello": "world"}',
)
MANY_REQUESTS = json.dumps(
    {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}
)
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
THROTTLED = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Rate exceeded"})


@dataclass
class Weather:
    """
    Draw the faults.

    Args:
        left: How many of each kind are still to come.
    """

    chance: random.Random
    left: Counter[str] = field(
        default_factory=lambda: Counter({"429": 40, "503": 30, "table": 15, "silence": 15, "stall": 6, "kill": 15})
    )
    made: Counter[str] = field(default_factory=Counter)
    calm: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, kind: str, probability: float) -> bool:
        """Return whether a fault of this kind comes now."""
        with self.lock:
            struck = not self.calm.is_set() and self.left[kind] > 0 and self.chance.random() < probability
            self.left[kind] -= struck
            self.made[kind] += struck
            return struck

    def __call__(self, passing: Passing) -> Fault | None:
        """Be the front's rule."""
        if passing.path.endswith("/invocations"):
            if self.strikes("429", 0.12):
                headers = (("x-amzn-ErrorType", "TooManyRequestsException"), ("Content-Type", "application/json"))
                return Fault(429, MANY_REQUESTS.encode(), headers)
            if self.strikes("silence", 0.04):
                return Fault(0)
        elif passing.target.startswith("DynamoDB_"):
            if self.strikes("table", 0.05):
                return Fault(400, THROTTLED.encode(), (("Content-Type", "application/x-amz-json-1.0"),))
        elif passing.method in ("GET", "HEAD", "PUT"):
            if self.strikes("503", 0.06):
                return Fault(503, SLOW_DOWN.encode(), (("Content-Type", "application/xml"),))
            if self.strikes("stall", 0.02):
                self.calm.wait(STALL_S)  # longer than the functions may take
        return None


@contextmanager
def killer(deployment: Deployment, weather: Weather) -> Iterator[None]:
    """Kill a runtime client every now and then, whatever it is doing."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(1.0):
            pids = deployment.cloud.processes("")
            if pids and weather.strikes("kill", 1.0):
                try:
                    os.kill(weather.chance.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    weather.left["kill"] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def small(picture: bytes, number: int) -> bytes:
    """Return a picture of its own, small enough for hundreds of them."""
    with Image.open(io.BytesIO(picture)) as image:
        written = io.BytesIO()
        image.convert("RGB").resize((160 + number % 7, 120 + number % 5)).save(written, "JPEG", quality=80)
    return written.getvalue()


@dataclass(frozen=True)
class Dead:
    """A message in the dead-letter queue; who dies while at it can say no reason."""

    body: str
    reason: str
    receipt: str


def dead_letters(deployment: Deployment) -> dict[str, Dead]:
    """Return the dead-letter queue's messages by the ids that they had at first; they stay, unseen for 5 s."""
    sqs, queue = deployment.cloud.client("sqs"), deployment.outputs["FailedUploads"]
    found: dict[str, Dead] = {}
    seen: set[str] = set()  # a function that is killed after it gave one up does so again

    def all_seen() -> bool:
        got = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=5, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for message in got:
            told = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            seen.add(message["MessageId"])
            first = told.get("MessageId", message["MessageId"])
            found[first] = Dead(message["Body"], told.get("Reason", ""), message["ReceiptHandle"])
        return not got and len(seen) == queue_length(deployment, "FailedUploads")

    until(all_seen, 60)
    return found


def redrive(deployment: Deployment, messages: Iterable[Dead]) -> None:
    """Move messages from the dead-letter queue back, as an operator does when the weather is fine again."""
    sqs = deployment.cloud.client("sqs")
    for message in messages:
        sqs.send_message(QueueUrl=deployment.outputs["UploadsQueue"], MessageBody=message.body)
        sqs.delete_message(QueueUrl=deployment.outputs["FailedUploads"], ReceiptHandle=message.receipt)


def wait_until_quiet(deployment: Deployment) -> None:
    until(lambda: queue_length(deployment, "UploadsQueue") == 0, STORM_S, lambda: deployment.log_of("classy")[-5000:])


def test_no_upload_is_lost_doubled_or_stuck(deployment: Deployment, photos: dict[str, bytes], tmp_path: Path) -> None:
    """After the storm there is one right record for each object, and only poison in the dead-letter queue."""
    chance = random.Random(SEED)
    originals = sorted(photos)
    uploads = {
        f"storm/{number:03} ü+.jpg": small(photos[originals[number % len(originals)]], number)
        for number in range(OBJECTS - RUBBISH)
    }
    rubbish = {f"storm/rubbish {number}.jpg": b"\xff\xd8\xff" + bytes([number]) * 50 for number in range(RUBBISH)}
    with witness(tmp_path) as right:
        expected = {key: right.outcome(content) for key, content in uploads.items()}
    expected |= dict.fromkeys(rubbish, (UnreadablePicture.code, 0.0))

    functions = deployment.cloud.client("lambda")
    for function in FUNCTIONS:
        timeout_s = FRONT_S if function == "classy" else STAGE_S
        functions.update_function_configuration(FunctionName=deployment.name(function), Timeout=timeout_s)
    (source,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=source["UUID"], ScalingConfig={"MaximumConcurrency": AT_ONCE})
    set_visibility(deployment, VISIBILITY_S)
    s3, sqs = deployment.cloud.client("s3"), deployment.cloud.client("sqs")
    bucket, queue = deployment.outputs["UploadsBucket"], deployment.outputs["UploadsQueue"]
    records = open_records("dynamodb:classy-dev-records", root_access(deployment.cloud))
    weather = Weather(chance)
    deployment.cloud.front.rule = weather
    started = time.monotonic()
    try:
        with killer(deployment, weather):
            announced = []
            for key, content in chance.sample(sorted((uploads | rubbish).items()), OBJECTS):
                etag = s3.put_object(Bucket=bucket, Key=key, Body=content)["ETag"].strip('"')  # which is one event
                announced.append(notification(bucket, key, etag))
            again = [*announced, *chance.choices(announced, k=EVENTS - 2 * OBJECTS), *POISON]
            chance.shuffle(again)
            poison: dict[str, str] = {}
            for place in range(0, len(again), 10):
                entries = [
                    {"Id": str(number), "MessageBody": body} for number, body in enumerate(again[place : place + 10])
                ]
                for sent in sqs.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]:
                    if again[place + int(sent["Id"])] in POISON:
                        poison[sent["MessageId"]] = again[place + int(sent["Id"])]
            wait_until_quiet(deployment)
        weather.calm.set()
        took_s = time.monotonic() - started
        dead = dead_letters(deployment)
        unlucky = [message for name, message in dead.items() if name not in poison]
        print(f"{EVENTS} events of {OBJECTS} objects: {took_s:.0f} s, {dict(weather.made)}, {len(unlucky)} sent back")
        assert all(weather.made[kind] for kind in ("429", "503", "table", "silence", "stall", "kill")), weather.made
        assert len(unlucky) < EVENTS / 20  # five deliveries failed, all of them in the storm
        redrive(deployment, unlucky)
        wait_until_quiet(deployment)
        dead = dead_letters(deployment)
        assert {name: message.body for name, message in dead.items()} == poison
        assert all(message.reason.startswith("4") for message in dead.values()), dead

        found = {key: outcome(record) for key, record in bucket_records(records).items()}
        assert found == expected
        results = s3.get_paginator("list_objects_v2").paginate(Bucket=deployment.outputs["ResultsBucket"])
        keys = [
            one["Key"].removeprefix(f"results/{bucket}/").rpartition("/")[0]
            for page in results
            for one in page["Contents"]
        ]
        assert sorted(key for key in keys if key.startswith("storm/")) == sorted(expected)
    finally:
        weather.calm.set()
        deployment.cloud.front.rule = None
        records.close()
