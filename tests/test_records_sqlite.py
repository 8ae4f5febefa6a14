"""SQLite's own: private files that forget, a full disk, a writer that hangs, and indexes for every query."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from record_stores import Address
from small_records import EVERYTHING, NOON, record
from test_records import HISTORY, _writers

from classy.errors import RecordsFailed
from classy.records.sql import SqlRecords
from classy.records.store import open_records
from classy.records.values import Box, Query
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


PLANS: list[Any] = [
    pytest.param(Query(), "records_newest", id="last 50"),
    pytest.param(Query(since=NOON, until=NOON + timedelta(days=1)), "records_newest", id="one day"),
    pytest.param(Query(label="チワワ"), "records_class", id="one label"),
    pytest.param(Query(label="chihuahua", since=NOON), "records_class", id="one label of a day"),
    pytest.param(Query(model="vgg16"), "records_model", id="one model"),
    pytest.param(Query(box=Box(139, 35, 140, 36)), "COVERING INDEX records_place", id="one box"),
    pytest.param(Query(box=Box(139, 35, 140, 36), since=NOON), "COVERING INDEX records_place", id="a box of a day"),
    pytest.param(Query(box=Box(170, -30, -150, 30)), "COVERING INDEX records_place", id="across the antimeridian"),
]


def plan_of(store: SqlRecords, query: Query) -> list[str]:
    """Return how SQLite goes about a query that is really made, one line per step."""
    made: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        made.append((statement, parameters))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    store.query(query)
    sa.event.remove(store._engine, "before_cursor_execute", note)
    statement, parameters = made[-1]
    with store._engine.connect() as connection:
        return [str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(("query", "index"), PLANS)
def test_a_query_uses_its_index(history: SqlRecords, path: Path, query: Query, index: str, *, analysed: bool) -> None:
    """SQLite reads no whole table, on the first page or a later one, whether it has counted its rows or not."""
    with sqlite3.connect(str(history._url.database)) as source, sqlite3.connect(path) as copy:
        source.backup(copy)
        if analysed:
            copy.execute("ANALYZE")
    source.close()
    copy.close()
    store = SqlRecords(url_of(path))
    for asked in (query, replace(query, after=history.query(Query(limit=2)).next)):
        plan = plan_of(store, asked)
        assert index in next(step for step in plan if "records" in step), plan
        assert [step for step in plan if step.startswith("SCAN records") and "INDEX" not in step] == []
        if query.box is None:
            assert not any("B-TREE" in step for step in plan)  # the order comes from the index too
    store.close()


def test_a_label_of_several_models_uses_the_index_as_well(history: SqlRecords) -> None:
    """Two classes of one name are looked up both."""
    assert "records_class (class_key=?)" in plan_of(history, Query(label="espresso"))[0]


def test_a_primary_keys_plan_is_the_shortest(history: SqlRecords) -> None:
    """Whether there is a record is one look into one index."""
    with sqlite3.connect(str(history._url.database)) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT id FROM records WHERE identity = ''").fetchall()
    connection.close()
    assert [row[-1] for row in plan] == [
        "SEARCH records USING COVERING INDEX sqlite_autoindex_records_1 (identity=?)"
    ]


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
    with pytest.raises(RecordsFailed, match="full"):
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
    with pytest.raises(RecordsFailed, match="locked"):
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
