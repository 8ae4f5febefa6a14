"""
The databases under SqlRecords: how each is opened, locked for a migration, and what its errors say to callers.

It knows what SQLAlchemy does not hide: SQLite's file and its pragmas, what a server must be told per connection, and
which errors mean that the same once more will do.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from classy.errors import RecordsFailed
from classy.records.schema import MYSQL

log = logging.getLogger(__name__)

# Said outright: SQLAlchemy's own choice differs from one of its versions to the next.
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+pymysql",
    "mysql": "mysql+pymysql",
}
BUSY_S = 5  # how long a writer waits for others; each of them takes milliseconds
CONNECT_S = 5
ANSWER_S = 30  # a page takes milliseconds; counting a million pictures takes a second or two
TURN_S = 60  # how long a process waits for another's migration of a SQLite file, which serves nobody in turn
MIGRATION_S = 3_600  # filling a column of a million rows takes minutes
POLL_S = 0.01
ADVISORY_LOCK = 7_163_214_905_821  # of our migrations among all of a PostgreSQL database; any number does

# Deadlocks, and rows that changed under a transaction: PostgreSQL's SQLSTATEs, MariaDB's error numbers.
_PASSING: frozenset[str | int] = frozenset({"40001", "40P01", 1213, 1020})
# What a server's or driver's words come to. Callers read it: no host, no user, no value.
_MEANINGS = (
    (
        re.compile("password|Access denied|authentication|no pg_hba.conf entry", re.I),
        "it refuses the user or password",
    ),
    (re.compile('database ".*" does not exist|Unknown database'), "there is no such database"),
    (
        re.compile(
            "connection failed|connection timeout|Can't connect|Lost connection|gone away|closed the connection"
            "|terminating connection|server closed|starting up|shutting down|Broken pipe|connection is closed"
            "|resolve host|timed out",
            re.I,
        ),
        "it can't be reached",
    ),
    (re.compile("read.?only", re.I), "it is read-only"),
    (re.compile("disk is full|No space left|table is full|DiskFull", re.I), "its disk is full; make room there"),
    (re.compile("database is locked|lock timeout|Lock wait", re.I), "it is locked by another process; try again"),
    (re.compile("file is not a database|malformed", re.I), "its file is not a database, or spoilt"),
)


def parsed(url: str) -> sa.URL:
    """
    Return a URL with its driver, which is imported.

    Raises:
        ImportError: the driver is not installed.
    """
    given = sa.make_url(url)
    chosen = given.set(drivername=DRIVERS[given.drivername])
    chosen.get_dialect().import_dbapi()
    return chosen


def opened(url: sa.URL) -> sa.Engine:
    """Return the engine of a database; a SQLite file is created if there is none, a server not even asked."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    # A connection is tried before it is used: servers restart, and firewalls forget what was idle.
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=_connecting(url))

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            if url.get_backend_name() in MYSQL:
                cursor.execute(f"SET innodb_lock_wait_timeout = {BUSY_S}")
            else:
                cursor.execute(f"SET lock_timeout = '{BUSY_S}s'; SET statement_timeout = '{ANSWER_S}s'")
        connection.commit()

    return engine


@contextmanager
def alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """
    Open a transaction that no other migration can be in, and that may take its time.

    On MariaDB it is none for DDL: what breaks off half-way stays.

    Raises:
        RecordsFailed: another process migrates, and does not come to an end.
    """
    if engine.dialect.name == "sqlite":
        with _immediate(engine) as connection:
            yield connection
    elif engine.dialect.name in MYSQL:
        patient = {**_connecting(engine.url), "read_timeout": MIGRATION_S, "write_timeout": MIGRATION_S}
        # A lock of the connection's, which ends with it, and so with its process.
        single = sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args=patient)
        with single.begin() as connection:
            asked = "SELECT GET_LOCK(LEFT(CONCAT('classy ', DATABASE()), 64), %s)"
            if connection.exec_driver_sql(asked, (MIGRATION_S,)).scalar_one() != 1:
                raise RecordsFailed("another process has been changing the record store's tables for an hour")
            yield connection
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_S}s'")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{MIGRATION_S}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
            yield connection


@contextmanager
def translated() -> Iterator[None]:
    """
    Turn the database's errors into ours; what exactly it said goes to the log.

    Raises:
        RecordsFailed: for any of them.
    """
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        why = _why(error)
        log.warning("records: %s", why)
        for pattern, meaning in _MEANINGS:
            if pattern.search(why):
                why = meaning
                break
        raise RecordsFailed(f"the record store does not work ({why:.200}); check CLASSY_RECORDS") from error
    except OSError as error:
        raise RecordsFailed(f"the record store can't be opened ({error.strerror}); check CLASSY_RECORDS") from error


def passes(error: exc.DBAPIError) -> bool:
    """Return whether the same statement will do once more, because only somebody else's was in its way."""
    orig: Any = error.orig
    return getattr(orig, "sqlstate", None) in _PASSING or (getattr(orig, "args", None) or [None])[0] in _PASSING


def _why(error: BaseException) -> str:
    """Return the first line of what a database says: PostgreSQL's others quote rows and statements."""
    orig: Any = getattr(error, "orig", None) or error
    said = orig.args[1] if len(orig.args) > 1 and isinstance(orig.args[0], int) else orig  # PyMySQL's number and text
    return (str(said).strip().splitlines() or [type(orig).__name__])[0]


def _connecting(url: sa.URL) -> Mapping[str, Any]:
    """Return what a driver is told unless the URL does."""
    if url.get_backend_name() in MYSQL:
        told: dict[str, Any] = {
            "charset": "utf8mb4", "connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S
        }  # fmt: skip
        if url.password:
            told["password"] = url.password.encode()  # as a text PyMySQL would send it in Latin-1
    else:
        told = {"connect_timeout": CONNECT_S, "tcp_user_timeout": ANSWER_S * 1_000, "application_name": "classy"}
    return {name: value for name, value in told.items() if name not in url.query}


def _sqlite(url: sa.URL) -> sa.Engine:
    # Before SQLite does it: times and places are nobody else's business. Its other files get the same rights.
    os.close(os.open(url.database or "", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted can't be read from the file's free pages
        _write_ahead(connection)

    return engine


def _write_ahead(connection: Any) -> None:
    """Let readers and a writer not wait for each other; SQLite keeps that in the file, and does not queue for it."""
    deadline_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # another process is just doing the same
            if time.monotonic() > deadline_s:
                raise
            time.sleep(POLL_S)


@contextmanager
def _immediate(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction whose lock is taken before anything is read."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {TURN_S * 1000}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
