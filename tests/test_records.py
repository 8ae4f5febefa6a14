"""The record store: what is kept is found again, once, whoever writes at the same time and however it ends."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import small_records
import sqlalchemy as sa
from small_records import CUP, ESPRESSO, EVERYTHING, MODEL, NOON, REFUSAL, record

from classy.errors import BadRequest, RecordsFailed
from classy.records import migrations, schema
from classy.records.sql import SqlRecords
from classy.records.store import open_records
from classy.records.values import (
    Box,
    Classification,
    ModelVersion,
    Place,
    Query,
    Refusal,
    Source,
    object_identity,
)
from classy.settings import BadSetting
from graphpipe_fn.errors import GraphPipeError


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlRecords]:
    opened = open_records(url_of(path))
    assert isinstance(opened, SqlRecords)
    yield opened
    opened.close()


KEPT: list[Any] = [
    pytest.param(EVERYTHING, id="everything"),
    pytest.param(record(), id="little"),
    pytest.param(record(refusal=REFUSAL), id="refused"),
    pytest.param(record(taken_at=datetime(2020, 2, 29, 1, 2, 3, 4)), id="a naive time"),  # noqa: DTZ001
    pytest.param(record(taken_at=datetime(2020, 2, 29, 1, 2, 3, 4, tzinfo=UTC)), id="a time in UTC"),
    pytest.param(record(place=Place(-90.0, -180.0)), id="the end of the Earth"),
    pytest.param(record(place=Place(5e-324, 1.7976931348623157e-308)), id="the smallest numbers"),
    pytest.param(record(source=Source("url", "https://example.org/a.jpg?…")), id="a URL"),
    pytest.param(record(source=Source("upload")), id="a body"),
    pytest.param(record(source=Source("bucket", "s3://b/" + "界" * 340, "b", "界" * 340)), id="a long key"),
]


@pytest.mark.parametrize("kept", KEPT)
def test_a_record_comes_back_as_it_was(store: SqlRecords, kept: Classification) -> None:
    """Microseconds, offsets, exact coordinates, emoji and all."""
    assert store.put(kept) is True
    assert store.has(kept.identity)
    found = store.get(kept.identity)
    assert found == kept
    assert found is not None
    assert found.classified_at.tzinfo is UTC
    assert (found.taken_at and found.taken_at.utcoffset()) == (kept.taken_at and kept.taken_at.utcoffset())
    assert store.query(Query()).records == (kept,)


def test_a_record_outlives_its_process(path: Path) -> None:
    """Another one finds it."""
    first = open_records(url_of(path))
    first.put(EVERYTHING)
    first.close()
    assert first.get(EVERYTHING.identity) == EVERYTHING  # and a closed one opens again
    first.close()
    second = open_records(url_of(path))
    assert second.get(EVERYTHING.identity) == EVERYTHING
    second.close()


@pytest.mark.parametrize("text", ["\0", "a\0b", "half \ud83d pair"])
def test_what_is_no_text_is_kept_as_near_as_can_be(store: SqlRecords, text: str) -> None:
    """It neither raises nor stays away, and its identity is its own."""
    kept = record(source=Source("bucket", text, "inbox", text))
    assert store.put(kept) is True
    assert store.put(kept) is False
    assert store.put(record(source=Source("bucket", "?", "inbox", "?"))) is True
    found = store.get(kept.identity)
    assert found is not None
    assert found.source.key == text.replace("\0", "�").replace("\ud83d", "?")


def test_the_same_again_changes_nothing(store: SqlRecords) -> None:
    """The first record of an identity stays."""
    assert store.put(record(1)) is True
    later = record(1, classified_at=NOON + timedelta(days=1), top_k=(CUP,), call_id="again")
    assert store.put(later) is False
    assert store.put(record(1, refusal=REFUSAL)) is False
    assert store.query(Query()).records == (record(1),)


def test_a_refusal_gives_way_to_a_result(store: SqlRecords) -> None:
    """An object that was missing may have come back; never the other way round."""
    refused = record(1, refusal=REFUSAL)
    assert store.put(refused) is True
    assert store.put(replace(refused, refusal=Refusal(41312, "another"))) is False
    assert store.get(refused.identity) == refused
    assert store.put(record(1)) is True
    assert store.query(Query()).records == (record(1),)


IDENTITIES: list[Any] = [
    pytest.param(record(1), record(1, picture_sha256="f" * 64), True, id="an object is known without its bytes"),
    pytest.param(record(1), record(2, picture_sha256=f"{1:064x}"), False, id="another object of the same bytes"),
    pytest.param(record(1), record(1, model=replace(MODEL, version="2")), False, id="another version of the model"),
    pytest.param(
        record(1, source=Source("url", "https://a/1")), record(1, source=Source("url", "https://b/2")), True,
        id="one picture from two URLs",
    ),
    pytest.param(
        record(1, source=Source("url", "https://a/1")), record(1, source=Source("upload")), True,
        id="one picture by URL and as a body",
    ),
    pytest.param(
        record(1, source=Source("url", "https://a/1"), picture_sha256="", refusal=REFUSAL),
        record(1, source=Source("url", "https://b/2"), picture_sha256="", refusal=REFUSAL),
        False,
        id="two URLs without a picture",
    ),
    pytest.param(
        record(1, source=Source("bucket", "", "a", "b/c")), record(1, source=Source("bucket", "", "a/b", "c")), False,
        id="a slash is no separator",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "same"), IDENTITIES)
def test_there_is_one_record_of_what_is_the_same(
    store: SqlRecords, one: Classification, other: Classification, *, same: bool
) -> None:
    """Which objects, pictures and models are the same is the identity's to say."""
    store.put(one)
    assert store.put(other) is not same
    assert len(store.query(Query()).records) == (1 if same else 2)


