"""
AWS Signature Version 4: what proves to AWS who sent a request. It knows no service, no socket and no clock.

It is here because of the cold start. CPU time that a new process needs before it can sign, on 2 cores, median of 11
runs: boto3 and its Lambda client 450 ms, botocore's client 355 ms, botocore's signer alone 225 ms, this with the HTTP
road 56 ms; and a Lambda function of 256 MB has a seventh of a core. AWS's own light signers are no way out:
aws-sdk-signers 0.4 needs Python 3.12 and promises to break, awscrt adds 13 MB. botocore's signer is the witness in
the tests.

Source: AWS, "Create a signed AWS API request" (IAM user guide).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import field
from urllib.parse import quote

from graphpipe_fn.model import Buffer
from graphpipe_fn.values import dataclass

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS's access key; the token belongs to temporary ones, as a role's are."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    Hold what is signed.

    Args:
        host: The Host header's value.
        path: Percent-encoded, without dot segments.
        query: Percent-encoded `name=value` pairs, joined with "&".
        headers: All that are to be signed but Host; values in printable ASCII.
        body: In pieces.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: Sequence[Buffer] = ()


def sign(
    request: Request, credentials: Credentials, *, region: str, service: str, at: float
) -> list[tuple[str, str]]:
    """
    Return the request's headers with those added that prove who sent it.

    Args:
        service: Its name in signatures: `lambda`.
        at: Now, in seconds since 1970; AWS accepts a request for five minutes.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    headers = [*request.headers, ("X-Amz-Date", moment)]
    if credentials.session_token:
        headers.append(("X-Amz-Security-Token", credentials.session_token))
    canonical, names = _canonical(request, headers)
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    proof = f"Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return [*headers, ("Authorization", f"{ALGORITHM} {proof}")]


def _canonical(request: Request, headers: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the canonical request and the names of the headers in it."""
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in (*headers, ("Host", request.host)))
    names = ";".join(name for name, _ in lines)
    digest = hashlib.sha256()
    for buffer in request.body:
        digest.update(buffer)
    parts = (
        request.method,
        quote(request.path, safe="/-_.~"),  # encoded a second time, as every service but S3 wants it
        "&".join("".join(pair) for pair in sorted(part.partition("=") for part in request.query.split("&"))),
        *(f"{name}:{value}" for name, value in lines),
        "",
        names,
        digest.hexdigest(),
    )
    return "\n".join(parts), names
