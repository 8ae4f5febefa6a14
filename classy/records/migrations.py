"""
The database's schema, version by version: what turns an empty database into today's, and an older one too.

An own list of steps, not Alembic: its import costs half as much again as SQLAlchemy's (0.4 to 0.6 s beside 0.75 s of
CPU time), which is the slowest import of the whole function; it would bring a template engine and a folder of scripts
along; and it lets two processes migrate at once, which is what functions that start together do. A step never
changes once it has been released; the next change is the next step, and `schema` says what comes out of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    insert,
    inspect,
    select,
)

from classy.errors import RecordsFailed
from classy.records.schema import ExactText, Moment, RowId

Step = Callable[[Connection], None]

_versions = Table("schema_versions", MetaData(), Column("version", Integer, primary_key=True, autoincrement=False))


def migrate(engine: Engine, steps: Sequence[Step] | None = None) -> None:
    """
    Bring a database to the last version, if it is not there; of several processes at once, one does it.

    Args:
        steps: All of them, the first one for an empty database; this module's unless given.

    Raises:
        RecordsFailed: a later Classy has been here.
    """
    steps = STEPS if steps is None else steps
    with engine.connect() as connection:
        if _version(connection, len(steps)) == len(steps):
            return
    with _alone(engine) as connection:
        version = _version(connection, len(steps))
        if not version:
            _versions.create(connection, checkfirst=True)
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


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that no other process can be in: SQLite's lock is taken before anything is read."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


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
    tables.create_all(connection, checkfirst=False)  # a table of that name is somebody else's


STEPS: tuple[Step, ...] = (_first,)