def test_an_events_identity_is_known_before_its_object_is_fetched() -> None:
    """Bucket, key, version and model are enough to ask whether there is a record."""
    source = record(3).source
    assert object_identity(source.bucket, source.key, source.version, MODEL.ref) == record(3).identity


BAD: list[Any] = [
    pytest.param(lambda: record(classified_at=datetime(2026, 1, 1)), "must be aware", id="a naive time"),  # noqa: DTZ001
    pytest.param(lambda: record(top_k=()), "either classes or a refusal", id="neither"),
    pytest.param(lambda: record(top_k=(CUP,), refusal=REFUSAL), "either classes or a refusal", id="both"),
    pytest.param(lambda: Place(90.1, 0), "no place", id="off the Earth"),
    pytest.param(lambda: Place(0, float("nan")), "no place", id="NaN"),
    pytest.param(lambda: Place(0, 1, float("inf")), "no altitude", id="infinity"),
]


@pytest.mark.parametrize(("make", "complaint"), BAD)
def test_a_record_that_says_nothing_is_not_made(make: Any, complaint: str) -> None:
    """A mistake of ours shows where it is made."""
    with pytest.raises(ValueError, match=complaint):
        make()


COARSE: list[Any] = [
    (Place(35.65858, 139.74543, 12.5), Place(35.7, 139.7)),
    (Place(-35.65858, -139.74543), Place(-35.7, -139.7)),
    (Place(89.99, 179.99), Place(90.0, 180.0)),
    (Place(-0.04, 0.04), Place(0.0, 0.0)),
]


@pytest.mark.parametrize(("place", "coarse"), COARSE)
def test_a_coarse_place_is_a_tenth_of_a_degree(place: Place, coarse: Place) -> None:
    """And says nothing about how high."""
    assert place.coarsened() == coarse
    assert str(place.coarsened().latitude_deg) != "-0.0"


