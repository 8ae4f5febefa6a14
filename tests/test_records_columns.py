"""classy.records.columns: pictures with one column per model, over every store, as a table, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_records import CUP, ESPRESSO, MODEL, NOON, REFUSAL, record

from classy.cli import main
from classy.records.columns import Row, as_json, found, models_of, page, print_csv, print_json, print_table
from classy.records.store import RecordStore, open_records
from classy.records.values import Classification, Place, Query, Source

NEXT = replace(MODEL, version="2")
OTHER = replace(MODEL, name="another", version="1")
SECOND = timedelta(seconds=1)
KEPT: tuple[Classification, ...] = (
    record(0),
    record(1),
    record(2, refusal=REFUSAL),
    record(3, place=Place(34.08, 74.8)),  # Srinagar
    # What the next model made of them, long after: the picture that came first is the newest now.
    record(0, model=NEXT, classified_at=NOON + timedelta(hours=2), top_k=(CUP,)),
    record(1, model=NEXT, classified_at=NOON + timedelta(hours=1), top_k=(CUP,)),
    record(1, model=OTHER, classified_at=NOON + timedelta(hours=1) + SECOND, top_k=(ESPRESSO,)),
)
PICTURES = [record(number).picture for number in range(4)]


@pytest.fixture
def filled(record_store: RecordStore) -> RecordStore:
    """Four pictures and three models."""
    for kept in KEPT:
        record_store.put(kept)
    return record_store


ASKED: list[Any] = [
    pytest.param(Query(), [0, 1, 3, 2], id="all"),
    pytest.param(Query(model="another"), [1], id="a model"),
    pytest.param(Query(model=MODEL.ref), [3, 2, 1, 0], id="in the order of one model"),
    pytest.param(Query(label="espresso"), [1, 3, 0], id="a label"),
    pytest.param(Query(until=NOON + timedelta(minutes=2)), [1, 0], id="a time"),
    pytest.param(Query(model="nothing"), [], id="nothing"),
]


@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize(("query", "numbers"), ASKED)
def test_each_picture_stands_once_where_its_newest_record_is(
    filled: RecordStore, query: Query, numbers: list[int], limit: int
) -> None:
    """In all pages together, whatever their size; a row has every model, also those that were not asked for."""
    rows: list[Row] = []
    query = replace(query, limit=limit)
    while True:
        some = page(filled, query)
        rows += some.rows
        if not some.next:
            break
        query = replace(query, after=some.next)
    assert [row.found.picture for row in rows] == [PICTURES[number] for number in numbers]
    for row in rows:
        everything = {kept.model.ref: kept for kept in KEPT if kept.picture == row.found.picture}
        assert dict(row.by_model) == everything


def test_a_limit_counts_pictures(filled: RecordStore) -> None:
    """Not their records."""
    assert [row.found.picture for row in found(filled, Query(), 3)] == [PICTURES[number] for number in (0, 1, 3)]
    assert len(list(found(filled, Query(), 100))) == 4


def _rows() -> list[Row]:
    by_picture: dict[str, dict[str, Classification]] = {}
    for kept in KEPT:
        by_picture.setdefault(kept.picture, {})[kept.model.ref] = kept
    return [Row(next(iter(models.values())), models) for models in by_picture.values()]


def test_the_columns_are_all_models_that_are_there() -> None:
    """By name and version."""
    assert models_of(_rows()) == [OTHER.ref, MODEL.ref, NEXT.ref]


def test_json_says_what_each_model_said() -> None:
    """By NAME@VERSION; a refusal by its reason, and a place that two states claim by what it is called."""
    values = [as_json(row) for row in _rows()]
    assert values[1]["results"][NEXT.ref] == {
        "id": KEPT[5].identity,
        "classified_at": KEPT[5].classified_at.isoformat(),
        "class_index": CUP.class_index,
        "class_id": CUP.class_id,
        "label": dict(CUP.labels),
        "probability": CUP.probability,
    }
    assert values[2]["results"][MODEL.ref]["error"] == {"code": REFUSAL.code, "message": REFUSAL.reason}
    assert "country" not in values[3]
    assert values[3]["disputed_area"]["en"] == "Kashmir"


def test_json_lines_are_one_per_picture(capsys: pytest.CaptureFixture[str]) -> None:
    """Each an object of its own."""
    print_json(_rows())
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [as_json(row) for row in _rows()]


def test_csv_has_two_columns_per_model() -> None:
    """What was said, and how sure; empty where a model has not seen the picture."""
    text = io.StringIO()
    print_csv(_rows(), text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [row[NEXT.ref] for row in rows] == ["cup · カップ", "cup · カップ", "", ""]
    assert [row[f"{MODEL.ref} p"] for row in rows] == ["0.950879", "0.950879", "", "0.950879"]
    assert rows[2][MODEL.ref].startswith("refused (42211): これは写真ではない")


def test_the_tables_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Though Japanese characters are twice as wide; a reason of two lines stays one line."""
    print_table(_rows())
    head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert head.split() == ["classified", "source", OTHER.ref, MODEL.ref, NEXT.ref]
    at = head.index(NEXT.ref)
    wide = lines[0][: lines[0].index("1% cup")]
    assert len(wide) + sum(char >= "\u3000" for char in wide) == at + 2  # " 1%" begins with two spaces


def test_no_pictures_make_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a header."""
    print_table([])
    assert capsys.readouterr().out == ""


def test_the_command_line_prints_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`classy history --by-model`, as a table, JSON lines and CSV; no cell is a spreadsheet's formula."""
    store = open_records(f"sqlite:///{tmp_path}/records.db")
    evil = Source("bucket", "=1+2", "inbox", "=1+2", "@e")
    for kept in (*KEPT, record(4, source=evil, classified_at=NOON + timedelta(hours=3))):
        store.put(kept)
    store.close()

    def printed(*more: str) -> list[str]:
        assert main(["--state-dir", str(tmp_path), "history", "--by-model", *more]) == 0
        return capsys.readouterr().out.splitlines()

    head, *lines = printed("--limit", "3")
    assert (head.split()[2:], len(lines)) == ([OTHER.ref, MODEL.ref, NEXT.ref], 3)
    assert [json.loads(line)["picture"] for line in printed("--json", "--model", "another")] == [PICTURES[1]]
    rows = list(csv.reader(printed("--csv")))
    assert (len(rows), rows[1][2]) == (1 + 5, "'=1+2")
