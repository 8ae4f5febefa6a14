"""How a database goes about the queries that a store really makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from classy.records.sql import SqlRecords
from classy.records.values import Query


@contextmanager
def statements_of(store: SqlRecords) -> Iterator[list[tuple[str, Any]]]:
    """Note the statements that a store makes inside the block, and their values."""
    made: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        made.append((statement, parameters))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        sa.event.remove(store._engine, "before_cursor_execute", note)


def plans_of(store: SqlRecords, query: Query, *, free: bool = False) -> list[list[str]]:
    """
    Return the plan of each statement that a query leads to, one line per step.

    PostgreSQL is asked for the plan that sorts and collects as little as can be: with few rows it does either for a
    whim, and it is the indexes that are looked at here.

    Args:
        free: Let it do as it likes.
    """
    with statements_of(store) as made:
        store.query(query)
    explain = "EXPLAIN QUERY PLAN" if store._engine.dialect.name == "sqlite" else "EXPLAIN"
    with store._engine.connect() as connection:
        if explain == "EXPLAIN" and not free:
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        return [
            [str(row[-1]).strip() for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)]
            for statement, parameters in made
        ]