HAWAII, FIJI, TOKYO, QUITO = Place(21.3, -157.9), Place(-17.7, 178.1), Place(35.7, 139.7), Place(0.0, -78.5)
DOG = replace(ESPRESSO, class_id="n02085620", labels={"en": "Chihuahua", "ja": "チワワ", "zh": "吉娃娃"})
OTHER = ModelVersion("vgg16", "2", "6" * 64)
HISTORY = (
    record(0, place=TOKYO),
    record(1, place=FIJI, top_k=(DOG, ESPRESSO)),
    record(2, place=HAWAII, model=OTHER),
    record(3, place=QUITO, source=Source("url", "https://example.org/a.jpg")),
    record(4, source=Source("upload")),
    record(5, refusal=REFUSAL, source=Source("bucket", "s3://other/x", "other", "x")),
    record(6, model=replace(OTHER, version="3"), top_k=(replace(ESPRESSO, class_id=""),)),
)
QUERIES: list[Any] = [
    pytest.param(Query(), [6, 5, 4, 3, 2, 1, 0], id="all, newest first"),
    pytest.param(Query(since=NOON + timedelta(minutes=2), until=NOON + timedelta(minutes=5)), [4, 3, 2], id="times"),
    pytest.param(Query(since=NOON.astimezone(timezone(timedelta(hours=-8)))), [6, 5, 4, 3, 2, 1, 0], id="a zone"),
    pytest.param(Query(until=NOON), [], id="before all"),
    pytest.param(Query(box=Box(139, 35, 140, 36)), [0], id="a box"),
    pytest.param(Query(box=Box(170, -30, -150, 30)), [2, 1], id="across the antimeridian"),
    pytest.param(Query(box=Box(-180, -90, 180, 90)), [3, 2, 1, 0], id="the whole Earth"),
    pytest.param(Query(box=Box(139.7, 35.7, 139.7, 35.7)), [0], id="a point"),
    pytest.param(Query(box=Box(-150, -30, 170, 30)), [3], id="the other side of the same box"),
    pytest.param(Query(label="espresso"), [6, 4, 3, 2, 0], id="a label"),
    pytest.param(Query(label="ESPRESSO"), [6, 4, 3, 2, 0], id="a label in capitals"),
    pytest.param(Query(label="エスプレッソ"), [6, 4, 3, 2, 0], id="in Japanese"),
    pytest.param(Query(label="吉娃娃"), [1], id="in a language that some classes have"),
    pytest.param(Query(label="n02085620"), [1], id="a class id"),
    pytest.param(Query(label="cup"), [], id="a label that is second"),
    pytest.param(Query(label="%"), [], id="no pattern"),
    pytest.param(Query(model="vgg16"), [6, 2], id="a model"),
    pytest.param(Query(model="vgg16@3"), [6], id="a version"),
    pytest.param(Query(model="VGG16"), [], id="a model in capitals"),
    pytest.param(Query(source="upload"), [4], id="a kind of source"),
    pytest.param(Query(source="bucket"), [6, 5, 2, 1, 0], id="buckets"),
    pytest.param(Query(source="s3://other"), [5], id="a bucket"),
    pytest.param(Query(source="s3://inbox/photos/1.jpg"), [1], id="an object"),
    pytest.param(Query(source="https://example.org/a.jpg"), [3], id="a URL"),
    pytest.param(
        Query(label="espresso", box=Box(-180, -90, 0, 90), since=NOON + timedelta(minutes=3)), [3], id="all"
    ),
]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlRecords]:
    opened = SqlRecords(url_of(tmp_path_factory.mktemp("history") / "records.db"))
    for kept in random.Random(7).sample(HISTORY, len(HISTORY)):
        opened.put(kept)
    yield opened
    opened.close()


@pytest.mark.parametrize(("query", "numbers"), QUERIES)
def test_a_query_finds_what_it_asks_for(history: SqlRecords, query: Query, numbers: list[int]) -> None:
    """Newest first, in one page and in pages of two."""
    expected = tuple(HISTORY[number] for number in numbers)
    assert history.query(query).records == expected
    found: list[Classification] = []
    page = history.query(replace(query, limit=2))
    while page.next:
        assert len(page.records) == 2
        found += page.records
        page = history.query(replace(query, limit=2, after=page.next))
    assert (*found, *page.records) == expected


def test_pages_hold_records_of_the_same_instant(store: SqlRecords) -> None:
    """None is lost between two pages, and none comes twice, while others are written."""
    for number in range(7):
        store.put(record(number, classified_at=NOON))
    seen, after = [], ""
    while True:
        page = store.query(Query(limit=3, after=after))
        seen += [kept.source.key for kept in page.records]
        store.put(record(100 + len(seen)))
        if not page.next:
            break
        after = page.next
    assert sorted(seen) == [f"photos/{number}.jpg" for number in range(7)]


