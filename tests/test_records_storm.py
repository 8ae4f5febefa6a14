"""A storm of events: writers are told the same, each in an order of its own, and killed at random, on every store."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import storm_writers
from record_stores import STORES, Address
from storm_writers import MODELS, dealt_with, outcome

from classy.records.values import Classification, Query

STORM_S = 900
# Each kind by 20 writers × 500 events and 40 kills where tests may take minutes, and SQLite by a few in every run.
STORMS = [
    pytest.param("sqlite", 4, 200, 6, id="sqlite, short"),
    *(pytest.param(kind, 20, 500, 40, id=kind, marks=pytest.mark.slow) for kind in STORES),
]


def rage(address: Address, folder: Path, *, writers: int, events: int, kills: int) -> None:
    """Run all writers to their end; kill some while they are at it, and start them again."""
    dice = random.Random(str(address.url))
    context = multiprocessing.get_context("forkserver")  # imports once: what is killed is killed while it writes
    context.set_forkserver_preload(["storm_writers", "classy.records.sql", "classy.records.dynamodb"])

    def start(writer: int) -> multiprocessing.context.ForkServerProcess:
        process = context.Process(target=storm_writers.write, args=(address, writer, events, folder / str(writer)))
        process.start()
        return process

    running = {writer: start(writer) for writer in range(writers)}
    deadline_s = time.monotonic() + STORM_S
    while running:
        assert time.monotonic() < deadline_s
        writer = dice.choice(sorted(running))
        running[writer].join(dice.uniform(0.0, 0.05 if kills else 1.0))
        if running[writer].exitcode is not None:
            assert running.pop(writer).exitcode == 0
        elif kills and 0 < len(dealt_with(folder / str(writer))) < events:
            kills -= 1
            running[writer].kill()
            running[writer].join()
            running[writer] = start(writer)
    assert kills == 0, "they were too quick to be killed at work"


@pytest.mark.parametrize(("store_server", "writers", "events", "kills"), STORMS, indirect=["store_server"])
def test_there_is_one_record_per_picture_and_model_after_the_storm(
    record_address: Address, tmp_path: Path, writers: int, events: int, kills: int
) -> None:
    """Whole, by one of the writers, a result wherever any had one, and the same by every index."""
    rage(record_address, tmp_path, writers=writers, events=events, kills=kills)
    assert all(len(dealt_with(tmp_path / str(writer))) == events for writer in range(writers))
    pictures = events // len(MODELS)
    store = record_address.open()

    def all_of(query: Query) -> list[Classification]:
        found: list[Classification] = []
        page = store.query(query)
        while page.next:
            found += page.records
            page = store.query(replace(query, after=page.next))
        return [*found, *page.records]

    found = all_of(Query(limit=70))
    assert [kept.identity for kept in found] == [
        kept.identity for kept in sorted(found, key=lambda kept: kept.classified_at, reverse=True)
    ]
    assert {kept.identity for kept in found} == {outcome(event, 0).identity for event in range(events)}
    assert len(found) == events
    numbers = {outcome(event, 0).identity: event for event in range(events)}
    for kept in found:
        assert kept.refusal is None
        assert kept == outcome(numbers[kept.identity], int(kept.call_id.removeprefix("writer ")))
        assert store.get(kept.identity) == kept
    assert len({kept.call_id for kept in found}) > 1, "one writer alone was there"
    for model in MODELS:
        assert len(all_of(Query(model=model.name, limit=90))) == pictures
        assert store.missing(model.ref).records == ()
    cups = [kept for kept in found if kept.top_k[0].labels["en"] == "cup"]
    assert all_of(Query(label="カップ", limit=50)) == cups
    assert store.models() == tuple(sorted(MODELS, key=lambda model: model.name))
    assert store.count_missing("another@1") == pictures
    # Two objects of the same bytes, by two models each.
    assert store.delete_picture(outcome(0, 0).picture) == 4
    assert len(all_of(Query(limit=1_000))) == events - 4
    store.close()
