"""
The dead-letter queue, with reasons: SQS moves what failed often enough there by itself, but does not say why it did.

So what can never be dealt with goes there at once, and anything else at its last delivery, each with the reason. What
kills the whole process is still moved by SQS; then the log has the reason.

Source: AWS, SQS API reference, SendMessage (AWS JSON 1.0).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from classy.aws.batches import attributes_of
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.transports.aws_access import AwsAccess, AwsApi, service_api
from graphpipe_fn.transports.aws_sigv4 import Request, sign
from graphpipe_fn.transports.http import HttpTransport

SEND_S = 5.0
REASON_MAX = 400  # characters; an attribute counts to the message's own limit

log = logging.getLogger(__name__)


class DeadLetters:
    """
    Put messages into a queue, with why they are there.

    Args:
        url: The queue's.
        deliveries: After so many SQS moves a message there by itself: its redrive policy's maxReceiveCount.
        access: How AWS is reached.
    """

    def __init__(self, url: str, *, deliveries: int, access: AwsAccess) -> None:
        self._url = url
        self._deliveries = deliveries
        self._access = access
        self._lock = threading.Lock()
        self._found: tuple[AwsApi, HttpTransport] | None = None

    def take(self, record: Mapping[str, Any], reason: str, *, final: bool) -> bool:
        """
        Take a message that failed, if it will not be tried again.

        Args:
            record: As Lambda handed it over.
            final: Whether another try can't help.

        Returns:
            Whether it is in the queue now; if not, it has to come again.
        """
        deliveries = str(attributes_of(record).get("ApproximateReceiveCount", "1"))
        if not final and (not deliveries.isdigit() or int(deliveries) < self._deliveries):
            return False
        told = {"Reason": reason[:REASON_MAX] or "unknown", "Deliveries": deliveries}
        told["MessageId"] = str(record.get("messageId") or "unknown")
        message = {
            "QueueUrl": self._url,
            "MessageBody": str(record.get("body") or " "),  # SQS takes no empty one
            "MessageAttributes": {name: {"DataType": "String", "StringValue": text} for name, text in told.items()},
        }
        try:
            self._send(json.dumps(message).encode())
        except GraphPipeError as exc:
            log.warning("message %s could not be put away, so SQS will do that: %s", told["MessageId"], exc.message)
            return False
        return True

    def close(self) -> None:
        """Close the kept connections; the next message opens new ones."""
        with self._lock:
            found, self._found = self._found, None
        if found is not None:
            found[1].close()

    def _send(self, body: bytes) -> None:
        with self._lock:
            if self._found is None:
                api = service_api(self._access, "sqs")
                self._found = api, HttpTransport(api.url)
            api, road = self._found
        headers = sign(
            Request(
                method="POST",
                host=road.host,
                path="/",
                headers=[
                    ("Content-Type", "application/x-amz-json-1.0"),
                    ("X-Amz-Target", "AmazonSQS.SendMessage"),
                    ("Accept-Encoding", "identity"),
                ],
                body=[body],
            ),
            api.credentials(),
            region=api.region,
            service="sqs",
            at=time.time(),
        )
        response = road.send("POST", "/", headers, [body], time.monotonic() + SEND_S)
        if response.status != 200:
            log.warning("sqs SendMessage: %d %.2000r", response.status, bytes(response.body))
            raise GraphPipeError(f"the queue {self._url[:200]} refuses it with status {response.status}")
