"""
Records in a SQL database, by way of SQLAlchemy Core: SQLite so far, written so that other servers can follow.

The module imports SQLAlchemy, so nobody imports it before there is something to record. Every error of the database
becomes ours, without statements, values and paths: callers read them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from classy.errors import RecordsFailed
from classy.records import rows
from classy.records.migrations import migrate
from classy.records.schema import class_names, records
from classy.records.values import Classification, Page, Query

BUSY_S = 5.0  # how long a writer waits for others; each of them takes milliseconds
POLL_S = 0.01


class SqlRecords:
    """
    Be a RecordStore over a database; see classy.records.store for what each method promises.

    Args:
        url: As SQLAlchemy writes it: `sqlite:////folder/records.db`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._opened: sa.Engine | None = None
        self._named: set[tuple[str, str]] = set()

    def put(self, record: Classification) -> bool:
        """Keep a record, unless its identity has one: a result is never replaced, a refusal gives way to one."""
        row = rows.encoded(record)
        with _translated():
            self._name(row["class_key"], rows.names(record))
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(records).values(row))
                return True
            except exc.IntegrityError:
                if not self.has(record.identity):
                    raise  # it was not the identity that was there already
            if record.refusal is not None:
                return False
            gives_way = (records.c.identity == record.identity) & records.c.error_code.is_not(None)
            with self._engine.begin() as connection:
                return connection.execute(sa.update(records).where(gives_way).values(row)).rowcount > 0

    def get(self, identity: str) -> Classification | None:
        """Return the record of an identity."""
        with _translated(), self._engine.connect() as connection:
            row = connection.execute(sa.select(records).where(records.c.identity == identity)).one_or_none()
        return None if row is None else rows.decoded(row)

    def has(self, identity: str) -> bool:
        """Return whether there is a record of an identity."""
        found = sa.select(records.c.id).where(records.c.identity == identity)
        with _translated(), self._engine.connect() as connection:
            return connection.execute(found).one_or_none() is not None

    def query(self, query: Query) -> Page:
        """Return a page of records, newest first."""
        with _translated(), self._engine.connect() as connection:
            found = connection.execute(self.statement(query, connection)).all()
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(tuple(rows.decoded(row) for row in page), rows.cursor(page[-1]) if more else "")

    def statement(self, query: Query, connection: sa.Connection) -> sa.Select[Any]:
        """
        Return what query() asks the database, for one record more than the page has.

        Raises:
            BadRequest: `after` is no cursor.
        """
        keys: list[str] | None = None
        if query.label:
            named = sa.select(class_names.c.class_key).where(class_names.c.name == query.label.casefold())
            keys = list(connection.execute(named).scalars())
        at, row_id = records.c.classified_at, records.c.id
        if query.box is None:
            wanted = sa.select(records).where(*rows.times(query, at, row_id), *rows.others(query, keys))
            return wanted.order_by(at.desc(), row_id.desc()).limit(query.limit + 1)
        # The box's own index finds the rows and holds their times, and whole rows are read for one page only. The
        # offset of nothing keeps databases from walking through all times instead, in the hope of meeting the box.
        inside = sa.select(row_id, at).where(*rows.others(query, keys)).offset(0).subquery()
        page = (
            sa.select(inside.c.id)
            .where(*rows.times(query, inside.c.classified_at, inside.c.id))
            .order_by(inside.c.classified_at.desc(), inside.c.id.desc())
            .limit(query.limit + 1)
            .subquery()
        )
        return sa.select(records).join(page, page.c.id == row_id).order_by(at.desc(), row_id.desc())

    def delete_picture(self, sha256: str) -> int:
        """Forget every record of a picture; return how many there were."""
        with _translated(), self._engine.begin() as connection:
            return connection.execute(sa.delete(records).where(records.c.picture_sha256 == sha256)).rowcount

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._lock:
            if self._opened is not None:
                self._opened.dispose()
                self._opened = None

    @property
    def _engine(self) -> sa.Engine:
        with self._lock:
            if self._opened is None:
                engine = _opened(self._url)
                try:
                    migrate(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._opened = engine
            return self._opened

    def _name(self, key: str, names: frozenset[str]) -> None:
        """Let a class be found by its names; each is written once, and read once by each process."""
        new = {(key, name) for name in names} - self._named
        if not new:
            return
        with self._engine.connect() as connection:
            known = set(
                connection.execute(sa.select(class_names.c.name).where(class_names.c.class_key == key)).scalars()
            )
        for _, name in sorted(pair for pair in new if pair[1] not in known):
            with suppress(exc.IntegrityError), self._engine.begin() as connection:  # another process was faster
                connection.execute(sa.insert(class_names).values(class_key=key, name=name))
        self._named |= new


def _opened(url: str) -> sa.Engine:
    path = sa.make_url(url).database or ""
    # Before SQLite does it: times and places are nobody else's business. Its other files get the same rights.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
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
def _translated() -> Iterator[None]:
    """
    Turn the database's errors into ours.

    Raises:
        RecordsFailed: for any of them.
    """
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        why = str(getattr(error, "orig", error) or type(error).__name__)
        raise RecordsFailed(f"the record store does not work ({why:.200}); check CLASSY_RECORDS") from error
    except OSError as error:
        raise RecordsFailed(f"the record store can't be opened ({error.strerror}); check CLASSY_RECORDS") from error
