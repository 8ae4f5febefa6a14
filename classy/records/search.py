"""How a query becomes a page: which index gives its rows newest first, so that nothing is sorted and little read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from classy.records import boxes, rows
from classy.records.schema import class_names, records
from classy.records.values import Query


def rows_of(query: Query, connection: sa.Connection) -> Sequence[Any]:
    """
    Return the rows that a query finds, newest first: one more than its page has, where there is one.

    Raises:
        BadRequest: `after` is no cursor.
    """
    if query.box is not None and query == Query(
        box=query.box, since=query.since, until=query.until, after=query.after, limit=query.limit
    ):
        return _of_box(query, connection)
    keys: list[str] | None = None
    if query.label:
        named = sa.select(class_names.c.class_key).where(class_names.c.name == query.label.casefold())
        keys = list(connection.execute(named).scalars())
        if len(keys) > 1 and query.box is None:
            return _of_classes(query, keys, connection)
    if query.box is None:
        return connection.execute(_ordered(query, keys, records)).all()
    # What the box and the other wishes leave is sorted by itself, and whole rows are read for one page only. The
    # offset of nothing keeps databases from walking through all times instead, in the hope of meeting the box.
    inside = sa.select(records.c.id, records.c.classified_at).where(*rows.others(query, keys)).offset(0).subquery()
    times = rows.times(query, inside.c.classified_at, inside.c.id)
    ordered = sa.select(inside.c.id).where(*times).order_by(inside.c.classified_at.desc(), inside.c.id.desc())
    return _by_id(connection.execute(ordered.limit(query.limit + 1)).scalars().all(), connection)


def _of_box(query: Query, connection: sa.Connection) -> Sequence[Any]:
    assert query.box is not None
    found = boxes.newest(
        connection,
        query.box,
        query.limit + 1,
        since=query.since,
        until=query.until,
        before=rows.position(query.after) if query.after else None,
    )
    return _by_id(found, connection)


def _of_classes(query: Query, keys: Sequence[str], connection: sa.Connection) -> Sequence[Any]:
    """Merge the newest of each class: the index gives them in order, but not those of several classes."""
    merged: list[Any] = []
    for key in keys:
        merged += connection.execute(_ordered(query, [key], records.c.classified_at, records.c.id)).all()
    merged.sort(key=lambda row: (row.classified_at, row.id), reverse=True)
    return _by_id([row.id for row in merged[: query.limit + 1]], connection)


def _ordered(query: Query, keys: Sequence[str] | None, *wanted: Any) -> sa.Select[Any]:
    at, row_id = records.c.classified_at, records.c.id
    found = sa.select(*wanted).where(*rows.times(query, at, row_id), *rows.others(query, keys))
    return found.order_by(at.desc(), row_id.desc()).limit(query.limit + 1)


def _by_id(ids: Sequence[int], connection: sa.Connection) -> Sequence[Any]:
    """Return the rows of these ids in their order; who was forgotten meanwhile is left out."""
    found = {row.id: row for row in connection.execute(sa.select(records).where(records.c.id.in_(ids)))}
    return [found[row_id] for row_id in ids if row_id in found]