NONSENSE: list[Any] = [
    pytest.param(lambda: Query(after="x"), id="a cursor"),
    pytest.param(lambda: Query(after="é" * 50), id="a cursor that is no base64"),
    pytest.param(lambda: Query(after="MjAyNi0xMS0yMSAx"), id="a cursor of a naive time"),
    pytest.param(lambda: Query(limit=0), id="no records"),
    pytest.param(lambda: Query(limit=1_001), id="too many records"),
    pytest.param(lambda: Query(since=datetime(2026, 1, 1)), id="a naive time"),  # noqa: DTZ001
    pytest.param(lambda: Query(box=Box.parse("1,2,3")), id="three numbers"),
    pytest.param(lambda: Query(box=Box.parse("a,b,c,d")), id="no numbers"),
    pytest.param(lambda: Query(box=Box.parse("0,10,10,0")), id="upside down"),
    pytest.param(lambda: Query(box=Box.parse("0,0,181,0")), id="beyond 180°"),
    pytest.param(lambda: Query(box=Box.parse("0,nan,1,1")), id="NaN"),
]


@pytest.mark.parametrize("make", NONSENSE)
def test_a_query_that_means_nothing_is_refused(history: SqlRecords, make: Any) -> None:
    """With what it should have been."""
    with pytest.raises(BadRequest):
        history.query(make())


def test_a_pictures_records_are_forgotten_together(store: SqlRecords) -> None:
    """Whichever model and source; the other pictures' stay."""
    sha256 = "a" * 64
    for kept in (record(1, picture_sha256=sha256), record(2, picture_sha256=sha256, model=OTHER), record(3)):
        store.put(kept)
    assert store.delete_picture(sha256) == 2
    assert store.delete_picture(sha256) == 0
    assert store.query(Query()).records == (record(3),)


def test_what_was_forgotten_is_not_in_the_file(path: Path) -> None:
    """SQLite overwrites it, in the write-ahead log as soon as that is closed."""
    opened = open_records(url_of(path))
    opened.put(record(1, call_id="a-name-to-be-forgotten"))
    opened.delete_picture(record(1).picture_sha256)
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
    with sqlite3.connect(history._url.removeprefix("sqlite:///")) as source, sqlite3.connect(path) as copy:
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
    with sqlite3.connect(history._url.removeprefix("sqlite:///")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT id FROM records WHERE identity = ''").fetchall()
    connection.close()
    assert [row[-1] for row in plan] == [
        "SEARCH records USING COVERING INDEX sqlite_autoindex_records_1 (identity=?)"
    ]


def test_the_migrations_make_what_the_schema_says(path: Path) -> None:
    """Every column, with its type and whether it may be empty."""
    engine = sa.create_engine(url_of(path))
    migrations.migrate(engine)
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {*schema.metadata.tables, "schema_versions"}
    for name, table in schema.metadata.tables.items():
        made = {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)}
        said = {c.name: (c.type.compile(engine.dialect), bool(c.nullable)) for c in table.columns}
        assert made == said
    engine.dispose()


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "postgresql"])
def test_the_schema_suits_the_servers_to_come(dialect: str) -> None:
    """Microseconds, doubles and letter-by-letter comparison are asked for by name where a server would lose them."""
    made = sa.create_mock_engine(f"{dialect}://", lambda *_: None).dialect if dialect == "postgresql" else None
    from sqlalchemy.dialects import mysql, postgresql

    known = made or {"mysql": mysql, "mariadb": mysql, "postgresql": postgresql}[dialect].dialect()
    known.name = dialect
    create = {name: str(sa.schema.CreateTable(table).compile(dialect=known)) for name, table in
              schema.metadata.tables.items()}["records"]  # fmt: skip
    types = {line.split()[0]: line for line in create.splitlines() if line.strip()}
    assert "DOUBLE" in types["longitude_deg"]
    assert "BIG" in types["id"]
    if dialect != "postgresql":
        assert "DATETIME(6)" in types["classified_at"]
        assert "utf8mb4_bin" in types["identity"]
        assert "MEDIUMTEXT" in types["top_k"]


