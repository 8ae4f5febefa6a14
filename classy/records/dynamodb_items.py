"""
Records as DynamoDB's items; see dynamodb_table for what their attributes are for.

A record is one text of JSON, so that numbers of any size come back as they were: DynamoDB's own have 38 digits and
end at 1e-130.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from classy.records.dynamodb_api import Item
from classy.records.values import (
    Classification,
    ClassScore,
    ModelVersion,
    Place,
    Refusal,
    Source,
)
from graphpipe_fn.messages import Timing
from graphpipe_fn.values import dataclass

RECORD = "record"  # the `sk` of a record; notes have others
CELLS_PER_DEG = 2
CLASS_KEY_MAX, BUCKET_MAX = 150, 255  # characters of what becomes a key


class Facts(NamedTuple):
    """What every index tells of a record."""

    model: str
    kind: str
    bucket: str
    class_key: str
    country: str
    latitude_deg: float | None
    longitude_deg: float | None
    refused: bool


class Entry(NamedTuple):
    """A record as an index shows it."""

    at: str
    identity: str
    picture: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Part:
    """
    One part of the index by time.

    Args:
        month: As 2026-11.
        spread: Which of several equal parts; more than one only where DynamoDB had too much to do.
        model: NAME@VERSION.
        home: Where its pictures came from: "url", "upload", or "s3://BUCKET".
    """

    month: str
    spread: int
    model: str
    home: str

    def __str__(self) -> str:
        return f"{self.month}/{self.spread:x}/{self.model}/{self.home}"

    @classmethod
    def of(cls, record: Classification, spread: int) -> Part:
        """Return the part that a record belongs to."""
        source = record.source
        home = f"s3://{clean(source.bucket)[:BUCKET_MAX]}" if source.kind == "bucket" else source.kind
        return cls(moment(record.classified_at)[:7], spread, clean(record.model.ref), home)

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read a part's own text back."""
        month, spread, model, home = text.split("/", 3)
        return cls(month, int(spread, 16), model, home)


def encoded(record: Classification, part: Part) -> Item:
    """Return a record as its item."""
    source, picture, class_key = record.source, record.picture, class_key_of(record)
    attributes = {
        "pk": record.identity,
        "sk": RECORD,
        "part": str(part),
        "at": f"{moment(record.classified_at)} {record.identity[:16]}",
        "class_key": class_key,
        "uri_key": uri_key(source.uri) if source.uri else "",
        "cell": cell_of(record.place, record.country),
        "picture_part": picture[:1],
        "picture_key": f"{picture}#{clean(record.model.ref)}",
        "bytes_key": record.picture_sha256 if source.kind == "bucket" else "",
        "facts": _json(facts_of(record)),
        "record": _json(_plain(record)),
    }
    item: Item = {name: {"S": text} for name, text in attributes.items() if text}  # no key may be empty
    if record.refusal is not None:
        item["refused"] = {"BOOL": True}
    return item


def decoded(item: Item) -> Classification:
    """Return an item as its record."""
    said = json.loads(item["record"]["S"])
    kind, uri, bucket, key, version = said["source"]
    taken_at, place, refusal = said.get("taken_at"), said.get("place"), said.get("refusal")
    return Classification(
        source=Source(kind, f"s3://{bucket}/{key}" if uri is None else uri, bucket, key, version),
        model=ModelVersion(*said["model"]),
        classified_at=datetime.fromisoformat(said["classified_at"]),
        picture_sha256=said.get("picture_sha256") or item.get("bytes_key", {"S": ""})["S"],
        taken_at=datetime.fromisoformat(taken_at) if taken_at else None,
        place=Place(*place) if place else None,
        country=said["country"],
        top_k=tuple(ClassScore(*score) for score in said["top_k"]),
        refusal=Refusal(*refusal) if refusal else None,
        timings=tuple(Timing(*hop) for hop in said["timings"]),
        call_id=said["call_id"],
    )


def entry_of(item: Item) -> Entry:
    """Return what an index, or the table itself, tells of a record; its picture in the index of pictures only."""
    picture = item.get("picture_key", {}).get("S", "").partition("#")[0]
    return Entry(item["at"]["S"], item["pk"]["S"], picture, Facts(*json.loads(item["facts"]["S"])))


def facts_of(record: Classification) -> Facts:
    """Return what indexes carry of a record."""
    source, place = record.source, record.place
    return Facts(
        clean(record.model.ref),
        source.kind,
        clean(source.bucket),
        class_key_of(record),
        record.country,
        place.latitude_deg if place else None,
        place.longitude_deg if place else None,
        record.refusal is not None,
    )


def moment(time: datetime) -> str:
    """Return a time in UTC, so that texts are in the order of times."""
    with suppress(OverflowError):  # within a day of the calendar's ends
        time = time.astimezone(UTC)
    return time.replace(tzinfo=None).isoformat(timespec="microseconds")


def names_of(record: Classification) -> frozenset[str]:
    """Return how the record's likeliest class is called, as name_key() has it."""
    if not record.top_k:
        return frozenset()
    best = record.top_k[0]
    return frozenset(name_key(name) for name in (best.class_id, *best.labels.values()) if name)


def name_key(name: str) -> str:
    """Return what a class's name is found by, whatever its case and length."""
    return _digest(clean(name).casefold())


def class_key_of(record: Classification) -> str:
    """Return what a record's likeliest class is known by; "" for a refusal."""
    if not record.top_k:
        return ""
    best = record.top_k[0]
    return clean(best.class_id or f"{record.model.name}:{best.class_index}")[:CLASS_KEY_MAX]


def uri_key(uri: str) -> str:
    """Return what a URI is found by, however long."""
    return _digest(clean(uri))


def cell_of(place: Place | None, country: str) -> str:
    """Return the half-degree square and the country that a place is in; as much of it as there is."""
    if place is None:
        return f":{country}" if country else ""
    return f"{cell_number(place.latitude_deg, 90)}.{cell_number(place.longitude_deg, 180)}:{country}"


def clean(text: str) -> str:
    """Return a text without what is none: NUL, and half a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def cell_number(degrees: float, zero: int) -> str:
    return f"{math.floor((degrees + zero) * CELLS_PER_DEG):03}"


def _plain(record: Classification) -> dict[str, Any]:
    """Return a record as JSON has it, but for what is in the item anyway: below 2 KB it costs two write units."""
    source, model, place, refusal = record.source, record.model, record.place, record.refusal
    uri = None if source.uri == f"s3://{source.bucket}/{source.key}" else source.uri
    value: dict[str, Any] = {
        "source": [source.kind, uri, source.bucket, source.key, source.version],
        "model": [model.name, model.version, model.sha256],
        "classified_at": record.classified_at.isoformat(),
        "country": record.country,
        "top_k": [[s.class_index, s.probability, s.class_id, dict(s.labels)] for s in record.top_k],
        "timings": [[hop.name, hop.seconds, hop.cold] for hop in record.timings],
        "call_id": record.call_id,
    }
    if source.kind != "bucket":
        value["picture_sha256"] = record.picture_sha256
    if record.taken_at is not None:
        value["taken_at"] = record.taken_at.isoformat()
    if place is not None:
        value["place"] = [place.latitude_deg, place.longitude_deg, place.altitude_m]
    if refusal is not None:
        value["refusal"] = [refusal.code, refusal.reason]
    return value


def _json(value: object) -> str:
    return json.dumps(_cleaned(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(part) for part in value]
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
