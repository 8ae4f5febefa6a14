"""
Uploads that nobody heard of: objects of the inbox whose events were lost are announced again.

The emulator writes objects to disk at once but its queues only when it is stopped kindly, so one that is killed
forgets the events that were still waiting. Which objects were dealt with, the results bucket tells: the receiver
writes INBOX/KEY/ETAG.….json there for each. An event too many does no harm; one too few would be an upload lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from classy.errors import StorageFailed
from classy.local.ids import timestamp
from classy.local.storage import REGION, LocalStorage

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BATCH = 10  # messages of one request; SQS's own limit


def announce_missed(storage: LocalStorage, *, results: str) -> int:
    """
    Put an event into the queue for every object of the inbox that has no result.

    What the queue holds is dropped first: it has no result yet either, and would be there once more after each start.

    Args:
        storage: It runs.
        results: The bucket of the results; "" where there is none, so that every object is announced.

    Returns:
        How many were announced.

    Raises:
        StorageFailed: the queue took only a part of them.
    """
    settings, s3, sqs = storage.settings, storage.s3(), storage.sqs()
    try:
        sqs.purge_queue(QueueUrl=storage.queue_url(settings.queue))
        done = set(_done(s3, results, settings.inbox)) if results else set()
        missed = [entry for entry in _objects(s3, settings.inbox) if _identity(entry) not in done]
        refused = []
        for start in range(0, len(missed), BATCH):
            events = [_event(settings.inbox, entry) for entry in missed[start : start + BATCH]]
            answer = sqs.send_message_batch(
                QueueUrl=storage.queue_url(settings.queue),
                Entries=[{"Id": str(place), "MessageBody": json.dumps(event)} for place, event in enumerate(events)],
            )
            refused += answer.get("Failed", [])
        if refused:
            raise StorageFailed(
                f"the queue refused {len(refused)} of {len(missed)} events: {refused[0].get('Message', 'no reason')}"
            )
        return len(missed)
    finally:
        s3.close()
        sqs.close()


def _objects(s3: S3Client, bucket: str, prefix: str = "") -> Iterator[Any]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            if entry["Size"] or not entry["Key"].endswith("/"):  # what makes a folder in a file browser
                yield entry


def _done(s3: S3Client, results: str, inbox: str) -> Iterator[tuple[str, str]]:
    for entry in _objects(s3, results, f"{inbox}/"):
        key, _, name = entry["Key"].removeprefix(f"{inbox}/").rpartition("/")
        yield key, name.partition(".")[0]


def _identity(entry: Any) -> tuple[str, str]:
    return entry["Key"], entry["ETag"].strip('"')


def _event(bucket: str, entry: Any) -> dict[str, Any]:
    """Source: AWS, S3 user guide, "Event message structure"."""
    key, etag = _identity(entry)
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": REGION,
                "eventTime": timestamp(),
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                    "object": {"key": quote_plus(key, safe="/"), "size": entry["Size"], "eTag": etag},
                },
            }
        ]
    }
