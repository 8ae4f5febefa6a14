"""Every record store, by the same tests: what is kept is found again, once, whoever writes at the same time."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import small_records
from record_stores import Address, StoreServer
from small_records import CUP, ESPRESSO, EVERYTHING, MODEL, NOON, REFUSAL, record

from classy.errors import BadRequest
from classy.records.store import RecordStore
from classy.records.values import (
    Box,
    Classification,
    ModelVersion,
    Place,
    Query,
    Refusal,
    Source,
)

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
def test_a_record_comes_back_as_it_was(record_store: RecordStore, kept: Classification) -> None:
    """Microseconds, offsets, exact coordinates, emoji and all."""
    assert record_store.put(kept) is True
    assert record_store.has(kept.identity)
    found = record_store.get(kept.identity)
    assert found == kept
    assert found is not None
    assert found.classified_at.tzinfo is UTC
    assert (found.taken_at and found.taken_at.utcoffset()) == (kept.taken_at and kept.taken_at.utcoffset())
    assert record_store.query(Query()).records == (kept,)


def test_a_record_outlives_the_store_that_wrote_it(record_address: Address) -> None:
    """Another one finds it."""
    first = record_address.open()
    first.put(EVERYTHING)
    first.close()
    assert first.get(EVERYTHING.identity) == EVERYTHING  # and a closed one opens again
    first.close()
    second = record_address.open()
    assert second.get(EVERYTHING.identity) == EVERYTHING
    second.close()


@pytest.mark.parametrize("text", ["\0", "a\0b", "half \ud83d pair"])
def test_what_is_no_text_is_kept_as_near_as_can_be(record_store: RecordStore, text: str) -> None:
    """It neither raises nor stays away, and its identity is its own."""
    kept = record(source=Source("bucket", text, "inbox", text))
    assert record_store.put(kept) is True
    assert record_store.put(kept) is False
    assert record_store.put(record(source=Source("bucket", "?", "inbox", "?"))) is True
    found = record_store.get(kept.identity)
    assert found is not None
    assert found.source.key == text.replace("\0", "�").replace("\ud83d", "?")


def test_the_same_again_changes_nothing(record_store: RecordStore) -> None:
    """The first record of an identity stays."""
    assert record_store.put(record(1)) is True
    later = record(1, classified_at=NOON + timedelta(days=1), top_k=(CUP,), call_id="again")
    assert record_store.put(later) is False
    assert record_store.put(record(1, refusal=REFUSAL)) is False
    assert record_store.query(Query()).records == (record(1),)


def test_a_refusal_gives_way_to_a_result(record_store: RecordStore) -> None:
    """An object that was missing may have come back; never the other way round."""
    refused = record(1, refusal=REFUSAL)
    assert record_store.put(refused) is True
    assert record_store.put(replace(refused, refusal=Refusal(41312, "another"))) is False
    assert record_store.get(refused.identity) == refused
    assert record_store.put(record(1)) is True
    assert record_store.query(Query()).records == (record(1),)


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
    record_store: RecordStore, one: Classification, other: Classification, *, same: bool
) -> None:
    """Which objects, pictures and models are the same is the identity's to say."""
    record_store.put(one)
    assert record_store.put(other) is not same
    assert len(record_store.query(Query()).records) == (1 if same else 2)


HAWAII, FIJI, TOKYO, QUITO = Place(21.3, -157.9), Place(-17.7, 178.1), Place(35.7, 139.7), Place(0.0, -78.5)
DOG = replace(ESPRESSO, class_id="n02085620", labels={"en": "Chihuahua", "ja": "チワワ", "zh": "吉娃娃"})
OTHER = ModelVersion("vgg16", "2", "6" * 64)
HISTORY = (
    record(0, place=TOKYO, country="JP"),
    record(1, place=FIJI, country="FJ", top_k=(DOG, ESPRESSO)),
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
    pytest.param(Query(source="s3://inbox/photos/1.JPG"), [], id="a URI in capitals"),
    pytest.param(Query(source="s3://inbox/photos/1.jpg "), [], id="a URI and a blank"),
    pytest.param(Query(label="espresso "), [], id="a label and a blank"),
    pytest.param(Query(country="JP"), [0], id="a country"),
    pytest.param(Query(country="jp"), [], id="no country"),
    pytest.param(Query(pictures=(HISTORY[2].picture, HISTORY[5].picture, "f" * 64)), [5, 2], id="pictures"),
    pytest.param(Query(pictures=(HISTORY[2].picture,), country="FJ"), [], id="a picture of another country"),
    pytest.param(
        Query(label="espresso", box=Box(-180, -90, 0, 90), since=NOON + timedelta(minutes=3)), [3], id="all"
    ),
]


