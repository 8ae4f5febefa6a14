"""
Models side by side: one row per picture and one column per model, as people compare them.

A picture stands where the newest of its records is that a query finds, once in all its pages; its row then has the
newest record of every model, whatever the query asked for. Records are in classy.records.report one by one.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TextIO
from unicodedata import east_asian_width

from classy.records import report
from classy.records.store import RecordStore
from classy.records.values import PICTURES_MAX, Classification, Query
from classy.report import one_line
from graphpipe_fn.values import dataclass

ABOUT = ("picture", "picture_sha256", "source", "taken_at", "place", "country", "disputed_area")
RESULT = ("id", "classified_at", "class_index", "class_id", "label", "probability", "error")
CELL_CHARS, SOURCE_CHARS = 26, 32


@dataclass(frozen=True, slots=True)
class Row:
    """
    One picture.

    Args:
        found: Its newest record that the query finds.
        by_model: By NAME@VERSION, the newest record of each model.
    """

    found: Classification
    by_model: Mapping[str, Classification]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some pictures, newest first, and the cursor of the next page; "" where there is none."""

    rows: tuple[Row, ...]
    next: str = ""

    @property
    def models(self) -> list[str]:
        """Return the columns: every model that has a record of any of these pictures."""
        return models_of(self.rows)


def page(store: RecordStore, query: Query) -> Rows:
    """
    Return the pictures whose newest records are on a query's page; none may be, and the next page go on.

    Raises:
        BadRequest, RecordsFailed: as RecordStore.query() does.
    """
    records = store.query(query)
    pictures = list(dict.fromkeys(record.picture for record in records.records))
    rows: dict[str, Row] = {}
    for start in range(0, len(pictures), PICTURES_MAX):
        chunk = tuple(pictures[start : start + PICTURES_MAX])
        newest: dict[str, Classification] = {}
        for record in report.found(store, replace(query, pictures=chunk, after=""), sys.maxsize):
            newest.setdefault(record.picture, record)
        columns: dict[str, dict[str, Classification]] = {picture: {} for picture in chunk}
        for record in report.found(store, Query(pictures=chunk), sys.maxsize):
            columns[record.picture].setdefault(record.model.ref, record)
        rows |= {picture: Row(record, columns[picture]) for picture, record in newest.items()}
    firsts = (rows.get(record.picture) for record in records.records)
    here = [
        row
        for row, record in zip(firsts, records.records, strict=True)
        if row is not None and row.found.identity == record.identity  # else it was on a page before this one
    ]
    return Rows(tuple(here), records.next)


def found(store: RecordStore, query: Query, limit: int) -> Iterator[Row]:
    """Yield what a query finds, page after page, `limit` pictures at most."""

    def rows(query: Query) -> tuple[Sequence[Row], str]:
        answer = page(store, query)
        return answer.rows, answer.next

    return report.page_by_page(rows, query, limit)


def models_of(rows: Iterable[Row]) -> list[str]:
    """Return every model that has a record in some rows, in order of names and versions."""
    return sorted({ref for row in rows for ref in row.by_model})


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it; what it does not say is left out."""
    about = report.as_json(row.found)
    results = {ref: report.as_json(record) for ref, record in sorted(row.by_model.items())}
    return {
        **{name: about[name] for name in ABOUT if name in about},
        "results": {ref: {name: value[name] for name in RESULT if name in value} for ref, value in results.items()},
    }


def print_json(rows: Iterable[Row]) -> None:
    """Print one JSON object per picture and line."""
    report.print_lines(map(as_json, rows))


def print_csv(rows: Iterable[Row], into: TextIO | None = None) -> None:
    """Print CSV with two columns per model: the label, or why there is none, and the probability."""
    kept = list(rows)
    models = models_of(kept)
    writer = csv.writer(into or sys.stdout)
    writer.writerow(
        ["picture", "classified_at", "source", *(f"{ref}{part}" for ref in models for part in ("", " p"))]
    )
    for row in kept:
        cells: list[Any] = [row.found.picture, row.found.classified_at.isoformat(), report.origin(row.found)]
        for ref in models:
            record = row.by_model.get(ref)
            best = record.top_k[0] if record and record.top_k else None
            cells += [report.outcome(record) if record else "", best.probability if best else ""]
        writer.writerow([report.cell(value) for value in cells])


def print_table(rows: Iterable[Row]) -> None:
    """Print a header and one line per picture, aligned as a terminal with a fixed width shows it."""
    kept = list(rows)
    models = models_of(kept)
    if not kept:
        return
    print(_line("classified", "source", models))
    for row in kept:
        cells = []
        for ref in models:
            record = row.by_model.get(ref)
            chance = f"{record.top_k[0].probability:4.0%} " if record and record.top_k else ""
            cells.append(chance + report.outcome(record) if record else "")
        source = report.last(one_line(report.origin(row.found)), SOURCE_CHARS)
        print(_line(report.local_time(row.found), source, cells))


def _line(at: str, source: str, cells: Sequence[str]) -> str:
    return "  ".join(
        (_fixed(at, 19), _fixed(source, SOURCE_CHARS), *(_fixed(one_line(cell), CELL_CHARS) for cell in cells))
    ).rstrip()


def _fixed(text: str, columns: int) -> str:
    """Return a text in so many columns of a terminal, in which Chinese and Japanese characters take two."""
    used = 0
    kept: list[str] = []
    for char in text:
        width = 2 if east_asian_width(char) in "WF" else 1
        if used + width > columns:
            while used > columns - 1:
                used -= 2 if east_asian_width(kept.pop()) in "WF" else 1
            return "".join([*kept, "…"]) + " " * (columns - 1 - used)
        kept.append(char)
        used += width
    return text + " " * (columns - used)
