"""
What a storm of events is made of: writers that are told everything, know nothing of each other, and are killed.

Every writer gets every event, in an order of its own, as if each queue delivered to all. What it has dealt with it
notes in a file, as a queue's acknowledgement: an event that it was killed over, or that the store was too busy for,
comes again; a noted one does not.
"""

from __future__ import annotations

import os
import random
import struct
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from record_stores import Address
from small_records import CUP, ESPRESSO, MODEL, NOON, REFUSAL, record

from classy.errors import RecordsFailed
from classy.records.values import Classification, ModelVersion

MODELS = (MODEL, ModelVersion("vgg16", "2", "6" * 64))
PATIENCE_S = 300.0
_NOTE = struct.Struct("<I")


def outcome(event: int, writer: int) -> Classification:
    """Return what one writer makes of one event; all but the first see some pictures too early to read them."""
    number, model = event // len(MODELS), MODELS[event % len(MODELS)]
    early = writer and random.Random(f"{event} {writer}").random() < 0.1
    made = record(
        number,
        model=model,
        classified_at=NOON + timedelta(minutes=number, microseconds=writer),
        call_id=f"writer {writer}",
        **({"refusal": REFUSAL} if early else {"top_k": (ESPRESSO, CUP) if number % 3 else (CUP, ESPRESSO)}),
    )
    return replace(made, picture_sha256=f"{number // 2:064x}")  # two objects of the same bytes are two pictures


def dealt_with(notes: Path) -> set[int]:
    """Return the events that a writer has noted."""
    data = notes.read_bytes() if notes.exists() else b""
    return {event for (event,) in _NOTE.iter_unpack(data[: len(data) - len(data) % _NOTE.size])}


def write(address: Address, writer: int, events: int, notes: Path) -> None:
    """Deal with what is left of the storm."""
    left = sorted(set(range(events)) - dealt_with(notes))
    random.Random(writer).shuffle(left)
    store = address.open()
    into = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    give_up_s = time.monotonic() + PATIENCE_S
    while left:
        event = left.pop()
        try:
            store.put(outcome(event, writer))
        except RecordsFailed:
            if time.monotonic() > give_up_s:
                raise
            left.insert(0, event)
        else:
            os.write(into, _NOTE.pack(event))
    store.close()
