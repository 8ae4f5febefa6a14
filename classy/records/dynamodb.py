"""
Records in DynamoDB: one table, one conditional write per record, and indexes that find them again.

What it costs. A record of five classes in three languages takes 1 to 2 KB: two write units, and one more for each
index that it is in, all of which are shorter than 1 KB: by time, by picture, by class, by URI (unless it was sent by
value), by place (where that is kept), by bytes (of a bucket's objects). So a picture by URL costs 6 write units, a
bucket's with its place 8. A refusal is in no index of classes. Besides, each process looks once (half a read unit) at
each note that its records need, and whoever misses one writes it: one unit per month and model, class or new square.
A page costs half a read unit for each 4 KB of index that it walks, one for each record on it, and a few requests.

What may be late. get(), has() and put() are strongly consistent: they ask the table itself. Everything else finds
records by an index, which DynamoDB brings up to date a moment after the write, usually within a second, and then
reads them from the table; so a record may come a moment late, but never twice, stale, or after it was deleted.

What limits it. One model's pictures from one source go to one part of the index by time per month, which takes 1,000
records a second; where DynamoDB says that this is too much, the process spreads them over more parts. The likeliest
class is not spread: more than 1,000 records of one class a second wait for each other, and then fail to be recorded.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any

from classy.errors import RecordsFailed
from classy.records import dynamodb_items as items
from classy.records import dynamodb_query as wishes
from classy.records.dynamodb_api import PAUSE_MAX_S, PAUSE_S, ConditionFailed, DynamoApi, Item
from classy.records.dynamodb_items import RECORD, Entry, Facts, Part
from classy.records.dynamodb_walks import PAGE_MAX, Walk, merged, pages, together
from classy.records.values import Classification, ModelVersion, Page, Query, picture_of_bytes
from graphpipe_fn.transports.aws_access import AwsAccess

PARTS, CELLS, NAMES, CLASS = "parts", "cells", "name#", "class#"  # the `pk` of notes
CELLS_MAX = 100  # squares that are walked side by side; a larger box holds much of all records, and is walked by time
SPREAD_MAX = 16
BATCH = 100  # items of one BatchGetItem
UNREAD_S = 5.0  # how long items are asked for again that DynamoDB leaves out of a batch
PASSES = 5
HEX = "0123456789abcdef"


class DynamoRecords:
    """
    Be a RecordStore over a DynamoDB table; see classy.records.store for what each method promises.

    Args:
        table: Its name; see dynamodb_table for its definition.
        aws: How AWS is reached; what it does not tell, boto3's chain finds.
    """

    def __init__(self, table: str, aws: AwsAccess | None = None) -> None:
        self._api = DynamoApi(table, aws, busy=self._spread_more)
        self._lock = threading.Lock()
        self._spread = 1
        self._noted: set[tuple[str, str]] = set()

    def put(self, record: Classification) -> bool:
        """Keep a record, unless its identity has one: a result is never replaced, a refusal gives way to one."""
        part = Part.of(record, int(record.identity[:4], 16) % self._spread)
        item = items.encoded(record, part)
        item["written_by"] = {"S": os.urandom(8).hex()}  # this very call, whatever it is repeated for
        self._note_places(str(part), item.get("cell", {}).get("S", ""))
        self._note_names(items.class_key_of(record), items.names_of(record))
        absent = "attribute_not_exists(pk)"
        request = {
            "Item": item,
            "ConditionExpression": absent if record.refusal else f"{absent} OR attribute_exists(refused)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._call("PutItem", request)
        except ConditionFailed as failed:
            # Ours after all, where the answer to an earlier try was lost on the way.
            return failed.item.get("written_by") == item["written_by"]
        return True

    def get(self, identity: str) -> Classification | None:
        """Return the record of an identity."""
        if not wishes.is_digest(identity):
            return None
        item = self._call("GetItem", {"Key": _key(identity), "ConsistentRead": True}).get("Item")
        return items.decoded(item) if item else None

    def has(self, identity: str) -> bool:
        """Return whether there is a record of an identity."""
        request = {"Key": _key(identity), "ConsistentRead": True, "ProjectionExpression": "pk"}
        return wishes.is_digest(identity) and bool(self._call("GetItem", request).get("Item"))

    def query(self, query: Query) -> Page:
        """Return a page of records, newest first."""
        since, until = wishes.times(query)
        class_keys = self._class_keys(query.label) if query.label else None
        wants = wishes.wanted(query, class_keys)
        uri = wishes.source_of(query.source)[2]
        entries = (e for e in self._entries(query, class_keys, since, until) if wants(e.facts))
        found: list[tuple[str, Classification]] = []
        while len(found) <= query.limit:
            batch = list(islice(entries, min(query.limit + 1 - len(found), BATCH)))
            if not batch:
                break
            read = self._read(entry.identity for entry in batch)
            for entry in batch:
                item = read.get(entry.identity)
                # One that has moved in time since the index was read is, or was, found where it is now.
                if item and item["at"]["S"] == entry.at and not (found and found[-1][0] == entry.at):
                    record = items.decoded(item)
                    if wants(items.facts_of(record)) and uri in ("", record.source.uri):
                        found.append((entry.at, record))
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(tuple(record for _, record in page), wishes.cursor(page[-1][0]) if more else "")

    def missing(self, model_ref: str, *, after: str = "", limit: int = 50) -> Page:
        """Return pictures that one version of a model has not seen, each by its newest record."""
        after = wishes.digest_of(after) if after else ""
        unseen = list(islice(self._unseen(model_ref, HEX, after, limit), limit + 1))
        read = self._read(entry.identity for entry in unseen[:limit])
        records = [items.decoded(read[entry.identity]) for entry in unseen[:limit] if entry.identity in read]
        return Page(tuple(records), unseen[limit - 1].picture if len(unseen) > limit else "")

    def count_missing(self, model_ref: str) -> int:
        """Return how many pictures missing() would return in all its pages."""
        return sum(together(lambda digit: sum(1 for _ in self._unseen(model_ref, digit, "", PAGE_MAX)), HEX))

    def models(self) -> tuple[ModelVersion, ...]:
        """Return every model version that has a record, by name and version."""
        found = []
        parts = sorted(self._parts(wishes.EARLIEST, wishes.LATEST), key=attrgetter("model"))
        for _, of_model in groupby(parts, key=attrgetter("model")):
            entries = self._by_time(list(of_model), wishes.EARLIEST, wishes.LATEST, 1)
            newest = next((item for entry in entries for item in self._read([entry.identity]).values()), None)
            if newest:
                found.append(items.decoded(newest).model)
        return tuple(sorted(found, key=lambda model: (model.name, model.version)))

    def delete_picture(self, picture: str) -> int:
        """Forget a picture: every record of it, and of every other source that held the same bytes."""
        deleted, hashes = 0, set[str]()
        # Until nothing is left: an index may show a record a moment after it was written.
        for _ in range(PASSES if wishes.is_digest(picture) else 0):
            gone = sum(self._deleted(identity) for identity in self._of_same_bytes(picture, hashes))
            deleted += gone
            if not gone:
                break
        return deleted

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._api.close()

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._api.call(operation, {"TableName": self._api.table, **request})

    def _spread_more(self) -> None:
        self._spread = min(self._spread * 2, SPREAD_MAX)

    # Notes: which parts, squares and names there are. They are written before the records that they lead to.

    def _note_places(self, part: str, cell: str) -> None:
        keys = {(PARTS, part), (CELLS, cell)} if cell else {(PARTS, part)}
        new = keys - self._noted
        if not new:
            return
        known = {(item["pk"]["S"], item["sk"]["S"]) for item in self._batch(_key(*key) for key in new)}
        for pk, sk in sorted(new - known):
            self._call("PutItem", {"Item": _key(pk, sk)})
        with self._lock:
            self._noted |= new

    def _note_names(self, class_key: str, names: frozenset[str]) -> None:
        new = {(class_key, name) for name in names} - self._noted
        if not new:
            return
        note = self._call("GetItem", {"Key": _key(CLASS + class_key, "names")}).get("Item") or {}
        known = set(note.get("names", {}).get("SS", []))
        for name in sorted(names - known):
            self._call("PutItem", {"Item": _key(NAMES + name, class_key)})
        if names - known:
            both = {"names": {"SS": sorted(names | known)}}
            self._call("PutItem", {"Item": {**_key(CLASS + class_key, "names"), **both}})
        with self._lock:
            self._noted |= new

    def _class_keys(self, label: str) -> list[str]:
        return self._notes(NAMES + items.name_key(label))

    def _parts(self, since: str, until: str) -> list[Part]:
        return [Part.parse(text) for text in self._notes(PARTS, since[:7], f"{until[:7]}~")]

    def _notes(self, pk: str, low: str = " ", high: str = "\U0010ffff") -> list[str]:
        walk = Walk("", ("pk", "sk"), pk, low, high, forward=True)
        return [item["sk"]["S"] for item in chain.from_iterable(pages(self._api, walk, PAGE_MAX))]

    # Entries of the indexes, newest first.

    def _entries(self, query: Query, class_keys: Sequence[str] | None, since: str, until: str) -> Iterator[Entry]:
        """Return entries among which is all that a query wants, by the index that holds least besides."""
        uri, first = wishes.source_of(query.source)[2], query.limit + 1
        walks: list[Walk] | None = None
        if query.pictures:
            return self._of_pictures(query.pictures, since, until)
        if uri:
            walks = [Walk("by_uri", ("uri_key", "at"), items.uri_key(uri), since, until)]
        elif class_keys is not None:
            walks = [Walk("by_class", ("class_key", "at"), key, since, until) for key in class_keys]
        elif query.box or query.country:
            rows = wishes.rows_of(query.box) if query.box else (" ", "~")
            cells = list(filter(wishes.cell_wanted(query), self._notes(CELLS, *rows)))
            if len(cells) <= CELLS_MAX:
                walks = [Walk("by_cell", ("cell", "at"), cell, since, until) for cell in cells]
        if walks is not None:
            return merged(self._api, walks, first)
        return self._by_time(filter(wishes.part_wanted(query), self._parts(since, until)), since, until, first)

    def _by_time(self, parts: Iterable[Part], since: str, until: str, first: int) -> Iterator[Entry]:
        """Yield the entries of parts, month after month; a month without records costs nothing."""
        month = attrgetter("month")
        for _, of_month in groupby(sorted(parts, key=month, reverse=True), key=month):
            walks = [Walk("by_time", ("part", "at"), str(part), since, until) for part in of_month]
            yield from merged(self._api, walks, first)

    def _of_pictures(self, pictures: Collection[str], since: str, until: str) -> Iterator[Entry]:
        known = sorted(filter(wishes.is_digest, set(pictures)))
        entries = chain.from_iterable(together(lambda picture: list(self._of_picture(picture)), known))
        return iter(sorted((e for e in entries if since <= e.at < until), key=attrgetter("at"), reverse=True))

    def _of_picture(self, picture: str) -> Iterator[Entry]:
        return self._by_picture(picture[:1], f"{picture}#", f"{picture}$", PAGE_MAX)  # "$" comes after "#"

    def _by_picture(self, digit: str, since: str, until: str, first: int) -> Iterator[Entry]:
        walk = Walk("by_picture", ("picture_part", "picture_key"), digit, since, until, forward=True)
        return map(items.entry_of, chain.from_iterable(pages(self._api, walk, first)))

    def _unseen(self, model_ref: str, digits: str, after: str, first: int) -> Iterator[Entry]:
        """Yield the newest entry of each picture that one model version has not seen, in the pictures' order."""
        for digit in digits:
            if digit < after[:1]:
                continue
            entries = self._by_picture(digit, f"{after}$" if after else " ", "~", first)
            for _, group in groupby(entries, key=attrgetter("picture")):
                of_picture = list(group)
                facts: list[Facts] = [entry.facts for entry in of_picture]
                if all(fact.model != model_ref for fact in facts) and not all(fact.refused for fact in facts):
                    yield max(of_picture, key=attrgetter("at"))

    # Records by their own key.

    def _read(self, identities: Iterable[str]) -> dict[str, Item]:
        return {item["pk"]["S"]: item for item in self._batch(map(_key, dict.fromkeys(identities)))}

    def _batch(self, keys: Iterable[Item]) -> Iterator[Item]:
        """Yield the items of keys, in any order, as the table has them now."""
        wanted = list(keys)
        give_up_s, pause_s = time.monotonic() + UNREAD_S, PAUSE_S
        while wanted:
            asked = {"Keys": wanted[:BATCH], "ConsistentRead": True}
            answer = self._api.call("BatchGetItem", {"RequestItems": {self._api.table: asked}})
            found = answer["Responses"].get(self._api.table, [])
            yield from found
            unread = answer.get("UnprocessedKeys", {}).get(self._api.table, {}).get("Keys", [])
            wanted = [*unread, *wanted[BATCH:]]
            if unread and not found:
                if time.monotonic() > give_up_s:
                    raise RecordsFailed(
                        f"the DynamoDB table {self._api.table!r} has more to do than it may; try later"
                    )
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)

    def _of_same_bytes(self, picture: str, hashes: set[str]) -> set[str]:
        """
        Return the identities of a picture's records, and of all others of the same bytes.

        Args:
            hashes: Of its bytes, as far as they are known; others are added.
        """
        found = {entry.identity for entry in self._of_picture(picture)}
        hashes |= {items.decoded(item).picture_sha256 for item in self._read(found).values()} - {""}
        for sha256 in hashes:
            found |= {entry.identity for entry in self._of_picture(picture_of_bytes(sha256))}
            walk = Walk("by_bytes", ("bytes_key", ""), sha256, "", "")
            found |= {item["pk"]["S"] for item in chain.from_iterable(pages(self._api, walk, PAGE_MAX))}
        return found

    def _deleted(self, identity: str) -> bool:
        answer = self._call("DeleteItem", {"Key": _key(identity), "ReturnValues": "ALL_OLD"})
        return bool(answer.get("Attributes"))


def _key(pk: str, sk: str = RECORD) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}
