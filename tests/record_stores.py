"""
Every kind of record store, for real, so that one suite of tests runs on all of them.

STORES names them. To add one: a context manager that starts what it needs and yields something with fresh(). A test
that takes the fixture `record_address` runs once per kind, each time in an empty store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from classy.records.store import RecordStore, open_records
from graphpipe_fn.transports.aws_access import AwsAccess


@dataclass(frozen=True)
class Address:
    """Where a store is; another process opens it too."""

    url: str
    aws: AwsAccess | None = None

    def open(self) -> RecordStore:
        """Return the store, opened at its first use."""
        return open_records(self.url, self.aws)


class StoreServer(Protocol):
    """What holds stores of one kind."""

    def fresh(self) -> Address:
        """Return where an empty store is."""
        ...


class SqliteFiles:
    """A folder of SQLite's files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count(1)

    def fresh(self) -> Address:
        """Return where an empty store is."""
        return Address(f"sqlite:///{self._folder}/{next(self._numbers)}.db")


@contextmanager
def _sqlite(folder: Path) -> Iterator[StoreServer]:
    yield SqliteFiles(folder)


@contextmanager
def _postgresql(_: Path) -> Iterator[StoreServer]:
    from database_servers import PostgreSql, started

    with started(PostgreSql) as server:
        yield server


@contextmanager
def _mariadb(_: Path) -> Iterator[StoreServer]:
    from database_servers import MariaDb, started

    with started(MariaDb) as server:
        yield server


@contextmanager
def _dynamodb(_: Path) -> Iterator[StoreServer]:
    from dynamodb_tables import started

    with started() as server:
        yield server


STORES: dict[str, Callable[[Path], AbstractContextManager[StoreServer]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "dynamodb": _dynamodb,
}
SQL = ("sqlite", "postgresql", "mariadb")
SERVERS = ("postgresql", "mariadb")


class Running:
    """The stores' servers that this test run has started, each at its first use."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started, self._stack = folder, dict[str, StoreServer | str](), ExitStack()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def server(self, kind: str) -> Any:
        """Return a running server, or skip the test where it can't run here."""
        from database_servers import NoServer

        if kind not in self._started:
            folder = self._folder / kind
            folder.mkdir()
            try:
                self._started[kind] = self._stack.enter_context(STORES[kind](folder))
            except NoServer as missing:
                self._started[kind] = str(missing)
        found = self._started[kind]
        if isinstance(found, str):
            pytest.skip(found)
        return found


@pytest.fixture(scope="session")
def store_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run what the tests ask for until the last of them is done."""
    with Running(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture(scope="session", params=STORES)
def store_server(request: pytest.FixtureRequest, store_servers: Running) -> StoreServer:
    """Return one kind of store after the other; a test module may parametrise it with fewer of them."""
    server: StoreServer = store_servers.server(request.param)
    return server


@pytest.fixture
def record_address(store_server: StoreServer) -> Address:
    """Return where an empty store is."""
    return store_server.fresh()


@pytest.fixture
def record_store(store_server: StoreServer) -> Iterator[RecordStore]:
    """Return an empty store; on a database server one that was used and emptied, whose tables are made already."""
    from database_servers import DatabaseServer

    reused = isinstance(store_server, DatabaseServer)
    address = store_server.emptied() if reused else store_server.fresh()
    store = address.open()
    yield store
    store.close()
    if reused:
        store_server.give_back(address)
