"""Records as JSON, and what the command line prints of them: a table for people, JSON lines, or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO, TypeVar

from classy import answers
from classy.countries import country_name, disputed_area, disputed_names
from classy.records.store import RecordStore
from classy.records.values import LIMIT_MAX, Classification, Query
from classy.report import one_line

COLUMNS = (
    "id", "picture", "classified_at", "source_kind", "source", "bucket", "key", "version", "picture_sha256",
    "taken_at", "latitude_deg", "longitude_deg", "altitude_m", "country", "class_id", "label", "probability", "model",
    "model_sha256", "error_code", "error_message", "call_id",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for the start of one
SOURCE_CHARS = 48
_T = TypeVar("_T")


def found(store: RecordStore, query: Query, limit: int) -> Iterator[Classification]:
    """Yield what a query finds, page after page, `limit` records at most."""

    def page(query: Query) -> tuple[Sequence[Classification], str]:
        answer = store.query(query)
        return answer.records, answer.next

    return page_by_page(page, query, limit)


def page_by_page(page: Callable[[Query], tuple[Sequence[_T], str]], query: Query, limit: int) -> Iterator[_T]:
    """
    Yield what lies on a query's pages, `limit` at most.

    Args:
        page: Returns no more than the query's own limit, and the cursor of the next page, "" behind the last.
    """
    while limit > 0:
        values, after = page(replace(query, limit=min(limit, LIMIT_MAX)))
        yield from values
        limit -= len(values)
        if not after:
            return
        query = replace(query, after=after)


def as_json(record: Classification) -> dict[str, Any]:
    """Return a record as JSON has it; what it does not say is left out."""
    source, place, refusal = record.source, record.place, record.refusal
    classes = [
        {
            "class_index": score.class_index,
            **({"class_id": score.class_id} if score.class_id else {}),
            "label": dict(score.labels),
            "probability": score.probability,
        }
        for score in record.top_k
    ]
    value: dict[str, Any] = {
        "id": record.identity,
        "picture": record.picture,
        "classified_at": record.classified_at.isoformat(),
    }
    value["source"] = {
        name: text
        for name, text in (
            ("kind", source.kind),
            ("uri", source.uri),
            ("bucket", source.bucket),
            ("key", source.key),
            ("version", source.version),
        )
        if text
    }
    if record.picture_sha256:
        value["picture_sha256"] = record.picture_sha256
    if record.taken_at is not None:
        value["taken_at"] = record.taken_at.isoformat()  # without an offset where the camera did not say any
    if place is not None:
        altitude = {} if place.altitude_m is None else {"altitude_m": place.altitude_m}
        value["place"] = {"latitude_deg": place.latitude_deg, "longitude_deg": place.longitude_deg, **altitude}
    if record.country:
        value["country"] = record.country
    elif place is not None and (names := disputed_names(place.latitude_deg, place.longitude_deg)):
        value["disputed_area"] = names
    value["model"] = {"name": record.model.name, "version": record.model.version, "sha256": record.model.sha256}
    value |= {**classes[0], "top_k": classes} if classes else {}
    if refusal is not None:
        value["error"] = {"code": refusal.code, "message": refusal.reason}
    return {**value, "timings": answers.timings(record.timings), "call_id": record.call_id}


def print_json(records: Iterable[Classification]) -> None:
    """Print one JSON object per record and line."""
    print_lines(map(as_json, records))


def print_lines(values: Iterable[dict[str, Any]]) -> None:
    """Print one JSON object per line."""
    for value in values:
        print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_csv(records: Iterable[Classification], into: TextIO | None = None) -> None:
    """Print CSV with a header; no cell starts like a spreadsheet's formula."""
    writer = csv.writer(into or sys.stdout)
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow([cell(value) for value in _row(record)])


def print_table(records: Iterable[Classification]) -> None:
    """Print one line per record: when, what, by which model, where from, when and where it was taken."""
    for record in records:
        what = outcome(record)
        if record.refusal is None:
            what = f"{record.top_k[0].probability:7.2%}  {what}"
        more = []
        if record.taken_at is not None:
            more.append(f"taken {record.taken_at.isoformat(sep=' ', timespec='seconds')}")
        if record.place is not None:
            more.append(f"at {record.place.latitude_deg:.5g}, {record.place.longitude_deg:.5g}")
        if record.country:
            more.append(f"in {country_name(record.country)}")
        elif record.place and (area := disputed_area(record.place.latitude_deg, record.place.longitude_deg)):
            more.append(f"in {area}, which is disputed")
        where = last(origin(record), SOURCE_CHARS)
        line = f"{local_time(record)}  {record.model.ref:<22} {where:<{SOURCE_CHARS}}  {what}"
        print(one_line(line + (f"  ({', '.join(more)})" if more else "")))


def local_time(record: Classification) -> str:
    """Return when a record's picture was classified, by this machine's clock on the wall."""
    return record.classified_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def outcome(record: Classification) -> str:
    """Return the likeliest class in all its languages, or why there is none."""
    if record.refusal is not None:
        return f"refused ({record.refusal.code}): {record.refusal.reason}"
    best = record.top_k[0]
    return " · ".join(dict.fromkeys(best.labels.values())) or str(best.class_index)


def origin(record: Classification) -> str:
    """Return where a picture came from, in words for one that has no URI."""
    return record.source.uri or f"a picture sent, {record.picture_sha256[:12]}"


def last(text: str, chars: int) -> str:
    """Return a text's end, which tells more of a URI than its beginning."""
    return "…" + text[1 - chars :] if len(text) > chars else text


def _row(record: Classification) -> list[Any]:
    source, place, best = record.source, record.place, record.top_k[0] if record.top_k else None
    return [
        record.identity,
        record.picture,
        record.classified_at.isoformat(),
        source.kind,
        source.uri,
        source.bucket,
        source.key,
        source.version,
        record.picture_sha256,
        record.taken_at.isoformat() if record.taken_at else "",
        place.latitude_deg if place else "",
        place.longitude_deg if place else "",
        "" if place is None or place.altitude_m is None else place.altitude_m,
        record.country,
        best.class_id if best else "",
        " · ".join(best.labels.values()) if best else "",
        best.probability if best else "",
        record.model.ref,
        record.model.sha256,
        record.refusal.code if record.refusal else "",
        record.refusal.reason if record.refusal else "",
        record.call_id,
    ]


def cell(value: Any) -> Any:
    """Return a cell of CSV as it is, or with an apostrophe before a text that a spreadsheet would calculate."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
