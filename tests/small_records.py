"""Records to keep, and a process that writes many."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from record_stores import Address

from classy.records.values import (
    Classification,
    ClassScore,
    ModelVersion,
    Place,
    Refusal,
    Source,
)
from graphpipe_fn.messages import Timing

MODEL = ModelVersion("efficientnet-lite0", "1", "5" * 64)
NOON = datetime(2026, 11, 21, 3, 0, 0, 123456, tzinfo=UTC)
ESPRESSO = ClassScore(967, 0.950879, "n07920052", {"en": "espresso", "ja": "エスプレッソ"})
CUP = ClassScore(968, 0.012345, "n07930864", {"en": "cup", "ja": "カップ"})


def record(number: int = 0, **changes: Any) -> Classification:
    """Return the record of an uploaded object; each number is another object, a minute later than the one before."""
    key = f"photos/{number}.jpg"
    values: dict[str, Any] = {
        "source": Source("bucket", f"s3://inbox/{key}", "inbox", key, f"etag{number}"),
        "model": MODEL,
        "classified_at": NOON + timedelta(minutes=number),
        "picture_sha256": f"{number:064x}",
        "top_k": () if "refusal" in changes else (ESPRESSO, CUP),
    }
    return Classification(**{**values, **changes})


REFUSAL = Refusal(42211, "これは写真ではない: this is no picture\nsecond line")
EVERYTHING = record(
    source=Source("bucket", "s3://inbox/写真/🐕 a+b%25.jpg", "inbox", "写真/🐕 a+b%25.jpg", '"9b2c-3"'),
    classified_at=datetime(2026, 11, 21, 1, 2, 3, 1, tzinfo=timezone(timedelta(hours=9))),
    taken_at=datetime(2020, 2, 29, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    place=Place(35.65858055555556, 139.7454329999999, -0.1),
    country="JP",
    top_k=(ClassScore(0, 1e-7, "", {"zh": "浓缩咖啡 ☕", "en": 'a "quoted" <b>name</b>'}), ESPRESSO),
    timings=(Timing("hop", 0.1 + 0.2), Timing("vgg", 1e-6, True), Timing("downloader", 12.5, False)),
    call_id="01M7ZZZZZZZZZZZZZZZZZZZZZZ",
)


def write(address: Address, seed: int, objects: int) -> None:
    """Write the record of each object twice, in an order of one's own."""
    store = address.open()
    numbers = list(range(objects)) * 2
    random.Random(seed).shuffle(numbers)
    for number in numbers:
        store.put(record(number))
    store.close()
