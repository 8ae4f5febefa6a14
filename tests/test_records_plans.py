"""How databases go about queries: by an index that gives the records in order, and reads nothing beside them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from record_plans import plans_of, statements_of
from record_stores import StoreServer
from small_records import ESPRESSO, NOON, record

from classy.records import rows, schema
from classy.records.sql import SqlRecords
from classy.records.values import Box, Classification, ClassScore, ModelVersion, Place, Query

pytestmark = pytest.mark.parametrize("store_server", ["sqlite", "postgresql"], indirect=True)
COUNT = 6_000  # enough for PostgreSQL to prefer an index
CLASSES = [replace(ESPRESSO, class_id=f"n{number:08}", labels={"en": f"class {number}"}) for number in range(20)]
TWICE = [replace(ESPRESSO, class_id="", class_index=number, labels={"en": "digit"}) for number in range(2)]


def _many() -> Iterator[Classification]:
    """Yield records in a city, around the antimeridian, of one tower, anywhere and nowhere."""
    dice = random.Random(7)
    places = [
        lambda: Place(dice.gauss(35.7, 0.2), dice.gauss(139.7, 0.2)),
        lambda: Place(dice.gauss(-17, 0.5), (dice.gauss(180, 0.5) + 180) % 360 - 180),
        lambda: Place(dice.uniform(-90, 90), dice.uniform(-180, 180)),
        lambda: Place(48.8584, 2.2945),
        lambda: None,
    ]
    for number in range(COUNT):
        best: ClassScore = dice.choice([*CLASSES, *TWICE])
        yield record(
            number,
            place=dice.choices(places, (4, 1, 2, 1, 3))[0](),
            top_k=(best,),
            country=dice.choice(("JP", "FJ", "")),
            model=ModelVersion(dice.choice(("a", "b")), dice.choice("12")),
        )


@pytest.fixture(scope="module")
def kept() -> list[Classification]:
    """Return what the store holds, newest first."""
    return list(_many())[::-1]


@pytest.fixture(scope="module")
def many(store_server: StoreServer, kept: list[Classification]) -> Iterator[SqlRecords]:
    store = store_server.fresh().open()
    assert isinstance(store, SqlRecords)
    assert store.models() == ()  # opened, and its tables made
    with store._engine.begin() as connection:
        connection.execute(sa.insert(schema.records), [rows.encoded(one) for one in reversed(kept)])
        named = {(rows.encoded(one)["class_key"], name) for one in kept[:500] for name in rows.names(one)}
        connection.execute(sa.insert(schema.class_names), [{"class_key": key, "name": name} for key, name in named])
    with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if store._engine.dialect.name == "postgresql":
            connection.exec_driver_sql("VACUUM ANALYZE")
    yield store
    store.close()


CITY = Box(139.5, 35.5, 140, 36)
PLANS: list[Any] = [
    pytest.param(Query(), "records_newest", id="last 50"),
    pytest.param(Query(since=NOON, until=NOON + timedelta(hours=5)), "records_newest", id="a time"),
    pytest.param(Query(label="class 7"), "records_class", id="one label"),
    pytest.param(Query(label="class 7", until=NOON + timedelta(days=1)), "records_class", id="a label of a time"),
    pytest.param(Query(label="digit"), "records_class", id="a label of two classes"),
    pytest.param(Query(model="a@2"), "records_version", id="one version"),
    pytest.param(Query(box=CITY), "records_cell_2", id="one box"),
    pytest.param(Query(box=CITY, since=NOON), "records_cell_2", id="a box of a time"),
    pytest.param(Query(box=Box(179.5, -18, -179.5, -16)), "records_cell_2", id="across the antimeridian"),
    pytest.param(Query(box=Box(-180, -90, 180, 90)), "records_cell_0", id="the Earth"),
    pytest.param(Query(source="https://example.org/a.jpg"), "records_uri", id="one URL"),
    pytest.param(Query(pictures=(record(1).picture, record(2).picture)), "records_seen", id="two pictures"),
]
SORTED = ("records_seen", "records_uri")  # the few records of one picture or URL


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(("query", "index"), PLANS)
def test_a_query_uses_its_index(many: SqlRecords, query: Query, index: str, *, analysed: bool) -> None:
    """No table is read to its end and no more than a page sorted, on the first page and on a later one."""
    sqlite = many._engine.dialect.name == "sqlite"
    if analysed and sqlite:
        with many._engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
        many.close()  # connections have read the old counts
    for asked in (query, replace(query, after=many.query(Query(limit=1_000)).next)):
        steps = [step for plan in plans_of(many, asked, free=index in SORTED) for step in plan]
        # A version that a quarter of all records are of is met soon enough along all of them.
        ways = (index, "records_newest") if index == "records_version" and not sqlite else (index,)
        assert any(way in step for step in steps for way in ways), steps
        assert not [step for step in steps if "Seq Scan on records" in step], steps
        assert not [step for step in steps if step.startswith("SCAN records") and "USING" not in step], steps
        if index.startswith("records_cell"):
            entries = [step for step in steps if index in step]
            assert all("COVERING INDEX" in step or "Index Only Scan" in step for step in entries), entries
        elif index not in SORTED:
            assert not [step for step in steps if "B-TREE" in step or "-> Sort " in step.replace(">  ", "> ")], steps


def test_whether_there_is_a_record_is_one_look(many: SqlRecords) -> None:
    """Into the index of identities."""
    explain = "EXPLAIN QUERY PLAN" if many._engine.dialect.name == "sqlite" else "EXPLAIN"
    with many._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"{explain} SELECT id FROM records WHERE identity = 'x'").all()
    assert len(plan) <= 2
    assert "sqlite_autoindex_records_1 (identity=?)" in plan[0][-1] or "records_identity" in plan[0][-1]


def _in(box: Box, place: Place | None) -> bool:
    if place is None or not box.south_deg <= place.latitude_deg <= box.north_deg:
        return False
    if box.west_deg <= box.east_deg:
        return box.west_deg <= place.longitude_deg <= box.east_deg
    return place.longitude_deg >= box.west_deg or place.longitude_deg <= box.east_deg


def _boxes() -> Iterator[Box]:
    """Yield boxes of every size and shape: around the city, beside it, across the antimeridian, at the poles."""
    dice = random.Random(3)
    for _ in range(120):
        width, height = (10 ** dice.uniform(-3, 2.25) for _ in range(2))
        middle = dice.choice([(139.7, 35.7), (140.5, 35.7), (180, -17), (0, 90), (0, -90), (0, 0)])
        south, north = sorted(max(-90.0, min(90.0, middle[1] + side * height)) for side in (-0.5, 0.5))
        west, east = ((middle[0] + side * width + 180) % 360 - 180 for side in (-0.5, 0.5))
        yield Box(west, south, east, north)
    yield Box(2.2946, 48.8585, 2.34, 48.903)  # beside what everybody takes a picture of
    yield Box(10, -90, 9, 90)
    yield Box(180, -90, -180, 90)


def test_a_box_holds_what_is_in_it(many: SqlRecords, kept: list[Classification]) -> None:
    """The newest of any size and shape of box are those that a walk through all records finds, page after page."""
    wrong, ways = [], set()
    for number, box in enumerate(_boxes()):
        times = {"since": kept[-500].classified_at, "until": kept[700].classified_at} if number % 3 == 0 else {}
        inside = [
            one
            for one in kept
            if _in(box, one.place) and (not times or times["since"] <= one.classified_at < times["until"])
        ]
        with statements_of(many) as made:
            page = many.query(Query(box=box, limit=20, **times))
        searches = [statement for statement, _ in made if "AS cell" in statement]
        ways.add((min(len(searches), 3), "OFFSET" in searches[-1]))
        second = many.query(Query(box=box, limit=20, after=page.next, **times)).records if page.next else ()
        if [*page.records, *second] != inside[:40]:
            wrong.append(box)
    assert wrong == []
    # At once, after a look into smaller cells (twice too), and where the smallest hold too much beside the box.
    assert ways >= {(1, True), (2, True), (3, True), (2, False)}
