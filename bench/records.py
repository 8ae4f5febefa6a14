"""
Measure how long a record store takes to find what people look for, beside reading one record by its key.

    python bench/records.py [--records 1000000] [--stores sqlite,postgresql] [--rounds 40]

The records are made up: 1,000 classes of which few are common, three models, two years, six of ten pictures with a
place, most of these in a few cities. They are loaded in bulk: indexes are dropped before, and made again after it.
Then each round asks every question once, with other values each time, and reads as many records by key; printed are
the medians of the rounds' times, their ratio to the median of the reads by key, and how the database goes about it.
Ends with 1 where a question takes 20 times a read by key or more, or a database reads a table to its end.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from record_plans import plans_of
from record_stores import STORES

from classy.records import rows
from classy.records.migrations import migrate
from classy.records.schema import class_names, records
from classy.records.servers import opened
from classy.records.sql import SqlRecords
from classy.records.values import Box, Classification, ClassScore, ModelVersion, Place, Query, Source

GOAL = 20.0
BATCH = 5_000
SEED = 7
START, DAYS = datetime(2025, 1, 1, tzinfo=UTC), 700
MODELS = tuple(ModelVersion(*name, "5" * 64) for name in (("mobilenet", "1"), ("mobilenet", "2"), ("vgg16", "1")))
WEIGHTS = (60, 30, 10)
LABELS = [
    {"en": f"a thing of kind {number}", "ja": f"種類{number}の物", "zh": f"第{number}种东西"}
    for number in range(1_000)
]
CITIES = {  # and how many of a hundred pictures with a place
    "Tokyo": (35.68, 139.76, 30),
    "Paris": (48.85, 2.35, 15),
    "São Paulo": (-23.55, -46.63, 10),
    "Taveuni": (-16.85, 179.98, 5),  # an island on the antimeridian
}
NOWHERE = 40  # of a hundred are anywhere between the polar circles
DENSE, BESIDE = Box(139.5, 35.5, 140.0, 36.0), Box(140.9, 35.2, 141.4, 35.7)
ACROSS, SPARSE = Box(179.5, -17.5, -179.5, -16.5), Box(-31.0, -12.0, -29.0, -10.0)


def made_up(number: int, dice: random.Random) -> Classification:
    """Return one record; its number says when it was made."""
    kind = min(int(dice.paretovariate(0.6)) - 1, 999)
    scores = tuple(
        ClassScore(
            (kind + place) % 1_000, 0.9 / (place + 1), f"n{(kind + place) % 1_000:08}", LABELS[(kind + place) % 1_000]
        )
        for place in range(5)
    )
    at = START + timedelta(days=DAYS) * (number / 1_000_000) + timedelta(microseconds=number)
    bucket, key = f"inbox-{dice.randrange(4)}", f"photos/{number}.jpg"
    return Classification(
        source=Source("bucket", f"s3://{bucket}/{key}", bucket, key, f"etag{number}")
        if dice.random() < 0.7
        else Source("url", f"https://example.org/{number}.jpg"),
        model=dice.choices(MODELS, WEIGHTS)[0],
        classified_at=at,
        picture_sha256=f"{number:064x}",
        taken_at=at.replace(tzinfo=None),
        place=_place(dice) if dice.random() < 0.6 else None,
        country=dice.choice(("JP", "FR", "BR", "FJ", "")),
        top_k=scores,
        call_id=f"call-{number:020}",
    )


def _place(dice: random.Random) -> Place:
    city = dice.choices([*CITIES.values(), None], [*(share for *_, share in CITIES.values()), NOWHERE])[0]
    if city is None:
        return Place(dice.uniform(-66, 66), dice.uniform(-180, 180))
    latitude, longitude = city[0] + dice.gauss(0, 0.15), city[1] + dice.gauss(0, 0.15)
    return Place(latitude, (longitude + 180) % 360 - 180)


def load(engines: list[sa.Engine], count: int) -> list[str]:
    """Fill empty databases with the same records; return the identities of some."""
    dropped = [_drop_indexes(engine) for engine in engines]
    some, dice, started = list[str](), random.Random(SEED), time.monotonic()
    numbers = range(count)
    for first in range(0, count, BATCH):
        batch = [rows.encoded(made_up(number, dice)) for number in numbers[first : first + BATCH]]
        some += [row["identity"] for row in batch[:: max(1, count // 10_000)]]
        for engine in engines:
            _insert(engine, batch)
        if not first * 10 % count < BATCH * 10 or not sys.stderr.isatty():
            continue
        print(f"  {first:,} of {count:,} records made", file=sys.stderr)
    named = [
        {"class_key": f"n{number:08}", "name": name.casefold()}
        for number, label in enumerate(LABELS)
        for name in (f"n{number:08}", *label.values())
    ]
    for engine, statements in zip(engines, dropped, strict=True):
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.execute(sa.insert(class_names), named)
            for statement in statements:
                connection.exec_driver_sql(statement)
        _settle(engine)
    print(f"{count:,} records were made and loaded in {time.monotonic() - started:.0f} s")
    return some


def _drop_indexes(engine: sa.Engine) -> list[str]:
    """Drop what slows a bulk load down; return the statements that make it again."""
    asked = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'records' "
        "AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'records' AND indexdef "
        "NOT LIKE 'CREATE UNIQUE%%'",
    }.get(engine.dialect.name)
    if asked is None:
        return []  # InnoDB makes an index of a million rows no faster than it keeps one
    with engine.begin() as connection:
        found = connection.exec_driver_sql(asked).all()
        for name, _ in found:
            connection.exec_driver_sql(f"DROP INDEX {name}")
    return [statement for _, statement in found]


def _insert(engine: sa.Engine, batch: list[dict[str, Any]]) -> None:
    with engine.begin() as connection:
        if engine.dialect.name != "postgresql":
            connection.execute(sa.insert(records), batch)
            return
        names = list(batch[0])
        convert = {
            name: records.c[name].type.dialect_impl(engine.dialect).bind_processor(engine.dialect) for name in names
        }
        cursor = connection.connection.cursor()
        with cursor.copy(f"COPY records ({', '.join(names)}) FROM STDIN") as copy:
            for row in batch:
                copy.write_row([(convert[name] or _same)(value) for name, value in row.items()])


def _same(value: Any) -> Any:
    return value


def _settle(engine: sa.Engine) -> None:
    """Let the database count its rows, as its own housekeeping does sooner or later."""
    command = {"postgresql": "VACUUM ANALYZE", "sqlite": "ANALYZE"}.get(engine.dialect.name, "ANALYZE TABLE records")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql(command)
    engine.dispose()


def questions(count: int) -> dict[str, Callable[[random.Random], Query]]:
    """Return what is asked, by what it is called; each with other values in each round."""
    span = timedelta(days=DAYS) * (count / 1_000_000)

    def day(dice: random.Random) -> dict[str, datetime]:
        since = START + span * dice.random() * 0.9
        return {"since": since, "until": since + timedelta(days=1)}

    def label(numbers: range, language: str) -> Callable[[random.Random], Query]:
        return lambda dice: Query(label=LABELS[dice.choice(numbers)][language])

    def around(box: Box) -> Callable[[random.Random], Query]:
        def moved(dice: random.Random) -> Query:
            by = dice.uniform(-0.05, 0.05)
            return Query(box=Box(box.west_deg + by, box.south_deg + by, box.east_deg + by, box.north_deg + by))

        return moved

    return {
        "last 50": lambda _: Query(),
        "one day": lambda dice: Query(**day(dice)),
        "box: a city": around(DENSE),
        "box: the sea beside it": around(BESIDE),
        "box: an ocean": around(SPARSE),
        "box: the antimeridian": around(ACROSS),
        "box: from Asia to America": lambda _: Query(box=Box(100, -60, -60, 60)),
        "box: a parallel": lambda _: Query(box=Box(-180, 35, 180, 36)),
        "box: the Earth": lambda _: Query(box=Box(-180, -90, 180, 90)),
        "box: a city, one day": lambda dice: Query(box=DENSE, **day(dice)),
        "label: common": label(range(3), "en"),
        "label: rare": label(range(500, 900), "ja"),
        "label: one day": lambda dice: Query(label=LABELS[0]["zh"], **day(dice)),
        "model": lambda dice: Query(model=dice.choice(MODELS).ref),
        "country": lambda dice: Query(country=dice.choice(("JP", "FJ"))),
        "bucket": lambda dice: Query(source=f"s3://inbox-{dice.randrange(4)}"),
        "kind of source": lambda _: Query(source="url"),
        "one URL": lambda dice: Query(source=f"https://example.org/{dice.randrange(count)}.jpg"),
    }


def measure(store: SqlRecords, identities: list[str], count: int, rounds: int) -> bool:
    """Print each question's time, ratio and plan; return whether all goals are met."""
    dice = random.Random(SEED)
    asked = questions(count)
    runs: dict[str, Callable[[], object]] = {
        name: (lambda make=make: store.query(make(dice)).records)
        for name, make in asked.items()  # type: ignore[misc]
    }
    runs["missing: 50 pictures"] = lambda: store.missing("vgg16@1", after=f"{dice.getrandbits(255):064x}").records
    runs["models"] = store.models
    times: dict[str, list[float]] = {name: [] for name in runs}
    by_key: list[float] = []
    lengths: dict[str, int] = {}
    for number in range(rounds + 3):
        for name, run in runs.items():
            seconds = _timed(lambda: store.get(dice.choice(identities)))[0]
            spent, found = _timed(run)
            lengths[name] = len(found)
            if number >= 3:  # the first rounds fill caches and prepare statements
                by_key.append(seconds)
                times[name].append(spent)
    unit = statistics.median(by_key)
    good = True
    print(f"\n{store._engine.dialect.name}: a read by key takes {unit * 1e3:.2f} ms")
    for name, spent in times.items():
        ratio = statistics.median(spent) / unit
        walks = _walks(store, asked[name](dice)) if name in asked else []
        kept = ratio < GOAL and not walks
        good = good and kept
        print(
            f"  {name:<28} {lengths[name]:3} records {statistics.median(spent) * 1e3:8.2f} ms {ratio:6.1f} × "
            + ("" if kept else f"  MISSED: the goal is {GOAL:g} ×" if not walks else f"  MISSED: {walks}")
        )
    for name in ("last 50", "one day", "box: a city", "label: common"):
        print(f"  {name}:")
        for plan in plans_of(store, asked[name](dice), free=True):
            for line in _short(plan):
                print(f"    {line}")
    return good


