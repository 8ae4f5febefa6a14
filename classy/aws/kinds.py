"""
What kind of event a Lambda function was called with, by the marks that its sender always sets.

    http        function URLs, API Gateway's HTTP and REST APIs, load balancers, the lambda: road
    queue       SQS, several messages at once
    warm-up     {"warmup": true}, a schedule's event, serverless-plugin-warmup's
    benchmark   {"num_of_cycles": 10}
    upload      object-storage events: S3's, EventBridge's, CloudEvents; bare or by SNS
    question    {"imagelink": URL}, {"name": URL}, … by `serverless invoke`; {} asks for the sample picture
    unknown     anything else
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from classy.asks import SOURCE_KEYS
from classy.aws.upkeep import is_benchmark, is_warm_up
from classy.events import is_event
from graphpipe_fn.adapters.aws_lambda import http_request

Kind = Literal["http", "queue", "warm-up", "benchmark", "upload", "question", "unknown"]
WRAPPINGS_MAX = 4  # S3 → SNS → SNS → SQS is the deepest that makes sense


def kind_of(event: Any) -> Kind:
    """Return the kind of an event that is no envelope any more; see unwrapped()."""
    if not isinstance(event, Mapping):
        return "unknown"
    if http_request(event) is not None:
        return "http"
    if _sent_by(event, "eventSource", "aws:sqs"):
        return "queue"
    if is_warm_up(event):
        return "warm-up"
    if is_benchmark(event):
        return "benchmark"
    if is_event(event):
        return "upload"
    if not event or any(key in event for key in SOURCE_KEYS):
        return "question"
    return "unknown"


def unwrapped(event: Any) -> Any:
    """
    Return the event inside an SNS notification, of any depth; any other event as it is.

    SNS calls a function with one record, and puts a JSON object into a queue unless raw delivery is on.
    """
    for _ in range(WRAPPINGS_MAX):
        if _sent_by(event, "EventSource", "aws:sns") and len(event["Records"]) == 1:
            told = event["Records"][0].get("Sns")
            inner: Any = told.get("Message") if isinstance(told, Mapping) else None
        elif isinstance(event, Mapping) and event.get("Type") == "Notification" and "TopicArn" in event:
            inner = event.get("Message")
        else:
            return event
        try:
            event = json.loads(inner)
        except (TypeError, ValueError, RecursionError):
            return event
    return event


def _sent_by(event: Any, mark: str, sender: str) -> bool:
    records = event.get("Records") if isinstance(event, Mapping) else None
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, Mapping) and record.get(mark) == sender for record in records)
    )