@pytest.fixture(scope="module")
def history(store_server: StoreServer) -> Iterator[RecordStore]:
    """Return a store that holds HISTORY, written in any order."""
    opened = store_server.fresh().open()
    for kept in random.Random(7).sample(HISTORY, len(HISTORY)):
        opened.put(kept)
    yield opened
    opened.close()


@pytest.mark.parametrize(("query", "numbers"), QUERIES)
def test_a_query_finds_what_it_asks_for(history: RecordStore, query: Query, numbers: list[int]) -> None:
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


def test_pages_hold_records_of_the_same_instant(record_store: RecordStore) -> None:
    """None is lost between two pages, and none comes twice, while others are written."""
    for number in range(7):
        record_store.put(record(number, classified_at=NOON))
    seen, after = [], ""
    while True:
        page = record_store.query(Query(limit=3, after=after))
        seen += [kept.source.key for kept in page.records]
        record_store.put(record(100 + len(seen)))
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
def test_a_query_that_means_nothing_is_refused(history: RecordStore, make: Any) -> None:
    """With what it should have been."""
    with pytest.raises(BadRequest):
        history.query(make())


OLD, NEW = MODEL, ModelVersion(MODEL.name, "2", "7" * 64)


def of(model: ModelVersion, number: int, **changes: Any) -> Classification:
    return record(number, model=model, **changes)


MISSING: list[Any] = [
    pytest.param([of(OLD, 1), of(OLD, 2)], [of(OLD, 1), of(OLD, 2)], id="none seen"),
    pytest.param([of(OLD, 1), of(OLD, 2), of(NEW, 1)], [of(OLD, 2)], id="one seen"),
    pytest.param([of(OLD, 1), of(NEW, 1, refusal=REFUSAL)], [], id="seen and refused"),
    pytest.param([of(OLD, 1, refusal=REFUSAL)], [], id="refused by all"),
    pytest.param(
        [of(OLD, 1), of(OTHER, 1, refusal=REFUSAL, classified_at=NOON + timedelta(days=1))],
        [of(OTHER, 1, refusal=REFUSAL, classified_at=NOON + timedelta(days=1))],
        id="refused once",
    ),
    pytest.param(
        [of(OTHER, 1, classified_at=NOON + timedelta(days=2)), of(OLD, 1)],
        [of(OTHER, 1, classified_at=NOON + timedelta(days=2))],
        id="the newest",
    ),
    pytest.param([of(replace(NEW, name="vgg16"), 1)], [of(replace(NEW, name="vgg16"), 1)], id="another of version 2"),
    pytest.param([], [], id="no records"),
]


@pytest.mark.parametrize(("kept", "expected"), MISSING)
def test_what_a_model_has_not_seen_is_missing(
    record_store: RecordStore, kept: list[Classification], expected: list[Classification]
) -> None:
    """Each picture once, by its newest record, whoever wrote that; a picture that nobody could read is no loss."""
    for one in kept:
        record_store.put(one)
    page = record_store.missing(NEW.ref)
    assert sorted(page.records, key=lambda kept: kept.picture) == sorted(expected, key=lambda kept: kept.picture)
    assert page.next == ""
    assert record_store.count_missing(NEW.ref) == len(expected)


def test_pages_of_what_is_missing_go_through_all_of_it(record_store: RecordStore) -> None:
    """What is done meanwhile is neither returned again nor does it move others out of the way."""
    for number in range(11):
        record_store.put(of(OLD, number))
    seen, after = list[Classification](), ""
    while True:
        page = record_store.missing(NEW.ref, after=after, limit=3)
        for found in page.records:
            record_store.put(replace(found, model=NEW))
        seen += page.records
        assert record_store.count_missing(NEW.ref) == 11 - len(seen)
        after = page.next
        if not after:
            break
    assert sorted(found.source.key for found in seen) == sorted(f"photos/{number}.jpg" for number in range(11))
    assert record_store.missing(NEW.ref).records == ()


@pytest.mark.parametrize("after", ["x", "é", "A" * 64, "0" * 65])
def test_no_cursor_of_what_is_missing_is_refused(record_store: RecordStore, after: str) -> None:
    """It came from nowhere."""
    with pytest.raises(BadRequest, match="no cursor"):
        record_store.missing(NEW.ref, after=after)


