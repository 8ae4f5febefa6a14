"""
The newest records of a box, whether it holds ten or a million, and whatever is beside it.

The cells that cover the box (classy.records.cells) are read newest first, a bounded number of entries of each, out of
indexes that hold all that is asked: place, time and id. Where a cell turns out to hold much that is not in the box (a
city beside it), its smaller parts are read instead. So the work does not grow with the number of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from classy.records.cells import COLUMNS, COVER_MAX, Cell, cover
from classy.records.schema import Moment, RowId
from classy.records.values import Box

ENTRIES = 2_048  # of all cells together, read at once: a millisecond's worth
CELLS_MAX = 120  # that are asked for in one statement; SQLite takes 500 parts
FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)  # what MariaDB's type holds
LAST_ID = (1 << 63) - 1


class Position(NamedTuple):
    """Where a record is in the order of all: by time, and by id among those of the same instant."""

    at: datetime
    row_id: int


def newest(
    connection: sa.Connection,
    box: Box,
    count: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: Position | None = None,
) -> list[int]:
    """
    Return the ids of the newest records in a box, newest first.

    Args:
        count: Of ids, at most.
        since, until: From the first time on, and before the second.
        before: Only what comes after that in the order of newest first.
    """
    before = before or Position(LAST, LAST_ID)
    asked = {
        "since": since or FIRST,
        "until": min(before.at, until - timedelta(microseconds=1)) if until else before.at,
        "before": before.at,
        "before_id": before.row_id,
        "south": box.south_deg,
        "north": box.north_deg,
        "west": box.west_deg,
        "east": box.east_deg,
    }
    across = box.west_deg > box.east_deg
    cells = cover(box)
    while True:
        entries = max(ENTRIES // len(cells), ENTRIES // COVER_MAX, count)
        found, unread = _read(connection, _Shape(_levels(cells), entries, count, across), cells, asked)
        # A cell of which older entries are unread matters unless the page is full of newer ones.
        full = len(found) == count
        spoilt = {cell for cell, last in unread.items() if not full or last > found[-1]}
        if not spoilt:
            return [position.row_id for position in found]
        parts = [
            part for cell in cells if cell in spoilt and cell.level < len(COLUMNS) - 1 for part in cell.parts(box)
        ]
        kept = [cell for cell in cells if cell not in spoilt]
        if len(parts) + len(kept) > CELLS_MAX or any(cell.level == len(COLUMNS) - 1 for cell in spoilt):
            found, _ = _read(connection, _Shape(_levels(cells), None, count, across), cells, asked)
            return [position.row_id for position in found]
        cells = kept + parts


class _Shape(NamedTuple):
    """All that a statement depends on but its values."""

    levels: tuple[int, ...]
    entries: int | None
    wanted: int
    across: bool


def _levels(cells: Sequence[Cell]) -> tuple[int, ...]:
    return tuple(cell.level for cell in cells)


def _read(
    connection: sa.Connection, shape: _Shape, cells: Sequence[Cell], asked: dict[str, Any]
) -> tuple[list[Position], dict[Cell, Position]]:
    """Return the newest of all cells' entries that are in the box, and the last that was read of each full cell."""
    values = {f"cell{number}": cell.number for number, cell in enumerate(cells)}
    rows = connection.execute(_statement(shape), {**asked, **values}).all()
    found = [Position(row.at, row.id) for row in rows if row.cell < 0]
    return found, {cells[row.cell]: Position(row.at, row.id) for row in rows if row.cell >= 0}


@lru_cache(maxsize=256)
def _statement(shape: _Shape) -> sa.TextualSelect:
    """
    Return the statement of a shape.

    It is text, for it is the same in every database, and SQLAlchemy takes longer to compose it than they to run it.
    How many entries are read is written out: PostgreSQL, which plans once for all values, takes a limit that it does
    not know for a tenth of all rows.
    """
    meridians = "(longitude_deg >= :west OR longitude_deg <= :east)"
    inside = f"latitude_deg BETWEEN :south AND :north AND {meridians.replace('OR', 'OR' if shape.across else 'AND')}"
    order = "ORDER BY classified_at DESC, id DESC"
    times = "classified_at >= :since AND classified_at <= :until AND (classified_at < :before OR id < :before_id)"
    matching, unread = [], []
    for number, level in enumerate(shape.levels):
        of_cell = f"FROM records WHERE {COLUMNS[level]} = :cell{number} AND {times} {order}"
        entries = f"SELECT id, classified_at, latitude_deg, longitude_deg {of_cell}"
        if shape.entries is not None:
            entries += f" LIMIT {shape.entries}"
            last = f"SELECT id, classified_at AS at {of_cell} LIMIT 1 OFFSET {shape.entries - 1}"
            unread.append(f"SELECT {number} AS cell, id, at FROM ({last}) AS u{number}")
        matching.append(
            f"SELECT * FROM (SELECT id, classified_at FROM ({entries}) AS e{number} WHERE {inside} {order} "
            f"LIMIT {shape.wanted}) AS m{number}"
        )
    found = f"SELECT id, classified_at FROM ({' UNION ALL '.join(matching)}) AS m {order} LIMIT {shape.wanted}"
    parts = [f"SELECT -1 AS cell, id, classified_at AS at FROM ({found}) AS f", *unread]
    moments = [sa.bindparam(name, type_=Moment) for name in ("since", "until", "before")]
    text = sa.text(f"{' UNION ALL '.join(parts)} ORDER BY 1, 3 DESC, 2 DESC").bindparams(*moments)
    return text.columns(cell=sa.Integer, id=RowId, at=Moment)
