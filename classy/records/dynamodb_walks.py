"""
Walks along the indexes of a DynamoDB table: page after page, and several of them in one order.

It knows no record; dynamodb_items says what entries are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

from classy.records.dynamodb_api import DynamoApi, Item
from classy.records.dynamodb_items import Entry, entry_of

PAGE_MAX = 4_000  # entries; DynamoDB ends a page after 1 MB, which is about as many
THREADS = 8


@dataclass(frozen=True, slots=True)
class Walk:
    """
    One key of an index, and what of it is wanted.

    Args:
        index: Its name; "" for the table itself.
        attributes: Of its key; the second may be "".
        key: What the first attribute is.
        since, until: Between which values the second one is, the first of them included.
        forward: In its order; else from its end.
    """

    index: str
    attributes: tuple[str, str]
    key: str
    since: str
    until: str
    forward: bool = False


def pages(api: DynamoApi, walk: Walk, first: int) -> Iterator[list[Item]]:
    """
    Yield the pages of a walk, each longer than the one before: whoever passed over all of one wants many.

    Args:
        first: Entries of the first page, at most.
    """
    if walk.since > walk.until:
        return
    (pk, sk), limit, start = walk.attributes, first, None
    condition, names, values = "#pk = :key", {"#pk": pk}, {":key": walk.key}
    if sk:
        names["#sk"] = sk
        condition += " AND #sk BETWEEN :since AND :until"
        values |= {":since": walk.since, ":until": walk.until}
    while True:
        request: dict[str, Any] = {
            "TableName": api.table,
            **({"IndexName": walk.index} if walk.index else {}),
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
            "ScanIndexForward": walk.forward,
            **({"Limit": limit} if limit < PAGE_MAX else {}),
            **({"ExclusiveStartKey": start} if start else {}),
        }
        answer = api.call("Query", request)
        yield [item for item in answer["Items"] if not sk or item[sk]["S"] != walk.until]
        start, limit = answer.get("LastEvaluatedKey"), limit * 4
        if not start:
            return


def merged(api: DynamoApi, walks: Sequence[Walk], first: int) -> Iterator[Entry]:
    """Return the entries of several walks, newest first, the first page of each fetched at once."""
    walked = [pages(api, walk, first) for walk in walks]
    firsts = together(lambda page: next(page, []), walked)
    streams = [
        map(entry_of, chain(begun, chain.from_iterable(rest))) for begun, rest in zip(firsts, walked, strict=True)
    ]
    return heapq.merge(*streams, key=attrgetter("at"), reverse=True)


def together(do: Callable[[Any], Any], each: Collection[Any]) -> list[Any]:
    """Return what a function makes of each, several at once: most of the time goes by waiting for answers."""
    if len(each) < 2:
        return [do(one) for one in each]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(each), THREADS)) as pool:
        return list(pool.map(do, each))
