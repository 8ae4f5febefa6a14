"""
The road to a function on AWS Lambda: its Invoke operation, over our own HTTP.

It knows Lambda's API and its errors, and looks into no message. Nothing is sent twice here: the Client retries.

Source: AWS, Lambda API reference, Invoke; botocore 1.43's model of it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from graphpipe_fn.base64_text import encoded_length
from graphpipe_fn.errors import (
    BadConfig,
    Busy,
    GraphPipeError,
    NotFound,
    RemoteError,
    TimedOut,
    TooLarge,
    TransportFailed,
    Unavailable,
)
from graphpipe_fn.handover import HANDED_ON, HEADER, TAKES, Handover
from graphpipe_fn.headers import parse_retry_after
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.transports.aws_access import AwsAccess, AwsApi, lambda_api
from graphpipe_fn.transports.aws_lambda_event import decode_answer, encode_event, json_object
from graphpipe_fn.transports.aws_sigv4 import Request, sign
from graphpipe_fn.transports.http import IDLE_CONNECTIONS, LIMIT_BYTES, HttpTransport
from graphpipe_fn.transports.http1 import Response

if TYPE_CHECKING:
    import ssl

PAYLOAD_MAX = 6_291_456  # bytes of a request, envelope included; Lambda's own error message names this number
EVENT_MAX = 1_048_576  # the same, where nobody waits for the answer
CALL_MAX_S = 910.0  # Lambda ends every call after 900 s; what is not back then never comes

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,139}"
_URI = re.compile(
    rf"(?i:lambda):(?:(arn:aws[a-z-]*:lambda:([a-z0-9-]+):[0-9]{{12}}:function:{_NAME})|({_NAME}))"
    r"(?::(\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)
_SERVICE_ERROR = re.compile(r"(?:.*#)?([A-Za-z0-9_.]{1,80})(?::.*)?", re.DOTALL)

# What Invoke may answer instead of invoking, in classes of what to do. What is in none keeps its HTTP status.
_BUSY = {"TooManyRequestsException", "ThrottlingException", "EC2ThrottledException"}
_LATER = {
    *("ServiceException", "ServiceUnavailableException", "ResourceNotReadyException", "ResourceConflictException"),
    *("SnapStartNotReadyException", "SnapStartTimeoutException", "CodeArtifactUserPendingException"),
    *("ENINotReadyException", "EFSMountTimeoutException", "S3FilesMountTimeoutException"),
}
_STRANGER = {
    *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "IncompleteSignature"),
    *("UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "InvalidAccessKeyId"),
    *("MissingAuthenticationTokenException", "RequestExpired", "OptInRequired"),
}

_log = logging.getLogger(__name__)


class LambdaTransport:
    """
    Carry messages to `lambda:NAME[:QUALIFIER]`; usable from several threads at once.

    Credentials, region and endpoint are looked for at the first call, and kept; a role's are renewed as they expire.

    Args:
        uri: `lambda:NAME`, with `:VERSION` or `:ALIAS`; or `lambda:` and the function's whole ARN.
        access: How AWS is reached; what it does not tell, boto3's chain finds.
        limit_bytes: The largest answer that is accepted, as payload.
        handover: Where messages over Lambda's limits wait; without it they are refused.
        tls, idle_connections: See HttpTransport.

    Raises:
        BadConfig: not such a URI.
    """

    def __init__(
        self,
        uri: str,
        *,
        access: AwsAccess = AwsAccess(),
        tls: ssl.SSLContext | None = None,
        limit_bytes: int = LIMIT_BYTES,
        idle_connections: int = IDLE_CONNECTIONS,
        handover: Handover | None = None,
    ) -> None:
        parts = _URI.fullmatch(uri)
        if parts is None:
            raise BadConfig(
                f"{uri[:200]!r} is no Lambda function; write lambda:NAME, lambda:NAME:ALIAS or lambda:ARN"
            )
        arn, region, name, qualifier = parts.groups()
        if region and not access.region:
            access = replace(access, region=region)
        self._function = uri[len("lambda:") :]
        self._path = f"/2015-03-31/functions/{quote(arn or name, safe='')}/invocations"
        self._query = f"Qualifier={quote(qualifier, safe='')}" if qualifier else ""
        self._access = access
        self._handover = handover
        self._limit_bytes = limit_bytes
        self._options: dict[str, Any] = {
            "tls": tls,
            "limit_bytes": limit_bytes,
            "idle_connections": idle_connections,
        }
        self._lock = threading.Lock()
        self._found: tuple[AwsApi, HttpTransport] | None = None

    def __call__(self, buffers: Sequence[Buffer], call: Call) -> Reply:
        """
        Invoke the function and wait for its answer.

        Raises:
            TooLarge: the request is over Lambda's limit, and not sent; or the answer was.
            Busy: too many calls at once.
            Unavailable: the function is just being made or changed.
            NotFound: no such function, version or alias.
            RemoteError: Lambda refused the call: not allowed, a wrong key, a spoilt set-up.
            TimedOut: the call's deadline passed, or the function's own timeout.
            TransportFailed: the function died or answered no HTTP answer, or Lambda can't be reached.
            BadConfig: no credentials, or no region.
        """
        response = self._invoked("RequestResponse", self._payload(buffers, call, PAYLOAD_MAX), call)
        if response.status != 200:
            raise self._refusal(response)
        if "x-amz-function-error" in response.headers:
            raise self._failure(response)
        return decode_answer(response.body, name=self._function, take=self._take if self._handover else None)

    def hand_on(self, buffers: Sequence[Buffer], call: Call) -> None:
        """
        Invoke the function and don't wait: Lambda queues the message, and tries again where the function fails.

        Raises:
            GraphPipeError: Lambda did not take the message; see __call__.
        """
        response = self._invoked("Event", self._payload(buffers, call, EVENT_MAX, {HANDED_ON: "1"}), call)
        if response.status != 202:
            raise self._refusal(response)

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            if self._found is not None:
                self._found[1].close()

    def _payload(
        self, buffers: Sequence[Buffer], call: Call, limit: int, more: Mapping[str, str] | None = None
    ) -> list[bytes]:
        """Return the event, its body handed over where the whole is over Lambda's limit."""
        headers = {**(more or {}), **({TAKES: "1"} if self._handover else {})}
        size = encoded_length(sum(memoryview(buffer).nbytes for buffer in buffers))
        if size <= limit:
            payload = encode_event(buffers, call, headers)
            size = sum(map(len, payload))
            if size <= limit:
                return payload
        if self._handover is None:
            raise TooLarge(
                f"the request takes {size:,} bytes as Lambda's payload (base64 and headers included); the limit is "
                f"{limit:,}; send fewer rows at once, or hand large ones over through object storage"
            )
        return encode_event([], call, {HEADER: self._handover.put(buffers), **headers})

    def _take(self, name: str) -> Buffer:
        assert self._handover is not None  # or an answer's name is not looked for
        return self._handover.take(name, limit_bytes=self._limit_bytes)

    def _invoked(self, kind: str, payload: Sequence[bytes], call: Call) -> Response:
        deadline_s = time.monotonic() + CALL_MAX_S if call.deadline_s is None else call.deadline_s
        api, road = self._api()
        path = road.path.rstrip("/") + self._path
        headers = sign(
            Request(
                method="POST",
                host=road.host,
                path=path,
                query=self._query,
                headers=[
                    ("Content-Type", "application/json"),
                    ("X-Amz-Invocation-Type", kind),
                    ("Accept-Encoding", "identity"),
                ],
                body=payload,
            ),
            api.credentials(),
            region=api.region,
            service="lambda",
            at=time.time(),
        )
        return road.send("POST", f"{path}?{self._query}" if self._query else path, headers, payload, deadline_s)

    def _api(self) -> tuple[AwsApi, HttpTransport]:
        with self._lock:
            if self._found is None:
                api = lambda_api(self._access)
                road = HttpTransport(api.url, **self._options)
                self._found = api, road
            return self._found

    def _refusal(self, response: Response) -> GraphPipeError:
        """Translate what Lambda's API says where it did not invoke."""
        told = json_object(response.body)
        error = _service_error(response, told)
        where = f"{self._function!r} in {self._found[0].region if self._found else 'AWS'}"
        # AWS's text names accounts and roles; a caller's caller may read our message, but not that.
        text = told.get("message") or told.get("Message")
        _log.warning("lambda %s: %d %s: %.2000r", where, response.status, error, text)
        if error in _BUSY or response.status == 429:
            after_s = parse_retry_after(response.headers.get("retry-after", ""))
            return Busy(f"the function {where} has as many calls as it may ({error})", retry_after_s=after_s)
        if error in _LATER or response.status == 503:
            return Unavailable(f"the function {where} is not ready ({error})")
        if error in _STRANGER:
            return RemoteError(
                f"AWS does not accept our credentials ({error}); are they right and not expired, and is the clock?",
                code=40300,
            )
        if response.status == 404:
            return NotFound(f"there is no function {where} ({error}); see `aws lambda list-functions`")
        if response.status == 413:
            return TooLarge(f"the request is too large for the function {where} ({error}); send fewer rows at once")
        if response.status == 403:
            return RemoteError(
                f"AWS does not let us call the function {where} ({error}); "
                "allow our role or user lambda:InvokeFunction on it",
                code=40300,
            )
        return RemoteError(f"AWS Lambda can't call the function {where} ({error})", code=response.status * 100)

    def _failure(self, response: Response) -> GraphPipeError:
        """Translate a function's own failure: its text is for its log, not for callers."""
        told = json_object(response.body)
        kind, message = str(told.get("errorType") or ""), str(told.get("errorMessage") or "")
        _log.error("lambda %s failed: %.100r: %.2000r", self._function, kind, message)
        if kind == "Sandbox.Timedout" or re.search(r"Task timed out after [0-9.]+ seconds", message):
            return TimedOut(
                f"the function {self._function!r} ran into its own timeout; allow it more time or more memory"
            )
        if kind == "Function.ResponseSizeTooLarge":
            return TooLarge(
                f"the answer of {self._function!r} is over Lambda's limit of 6 MB; send fewer rows at once"
            )
        kind = kind if re.fullmatch(r"[A-Za-z0-9_.]{1,100}", kind) else "an error"
        request = response.headers.get("x-amzn-requestid", "")
        return TransportFailed(
            f"the function {self._function!r} failed with {kind} instead of answering; "
            f"its log tells why{f' (request {request[:80]})' if request else ''}"
        )


def _service_error(response: Response, told: Mapping[str, Any]) -> str:
    """Return the error's name, from the header or the body, without its namespace: both forms exist."""
    for given in (response.headers.get("x-amzn-errortype"), told.get("__type"), told.get("code")):
        match = _SERVICE_ERROR.fullmatch(given) if isinstance(given, str) else None
        if match is not None:
            return match[1]
    return f"status {response.status}"
