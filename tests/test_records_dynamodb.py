"""DynamoDB as a record store: what it costs, what happens when DynamoDB is busy, late, missing or full, its table."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from dynamodb_proxy import Answer, Ask, Proxy, between, refusal
from dynamodb_tables import DynamoTables
from record_stores import Address, Running
from small_records import CUP, ESPRESSO, EVERYTHING, MODEL, NOON, REFUSAL, record

from classy.errors import RecordsFailed
from classy.records import dynamodb_items
from classy.records.dynamodb import CELLS_MAX, DynamoRecords
from classy.records.dynamodb_api import DynamoApi
from classy.records.dynamodb_items import Part
from classy.records.dynamodb_table import ACTIONS, TABLE_DEFINITION, create_table
from classy.records.store import open_records
from classy.records.values import (
    Box,
    Classification,
    ClassScore,
    ModelVersion,
    Place,
    Query,
    Source,
)
from classy.settings import BadSetting
from graphpipe_fn.messages import Timing
from graphpipe_fn.transports.aws_access import AwsAccess

ROOT = Path(__file__).parent.parent
BUSY = "ProvisionedThroughputExceededException"


@pytest.fixture(scope="module")
def tables(store_servers: Running) -> DynamoTables:
    server: DynamoTables = store_servers.server("dynamodb")
    return server


@pytest.fixture
def address(tables: DynamoTables) -> Address:
    return tables.fresh()


@pytest.fixture
def proxy(tables: DynamoTables) -> Iterator[Proxy]:
    with between(tables.emulator.url) as running:
        yield running


@pytest.fixture
def store(address: Address, proxy: Proxy) -> Iterator[DynamoRecords]:
    """Return a store of an empty table, behind the proxy."""
    assert address.aws is not None
    opened = open_records(address.url, replace(address.aws, endpoint_url=proxy.url))
    assert isinstance(opened, DynamoRecords)
    yield opened
    opened.close()


def name_of(address: Address) -> str:
    return address.url.removeprefix("dynamodb:")


# What it costs.

REAL_SCORES = tuple(
    ClassScore(
        index,
        0.123456789012345 / (index + 1),
        f"n0212{index:04}",
        {"en": "Border terrier, a small dog", "ja": "ボーダーテリア（小型犬）", "zh": "博德猎狐犬（一种小型犬）"},
    )
    for index in range(5)
)
REAL_TIMINGS = tuple(
    Timing(name, 0.0123456789 * place, cold=False) for place, name in enumerate(("downloader", "preprocessor", "vgg"))
)
REAL: dict[str, Any] = {
    "top_k": REAL_SCORES,
    "timings": REAL_TIMINGS,
    "call_id": "01M7ZZZZZZZZZZZZZZZZZZZZZZ",
    "taken_at": NOON,
    "model": ModelVersion("efficientnet-lite0", "2026-11-21", "5" * 64),
}
URL = Source("url", "https://upload.wikimedia.org/wikipedia/commons/thumb/4/45/Espresso.jpg/1280px-Espresso.jpg")
BUCKET = Source("bucket", "s3://inbox-1234567890/2026/11/DSC01234.JPG", "inbox-1234567890", "2026/11/DSC01234.JPG",
                '"9b2cf535f27731c974343645a3985328"')  # fmt: skip
TOKYO = Place(35.65858055555556, 139.7454329999999, 12.5)
UNITS: list[Any] = [
    pytest.param(record(1, source=URL, **REAL), 6, id="a URL"),
    pytest.param(record(1, source=BUCKET, place=TOKYO, country="JP", **REAL), 8, id="an object with its place"),
    pytest.param(record(1, source=Source("upload"), **REAL), 5, id="a body"),
    pytest.param(record(1, source=URL, refusal=REFUSAL), 4, id="a refusal"),
]


@pytest.mark.parametrize(("kept", "units"), UNITS)
def test_a_record_costs_as_much_as_is_said(tables: DynamoTables, kept: Classification, units: int) -> None:
    """In write units of a real-sized record, as DynamoDB itself counts them: each index adds one."""
    item = dynamodb_items.encoded(kept, Part.of(kept, 0))
    client = tables.emulator.client("dynamodb")
    done = client.put_item(TableName=name_of(tables.fresh()), Item=item, ReturnConsumedCapacity="INDEXES")
    client.close()
    assert done["ConsumedCapacity"]["CapacityUnits"] == units


def test_a_record_is_one_conditional_write(store: DynamoRecords, proxy: Proxy) -> None:
    """A process looks for each note once, and from then on a record is one request."""
    store.put(record(1))
    first = proxy.operations
    assert first.count("PutItem") > 1
    proxy.asked.clear()
    for number in range(2, 12):
        assert store.put(record(number)) is True
        assert store.put(record(number)) is False
    assert proxy.operations == ["PutItem"] * 20
    assert all("ConditionExpression" in request for _, request in proxy.asked)


def test_another_process_finds_the_notes_and_writes_none(
    store: DynamoRecords, address: Address, proxy: Proxy
) -> None:
    """Reading a note costs an eighth of writing it again."""
    store.put(EVERYTHING)
    assert address.aws is not None
    another = open_records(address.url, replace(address.aws, endpoint_url=proxy.url))
    proxy.asked.clear()
    assert another.put(replace(EVERYTHING, source=Source("upload"))) is True
    assert sorted(proxy.operations) == ["BatchGetItem", "GetItem", "PutItem", "PutItem"]  # the second: a part
    proxy.asked.clear()
    assert another.put(replace(EVERYTHING, source=Source("upload"), picture_sha256="e" * 64)) is True
    assert proxy.operations == ["PutItem"]
    another.close()


def test_years_without_records_cost_nothing(store: DynamoRecords, proxy: Proxy) -> None:
    """The newest 50 of two records that are 30 years apart take as many requests as two months do."""
    ages = [record(number, classified_at=NOON - timedelta(days=10_957 * number)) for number in range(2)]
    for kept in ages:
        store.put(kept)
    proxy.asked.clear()
    assert store.query(Query()).records == tuple(ages)
    assert proxy.operations == ["Query"] * 3 + ["BatchGetItem"]
    proxy.asked.clear()
    assert store.query(Query(since=NOON - timedelta(days=1))).records == (ages[0],)
    assert proxy.operations == ["Query"] * 2 + ["BatchGetItem"]


# What DynamoDB and networks do.


def test_a_busy_table_is_asked_again(store: DynamoRecords, proxy: Proxy) -> None:
    """The record is kept, and what comes next is spread over more parts of the index by time."""
    store.put(record(0))
    refusals = count()

    def busy(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
        if operation == "PutItem" and "part" in request["Item"] and next(refusals) < 4:
            return refusal(BUSY, "The level of configured provisioned throughput for one or more global secondary…")
        return ask()

    proxy.script = busy
    assert store.put(record(1)) is True
    assert next(refusals) == 5
    for number in range(2, 40):
        store.put(record(number))
    parts = {
        request["Item"]["part"]["S"] for op, request in proxy.asked if op == "PutItem" and "part" in request["Item"]
    }
    assert len(parts) > 8
    assert store.query(Query(limit=100)).records == tuple(record(number) for number in range(39, -1, -1))


def test_a_lost_answer_is_asked_for_again(store: DynamoRecords, proxy: Proxy) -> None:
    """The record that the first try has written is the writer's own, not somebody else's."""
    store.put(record(0))
    lost = count()

    def lossy(operation: str, request: dict[str, Any], ask: Ask) -> Answer | None:
        answer = ask()
        return None if next(lost) < 2 else answer

    proxy.script = lossy
    assert store.put(record(1)) is True
    assert proxy.operations.count("PutItem") >= 3
    assert store.put(record(1)) is False
    assert store.get(record(1).identity) == record(1)


def test_what_a_batch_leaves_out_is_asked_for_again(store: DynamoRecords, proxy: Proxy) -> None:
    """DynamoDB may read as few of the items as it likes."""
    kept = [record(number) for number in range(12)]
    for one in kept:
        store.put(one)

    def stingy(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
        status, answer = ask()
        if operation == "BatchGetItem":
            ((table, items),) = answer["Responses"].items()
            left = [{"pk": item["pk"], "sk": item["sk"]} for item in items[2:]]
            answer = {"Responses": {table: items[:2]}, "UnprocessedKeys": {table: {"Keys": left}} if left else {}}
        return status, answer

    proxy.script = stingy
    assert store.query(Query()).records == tuple(reversed(kept))
    assert proxy.operations.count("BatchGetItem") >= 6


def test_a_late_index_shows_nothing_stale(store: DynamoRecords, proxy: Proxy) -> None:
    """What it still shows is read from the table: a deleted record is gone, a refusal is no result's twin."""
    refused = record(1, refusal=REFUSAL)
    for kept in (record(0), refused, record(2)):
        store.put(kept)
    shown: dict[str, Answer] = {}

    def late(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
        if operation != "Query":
            return ask()
        return shown.setdefault(json.dumps(request), ask())

    proxy.script = late
    assert store.query(Query()).records == (record(2), refused, record(0))
    assert store.put(record(1, classified_at=NOON + timedelta(minutes=9))) is True  # gives way, and moves
    proxy.script = lambda operation, request, ask: ask()
    store.delete_picture(record(0).picture)
    proxy.script = late
    assert store.query(Query()).records == (record(2),)
    proxy.script = lambda operation, request, ask: ask()
    assert [kept.source.key for kept in store.query(Query()).records] == ["photos/1.jpg", "photos/2.jpg"]


def test_forgetting_waits_for_a_late_index(store: DynamoRecords, proxy: Proxy) -> None:
    """A twin that the index shows a moment later is deleted as well."""
    one, twin = record(1, picture_sha256="a" * 64), record(2, picture_sha256="a" * 64)
    for kept in (one, twin, record(3)):
        store.put(kept)
    asked = count()

    def late(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
        status, answer = ask()
        if request.get("IndexName") == "by_bytes" and next(asked) == 0:
            answer = {**answer, "Items": [item for item in answer["Items"] if item["pk"]["S"] == one.identity]}
        return status, answer

    proxy.script = late
    assert store.delete_picture(one.picture) == 2
    assert store.query(Query()).records == (record(3),)


ERRORS: list[Any] = [
    pytest.param(refusal(BUSY), "has too much to do", True, id="throughput"),
    pytest.param(refusal("ThrottlingException"), "has too much to do", True, id="throttling"),
    pytest.param(refusal("RequestLimitExceeded"), "has too much to do", True, id="the account's limit"),
    pytest.param((500, {"__type": "InternalServerError"}), "does not work", True, id="an internal error"),
    pytest.param((503, {}), "does not work", True, id="no service"),
    pytest.param(None, "can't be reached", True, id="a closed connection"),
    pytest.param((200, []), "its answer is no JSON object", True, id="an answer that is none"),
    pytest.param(refusal("ResourceNotFoundException"), "deploy serverless.yml", False, id="no table"),
    pytest.param(refusal("AccessDeniedException", "arn:aws:iam::1:user/x"), "dynamodb:GetItem", False, id="no right"),
    pytest.param(refusal("UnrecognizedClientException"), "credentials", False, id="a wrong key"),
    pytest.param(refusal("ExpiredTokenException"), "not expired", False, id="an expired token"),
    pytest.param(refusal("InvalidSignatureException", "Signature expired"), "the clock", False, id="a wrong clock"),
    pytest.param(refusal("ValidationException", "secret"), "refuses GetItem", False, id="a refusal"),
    pytest.param((400, {"__type": 7}), "status 400", False, id="no error at all"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words", "again"), ERRORS)
def test_an_error_says_what_to_do(proxy: Proxy, answer: Answer | None, words: str, *, again: bool) -> None:
    """In our words, with the table's name and without AWS's own; what may pass is tried for as long as allowed."""
    proxy.script = lambda operation, request, ask: answer
    access = AwsAccess(region="eu-north-1", access_key_id="a", secret_access_key="b", endpoint_url=proxy.url)
    api = DynamoApi("a-table", access, patience_s=1.0 if again else 30.0)
    with pytest.raises(RecordsFailed) as refused:
        api.call("GetItem", {"TableName": "a-table", "Key": {}})
    api.close()
    assert words in refused.value.message
    assert "arn:" not in refused.value.message
    assert "secret" not in refused.value.message
    assert (len(proxy.asked) > 1) is again
    assert (refused.value.retry_after_s is not None) is again


def test_a_last_try_cut_short_does_not_hide_the_reason(proxy: Proxy) -> None:
    """Of a table that is busy, and then silent, it is said that it is busy."""
    over = threading.Event()

    def silent_at_last(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
        if len(proxy.asked) > 1:
            over.wait(30)
        return refusal(BUSY)

    proxy.script = silent_at_last
    access = AwsAccess(region="eu-north-1", access_key_id="a", secret_access_key="b", endpoint_url=proxy.url)
    api = DynamoApi("a-table", access, patience_s=0.5)
    with pytest.raises(RecordsFailed, match="has too much to do"):
        api.call("GetItem", {"TableName": "a-table", "Key": {}})
    over.set()
    api.close()
    assert len(proxy.asked) == 2


def test_a_missing_table_is_named(tables: DynamoTables) -> None:
    """With its region and the way to make it."""
    store = open_records("dynamodb:no-such-table", tables.emulator.access())
    for call in (lambda: store.put(EVERYTHING), lambda: store.query(Query()), lambda: store.get("0" * 64)):
        with pytest.raises(RecordsFailed, match=r"no DynamoDB table 'no-such-table' in us-east-1; deploy serverless"):
            call()
    store.close()


def test_what_the_actions_allow_is_enough_and_needed(tables: DynamoTables, address: Address) -> None:
    """A user who may do what ACTIONS say can do all; one who may not is told the action."""
    allowed = tables.emulator.user("recorder", *(f"dynamodb:{action}" for action in ACTIONS))
    store = open_records(address.url, allowed)
    assert store.put(EVERYTHING) is True
    assert store.get(EVERYTHING.identity) == EVERYTHING
    assert store.query(Query(label="espresso", box=Box(-180, -90, 180, 90))).records == ()
    assert store.missing("another@1").records == (EVERYTHING,)
    assert store.models() == (MODEL,)
    assert store.delete_picture(EVERYTHING.picture) == 1
    store.close()
    for action in ACTIONS:
        rest = [f"dynamodb:{other}" for other in ACTIONS if other != action]
        store = open_records(address.url, tables.emulator.user(f"without-{action}", *rest))
        with pytest.raises(RecordsFailed, match=rf"allow our role dynamodb:{action} on it and on its indexes"):
            _ = (
                store.put(record(7)),
                store.get("x"),
                store.query(Query(limit=1)),
                store.delete_picture(record(7).picture),
            )
        store.close()


def test_a_table_without_the_indexes_is_said(tables: DynamoTables) -> None:
    """Somebody else's, or an older one."""
    client = tables.emulator.client("dynamodb")
    bare = {name: TABLE_DEFINITION[name] for name in ("BillingMode", "KeySchema")}
    keys = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    client.create_table(TableName="bare", AttributeDefinitions=keys, **bare)
    client.close()
    store = open_records("dynamodb:bare", tables.emulator.access())
    store.put(record(1))
    with pytest.raises(RecordsFailed, match="lacks an index"):
        store.query(Query())
    store.close()


def test_a_record_that_is_too_large_is_said(address: Address) -> None:
    """With the limit and the setting that makes records smaller."""
    store = address.open()
    huge = tuple(replace(CUP, class_index=number, labels={"en": f"{number}" * 100}) for number in range(1_500))
    with pytest.raises(RecordsFailed, match="larger than DynamoDB's 400 KB; lower CLASSY_TOP_K"):
        store.put(record(1, top_k=huge))
    assert store.put(record(1, top_k=huge[:600])) is True
    assert store.get(record(1).identity) == record(1, top_k=huge[:600])
    store.close()


@pytest.mark.parametrize(
    "url", ["dynamodb:", "dynamodb:ab", "dynamodb:a b c", "dynamodb:tänze", f"dynamodb:{'x' * 256}"]
)
def test_no_tables_name_is_refused(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(BadSetting, match="names no table; write dynamodb: and 3 to 255 letters"):
        open_records(url)


@pytest.mark.parametrize("identity", ["", "x", "half \ud83d pair", "\0", "0" * 63, "G" * 64, "0" * 10_000])
def test_what_is_no_identity_has_no_record(store: DynamoRecords, proxy: Proxy, identity: str) -> None:
    """DynamoDB isn't even asked."""
    assert store.get(identity) is None
    assert store.has(identity) is False
    assert store.delete_picture(identity) == 0
    assert store.query(Query(pictures=(identity,))).records == ()
    assert proxy.operations == []


# Many entries.


MANY_RECORDS = 1_500


def scattered(number: int) -> Classification:
    """Return one of many records: 150 squares of the Earth, some countries, a rare model, refusals, a long name."""
    dice = random.Random(number)
    bucket = "a-bucket-" + "x" * 240  # so that entries are long, and a megabyte of them comes soon
    place = Place(dice.randrange(150) * 0.9 - 67.3, dice.uniform(-0.2, 0.2)) if dice.random() < 0.8 else None
    return record(
        number,
        source=Source("bucket", "", bucket, f"{number}.jpg"),
        classified_at=NOON - timedelta(minutes=number),
        place=place,
        country=dice.choice(("JP", "FJ", "NZ", "")) if place else "",
        model=replace(MODEL, name="rare") if number % 297 == 5 else MODEL,
        **({"refusal": REFUSAL} if number % 11 == 3 else {"top_k": (dice.choice((ESPRESSO, CUP)), ESPRESSO)}),
    )


@pytest.fixture(scope="module")
def many(tables: DynamoTables) -> Iterator[tuple[DynamoRecords, list[Classification]]]:
    """Return a table whose index by time is longer than one of DynamoDB's pages, and what is in it."""
    address = tables.fresh()
    kept = [scattered(number) for number in range(MANY_RECORDS)]
    store = address.open()
    assert isinstance(store, DynamoRecords)
    client = tables.emulator.client("dynamodb")
    for start in range(0, len(kept), 25):
        puts = []
        for one in kept[start : start + 25]:
            item = dynamodb_items.encoded(one, Part.of(one, 0))
            store._note_places(item["part"]["S"], item.get("cell", {}).get("S", ""))
            store._note_names(dynamodb_items.class_key_of(one), dynamodb_items.names_of(one))
            puts.append({"PutRequest": {"Item": item}})
        client.batch_write_item(RequestItems={name_of(address): puts})
    client.close()
    yield store, kept
    store.close()


MANY: list[Any] = [
    pytest.param(Query(limit=700), lambda kept: True, id="all"),
    pytest.param(Query(model="rare"), lambda kept: kept.model.name == "rare", id="a rare model"),
    pytest.param(
        Query(box=Box(-1, -90, 1, 90), label="cup", limit=500),
        lambda kept: kept.place and kept.top_k and kept.top_k[0] == CUP,
        id="a label in a box",
    ),
    pytest.param(Query(box=Box(-1, -90, 1, 90), limit=900), lambda kept: kept.place, id="a box of many squares"),
    pytest.param(
        Query(box=Box(-0.1, -10, 0.1, 10), limit=40),
        lambda kept: kept.place and abs(kept.place.latitude_deg) <= 10 and abs(kept.place.longitude_deg) <= 0.1,
        id="a small box",
    ),
    pytest.param(
        Query(box=Box(0.1, -90, -0.1, 90), limit=100),
        lambda kept: kept.place and abs(kept.place.longitude_deg) >= 0.1,
        id="around the Earth",
    ),
    pytest.param(Query(country="FJ", limit=200), lambda kept: kept.country == "FJ", id="a country"),
    pytest.param(
        Query(since=NOON - timedelta(minutes=1_000), until=NOON - timedelta(minutes=900), limit=30),
        lambda kept: timedelta(minutes=900) < NOON - kept.classified_at <= timedelta(minutes=1_000),
        id="a time",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("query", "wants"), MANY)
def test_long_indexes_are_walked_to_their_end(
    many: tuple[DynamoRecords, list[Classification]], query: Query, wants: Any
) -> None:
    """Through DynamoDB's pages of 1 MB and ours, none twice and none left out, newest first."""
    store, kept = many
    expected = [one for one in kept if wants(one)]
    assert expected, "a query that finds nothing proves nothing"
    found: list[Classification] = []
    page = store.query(query)
    while page.next:
        assert len(page.records) == query.limit
        found += page.records
        page = store.query(replace(query, after=page.next))
    found += page.records
    assert found == expected


def test_the_cases_above_are_about_something(
    many: tuple[DynamoRecords, list[Classification]], tables: DynamoTables
) -> None:
    """There are more squares than are walked side by side, and the index by time has several of DynamoDB's pages."""
    store, kept = many
    assert len(store._notes("cells")) > CELLS_MAX
    client = tables.emulator.client("dynamodb")
    part = str(Part.of(kept[0], 0))
    page = client.query(
        TableName=store._api.table,
        IndexName="by_time",
        KeyConditionExpression="part = :part",
        ExpressionAttributeValues={":part": {"S": part}},
    )
    client.close()
    assert "LastEvaluatedKey" in page


def test_what_is_missing_is_walked_to_its_end(many: tuple[DynamoRecords, list[Classification]]) -> None:
    """Every picture that has a result, once, in pages of any length."""
    store, kept = many
    expected = {one.picture for one in kept if one.refusal is None}
    assert store.count_missing("another@1") == len(expected)
    found, after = list[str](), ""
    while True:
        page = store.missing("another@1", after=after, limit=300)
        found += [one.picture for one in page.records]
        after = page.next
        if not after:
            break
    assert found == sorted(expected)


# The table, and the way to it.


def tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    return str(node.value)


class Template(yaml.SafeLoader):
    """Reads CloudFormation's short tags as texts."""


Template.add_multi_constructor("!", tagged)


def test_the_deployed_table_is_the_defined_one() -> None:
    """serverless.yml makes what the store expects, attribute by attribute."""
    resources = yaml.load((ROOT / "deploy" / "aws" / "storage.yml").read_text(), Template)["Resources"]
    made = resources["RecordsTable"]["Properties"]
    assert {name: made[name] for name in TABLE_DEFINITION} == TABLE_DEFINITION


def test_the_deployed_roles_may_do_what_is_needed() -> None:
    """And nothing else with records, neither scans nor changes of the table."""
    text = (ROOT / "deploy" / "aws" / "roles.yml").read_text()
    roles = yaml.load(text, Template)["Resources"]
    granted = {
        action
        for role in roles.values()
        for policy in role["Properties"].get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith("dynamodb:")
    }
    assert granted == {f"dynamodb:{action}" for action in ACTIONS}


def test_a_table_is_made_once(tables: DynamoTables) -> None:
    """As it is defined; boto3 sees it."""
    assert create_table("made-by-hand", tables.emulator.access()) is True
    assert create_table("made-by-hand", tables.emulator.access()) is False
    client = tables.emulator.client("dynamodb")
    table = client.describe_table(TableName="made-by-hand")["Table"]
    client.close()
    assert table["KeySchema"] == TABLE_DEFINITION["KeySchema"]
    key = {"IndexName", "KeySchema", "Projection"}
    indexes = [{name: index[name] for name in key} for index in table["GlobalSecondaryIndexes"]]
    by_name = sorted(TABLE_DEFINITION["GlobalSecondaryIndexes"], key=lambda index: str(index["IndexName"]))
    assert sorted(indexes, key=lambda index: str(index["IndexName"])) == by_name


def test_others_can_read_what_is_kept(tables: DynamoTables, address: Address) -> None:
    """With boto3, as plain JSON, emoji and all."""
    store = address.open()
    store.put(EVERYTHING)
    store.close()
    client = tables.emulator.client("dynamodb")
    key = {"pk": {"S": EVERYTHING.identity}, "sk": {"S": "record"}}
    item = client.get_item(TableName=name_of(address), Key=key)["Item"]
    client.close()
    said = json.loads(item["record"]["S"])
    assert said["source"][3] == "写真/🐕 a+b%25.jpg"
    assert said["place"] == [35.65858055555556, 139.7454329999999, -0.1]
    assert item["at"]["S"] == f"2026-11-20T16:02:03.000001 {EVERYTHING.identity[:16]}"


def test_no_sdk_is_imported_where_all_is_told(address: Address) -> None:
    """A function's first record waits for no boto3."""
    assert address.aws is not None
    code = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from classy.records.store import open_records\n"
        "from graphpipe_fn.transports.aws_access import AwsAccess\n"
        "from small_records import EVERYTHING\n"
        f"store = open_records({address.url!r}, AwsAccess(region='us-east-1', access_key_id='test',"
        f" secret_access_key='test', endpoint_url={address.aws.endpoint_url!r}))\n"
        "print(store.put(EVERYTHING), sorted({'boto3', 'botocore', 'sqlalchemy', 'requests'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_the_chain_finds_what_nobody_told(
    address: Address, tables: DynamoTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region, endpoint and key from the environment, by way of boto3's own rules."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", tables.emulator.url)
    store = open_records(address.url)
    assert store.put(EVERYTHING) is True
    assert store.get(EVERYTHING.identity) == EVERYTHING
    store.close()


def test_a_time_at_the_calendars_end_is_no_accident(address: Address) -> None:
    """A caller may ask for any time that Python can say."""
    store = address.open()
    store.put(record(1))
    whole = Query(since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC))
    assert store.query(whole).records == (record(1),)
    assert store.query(replace(whole, since=whole.until, until=whole.since)).records == ()
    store.close()
