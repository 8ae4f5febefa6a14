"""Database servers that die, refuse or are not there: one error of ours each time, and work goes on afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from database_servers import PASSWORD, USER, DatabaseServer
from record_stores import SERVERS, Address, StoreServer
from small_records import EVERYTHING, record

from classy.errors import RecordsFailed
from classy.local.ports import free_port
from classy.records.store import RecordStore, open_records
from classy.records.values import Query

pytestmark = pytest.mark.parametrize("store_server", SERVERS, indirect=True)
UNREACHABLE = r"^the record store does not work \(it can't be reached\); check CLASSY_RECORDS$"


@pytest.fixture
def server(store_server: StoreServer) -> Iterator[DatabaseServer]:
    """Return a server that may be killed; it runs again afterwards."""
    assert isinstance(store_server, DatabaseServer)
    yield store_server
    if not store_server.running:
        store_server.start()


def _secretless(text: str) -> bool:
    return not any(secret in text for secret in (PASSWORD, quote(PASSWORD, safe=""), "wrong", f"{USER}:"))


def test_a_server_that_was_killed_is_found_again(server: DatabaseServer, record_store: RecordStore) -> None:
    """Meanwhile each use fails at once and says why; what was written before is still there."""
    assert record_store.put(EVERYTHING)
    server.kill()
    for use in (lambda: record_store.put(record(1)), lambda: record_store.query(Query())):
        started = time.monotonic()
        with pytest.raises(RecordsFailed, match=UNREACHABLE):
            use()
        assert time.monotonic() - started < 10
    server.start()
    assert record_store.get(EVERYTHING.identity) == EVERYTHING
    assert record_store.put(record(1)) is True


def test_writers_outlive_a_servers_restart(server: DatabaseServer, record_address: Address) -> None:
    """Whatever each write was told, the same writes once more leave every record once."""
    store = record_address.open()
    assert store.put(EVERYTHING)

    def put(number: int) -> bool | None:
        try:
            return store.put(record(number))
        except RecordsFailed:
            return None

    with ThreadPoolExecutor(4) as pool:
        first = pool.map(put, range(400))
        next(first)
        server.kill()
        server.start()
        told = list(first)
        again = list(pool.map(put, range(400)))
    assert None not in again
    assert len({kept.identity for kept in store.query(Query(limit=1000)).records}) == 401
    assert not any(new and before for new, before in zip(again[1:], told, strict=True))
    store.close()


WRONG = {
    "password": ("it refuses the user or password", lambda server: server.url("records_1", password="wrong")),
    "user": (
        "it refuses the user or password",
        lambda server: server.url("records_1").replace(f"{USER}:", "somebody:"),
    ),
    "port": (
        "it can't be reached",
        lambda server: server.url("records_1").replace(f":{server.port}/", f":{free_port()}/"),
    ),
    "host": ("it can't be reached", lambda server: server.url("records_1").replace("127.0.0.1", "nowhere.invalid")),
}


@pytest.mark.parametrize("what", [*WRONG, "database"])
def test_a_wrong_url_is_said_without_its_secrets(
    server: DatabaseServer, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error nor the log shows the password; the log says more than the caller is told."""
    if what == "database":
        # MariaDB does not tell a stranger which databases there are.
        why = "there is no such database|it refuses the user or password"
        url = server.url("missing")
    else:
        why, make = WRONG[what]
        url = make(server)
    store = open_records(url)
    with pytest.raises(RecordsFailed, match=rf"\(({why})\); check CLASSY_RECORDS$") as refused:
        store.put(EVERYTHING)
    store.close()
    assert _secretless(refused.value.message)
    assert caplog.messages != []
    assert _secretless(caplog.text)


def test_a_database_that_is_read_only_says_so(server: DatabaseServer, record_address: Address) -> None:
    """Reading goes on."""
    store = record_address.open()
    store.put(EVERYTHING)
    store.close()
    with server.read_only(record_address), pytest.raises(RecordsFailed, match=r"\(it is read-only\)"):
        store.put(record(1))
    assert store.get(EVERYTHING.identity) == EVERYTHING
    store.close()


def test_a_driver_that_is_missing_is_named(store_server: StoreServer, tmp_path: Path) -> None:
    """With what to install."""
    assert isinstance(store_server, DatabaseServer)
    package, extra = {"postgresql": ("psycopg", "postgresql"), "mariadb": ("pymysql", "mariadb")}[store_server.scheme]
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('gone', name='{package}')")
    code = (
        "from classy.records.store import open_records\n"
        "from graphpipe_fn.errors import GraphPipeError\n"
        f"try: open_records('{store_server.scheme}://a:b@127.0.0.1/c')\n"
        "except GraphPipeError as exc: print(exc.code, exc.message)"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert said == f"50213 records need the package {package}; install classy-fn[{extra}]\n"


def test_opening_a_store_asks_no_server(store_server: StoreServer) -> None:
    """A function starts while its database is down."""
    assert isinstance(store_server, DatabaseServer)
    open_records(f"{store_server.scheme}://a:b@127.0.0.1:{free_port()}/c").close()
