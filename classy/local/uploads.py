"""
Uploads classify themselves: hand the inbox's events from the queue to a function, and forget none that it refused.

An event stays in the queue until the function answered it with success, comes back later and later while it did not,
and ends in the dead-letter queue after five tries. It knows no event's meaning, but for S3's own test event.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

WORKERS = 2
POLL_S = 2  # of one long poll; also how long stop() may take
RETRY_S = 5.0  # before the second try; doubled for each further one
OUTAGE_S = 1.0  # before asking a queue again that did not answer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a function answered: HTTP status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Return whether the event is dealt with: Fn's 200, and no other status that the function asked for."""
        wanted = self.headers.get("fn-http-status", "200")
        return self.status == 200 and wanted.isdecimal() and int(wanted) < 400


Invoke = Callable[[bytes], Delivery]


class Uploads:
    """
    Deliver events from threads of our own, each one event at a time.

    Args:
        sqs: A client of the queue; used by all threads.
        queue_url: Where the events are.
        invoke: Hands one event's body over; raises OSError when there is no answer.
        retry_s: Before the second try, in seconds.
    """

    def __init__(
        self, sqs: SQSClient, queue_url: str, invoke: Invoke, *, workers: int = WORKERS, retry_s: float = RETRY_S
    ) -> None:
        self._sqs, self._queue_url, self._invoke, self._retry_s = sqs, queue_url, invoke, retry_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"uploads-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Begin to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = POLL_S + 3.0) -> None:
        """
        Take no more events; return when those under way are dealt with.

        Args:
            timeout_s: How long to wait for them; what takes longer comes back from the queue at the next start.
        """
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Return whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        quiet = False
        while not self._stop.is_set():
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=1,
                    WaitTimeSeconds=POLL_S,
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                )
                quiet = False
                for message in answer.get("Messages", []):
                    self._handle(message)
            except (BotoCoreError, ClientError, OSError) as exc:
                if not self._stop.is_set() and not quiet:
                    logger.warning("the queue does not answer: %s", exc)
                quiet = True
                self._stop.wait(OUTAGE_S)

    def _handle(self, message: MessageTypeDef) -> None:
        body, handle = message["Body"], message["ReceiptHandle"]
        if not _is_test_event(body):
            tries = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
            if not self._delivered(body.encode(), tries):
                delay_s = round(self._retry_s * 2 ** (tries - 1))
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue_url, ReceiptHandle=handle, VisibilityTimeout=delay_s
                )
                return
        self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=handle)

    def _delivered(self, body: bytes, tries: int) -> bool:
        try:
            delivery = self._invoke(body)
        except (OSError, http.client.HTTPException) as exc:
            logger.warning("try %d of an event: no answer: %r", tries, exc)
            return False
        call_id = delivery.headers.get("fn-call-id", "-")
        if not delivery.succeeded:
            logger.warning("try %d of an event: status %d (call %s)", tries, delivery.status, call_id)
            return False
        logger.info("an event is dealt with (call %s)", call_id)
        return True


def invoker(url: str, *, timeout_s: float) -> Invoke:
    """
    Return what posts an event to a function's invoke endpoint, past any proxy.

    Args:
        timeout_s: For the whole answer to begin; the function's own timeout and the wait for a process.
    """
    parts = urlsplit(url)

    def invoke(body: bytes) -> Delivery:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Delivery(answer.status, headers, answer.read())
        finally:
            connection.close()

    return invoke


def _is_test_event(body: str) -> bool:
    try:
        event = json.loads(body)
    except ValueError:
        return False  # rubbish is for the function to refuse
    return isinstance(event, dict) and event.get("Event") == "s3:TestEvent"
