"""
Buckets of anything that speaks S3, opened with explicit settings, and their errors in our words.

Oracle's Object Storage speaks S3 with path-style addresses, without chunked uploads and without the newer checksums,
so nothing here asks for them. obstore is imported where a bucket is opened: most downloads need none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from classy.errors import SourceNotFound, StorageFailed, UnusableURL
from classy.urls import shown_url
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

S3 = "s3://"
CONNECT_S, REQUEST_S = 5, 300
# Until an answer begins, or goes on. Three tries of a storage that hangs so end in half of Fn's 30 s; the adapters
# ask for less where a caller waits for less.
STALL_S = 5
SEND_S = 120  # the same for what is sent in pieces of megabytes: obstore counts from the beginning of the sending
TRIES = 3
_T = TypeVar("_T")
VERSION_BYTES = 1024  # of a version, at most. Source: AWS, S3 user guide, "Versioning"
_PIN = re.compile(rf"(version|etag)=([A-Za-z0-9_.~%-]{{1,{3 * VERSION_BYTES}}})")  # each byte as %XX, at most
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")  # OCI allows capitals and underscores, AWS once did
_ENDPOINT = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[!-~]*)?")


@dataclass(frozen=True, slots=True)
class Storage:
    """
    Where an S3-compatible object storage is, and who asks.

    Args:
        endpoint: As `http://127.0.0.1:4566`; "" for AWS itself. Plain http is for emulators.
        region: Part of every signature.
        access_key_id, secret_access_key, session_token: "" for the credentials that the machine has (a role's,
            by the SDKs' usual chain).
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


class BehindTheEnd(Exception):
    """A range starts where the object has ended; get_range() makes it an empty answer."""


def bucket_and_key(uri: str) -> tuple[str, str]:
    """
    Return the two parts of `s3://bucket/key`, as they are.

    Raises:
        UnusableURL: no such URI, or a key that obstore can't address.
    """
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not uri.startswith(S3) or not _BUCKET.fullmatch(bucket):
        raise UnusableURL(f'"{shown_url(uri)}" names no object; write s3://bucket/key or file:///folder/file')
    # What obstore can't address; it would drop a slash at either end in silence and open another object.
    if any(part in ("", ".", "..") for part in key.split("/")) or re.search(r"[\x00-\x1f\x7f]", key):
        raise UnusableURL(
            f"{shown_url(uri)} has a key that can't be opened: an empty part, a dot, or a control character"
        )
    return bucket, key


def pinned(uri: str, *, version: str = "", etag: str = "") -> str:
    """
    Return an object's URI with the version or etag that it must have, as `s3://etag=9b2c…@bucket/key`.

    It stands before the bucket because a key may hold anything, and is no part of what messages show of a URI. Only
    what events say is written so; Classy takes it from no caller. Who calls a Downloader himself can by an etag only
    get less, and by a version only what he knows already: an older one's name is as long as a key, and random.

    Args:
        uri: Of an object, plain.
        version, etag: One of them; where both are "" the URI stays as it is.
    """
    if not version and not etag:
        return uri
    kind, value = ("version", version) if version else ("etag", etag)
    return f"{S3}{kind}={quote(value, safe='', errors='replace')}@{uri.removeprefix(S3)}"


def is_pinned(uri: str) -> bool:
    """Return whether something stands before the bucket of an object's URI."""
    return uri[: len(S3)].lower() == S3 and "@" in uri[len(S3) :].partition("/")[0]


def unpinned(uri: str) -> tuple[str, str, str]:
    """
    Return an object's plain URI, and the version and the etag that it must have, "" for any.

    Raises:
        UnusableURL: what stands before the bucket is neither.
    """
    if not is_pinned(uri):
        return f"{S3}{uri[len(S3) :]}", "", ""
    authority, slash, key = uri[len(S3) :].partition("/")
    pin, _, bucket = authority.rpartition("@")
    rest = bucket + slash + key
    match = _PIN.fullmatch(pin)
    value = unquote(match[2]) if match else ""
    if match is None or not value.isprintable():
        raise UnusableURL(f"{shown_url(uri)} was sent with something before its bucket; write s3://bucket/key")
    return (S3 + rest, value, "") if match[1] == "version" else (S3 + rest, "", value)


def bare_etag(etag: str) -> str:
    """Return an etag without quotes and mark of weakness: headers have the quotes, events mostly not."""
    return etag.strip().removeprefix("W/").strip('"')


def is_another(etag: str, found: str | None) -> bool:
    """
    Return whether an object's etag shows that it is another one than was announced.

    Oracle's events have its own API's etags, UUIDs, and its S3 API may answer with others, as MD5 sums: of two such
    nobody can tell. So this is compared here, and not by the storage, which would answer If-Match with "another".

    Args:
        etag: That was announced.
        found: That the storage answers with; None where it tells none.
    """
    said, is_now = bare_etag(etag).lower(), bare_etag(found or "").lower()
    if not said or not is_now or bool(_UUID.fullmatch(said)) != bool(_UUID.fullmatch(is_now)):
        return False
    return said != is_now


def open_bucket(storage: Storage, bucket: str, *, stall_s: float = STALL_S) -> S3Store:
    """
    Return a bucket; no request is made yet.

    Args:
        stall_s: How long a request may see nothing of its answer.

    Raises:
        StorageFailed: the endpoint is no URL.
    """
    from obstore.store import S3Store

    if not _ENDPOINT.fullmatch(storage.endpoint or "https://aws"):
        raise StorageFailed(f"AWS_ENDPOINT_URL is {shown_url(storage.endpoint)!r}; write it as https://host")
    provider = None
    if storage.access_key_id:
        # As a provider, because obstore would otherwise add the environment's session token to other keys.
        credential: S3Credential = {
            "access_key_id": storage.access_key_id,
            "secret_access_key": storage.secret_access_key,
            "token": storage.session_token or None,
            "expires_at": None,
        }

        def provider() -> S3Credential:
            return credential

    return S3Store(
        bucket,
        region=storage.region,
        endpoint=storage.endpoint.rstrip("/") or f"https://s3.{storage.region}.{_domain(storage.region)}",
        virtual_hosted_style_request=False,
        credential_provider=provider,
        client_options={
            "allow_http": storage.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=stall_s),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={
            "max_retries": TRIES - 1,
            "retry_timeout": timedelta(seconds=REQUEST_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def translated(storage: Storage, uri: str, call: Callable[[], _T]) -> _T:
    """
    Make a call of obstore's.

    Raises:
        SourceNotFound, StorageFailed: what it raised, in our words.
        BehindTheEnd: a range starts where the object has ended.
    """
    from obstore.exceptions import BaseError

    try:
        return call()
    except (BaseError, OSError) as exc:
        # From None: a storage that refuses a signature answers with the whole request, session token included.
        raise _error(storage, uri, exc) from None


def _error(storage: Storage, uri: str, exc: Exception) -> Exception:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    shown, where = shown_url(uri), shown_url(storage.endpoint) or f"AWS {storage.region}"
    bucket = uri.removeprefix(S3).partition("/")[0]
    text = str(exc)
    found = re.search(r"<Code>([A-Za-z0-9]{1,60})</Code>", text) or re.search(r"status code: (\d{3})", text)
    code = found[1] if found else ""
    if code == "NoSuchBucket":
        return SourceNotFound(f"there is no bucket {bucket} at {where}; create it, or check its name")
    if code == "NoSuchVersion":
        return SourceNotFound(f"{shown} has no such version any more at {where}; upload it again")
    if isinstance(exc, FileNotFoundError):
        return SourceNotFound(f"there is no object {shown} at {where}; check bucket and key")
    if code in ("InvalidRange", "416"):
        return BehindTheEnd()
    if "No CA certificates" in text:
        return StorageFailed(
            f"{where} can't be trusted: this system has no CA certificates; install the package ca-certificates, or "
            "set SSL_CERT_FILE to a file of them"
        )
    if not storage.access_key_id and re.search(r"169\.254\.|credential|token", text, re.IGNORECASE):
        return StorageFailed(
            f"{shown} can't be used without credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or give this machine or function a role"
        )
    if isinstance(exc, PermissionDeniedError | UnauthenticatedError):
        return StorageFailed(
            f"{where} refuses us {shown} ({code or 'denied'}); check keys, region and the bucket's policy"
        )
    if "redirect" in text:  # obstore follows none, and AWS sends one where the region is wrong
        return StorageFailed(f"{where} has bucket {bucket} in another region; set AWS_REGION to that one")
    if code:
        return StorageFailed(f"{where} could not serve {shown} ({code}); try again")
    if re.search(r"\bTimed?Out\b|\bTimeout\b", text) and "Connect" not in text:
        return StorageFailed(f"{where} does not answer for {shown}; see that it is not overloaded, or try again")
    return StorageFailed(f"{where} can't be reached for {shown}; check AWS_ENDPOINT_URL, or try again")
