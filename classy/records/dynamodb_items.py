"""
Records as DynamoDB's items, and what a query wants of them; see dynamodb_table for what the attributes are for.

A record is one text of JSON, so that numbers of any size come back as they were: DynamoDB's own have 38 digits and
end at 1e-130.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from classy.errors import BadRequest
from classy.records.dynamodb_api import Item
from classy.records.values import (
    Box,
    Classification,
    ClassScore,
    ModelVersion,
    Place,
    Query,
    Refusal,
    Source,
)
from graphpipe_fn.messages import Timing

KINDS = ("url", "bucket", "upload")
RECORD = "record"  # the `sk` of a record; notes have others
CELLS_PER_DEG = 2
CLASS_KEY_MAX, BUCKET_MAX = 150, 255  # characters of what becomes a key
EARLIEST, LATEST = "0", ":"  # before and after every `at`, which begins with a digit

_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} [0-9a-f]{16}")
_DIGEST = re.compile("[0-9a-f]{64}")


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


def wanted(query: Query, class_keys: Collection[str] | None) -> Callable[[Facts], bool]:
    """
    Return what tells whether a query wants a record, but for its time, picture and URI.

    Args:
        class_keys: Of the classes that the query's label names; None where it names none.
    """
    kind, bucket, _ = source_of(query.source)

    def wants(facts: Facts) -> bool:
        name, _, _ = facts.model.partition("@")
        return (
            (class_keys is None or facts.class_key in class_keys)
            and query.model in ("", facts.model, name)
            and query.country in ("", facts.country)
            and kind in ("", facts.kind)
            and bucket in ("", facts.bucket)
            and (query.box is None or _inside(query.box, facts.latitude_deg, facts.longitude_deg))
        )

    return wants


def part_wanted(query: Query) -> Callable[[Part], bool]:
    """Return what tells whether a part may hold what a query wants."""
    kind, bucket, _ = source_of(query.source)

    def wants(part: Part) -> bool:
        name, _, _ = part.model.partition("@")
        return query.model in ("", part.model, name) and (
            (kind in ("", part.home) or (kind == "bucket" and part.home.startswith("s3://")))
            and bucket[:BUCKET_MAX] in ("", part.home.removeprefix("s3://"))
        )

    return wants


def source_of(text: str) -> tuple[str, str, str]:
    """Return the kind of source, the bucket or the URI that a query names; the others are empty."""
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if text in KINDS:
        return text, "", ""
    if text.startswith("s3://") and not key:
        return "bucket", bucket, ""
    return "", "", text


def times(query: Query) -> tuple[str, str]:
    """
    Return between which values of `at` a query's records are, the first included.

    Raises:
        BadRequest: `after` is no cursor.
    """
    since = moment(query.since) if query.since else EARLIEST
    until = moment(query.until) if query.until else LATEST
    return since, min(until, _position(query.after)) if query.after else until


def moment(time: datetime) -> str:
    """Return a time in UTC, so that texts are in the order of times."""
    with suppress(OverflowError):  # within a day of the calendar's ends
        time = time.astimezone(UTC)
    return time.replace(tzinfo=None).isoformat(timespec="microseconds")


def cursor(at: str) -> str:
    """Return an `at` as a text for callers."""
    return base64.urlsafe_b64encode(at.encode()).decode().rstrip("=")


def _position(text: str) -> str:
    try:
        at = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        at = ""
    if not _AT.fullmatch(at):
        raise BadRequest(f"{text[:80]!r} is no cursor; give the one that came with the page before")
    return at


def digest_of(text: str) -> str:
    """
    Return a picture's own digest as it is.

    Raises:
        BadRequest: it is none.
    """
    if not _DIGEST.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is no cursor; give the one that came with the page before")
    return text


def is_digest(text: str) -> bool:
    """Return whether a text may be a picture's digest."""
    return _DIGEST.fullmatch(text) is not None


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
    return f"{_cell(place.latitude_deg, 90)}.{_cell(place.longitude_deg, 180)}:{country}"


def rows_of(box: Box) -> tuple[str, str]:
    """Return between which texts the cells of a box's parallels are."""
    return _cell(box.south_deg, 90), f"{_cell(box.north_deg, 90)}~"


def cell_wanted(query: Query) -> Callable[[str], bool]:
    """Return what tells whether a cell may hold what a query wants."""
    box = query.box
    west, east = (_cell(box.west_deg, 180), _cell(box.east_deg, 180)) if box else ("", "")

    def wants(cell: str) -> bool:
        square, _, country = cell.partition(":")
        column = square.partition(".")[2]
        across = box is not None and box.west_deg > box.east_deg
        inside = column >= west or column <= east if across else west <= column <= east
        return query.country in ("", country) and (box is None or (square != "" and inside))

    return wants


def clean(text: str) -> str:
    """Return a text without what is none: NUL, and half a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _cell(degrees: float, zero: int) -> str:
    return f"{math.floor((degrees + zero) * CELLS_PER_DEG):03}"


def _inside(box: Box, latitude_deg: float | None, longitude_deg: float | None) -> bool:
    if latitude_deg is None or longitude_deg is None or not box.south_deg <= latitude_deg <= box.north_deg:
        return False
    if box.west_deg <= box.east_deg:
        return box.west_deg <= longitude_deg <= box.east_deg
    return longitude_deg >= box.west_deg or longitude_deg <= box.east_deg


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