def _add_country(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN country VARCHAR(2)")


def _break_halfway(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN half VARCHAR(2)")
    raise RecordsFailed("broken off")


def test_an_older_database_is_brought_up_to_date(store: SqlRecords, path: Path) -> None:
    """Its records stay, each step runs once, and a step that breaks off leaves nothing behind."""
    store.put(EVERYTHING)
    engine = sa.create_engine(url_of(path))
    with pytest.raises(RecordsFailed, match="broken off"):
        migrations.migrate(engine, [*migrations.STEPS, _add_country, _break_halfway])
    assert "country" not in {column["name"] for column in sa.inspect(engine).get_columns("records")}
    for _ in range(2):
        migrations.migrate(engine, [*migrations.STEPS, _add_country])
    assert "country" in {column["name"] for column in sa.inspect(engine).get_columns("records")}
    engine.dispose()
    assert store.get(EVERYTHING.identity) == EVERYTHING


def test_a_later_classys_database_is_left_alone(path: Path) -> None:
    """Nobody guesses what columns mean that were not there yet."""
    engine = sa.create_engine(url_of(path))
    migrations.migrate(engine, [*migrations.STEPS, _add_country])
    engine.dispose()
    store = open_records(url_of(path))
    with pytest.raises(RecordsFailed, match=r"has schema 2, and this Classy knows 1"):
        store.put(EVERYTHING)
    store.close()


@pytest.mark.parametrize("url", ["", "records.db", "sqlite://", "sqlite:///records.db", "postgresql://a:b@c/d"])
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


def test_threads_share_a_store(path: Path) -> None:
    """Each object has one record, and exactly one of its writers is told that it was new."""
    store = SqlRecords(url_of(path))
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: store.put(record(number % 20)), range(160)))
    assert written.count(True) == 20
    assert len(store.query(Query(limit=1000)).records) == 20
    store.close()


def test_stores_that_open_an_empty_file_at_once_all_do(tmp_path: Path) -> None:
    """One of them makes the tables, and SQLite's refusal to queue for its write-ahead log stops none."""

    def first_of(database: Path) -> bool:
        store = SqlRecords(url_of(database))
        try:
            return store.put(record())
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        for number in range(12):
            written = list(pool.map(first_of, [tmp_path / f"{number}.db"] * 8))
            assert written.count(True) == 1


def _writers(path: Path, *, processes: int, objects: int, kills: int) -> None:
    """Let processes write the same records, and kill some at random; each that was killed starts again."""
    dice = random.Random(processes)
    context = multiprocessing.get_context("forkserver")  # imports once: what is killed is killed while it writes
    context.set_forkserver_preload(["small_records", "classy.records.sql"])

    def start(number: int) -> multiprocessing.context.ForkServerProcess:
        process = context.Process(target=small_records.write, args=(url_of(path), number, objects))
        process.start()
        return process

    running = {number: start(number) for number in range(processes)}
    deadline_s = time.monotonic() + 300
    while running:
        assert time.monotonic() < deadline_s
        number = dice.choice(sorted(running))
        running[number].join(dice.uniform(0.0, 0.3))
        if running[number].exitcode is not None:
            assert running.pop(number).exitcode == 0
        elif kills and path.exists():
            kills -= 1
            running[number].kill()
            running[number].join()
            running[number] = start(number)
    assert kills == 0


@pytest.mark.parametrize(
    ("processes", "objects", "kills"),
    [
        pytest.param(3, 60, 6, id="short"),
        pytest.param(8, 100, 40, id="8 × 200", marks=pytest.mark.slow),
        pytest.param(20, 250, 100, id="20 × 500", marks=pytest.mark.slow),
    ],
)
def test_each_object_has_one_record_whoever_is_killed(path: Path, processes: int, objects: int, kills: int) -> None:
    """Writers start on an empty file, write the same in any order, and die at any moment."""
    _writers(path, processes=processes, objects=objects, kills=kills)
    store = open_records(url_of(path))
    found = {kept.source.key: kept for kept in store.query(Query(limit=1000)).records}
    assert found == {f"photos/{number}.jpg": record(number) for number in range(objects)}
    assert len(store.query(Query(label="エスプレッソ", limit=1000)).records) == objects
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), count(DISTINCT identity) FROM records").fetchall() == [
            (objects, objects)
        ]
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