def _walks(store: SqlRecords, query: Query) -> list[str]:
    """Return where a plan reads the table to its end, or sorts more than a page's worth."""
    return [
        line
        for plan in plans_of(store, query, free=True)
        for line in plan
        if "Seq Scan on records" in line or (line.startswith("SCAN records") and "INDEX" not in line)
    ]


def _short(plan: list[str]) -> Iterator[str]:
    """Yield a plan's lines, each once: the parts for the cells of a box are all the same."""
    seen = set()
    for line in plan:
        plain = "".join(letter for letter in line if not letter.isdigit())
        if plain not in seen:
            yield line
        seen.add(plain)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def main() -> int:
    """Load, ask, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--records", type=int, default=int(os.environ.get("RECORDS") or 1_000_000))
    parser.add_argument("--stores", default="sqlite,postgresql", help="of sqlite, postgresql and mariadb")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores = []
        for name in given.stores.split(","):
            server = stack.enter_context(STORES[name](folder))
            store = SqlRecords(server.fresh().url)
            stack.callback(store.close)
            stores.append(store)
        engines = [opened(store._url) for store in stores]
        for engine in engines:
            migrate(engine)
        identities = load(engines, given.records)
        missed = [store for store in stores if not measure(store, identities, given.records, given.rounds)]
        return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
