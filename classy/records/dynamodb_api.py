"""
DynamoDB's HTTP API as the record store needs it: signed requests over our own HTTP, patience, errors in our words.

Not boto3: importing it and making its client for DynamoDB takes 0.47 s of CPU time (2 cores, Python 3.11), the whole
store 0.15 s, much of it for HTTP that calls of other functions need anyway; and a function of 256 MB has a seventh
of a core. boto3's chain still finds credentials that nobody told, and boto3 is the witness in the tests. Every
request that is sent here may be sent again: writes are conditional.

Source: AWS, DynamoDB API reference; "Error handling with DynamoDB" (developer guide) for what is worth another try.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from classy.errors import RecordsFailed
from classy.settings import BadSetting
from graphpipe_fn.errors import BadConfig, GraphPipeError, TimedOut, TransportFailed
from graphpipe_fn.transports.aws_access import AwsAccess, AwsApi, service_api
from graphpipe_fn.transports.aws_lambda_event import json_object
from graphpipe_fn.transports.aws_sigv4 import Request, sign
from graphpipe_fn.transports.http import HttpTransport
from graphpipe_fn.transports.http1 import Response

PATIENCE_S = 5.0  # of one call with all its tries; a table that grows with its load takes seconds to
TRY_S = 4.0  # of one try: an answer takes milliseconds, and a lost one is asked for again
PAUSE_S, PAUSE_MAX_S = 0.025, 1.0  # before the second try, at most, and twice that before each later one
LIMIT_BYTES = 64 << 20  # of an answer; DynamoDB's own limit is 16 MB, before JSON

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's JSON has it: each value under the name of its type, {"S": …} or {"N": …}."""

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_ERROR = re.compile(r"(?:.*#)?([A-Za-z0-9_.]{1,80})", re.DOTALL)
_BUSY = {
    *("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    *("ReplicatedWriteConflictException", "TransactionConflictException", "LimitExceededException"),
}
_STRANGER = {
    *("UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignatureException"),
    *("MissingAuthenticationTokenException", "ExpiredTokenException", "InvalidClientTokenId"),
    *("IncompleteSignature", "MissingAuthenticationToken", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
}
_log = logging.getLogger(__name__)


class ConditionFailed(Exception):
    """A write's condition does not hold; `item` is what was there instead, where that was asked for."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


class InUse(Exception):
    """There is such a table, or somebody is just making or changing it."""


class DynamoApi:
    """
    Call DynamoDB about one table; usable from several threads at once.

    Credentials, region and endpoint are looked for at the first call, and kept; a role's are renewed as they expire.

    Args:
        table: Its name.
        access: How AWS is reached; what it does not tell, boto3's chain finds.
        busy: Called whenever DynamoDB says that there is too much at once.
        patience_s: How long one call goes on trying.

    Raises:
        BadSetting: no name of a table.
    """

    def __init__(
        self,
        table: str,
        access: AwsAccess | None = None,
        *,
        busy: Callable[[], None] = lambda: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise BadSetting(
                f"dynamodb:{table[:80]} names no table; write dynamodb: and 3 to 255 letters, digits, _, . or -"
            )
        self.table = table
        self._access = access or AwsAccess()
        self._busy = busy
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._found: tuple[AwsApi, HttpTransport] | None = None

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        Ask for one operation, again where DynamoDB or the network asks for that.

        Returns:
            The answer's JSON.

        Raises:
            ConditionFailed: the write's own condition does not hold.
            InUse: of a table that is to be made.
            RecordsFailed: anything else; its message names the table and the remedy.
        """
        body = json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        give_up_s, pause_s = time.monotonic() + self._patience_s, PAUSE_S
        failure: RecordsFailed | None = None
        while True:
            try:
                response = self._sent(operation, body, min(give_up_s, time.monotonic() + TRY_S))
                if response.status == 200:
                    return _answer(response)
                failure = self._failure(operation, response)
            except BadConfig as exc:
                raise RecordsFailed(f"the record store can't be asked: {exc.message}") from exc
            except (TransportFailed, TimedOut) as exc:
                if failure is not None and isinstance(exc, TimedOut) and time.monotonic() >= give_up_s:
                    raise failure from exc  # the last try had what was left of the time, and says only that
                why = f"DynamoDB can't be reached ({exc.message}); see its endpoint and the network"
                failure = RecordsFailed(why, retry_after_s=PAUSE_MAX_S)
            except GraphPipeError as exc:
                raise RecordsFailed(f"DynamoDB's answer can't be read ({exc.message})") from exc
            # Its whole length at random, so that those who were refused together don't come back together.
            wait_s = random.uniform(0, pause_s)  # noqa: S311 - no secret
            if failure.retry_after_s is None or time.monotonic() + wait_s >= give_up_s:
                raise failure
            time.sleep(wait_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    def close(self) -> None:
        """Close the kept connections; the next call opens new ones."""
        with self._lock:
            found, self._found = self._found, None
        if found is not None:
            found[1].close()

    def _sent(self, operation: str, body: bytes, deadline_s: float) -> Response:
        with self._lock:
            if self._found is None:
                api = service_api(self._access, "dynamodb")
                self._found = api, HttpTransport(api.url, limit_bytes=LIMIT_BYTES)
            api, road = self._found
        headers = sign(
            Request(
                method="POST",
                host=road.host,
                path="/",
                headers=[
                    ("Content-Type", "application/x-amz-json-1.0"),
                    ("X-Amz-Target", f"DynamoDB_20120810.{operation}"),
                    ("Accept-Encoding", "identity"),
                ],
                body=[body],
            ),
            api.credentials(),
            region=api.region,
            service="dynamodb",
            at=time.time(),
        )
        return road.send("POST", "/", headers, [body], deadline_s)

    def _failure(self, operation: str, response: Response) -> RecordsFailed:
        """
        Return what an error answer means; with `retry_after_s` where another try may succeed.

        Raises:
            ConditionFailed, InUse: see call().
        """
        told = json_object(response.body)
        given = told.get("__type")
        match = _ERROR.fullmatch(given) if isinstance(given, str) else None
        error = match[1] if match else f"status {response.status}"
        text = str(told.get("message") or told.get("Message") or "")
        if error == "ConditionalCheckFailedException":
            raise ConditionFailed(told.get("Item") or {})
        if error == "ResourceInUseException":
            raise InUse
        # AWS's text names accounts and roles; a caller's caller may read our message, but not that.
        _log.warning("dynamodb %s %s: %d %s: %.2000r", self.table, operation, response.status, error, text)
        table = f"DynamoDB table {self.table!r} in {self._found[0].region if self._found else 'AWS'}"
        if error in _BUSY or response.status == 429:
            self._busy()
            return RecordsFailed(f"the {table} has too much to do ({error}); try later", retry_after_s=PAUSE_MAX_S)
        if response.status >= 500:
            return RecordsFailed(f"the {table} does not work ({error}); try later", retry_after_s=PAUSE_MAX_S)
        if error == "ResourceNotFoundException":
            return RecordsFailed(
                f"there is no {table}; deploy serverless.yml, which makes it, or call "
                "classy.records.dynamodb_table.create_table, or correct CLASSY_RECORDS and the region"
            )
        if error in _STRANGER:
            return RecordsFailed(
                f"AWS does not accept our credentials ({error}); are they right and not expired, and is the clock?"
            )
        if "AccessDenied" in error or response.status == 403:
            return RecordsFailed(
                f"AWS does not let us use the {table}; allow our role dynamodb:{operation} on it and on its indexes"
            )
        if "Item size" in text:
            return RecordsFailed(
                f"the record is larger than DynamoDB's 400 KB; lower CLASSY_TOP_K, or record elsewhere ({error})"
            )
        if "specified index" in text:
            return RecordsFailed(
                f"the {table} lacks an index of this Classy's; deploy its serverless.yml, or make a new table"
            )
        return RecordsFailed(f"the {table} refuses {operation} ({error}); the log has the detail")


def _answer(response: Response) -> dict[str, Any]:
    """
    Return an answer's JSON.

    Raises:
        TransportFailed: it is none; an empty one would say that there is no record.
    """
    try:
        value = json.loads(bytes(response.body))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TransportFailed("its answer is no JSON object")
    return value
