"""
The database's schema, version by version: what turns an empty database into today's, and an older one too.

An own list of steps, not Alembic: its import costs half as much again as SQLAlchemy's (0.4 to 0.6 s beside 0.75 s of
CPU time), which is the slowest import of the whole function; it would bring a template engine and a folder of scripts
along; and it lets two processes migrate at once, which is what functions that start together do. A step never
changes once it has been released; the next change is the next step, and `schema` says what comes out of all of them.

A step that breaks off leaves nothing behind where DDL is part of a transaction. On MariaDB it is not, so each step
makes only what is not there yet, and the next process goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    bindparam,
    column,
    insert,
    inspect,
    select,
    table,
    update,
)
from sqlalchemy.schema import CreateColumn

from classy.errors import RecordsFailed
from classy.records import cells
from classy.records.rows import uri_key
from classy.records.schema import ExactText, Moment, RowId, metadata
from classy.records.servers import alone
from classy.records.values import Classification, ModelVersion, Place, Refusal, Source

Step = Callable[[Connection], None]
PAGE = 1_000  # rows that a step reads at once
_CELLS = ("cell_0", "cell_1", "cell_2", "cell_3", "cell_4")

_versions = Table("schema_versions", MetaData(), Column("version", Integer, primary_key=True, autoincrement=False))


def migrate(engine: Engine, steps: Sequence[Step] | None = None) -> None:
    """
    Bring a database to the last version, if it is not there; of several processes at once, one does it.

    Args:
        steps: All of them, the first one for an empty database; this module's unless given.

    Raises:
        RecordsFailed: a later Classy has been here, or somebody else.
    """
    steps = STEPS if steps is None else steps
    with engine.connect() as connection:
        if _version(connection, len(steps)) == len(steps):
            return
    with alone(engine) as connection:
        version = _version(connection, len(steps))
        if not version:
            _claim(connection)
        for number in range(version, len(steps)):
            steps[number](connection)
            connection.execute(insert(_versions).values(version=number + 1))


def _version(connection: Connection, known: int) -> int:
    if not inspect(connection).has_table(_versions.name):
        return 0
    version = max(connection.execute(select(_versions.c.version)).scalars(), default=0)
    if version > known:
        raise RecordsFailed(
            f"the record store has schema {version}, and this Classy knows {known}; use the version that wrote it"
        )
    return version


def _claim(connection: Connection) -> None:
    """Say whose the database is, before anything else is made in it."""
    there = set(inspect(connection).get_table_names())
    if _versions.name not in there and there & metadata.tables.keys():
        names = " and ".join(sorted(there & metadata.tables.keys()))
        raise RecordsFailed(
            f"table {names} already exists, and is not ours; give the records a database of their own"
        )
    _versions.create(connection, checkfirst=True)


def _first(connection: Connection) -> None:
    tables = MetaData()
    records = Table(
        "records",
        tables,
        Column("id", RowId, primary_key=True, autoincrement=True),
        Column("identity", ExactText(64), nullable=False),
        Column("picture_sha256", ExactText(64), nullable=False),
        Column("source_kind", ExactText(10), nullable=False),
        Column("source_uri", ExactText, nullable=False),
        Column("bucket", ExactText(255), nullable=False),
        Column("object_key", ExactText, nullable=False),
        Column("object_version", ExactText, nullable=False),
        Column("taken_at", Moment),
        Column("taken_offset_s", Integer),
        Column("latitude_deg", Double),
        Column("longitude_deg", Double),
        Column("altitude_m", Double),
        Column("classified_at", Moment, nullable=False),
        Column("model_name", ExactText(64), nullable=False),
        Column("model_version", ExactText(64), nullable=False),
        Column("model_sha256", ExactText(64), nullable=False),
        Column("class_key", ExactText(150), nullable=False),
        Column("top_k", ExactText, nullable=False),
        Column("error_code", Integer),
        Column("error_reason", ExactText, nullable=False),
        Column("timings", ExactText, nullable=False),
        Column("call_id", ExactText(200), nullable=False),
        UniqueConstraint("identity", name="records_identity"),
    )
    # Each ends in what a page is ordered by, so that the newest of a class or a model are read without sorting.
    Index("records_newest", records.c.classified_at, records.c.id)
    Index("records_class", records.c.class_key, records.c.classified_at, records.c.id)
    Index("records_model", records.c.model_name, records.c.classified_at, records.c.id)
    Index("records_place", records.c.latitude_deg, records.c.longitude_deg, records.c.classified_at)
    Index("records_picture", records.c.picture_sha256)
    Table(
        "class_names",
        tables,
        Column("class_key", ExactText(150), primary_key=True),
        Column("name", ExactText(500), primary_key=True),
        Index("class_names_name", "name", "class_key"),
    )
    for made in tables.sorted_tables:
        made.create(connection, checkfirst=True)
        for index in made.indexes:
            index.create(connection, checkfirst=True)


def _second(connection: Connection) -> None:
    """Give records a country, a picture and cells of the Earth, and each way of looking for them its index."""
    _add(connection, "records", Column("country", ExactText(2), nullable=False, server_default=""))
    _add(connection, "records", Column("picture", ExactText(64), nullable=False, server_default=""))
    _add(connection, "records", Column("uri_key", BigInteger, nullable=False, server_default="0"))
    for name in _CELLS:
        _add(connection, "records", Column(name, Integer))
    _fill(connection)
    made = Table("records", MetaData(), autoload_with=connection).c
    newest = made.classified_at, made.id
    for index in (
        Index("records_country", made.country, *newest),
        Index("records_version", made.model_name, made.model_version, *newest),
        Index("records_kind", made.source_kind, *newest),
        Index("records_bucket", made.bucket, *newest),
        Index("records_uri", made.uri_key, *newest),
        # All that missing() asks for, so that it reads no record.
        Index("records_seen", made.picture, made.model_name, made.model_version, made.error_code),
    ):
        index.create(connection, checkfirst=True)
    for name in _CELLS:
        cell = made[name]
        # With the place, so that no record is read that is in the cell but not in the box; and only who has one.
        placed: dict[str, Any] = {"sqlite_where": cell.is_not(None), "postgresql_where": cell.is_not(None)}
        index = Index(f"records_{name}", cell, *newest, made.latitude_deg, made.longitude_deg, **placed)
        index.create(connection, checkfirst=True)
    by_place = Index("records_place", made.latitude_deg, made.longitude_deg, made.classified_at)
    by_place.drop(connection, checkfirst=True)


def _add(connection: Connection, table: str, column: Column[Any]) -> None:
    if column.name in {there["name"] for there in inspect(connection).get_columns(table)}:
        return
    described = CreateColumn(column).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {described}")


def _fill(connection: Connection) -> None:
    """Compute what is new of the records that are there."""
    texts = ("source_kind", "source_uri", "bucket", "object_key", "object_version", "picture_sha256")
    records = table(
        "records",
        column("id", RowId),
        *(column(name, ExactText) for name in texts),
        column("latitude_deg", Double),
        column("longitude_deg", Double),
        *(column(name) for name in ("picture", "uri_key", *_CELLS)),
    )
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("picture", "uri_key", *_CELLS)}
    changed = update(records).where(records.c.id == bindparam("of")).values(new)
    last = 0
    while True:
        page = select(records).where(records.c.id > last).order_by(records.c.id).limit(PAGE)
        found = connection.execute(page).all()
        if not found:
            return
        last = found[-1].id
        connection.execute(changed, [{"of": row.id, **_computed(row)} for row in found])


def _computed(row: Any) -> dict[str, Any]:
    source = Source(row.source_kind, row.source_uri, row.bucket, row.object_key, row.object_version)
    place = None if row.latitude_deg is None else Place(row.latitude_deg, row.longitude_deg)
    refused = Classification(
        source=source,
        picture_sha256=row.picture_sha256,
        model=ModelVersion("", ""),
        classified_at=datetime.now(UTC),
        refusal=Refusal(0, ""),
    )
    values = {"picture": refused.picture, "uri_key": uri_key(row.source_uri), **cells.numbers(place)}
    return {f"new_{name}": value for name, value in values.items()}


STEPS: tuple[Step, ...] = (_first, _second)