def test_every_model_that_has_a_record_is_named(record_store: RecordStore) -> None:
    """Once, with its files' digest, in the order of names and versions; capitals make another name."""
    assert record_store.models() == ()
    models = [ModelVersion("vgg16", version, "6" * 64) for version in ("1", "10", "2")]
    models = [ModelVersion("VGG16", "1", "4" * 64), MODEL, *models]
    for number, model in enumerate(reversed(models * 2)):
        record_store.put(of(model, number))
    assert record_store.models() == tuple(models)
    for number in range(4, 11, 5):
        record_store.delete_picture(of(models[0], number).picture)
    assert record_store.models() == tuple(models[1:])


def test_a_pictures_records_are_forgotten_together(record_store: RecordStore) -> None:
    """Whichever model and source: other objects of the same bytes too; the other pictures' stay."""
    sha256 = "a" * 64
    one = record(1, picture_sha256=sha256)
    twins = [
        replace(one, model=OTHER),
        replace(one, source=Source("upload")),
        record(2, picture_sha256=sha256, model=OTHER),
    ]
    for kept in (one, *twins, record(3)):
        record_store.put(kept)
    assert record_store.delete_picture(one.picture) == 4
    assert record_store.delete_picture(one.picture) == 0
    assert not record_store.has(one.identity)
    assert record_store.query(Query()).records == (record(3),)
    assert record_store.query(Query(label="espresso")).records == (record(3),)


def test_pictures_that_nobody_got_hold_of_are_not_the_same(record_store: RecordStore) -> None:
    """Without bytes there is nothing to compare: forgetting one URL leaves the other."""
    urls = [
        record(number, source=Source("url", f"https://a/{number}"), picture_sha256="", refusal=REFUSAL)
        for number in (1, 2)
    ]
    for kept in urls:
        record_store.put(kept)
    assert record_store.delete_picture(urls[0].picture) == 1
    assert record_store.query(Query()).records == (urls[1],)


def test_what_was_forgotten_may_come_again(record_store: RecordStore) -> None:
    """As a new record."""
    record_store.put(record(1))
    record_store.delete_picture(record(1).picture)
    assert record_store.put(record(1)) is True
    assert record_store.query(Query(label="espresso")).records == (record(1),)


def test_threads_share_a_store(record_store: RecordStore) -> None:
    """Each object has one record, and exactly one of its writers is told that it was new."""
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: record_store.put(record(number % 20)), range(160)))
    assert written.count(True) == 20
    assert len(record_store.query(Query(limit=1000)).records) == 20


def test_a_result_that_meets_its_refusal_is_what_stays(record_store: RecordStore) -> None:
    """However many threads write both at once; one of them is told that its result is new."""
    outcomes = [record(number % 10, **({"refusal": REFUSAL} if number // 10 % 2 else {})) for number in range(160)]
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(record_store.put, outcomes))
    assert record_store.query(Query(limit=1000)).records == tuple(record(number) for number in range(9, -1, -1))
    results = [new for new, outcome in zip(written, outcomes, strict=True) if outcome.refusal is None]
    assert results.count(True) == 10


def test_stores_that_are_opened_empty_at_once_all_work(store_server: StoreServer) -> None:
    """One of them makes the tables, and stops none of the others."""

    def first_of(address: Address) -> bool:
        store = address.open()
        try:
            return store.put(record())
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            written = list(pool.map(first_of, [store_server.fresh()] * 8))
            assert written.count(True) == 1


def _writers(address: Address, *, processes: int, objects: int, kills: int) -> None:
    """Let processes write the same records, and kill some at random; each that was killed starts again."""
    dice = random.Random(processes)
    context = multiprocessing.get_context("forkserver")  # imports once: what is killed is killed while it writes
    context.set_forkserver_preload(["small_records", "classy.records.sql"])

    def start(number: int) -> multiprocessing.context.ForkServerProcess:
        process = context.Process(target=small_records.write, args=(address, number, objects))
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
        elif kills:
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
def test_each_object_has_one_record_whoever_is_killed(
    record_address: Address, processes: int, objects: int, kills: int
) -> None:
    """Writers start on an empty store, write the same in any order, and die at any moment."""
    _writers(record_address, processes=processes, objects=objects, kills=kills)
    store = record_address.open()
    found = store.query(Query(limit=1000)).records
    assert {kept.source.key: kept for kept in found} == {f"photos/{n}.jpg": record(n) for n in range(objects)}
    assert len(found) == objects
    assert len(store.query(Query(label="エスプレッソ", limit=1000)).records) == objects
    store.close()
