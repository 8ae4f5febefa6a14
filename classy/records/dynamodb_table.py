"""
The table that records have in DynamoDB: its definition, as CloudFormation and CreateTable take it, and its making.

    pk, sk                      the table's own key: a record's identity and "record", or one of the notes below
    by_time     part, at        what a part holds, by time; a part is month/spread/NAME@VERSION/where from
    by_class    class_key, at   results by their likeliest class
    by_uri      uri_key, at     what came from one URL or object
    by_cell     cell, at        what was taken in one country and half-degree square
    by_picture  picture_part, picture_key   every picture with its models, in the pictures' own order
    by_bytes    bytes_key       objects of a bucket by their SHA-256, to forget all that held the same bytes

Every index but the last carries `facts`, by which a query passes over what it does not want without reading the
record. A record is in those indexes only whose key it has.
"""

from __future__ import annotations

import time
from typing import Any

from classy.errors import RecordsFailed
from classy.records.dynamodb_api import DynamoApi, InUse
from graphpipe_fn.transports.aws_access import AwsAccess

MADE_S = 60.0  # AWS makes a table of this kind within ten seconds or so
POLL_S = 0.2


def _index(name: str, *key: str, carries: tuple[str, ...] = ()) -> dict[str, Any]:
    projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": [*carries]} if carries else None
    return {
        "IndexName": name,
        "KeySchema": _schema(*key),
        "Projection": projection or {"ProjectionType": "KEYS_ONLY"},
    }


def _schema(*key: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(key, ("HASH", "RANGE"), strict=False)]


TABLE_DEFINITION: dict[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"}
        for name in (
            *("pk", "sk", "part", "at", "class_key", "uri_key", "cell"),
            *("picture_part", "picture_key", "bytes_key"),
        )
    ],
    "KeySchema": _schema("pk", "sk"),
    "GlobalSecondaryIndexes": [
        _index("by_time", "part", "at", carries=("facts",)),
        _index("by_class", "class_key", "at", carries=("facts",)),
        _index("by_uri", "uri_key", "at", carries=("facts",)),
        _index("by_cell", "cell", "at", carries=("facts",)),
        _index("by_picture", "picture_part", "picture_key", carries=("at", "facts")),
        _index("by_bytes", "bytes_key"),
    ],
}
"""What CreateTable takes besides the name, and an AWS::DynamoDB::Table's Properties likewise."""

ACTIONS = ("PutItem", "GetItem", "BatchGetItem", "Query", "DeleteItem")
"""What a role must be allowed, as dynamodb:…, on the table and on its index/*."""


def create_table(table: str, aws: AwsAccess | None = None) -> bool:
    """
    Make the table, unless there is one, and wait until it can be used.

    Returns:
        Whether it was made now.

    Raises:
        RecordsFailed: it can't be made, or takes longer than a minute.
    """
    api = DynamoApi(table, aws)
    try:
        try:
            api.call("CreateTable", {"TableName": table, **TABLE_DEFINITION})
        except InUse:
            return False
        deadline_s = time.monotonic() + MADE_S
        while api.call("DescribeTable", {"TableName": table})["Table"]["TableStatus"] != "ACTIVE":
            if time.monotonic() > deadline_s:
                raise RecordsFailed(
                    f"the table {table!r} is still being made after {MADE_S:g} s; wait, and look again"
                )
            time.sleep(POLL_S)
        return True
    finally:
        api.close()
