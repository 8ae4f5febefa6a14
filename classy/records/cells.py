"""
The Earth in cells of several sizes: what lets a database find the newest records of a box without reading all.

A record is in one cell of each size, and the index of a size holds each cell's records by their time. Where few cells
cover a box, the newest of them are the newest of the box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from classy.records.values import Box, Place

FACTOR = 8  # from one size to the next
SIDES_DEG: tuple[float, ...] = tuple(90.0 / FACTOR**level for level in range(5))
"""From a quarter of the equator to 2.4 km; all exact in binary."""
COLUMNS = tuple(f"cell_{level}" for level in range(len(SIDES_DEG)))
COVER_MAX = 9  # cells that cover a box at first: fewer hold more that is not in it, more cost time each


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a size: its row from the south pole, its column from the antimeridian eastward."""

    level: int
    row: int
    column: int

    @property
    def number(self) -> int:
        """Return what the size's column holds, at most 27 bits."""
        return self.row * _columns(self.level) + self.column

    def parts(self, box: Box) -> list[Cell]:
        """Return the cells of the next size that are in this one and meet a box."""
        own = range(self.row * FACTOR, (self.row + 1) * FACTOR)
        across = range(self.column * FACTOR, (self.column + 1) * FACTOR)
        rows, columns = _spans(box, self.level + 1)
        return [
            Cell(self.level + 1, row, column)
            for row in _both(own, rows)
            for span in columns
            for column in _both(across, span)
        ]


def numbers(place: Place | None) -> dict[str, int | None]:
    """Return each size's column for a place."""
    if place is None:
        return dict.fromkeys(COLUMNS)
    cells = (
        Cell(level, _row(level, place.latitude_deg), _column(level, place.longitude_deg))
        for level in range(len(SIDES_DEG))
    )
    return {COLUMNS[cell.level]: cell.number for cell in cells}


def cover(box: Box) -> list[Cell]:
    """Return the smallest cells of one size of which at most COVER_MAX cover a box."""
    level = max(level for level in range(len(SIDES_DEG)) if _count(*_spans(box, level)) <= COVER_MAX)
    rows, columns = _spans(box, level)
    return [Cell(level, row, column) for row in rows for span in columns for column in span]


def _spans(box: Box, level: int) -> tuple[range, list[range]]:
    """Return the rows and the spans of columns that meet a box: two where the antimeridian is between them."""
    rows = range(_row(level, box.south_deg), _row(level, box.north_deg) + 1)
    west, east = _column(level, box.west_deg), _column(level, box.east_deg)
    if box.west_deg <= box.east_deg:
        return rows, [range(west, east + 1)]
    if west <= east:  # it goes nearly round the Earth, and begins and ends in the same cell
        return rows, [range(_columns(level))]
    return rows, [range(west, _columns(level)), range(east + 1)]


def _count(rows: range, columns: list[range]) -> int:
    return len(rows) * sum(map(len, columns))


def _both(one: range, other: range) -> Iterator[int]:
    return iter(range(max(one.start, other.start), min(one.stop, other.stop)))


def _row(level: int, latitude_deg: float) -> int:
    return min(int((latitude_deg + 90) / SIDES_DEG[level]), round(180 / SIDES_DEG[level]) - 1)


def _column(level: int, longitude_deg: float) -> int:
    return min(int((longitude_deg + 180) / SIDES_DEG[level]), _columns(level) - 1)


def _columns(level: int) -> int:
    return round(360 / SIDES_DEG[level])
