"""What a deployment's queues and table hold, as the tests ask for it."""

from __future__ import annotations

import json
from urllib.parse import quote

from aws.cloud import Cloud
from aws.deployed import Deployment
from classy.records.store import RecordStore
from classy.records.values import Classification, Query
from graphpipe_fn.transports.aws_access import AwsAccess


def root_access(cloud: Cloud) -> AwsAccess:
    return AwsAccess(region="us-east-1", access_key_id="test", secret_access_key="test", endpoint_url=cloud.url)


def bucket_records(records: RecordStore) -> dict[str, Classification]:
    """Return the records of uploads by their keys; fails where one object has two."""
    found: dict[str, Classification] = {}
    after = ""
    while True:
        page = records.query(Query(limit=100, after=after))
        for record in page.records:
            if record.source.kind == "bucket":
                assert record.source.key not in found
                found[record.source.key] = record
        after = page.next
        if not after:
            return found


def outcome(record: Classification) -> tuple[int, float]:
    if record.refusal is not None:
        return record.refusal.code, 0.0
    return record.top_k[0].class_index, round(record.top_k[0].probability, 4)


def queue_length(deployment: Deployment, output: str) -> int:
    """Return how many messages a queue holds, visible or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = deployment.cloud.client("sqs").get_queue_attributes(
        QueueUrl=deployment.outputs[output], AttributeNames=names
    )
    return sum(map(int, told["Attributes"].values()))


def set_visibility(deployment: Deployment, seconds: int) -> None:
    """Let what failed come again soon: the stack's own 6 minutes are right for users and long for tests."""
    deployment.cloud.client("sqs").set_queue_attributes(
        QueueUrl=deployment.outputs["UploadsQueue"], Attributes={"VisibilityTimeout": str(seconds)}
    )


def notification(bucket: str, key: str, etag: str) -> str:
    """Return what S3 sends of a new object."""
    stored = {"key": quote(key), "size": 1, "eTag": etag, "sequencer": "0"}
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": stored}}
    return json.dumps({"Records": [record]})
