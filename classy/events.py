"""
Object-storage events: which objects a platform says are new.

Events come at least once, late, twice and out of order. S3's keys are URL-encoded, once. An event that is none of
ours is no error: it names no objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from classy.errors import BadRequest


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """
    One object as an event names it.

    Args:
        bucket, key: Plain text, decoded.
        version: The object's version or, in a bucket without versions, its etag; "" where the event has neither.
    """

    bucket: str
    key: str
    version: str = ""

    @property
    def uri(self) -> str:
        """Return s3://bucket/key, the key as it is."""
        return f"s3://{self.bucket}/{self.key}"


def is_event(value: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is an object-storage event and no question of a caller."""
    return "Records" in value or value.get("Event") == "s3:TestEvent"


def created_objects(event: Mapping[str, Any]) -> list[ObjectRef]:
    """
    Return the objects that an S3 notification says were created.

    Returns:
        In the event's order, each once; empty for test events, deletions and records of other services.

    Raises:
        BadRequest: `Records` is no list, or a creation's record has no bucket and key.
    """
    records = event.get("Records", [])
    if not isinstance(records, list):
        raise BadRequest('the event\'s "Records" must be a list')
    found: dict[ObjectRef, None] = {}
    for record in records:
        try:
            if not str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
                continue
            stored = record["s3"]["object"]
            key = unquote_plus(stored["key"])
            found[
                ObjectRef(record["s3"]["bucket"]["name"], key, stored.get("versionId") or stored.get("eTag", ""))
            ] = None
        except (KeyError, TypeError, AttributeError) as exc:
            raise BadRequest(f"an event record can't be read: {exc!r}") from exc
    return list(found)
