"""
What Classy answers, as records: where a picture came from, what its file tells, and how much of that is kept.

The store and its packages are opened beside the first classification, not before: they are the slowest imports of the
whole function, and most of that time is spent waiting for the other stages anyway.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from classy.countries import country_at
from classy.exif import parse_about
from classy.models.manifest import Manifest
from classy.records.store import RecordStore, open_records
from classy.records.values import (
    Classification,
    ClassScore,
    ModelVersion,
    Place,
    Refusal,
    Source,
)
from classy.settings import Places
from classy.urls import shown_url
from graphpipe_fn.messages import Call, Timing

if TYPE_CHECKING:
    from graphpipe_fn.transports.aws_access import AwsAccess

log = logging.getLogger(__name__)
URI_MAX = 2_000


class Recorder:
    """
    Keep what became of pictures.

    Args:
        url: Of the store; see classy.records.store.
        places: What is kept of a place: nothing ("off"), its country, also a point of a 0.1° grid ("coarse"), or all
            ("exact").
        now: The clock, aware.
        aws: How DynamoDB is reached, where the store is there.
    """

    def __init__(
        self, url: str, *, places: Places, now: Callable[[], datetime], aws: AwsAccess | None = None
    ) -> None:
        self._url = url
        self._aws = aws
        self._places = places
        self._now = now
        self._lock = threading.Lock()
        self._opened: RecordStore | None = None

    @property
    def store(self) -> RecordStore:
        """
        Return the store, its packages imported at the first use.

        Raises:
            RecordsFailed: a package is missing.
        """
        with self._lock:
            if self._opened is None:
                self._opened = open_records(self._url, self._aws)
            return self._opened

    def prepare(self) -> None:
        """Begin to import the store's packages in a thread, once."""
        if self._opened is None and not self._lock.locked():
            threading.Thread(target=self._prepare, name="records", daemon=True).start()

    def record(
        self,
        outcome: Sequence[ClassScore] | Refusal,
        *,
        source: Source,
        manifest: Manifest,
        about: str = "",
        timings: Sequence[Timing] = (),
        call: Call,
    ) -> Classification:
        """
        Keep one outcome, unless there is a record of it.

        Args:
            outcome: The likeliest classes, greatest first, or why there are none.
            manifest: Of the model that was asked.
            about: What the stages said of the picture; see classy.exif.

        Returns:
            The outcome as a record; where there was one already, that has the same identity.

        Raises:
            RecordsFailed: the store can't be reached, is full, or refuses.
        """
        told = parse_about(about)
        place, country = _kept(told.place, self._places)
        record = Classification(
            source=source,
            model=ModelVersion(manifest.name, manifest.version, manifest.sha256),
            classified_at=self._now(),
            picture_sha256=told.sha256,
            taken_at=told.taken_at,
            place=place,
            country=country,
            top_k=() if isinstance(outcome, Refusal) else tuple(outcome),
            refusal=outcome if isinstance(outcome, Refusal) else None,
            timings=tuple(timings),
            call_id=call.id,
        )
        self.store.put(record)
        return record

    def close(self) -> None:
        """Close the store's connections; the next record opens new ones."""
        if self._opened is not None:
            self._opened.close()

    def _prepare(self) -> None:
        try:
            _ = self.store
        except Exception as exc:  # noqa: BLE001 - whoever records next is told
            log.warning("records: %s", exc)


def _kept(place: Place | None, places: Places) -> tuple[Place | None, str]:
    """Return what a record keeps of a place, and its country, which is that of the exact place."""
    if place is None or places == "off":
        return None, ""
    country = country_at(place.latitude_deg, place.longitude_deg)
    if places == "country":
        return None, country
    return (place.coarsened() if places == "coarse" else place), country


def scores(entries: Sequence[dict[str, Any]]) -> tuple[ClassScore, ...]:
    """Return an answer's classes (classy.answers.class_entry) as a record has them."""
    return tuple(
        ClassScore(entry["class_index"], entry["probability"], entry.get("class_id", ""), entry["label"])
        for entry in entries
    )


def source_of(given: str | bytes) -> Source:
    """Return where a caller's picture came from; its URL without the query, where signed ones carry their key."""
    return Source("url", shown_url(given, limit=URI_MAX)) if isinstance(given, str) else Source("upload")
