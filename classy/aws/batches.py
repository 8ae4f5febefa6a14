"""
Batches of SQS messages: each is dealt with by itself, and only those that failed come again.

A message that can never be read ends in a dead-letter queue for somebody to look at, with the reason where that can
be said; its neighbours are done and gone.

Source: AWS, "Implementing partial batch responses"; in a FIFO queue everything behind a failure has to wait for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from classy.aws.kinds import unwrapped
from graphpipe_fn.headers import ID_PATTERN
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Answer, Buffer

LEAST_S = 2.0  # what is not begun with less time left than this comes again, instead of being cut off in the middle

log = logging.getLogger(__name__)


def answer_batch(
    records: Sequence[Mapping[str, Any]],
    answer: Answer,
    call: Call,
    *,
    dead: Callable[[Mapping[str, Any], str, bool], bool] = lambda record, why, final: False,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """
    Deal with a batch.

    Args:
        records: An event's, as Lambda hands them over.
        answer: Takes one message's body; any status but 200 is a failure.
        dead: Takes a message that failed, why, and whether another try can't help; returns whether that was its end.
        clock: The scale of the call's deadline.

    Returns:
        What Lambda's ReportBatchItemFailures takes.
    """
    failed: list[str] = []
    for record in records:
        name, attributes = str(record.get("messageId", "")), attributes_of(record)
        behind = bool(failed) and "MessageGroupId" in attributes
        left_s = None if call.deadline_s is None else call.deadline_s - clock()
        final = False
        if behind:
            why = "a message before it in its FIFO queue failed"
        elif left_s is not None and left_s < LEAST_S:
            why = f"{max(left_s, 0):.1f} s are left of the function's time"
        else:
            named = replace(call, id=name if ID_PATTERN.fullmatch(name) else call.id)
            why, final = _failure(record, answer, named)
            if why and dead(record, why, final):
                log.error("message %s is given up: %s", name, why)
                continue
        if why:
            tries = attributes.get("ApproximateReceiveCount", "?")
            log.warning("message %s, delivery %s, comes again: %s", name, tries, why)
            failed.append(name)
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def attributes_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what SQS says of a message; nothing where there is nothing to be read."""
    attributes = record.get("attributes")
    return attributes if isinstance(attributes, Mapping) else {}


def _failure(record: Mapping[str, Any], answer: Answer, call: Call) -> tuple[str, bool]:
    """Deal with one message; return why it failed, "" where it did not, and whether another try can't help."""
    reply = answer(_body(record.get("body")), call)
    if reply.status == 200:
        return "", False
    text = bytes(reply.body()).decode("utf-8", "replace")
    try:
        error = json.loads(text)["error"]
        # What is our own fault may be mended before the last delivery.
        return f"{error['code']} {error['message']}", error.get("retryable") is False and reply.status < 500
    except (KeyError, TypeError, ValueError):
        return f"{reply.status} {text[:200]}", False


def _body(text: Any) -> Buffer:
    """Return a message's body as a question or an event, out of SNS's envelope where it is in one."""
    body = text if isinstance(text, str) else ""
    if '"Notification"' in body:
        with contextlib.suppress(ValueError, RecursionError):  # it is answered as what can't be read
            body = json.dumps(unwrapped(json.loads(body)))
    return body.encode("utf-8", "surrogatepass")
