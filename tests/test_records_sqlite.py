"""SQLite's own: private files that forget, a full disk, a writer that hangs, and indexes for every query."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from record_stores import Address
from small_records import EVERYTHING, record
from test_records import HISTORY, _writers

from classy.errors import RecordsFailed
from classy.records.sql import SqlRecords
from classy.records.store import open_records
from classy.records.values import Query
from classy.settings import BadSetting
from graphpipe_fn.errors import GraphPipeError


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlRecords]:
    opened = SqlRecords(url_of(tmp_path_factory.mktemp("history") / "records.db"))
    for kept in HISTORY:
        opened.put(kept)
    yield opened
    opened.close()


def test_what_was_forgotten_is_not_in_the_file(path: Path) -> None:
    """SQLite overwrites it, in the write-ahead log as soon as that is closed."""
    opened = open_records(url_of(path))
    opened.put(record(1, call_id="a-name-to-be-forgotten"))
    opened.delete_picture(record(1).picture)
    opened.close()
    assert b"a-name-to-be-forgotten" not in path.read_bytes()


def test_nobody_else_can_read_the_file(path: Path) -> None:
    """Times and places are private, in the database and in what SQLite puts beside it."""
    opened = open_records(url_of(path))
    opened.put(EVERYTHING)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) == 3  # the write-ahead log and its index
    opened.close()


@pytest.mark.parametrize("url", ["", "records.db", "sqlite://", "sqlite:///records.db", "oracle://a:b@c/d"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    """It says what one looks like, and shows no password."""
    with pytest.raises(BadSetting, match=r"sqlite:////FOLDER/records\.db") as refused:
        open_records(url)
    assert "b@c" not in str(refused.value)


def _a_folder(path: Path) -> None:
    path.mkdir()


def _a_text(path: Path) -> None:
    path.write_text("this is no database, but it is long enough to be read as one" * 50)


def _another_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, something TEXT)")
    connection.close()


SPOILT: list[Any] = [
    pytest.param(lambda path: path.parent.rmdir(), "No such file or directory", id="no folder"),
    pytest.param(_a_folder, "Is a directory", id="a folder in its place"),
    pytest.param(_a_text, "not a database", id="a text in its place"),
    pytest.param(_another_database, "table records already exists", id="somebody else's database"),
]


@pytest.mark.parametrize(("spoil", "why"), SPOILT)
def test_a_store_that_does_not_work_says_why(path: Path, spoil: Any, why: str) -> None:
    """One error of ours, without the path, the statement or any value: callers read it."""
    spoil(path)
    store = open_records(url_of(path))
    for call in (lambda: store.put(EVERYTHING), lambda: store.query(Query())):
        with pytest.raises(RecordsFailed, match=why) as refused:
            call()
        assert str(path.parent) not in refused.value.message
        assert "INSERT" not in refused.value.message
        assert refused.value.code == 50213
    store.close()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system that root can't write to either")
def test_a_folder_that_is_read_only_is_said() -> None:
    """As the system says it, without the path."""
    store = open_records(url_of(Path("/sys/kernel/records.db")))
    with pytest.raises(RecordsFailed, match=r"can't be opened \((Permission denied|Read-only file system)\)"):
        store.put(EVERYTHING)
    store.close()


def test_a_file_that_became_read_only_says_so(path: Path) -> None:
    """And can still be read."""
    store = SqlRecords(url_of(path))
    store.put(EVERYTHING)
    sa.event.listen(store._engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only = ON"))
    store._engine.dispose()
    with pytest.raises(RecordsFailed, match=r"\(it is read-only\); check CLASSY_RECORDS"):
        store.put(record(1))
    assert store.get(EVERYTHING.identity) == EVERYTHING
    store.close()


def test_a_full_disk_is_said(path: Path) -> None:
    """And what was written before is still there."""
    store = open_records(url_of(path))
    store.put(EVERYTHING)
    store.close()
    engine = sa.create_engine(url_of(path))
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    engine.dispose()
    full = SqlRecords(url_of(path))
    sa.event.listen(full._engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {pages}"))
    full._engine.dispose()
    with pytest.raises(RecordsFailed, match="its disk is full; make room there"):
        _ = [full.put(record(number)) for number in range(1_000)]
    assert full.get(EVERYTHING.identity) == EVERYTHING
    full.close()


def test_a_store_that_somebody_holds_is_waited_for_and_then_given_up(path: Path) -> None:
    """A writer that hangs costs a caller seconds, never the answer."""
    store = open_records(url_of(path))
    store.put(record(1))
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: holder.execute("ROLLBACK"))
    timer.start()
    assert store.put(record(2)) is True  # waited for
    timer.join()
    holder.execute("BEGIN IMMEDIATE")
    impatient = SqlRecords(url_of(path))
    sa.event.listen(impatient._engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 50"))
    impatient._engine.dispose()
    with pytest.raises(RecordsFailed, match="locked by another process; try again"):
        impatient.put(record(3))
    assert impatient.has(record(2).identity)  # readers don't wait
    holder.execute("ROLLBACK")
    holder.close()
    store.close()
    impatient.close()


def test_a_killed_writer_leaves_a_sound_file(path: Path) -> None:
    """SQLite finds nothing to complain of, and each class was named once."""
    _writers(Address(url_of(path)), processes=3, objects=40, kills=6)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), count(DISTINCT identity) FROM records").fetchall() == [(40, 40)]
        assert connection.execute("SELECT count(*) FROM class_names").fetchall() == [(3,)]
    connection.close()


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """A function whose image has no SQLAlchemy says what to install."""
    (tmp_path / "sqlalchemy.py").write_text("raise ModuleNotFoundError('gone', name='sqlalchemy')")
    code = (
        "from classy.records.store import open_records\n"
        "from graphpipe_fn.errors import GraphPipeError\n"
        "try: open_records('sqlite:////x')\n"
        "except GraphPipeError as exc: print(exc.code, exc.message)"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert said == "50213 records need the package sqlalchemy; install classy-fn[records]\n"


def test_errors_of_the_store_are_ours() -> None:
    """A caller catches one kind."""
    assert issubclass(RecordsFailed, GraphPipeError)
