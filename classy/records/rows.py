"""Records as a database's rows, and a query's wishes as its conditions."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias

import sqlalchemy as sa

from classy.errors import BadRequest
from classy.records import cells
from classy.records.boxes import Position
from classy.records.schema import records
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
_Condition: TypeAlias = "sa.ColumnElement[bool]"


def encoded(record: Classification) -> dict[str, Any]:
    """Return a record as the values of its row."""
    taken_at, place, refusal = record.taken_at, record.place, record.refusal
    offset = taken_at.utcoffset() if taken_at else None
    if taken_at is not None and offset is None:
        taken_at = taken_at.replace(tzinfo=UTC)
    return {
        "identity": record.identity,
        "picture": record.picture,
        "picture_sha256": record.picture_sha256,
        "source_kind": record.source.kind,
        "source_uri": record.source.uri,
        "uri_key": uri_key(record.source.uri),
        "bucket": record.source.bucket,
        "object_key": record.source.key,
        "object_version": record.source.version,
        "taken_at": taken_at,
        "taken_offset_s": None if offset is None else round(offset.total_seconds()),
        "latitude_deg": place.latitude_deg if place else None,
        "longitude_deg": place.longitude_deg if place else None,
        "altitude_m": place.altitude_m if place else None,
        **cells.numbers(place),
        "country": record.country,
        "classified_at": record.classified_at,
        "model_name": record.model.name,
        "model_version": record.model.version,
        "model_sha256": record.model.sha256,
        "class_key": _class_key(record),
        "top_k": _json([[s.class_index, s.probability, s.class_id, dict(s.labels)] for s in record.top_k]),
        "error_code": refusal.code if refusal else None,
        "error_reason": refusal.reason if refusal else "",
        "timings": _json([[hop.name, hop.seconds, hop.cold] for hop in record.timings]),
        "call_id": record.call_id,
    }


def decoded(row: Any) -> Classification:
    """Return a row as its record."""
    taken_at: datetime | None = row.taken_at
    if taken_at is not None:
        offset_s = row.taken_offset_s
        zone = None if offset_s is None else timezone(timedelta(seconds=offset_s))
        taken_at = taken_at.replace(tzinfo=None) if zone is None else taken_at.astimezone(zone)
    place = None
    if row.latitude_deg is not None:
        place = Place(row.latitude_deg, row.longitude_deg, row.altitude_m)
    return Classification(
        source=Source(row.source_kind, row.source_uri, row.bucket, row.object_key, row.object_version),
        model=ModelVersion(row.model_name, row.model_version, row.model_sha256),
        classified_at=row.classified_at,
        picture_sha256=row.picture_sha256,
        taken_at=taken_at,
        place=place,
        country=row.country,
        top_k=tuple(ClassScore(*score) for score in json.loads(row.top_k)),
        refusal=None if row.error_code is None else Refusal(row.error_code, row.error_reason),
        timings=tuple(Timing(*hop) for hop in json.loads(row.timings)),
        call_id=row.call_id,
    )


def names(record: Classification) -> frozenset[str]:
    """Return how the record's likeliest class is called, case-folded."""
    if not record.top_k:
        return frozenset()
    best = record.top_k[0]
    return frozenset(name.casefold() for name in (best.class_id, *best.labels.values()) if name)


def times(query: Query, at: sa.ColumnElement[datetime], row_id: sa.ColumnElement[int]) -> list[_Condition]:
    """
    Return what a query asks for of the columns that records are ordered by.

    Raises:
        BadRequest: `after` is no cursor.
    """
    found: list[_Condition] = []
    if query.since is not None:
        found.append(at >= query.since)
    if query.until is not None:
        found.append(at < query.until)
    if query.after:
        before, before_id = position(query.after)
        # Not as (at, row_id) < (before, before_id): MariaDB uses no index for that.
        found += [at <= before, (at < before) | (row_id < before_id)]
    return found


def others(query: Query, class_keys: Sequence[str] | None) -> list[_Condition]:
    """
    Return what a query asks for of all other columns.

    Args:
        class_keys: Of the classes that the query's label names; None where it names none.
    """
    found: list[_Condition] = []
    if query.box is not None:
        found += _inside(query.box)
    if class_keys is not None:
        # One key by "=", so that the index gives its records in order.
        key = records.c.class_key
        found.append(key == class_keys[0] if len(class_keys) == 1 else key.in_(class_keys))
    if query.model:
        name, _, version = query.model.partition("@")
        found.append(records.c.model_name == name)
        found += [records.c.model_version == version] if version else []
    if query.country:
        found.append(records.c.country == query.country)
    if query.pictures:
        found.append(records.c.picture.in_(query.pictures))
    if query.source:
        bucket, _, object_key = query.source.removeprefix("s3://").partition("/")
        if query.source in KINDS:
            found.append(records.c.source_kind == query.source)
        elif query.source.startswith("s3://") and not object_key:
            found.append(records.c.bucket == bucket)
        else:
            found += [records.c.uri_key == uri_key(query.source), records.c.source_uri == query.source]
    return found


def uri_key(uri: str) -> int:
    """Return 63 bits of a URI's digest: few enough to be in an index, and too many to be shared but by design."""
    return int.from_bytes(hashlib.sha256(uri.encode("utf-8", "replace")).digest()[:8]) >> 1


def cursor(row: Any) -> str:
    """Return the place of a row in the order of all records, as a text for callers."""
    return base64.urlsafe_b64encode(f"{row.classified_at.isoformat()} {row.id}".encode()).decode().rstrip("=")


def position(text: str) -> Position:
    """
    Return the place of a row in the order of all, from a text that cursor() made.

    Raises:
        BadRequest: it did not.
    """
    try:
        at, _, row_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(" ")
        time = datetime.fromisoformat(at)
        if time.utcoffset() is None or not 0 <= int(row_id) < 1 << 63:
            raise ValueError(text)
        return Position(time, int(row_id))
    except ValueError:
        raise BadRequest(f"{text[:80]!r} is no cursor; give the one that came with the page before") from None


def _inside(box: Box) -> list[_Condition]:
    longitude = records.c.longitude_deg
    meridians: _Condition
    if box.west_deg <= box.east_deg:
        meridians = longitude.between(box.west_deg, box.east_deg)
    else:
        meridians = (longitude >= box.west_deg) | (longitude <= box.east_deg)
    covering = cells.cover(box)
    numbers = [cell.number for cell in covering]
    found: list[_Condition] = [records.c[cells.COLUMNS[covering[0].level]].in_(numbers)]
    return [*found, records.c.latitude_deg.between(box.south_deg, box.north_deg), meridians]


def _class_key(record: Classification) -> str:
    if not record.top_k:
        return ""
    best = record.top_k[0]
    return best.class_id or f"{record.model.name}:{best.class_index}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
