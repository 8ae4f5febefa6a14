"""
Records in a SQL database: SQLite, MariaDB or MySQL, PostgreSQL, by way of SQLAlchemy Core.

The module imports SQLAlchemy, so nobody imports it before there is something to record. Every error of the database
becomes ours, without statements, values and paths: callers read them.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy import exc

from classy.records import missing, rows, search
from classy.records.migrations import migrate
from classy.records.schema import MYSQL, class_names, records
from classy.records.servers import opened, parsed, passes, translated
from classy.records.values import Classification, ModelVersion, Page, Query

TRIES = 5  # of a write that is in another one's way; the second mostly does


class SqlRecords:
    """
    Be a RecordStore over a database; see classy.records.store for what each method promises.

    Args:
        url: Of the database; see open_records. Nothing is opened before the first use.

    Raises:
        ImportError: the database's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = parsed(url)
        self._lock = threading.Lock()
        self._opened: sa.Engine | None = None
        self._named: set[tuple[str, str]] = set()

    def put(self, record: Classification) -> bool:
        """Keep a record, unless its identity has one: a result is never replaced, a refusal gives way to one."""
        with translated():
            for _ in range(TRIES - 1):
                try:
                    return self._put(record)
                except exc.DBAPIError as error:
                    if not passes(error):
                        raise
            return self._put(record)

    def get(self, identity: str) -> Classification | None:
        """Return the record of an identity."""
        with translated(), self._reading() as connection:
            row = connection.execute(sa.select(records).where(records.c.identity == identity)).one_or_none()
        return None if row is None else rows.decoded(row)

    def has(self, identity: str) -> bool:
        """Return whether there is a record of an identity."""
        found = sa.select(records.c.id).where(records.c.identity == identity)
        with translated(), self._reading() as connection:
            return connection.execute(found).one_or_none() is not None

    def query(self, query: Query) -> Page:
        """Return a page of records, newest first."""
        with translated(), self._reading() as connection:
            found = search.rows_of(query, connection)
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(tuple(rows.decoded(row) for row in page), rows.cursor(page[-1]) if more else "")

    def missing(self, model_ref: str, *, after: str = "", limit: int = 50) -> Page:
        """Return pictures that one version of a model has not seen, each by its newest record."""
        after = missing.position(after)
        with translated(), self._reading() as connection:
            found = [row.picture for row in connection.execute(missing.pictures(model_ref, after).limit(limit + 1))]
            of_them = sa.select(records).where(records.c.picture.in_(found[:limit]))
            newest = missing.newest(connection.execute(of_them).all())
        return Page(tuple(rows.decoded(row) for row in newest), found[limit - 1] if len(found) > limit else "")

    def count_missing(self, model_ref: str) -> int:
        """Return how many pictures missing() would return in all its pages."""
        counted = sa.select(sa.func.count()).select_from(missing.pictures(model_ref).order_by(None).subquery())
        with translated(), self._reading() as connection:
            return connection.execute(counted).scalar_one()

    def models(self) -> tuple[ModelVersion, ...]:
        """Return every model version that has a record, by name and version."""
        name, version = records.c.model_name, records.c.model_version
        found: list[ModelVersion] = []
        # From one to the next along the index: a DISTINCT would read the whole of it for a handful of versions.
        steps = sa.select(name, version, records.c.model_sha256).order_by(name, version).limit(1)
        with translated(), self._reading() as connection:
            row = connection.execute(steps).one_or_none()
            while row is not None:
                found.append(ModelVersion(*row))
                later = steps.where(name == row.model_name, version > row.model_version)
                others = steps.where(name > row.model_name)
                row = connection.execute(later).one_or_none() or connection.execute(others).one_or_none()
        return tuple(sorted(found, key=lambda model: (model.name, model.version)))

    def delete_picture(self, picture: str) -> int:
        """Forget a picture: every record of it, and of every other source that held the same bytes."""
        sha256 = records.c.picture_sha256
        with translated(), self._engine.begin() as connection:
            held = sa.select(sha256).distinct().where(records.c.picture == picture, sha256 != "")
            bytes_of_it = list(connection.execute(held).scalars())
            same = connection.execute(sa.delete(records).where(sha256.in_(bytes_of_it))).rowcount
            return same + connection.execute(sa.delete(records).where(records.c.picture == picture)).rowcount

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
                engine = opened(self._url)
                try:
                    migrate(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._opened = engine
            return self._opened

    def _reading(self) -> sa.Connection:
        """
        Return a connection for statements that only read, each for itself.

        Without a transaction there is none to begin and end, and psycopg, which forgets its prepared statements at
        each ROLLBACK, keeps them. PyMySQL would ask the server to begin none, twice.
        """
        connection = self._engine.connect()
        if self._url.get_backend_name() in MYSQL:
            return connection
        return connection.execution_options(isolation_level="AUTOCOMMIT")

    def _put(self, record: Classification) -> bool:
        row = rows.encoded(record)
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

    def _name(self, key: str, names: frozenset[str]) -> None:
        """Let a class be found by its names; each is written once, and read once by each process."""
        new = {(key, name) for name in names} - self._named
        if not new:
            return
        with self._reading() as connection:
            known = set(
                connection.execute(sa.select(class_names.c.name).where(class_names.c.class_key == key)).scalars()
            )
        for _, name in sorted(pair for pair in new if pair[1] not in known):
            with suppress(exc.IntegrityError), self._engine.begin() as connection:  # another process was faster
                connection.execute(sa.insert(class_names).values(class_key=key, name=name))
        self._named |= new
