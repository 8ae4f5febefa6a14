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
POLL_S = 2  # of one long poll
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
        poll_s: How long one poll of the queue lasts, in seconds.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        invoke: Invoke,
        *,
        workers: int = WORKERS,
        retry_s: float = RETRY_S,
        poll_s: int = POLL_S,
    ) -> None:
        self._sqs, self._queue_url, self._invoke = sqs, queue_url, invoke
        self._retry_s, self._poll_s = retry_s, poll_s
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._busy = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"uploads-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Begin to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """
        Take no more events; return when those under way are dealt with.

        The threads end with their last poll: in a moment when the storage is stopped too.

        Args:
            timeout_s: How long to wait; what takes longer comes back from the queue later.
        """
        self._stop.set()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout_s)

    @property
    def alive(self) -> bool:
        """Return whether any thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        quiet = False
        while not self._stop.is_set():
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=1,
                    WaitTimeSeconds=self._poll_s,
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
        with self._idle:
            self._busy += 1
        try:
            retry_after_s = self._retry_after_s(message)
            if retry_after_s is None:
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
            else:
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue_url,
                    ReceiptHandle=message["ReceiptHandle"],
                    VisibilityTimeout=round(retry_after_s),
                )
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _retry_after_s(self, message: MessageTypeDef) -> float | None:
        """Hand one event over; return None when it is dealt with, else when to try again, in seconds."""
        if _is_test_event(message["Body"]):
            return None
        if self._stop.is_set():
            return 0.0  # it came with the last poll
        tries = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
        return None if self._delivered(message["Body"].encode(), tries) else self._retry_s * 2 ** (tries - 1)

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
    except (ValueError, RecursionError):
        return False  # rubbish is for the function to refuse
    return isinstance(event, dict) and event.get("Event") == "s3:TestEvent"
