"""
Object-storage events: which objects a platform says are new.

Events come at least once, late, twice and out of order. Four envelopes are read: S3's own notifications, S3's events
as EventBridge delivers them, Oracle's object events (CloudEvents 0.1, as their Events service delivers them), and
these as CloudEvents 1.0 in JSON. The keys of S3's notifications are URL-encoded, once; all others are plain. An event
about anything but a new object is no error: it names no objects, and says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from classy.errors import BadRequest
from classy.s3 import VERSION_BYTES, bare_etag, pinned
from graphpipe_fn.values import dataclass

ORACLE_CREATED = "com.oraclecloud.objectstorage.createobject"
_ENVELOPE = frozenset({"cloudeventsversion", "eventtype", "specversion"})  # lower case
_NULL = "null"  # what S3 calls the version of every object that was written while its bucket kept none
_RESOURCE = re.compile(r"/n/[^/]*/b/([^/]*)/o/(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """
    One object as an event names it.

    Args:
        bucket, key: Plain text, decoded.
        version: The object's version or, in a bucket without versions, its etag without quotes; "" where the event
            has neither.
        versioned: Whether it is a version, which stays what it is, and no etag.
    """

    bucket: str
    key: str
    version: str = ""
    versioned: bool = False

    @property
    def uri(self) -> str:
        """Return s3://bucket/key, the key as it is."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def pinned(self) -> str:
        """Return the URI by which the very object that was announced is read, and no later one of its key."""
        if self.versioned:
            return pinned(self.uri, version=self.version)
        return pinned(self.uri, etag=self.version)


@dataclass(frozen=True, slots=True)
class Announced:
    """
    What an event says.

    Args:
        objects: New ones, in the event's order, each once.
        ignored: For everything else in it, why it leads to nothing.
    """

    objects: tuple[ObjectRef, ...] = ()
    ignored: tuple[str, ...] = ()


def is_event(value: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is an event and no question of a caller."""
    return (
        "Records" in value
        or "detail-type" in value
        or value.get("Event") == "s3:TestEvent"
        or not _ENVELOPE.isdisjoint(_lowered(value))
    )


def announced(event: Mapping[str, Any]) -> Announced:
    """
    Return the objects that an event says were created.

    Raises:
        BadRequest: it can't be read, or names a creation without bucket or key.
    """
    if event.get("Event") == "s3:TestEvent":
        return Announced((), ("it is S3's test event",))
    if "detail-type" in event:
        return _from_eventbridge(event)
    return _from_s3(event["Records"]) if "Records" in event else _from_oracle(event)


def _from_s3(records: Any) -> Announced:
    if not isinstance(records, list):
        raise BadRequest('the event\'s "Records" must be a list')
    found: dict[ObjectRef, None] = {}
    ignored = []
    for record in records:
        try:
            name = str(record.get("eventName", "")).removeprefix("s3:")
            if not name.startswith("ObjectCreated:"):
                ignored.append(f"{name[:100] or 'a record without a name'} announces no new object")
                continue
            stored = record["s3"]["object"]
            key = unquote_plus(stored["key"])
            ref = ObjectRef(
                _text(record["s3"]["bucket"]["name"]),
                _text(key),
                *_version(stored.get("versionId"), stored.get("eTag")),
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise BadRequest(f"an event record can't be read: {exc!r}; send S3's own notifications") from exc
        if key.endswith("/") and stored.get("size") == 0:
            ignored.append(f"{ref.uri} is a folder")
        elif ref in found:
            ignored.append(f"{ref.uri} is in this event twice")
        else:
            found[ref] = None
    return Announced(tuple(found), tuple(ignored))


def _from_eventbridge(event: Mapping[str, Any]) -> Announced:
    """Source: AWS, S3 user guide, "EventBridge event message structure"."""
    kind, sender = str(event["detail-type"]), str(event.get("source", ""))
    if kind != "Object Created" or sender != "aws.s3":
        return Announced((), (f"{kind[:100]} of {sender[:100]} announces no new object",))
    try:
        stored = event["detail"]["object"]
        ref = ObjectRef(
            _text(event["detail"]["bucket"]["name"]),
            _text(stored["key"]),
            *_version(stored.get("version-id"), stored.get("etag")),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise BadRequest(f"the event can't be read: {exc!r}; send EventBridge's own events of S3") from exc
    if ref.key.endswith("/") and stored.get("size") == 0:
        return Announced((), (f"{ref.uri} is a folder",))
    return Announced((ref,))


def _from_oracle(event: Mapping[str, Any]) -> Announced:
    envelope = _lowered(event)
    kind = envelope.get("eventtype", envelope.get("type"))
    if not isinstance(kind, str) or not kind:
        raise BadRequest('the event does not say what happened; send it with its "eventType", or "type"')
    if kind.lower() != ORACLE_CREATED:
        return Announced((), (f"{kind[:100]} announces no new object",))
    data = _lowered(envelope.get("data"))
    more = _lowered(data.get("additionaldetails"))
    resource = _RESOURCE.fullmatch(str(data.get("resourceid", "")))
    bucket, key = more.get("bucketname"), data.get("resourcename")
    try:
        ref = ObjectRef(
            _text(bucket or (resource[1] if resource else "")),
            _text(key or (resource[2] if resource else "")),
            *_version(more.get("versionid"), more.get("etag")),
        )
    except TypeError as exc:
        raise BadRequest(
            "the event names no object; send data.resourceName and additionalDetails.bucketName"
        ) from exc
    # Oracle's events tell no size; what the console calls a folder is an empty object whose name ends like this.
    return Announced((), (f"{ref.uri} is a folder",)) if ref.key.endswith("/") else Announced((ref,))


def _version(version: Any, etag: Any) -> tuple[str, bool]:
    """Return what tells an object from others of its key, and whether it is a version; a TypeError for no text."""
    versioned = bool(version) and version != _NULL
    value = _text(version) if versioned else bare_etag(_text(etag or "", empty=True))
    if len(value.encode()) > VERSION_BYTES or not value.isprintable():
        raise TypeError(f"{value[:40]!a} is no version")
    return value, versioned


def _lowered(value: Any) -> dict[str, Any]:
    """Return a JSON object with its keys in lower case; an empty one for anything else."""
    return {str(key).lower(): entry for key, entry in value.items()} if isinstance(value, Mapping) else {}


def _text(value: Any, *, empty: bool = False) -> str:
    """Return a text as it is; a TypeError for anything else, and for half of a surrogate pair."""
    if not isinstance(value, str) or not (value or empty) or any("\ud800" <= char <= "\udfff" for char in value):
        raise TypeError(f"{str(value)[:40]!a} is no name")
    return value
