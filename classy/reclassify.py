"""
Re-classification: every picture that a model has not seen is fetched again and classified by it.

What is left to do follows from the records alone, so there is no state that a kill could spoil: whoever starts again
does what is missing. A picture is recorded only as what it was, by its SHA-256; one that has changed where it lies,
or is gone, is reported and left alone. Times and places come from the record that there is, not from the file again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import Any, Protocol

from classy import answers
from classy.errors import (
    BatchTooLarge,
    ModelMissing,
    ModelSpoilt,
    PictureTooCostly,
    PictureTooLarge,
    SourceNotFound,
    SourceTimedOut,
    UnreadablePicture,
    UnusableURL,
)
from classy.exif import parse_about
from classy.kept import KeptPictures
from classy.models.manifest import Manifest
from classy.pipeline import Classified, Manifests
from classy.reclassified import Outcome, Reclassified, Tally, redone
from classy.records.recorder import scores
from classy.records.store import RecordStore
from classy.records.values import Classification, ModelVersion, Refusal
from classy.settings import Settings
from graphpipe_fn.errors import BadModel, Busy, GraphPipeError, TimedOut, TransportFailed, Unavailable
from graphpipe_fn.messages import Call, Timing

log = logging.getLogger(__name__)
ROWS = 8  # of one call of the pipeline: its bytes are in memory once per worker
PAUSES_S = (0.5, 2.0, 8.0)  # before a call that nobody answered is made again
_VERDICTS = frozenset(kind.code for kind in (UnreadablePicture, PictureTooLarge, PictureTooCostly))
_PASSING = frozenset(kind.code for kind in (Busy, TransportFailed, Unavailable))
_HOPELESS = frozenset(kind.code for kind in (BadModel, ModelMissing, ModelSpoilt))  # for every picture alike
_LATE = frozenset(kind.code for kind in (SourceTimedOut, TimedOut))


@dataclass(frozen=True, slots=True)
class _Row:
    """What the stages answered about one picture."""

    values: Any  # float32 (classes,), or the error
    about: str = ""
    timings: tuple[Timing, ...] = ()
    unanswered: bool = False  # nobody looked at the picture: the call itself failed, and may succeed later

    @property
    def error(self) -> GraphPipeError | None:
        return self.values if isinstance(self.values, GraphPipeError) else None


class Stages(Protocol):
    """What classifies: classy.pipeline.Pipeline."""

    def classify(self, sources: Sequence[str | bytes | GraphPipeError], *, model: str, call: Call) -> Classified: ...


class Reclassifier:
    """
    Let a model see all pictures that are recorded.

    Args:
        settings: How many classes a record holds, and how precise a place may be today.
        store: Of the records.
        kept: Where uploads are; None where none are kept.
        manifests, pipeline: Of the models and the stages.
        now: The clock, aware.
        pauses_s: Before each further try of a call that nobody answered.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: RecordStore,
        kept: KeptPictures | None,
        manifests: Manifests,
        pipeline: Stages,
        now: Callable[[], datetime],
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._settings = settings
        self._store = store
        self._kept = kept
        self._manifests = manifests
        self._pipeline = pipeline
        self._now = now
        self._pauses_s = pauses_s

    def run(
        self,
        model_ref: str,
        *,
        after: str = "",
        limit: int | None = None,
        workers: int = 2,
        deadline_s: float | None = None,
        progress: Callable[[Reclassified], None] | None = None,
        call_id: str = "reclassify",
    ) -> Reclassified:
        """
        Classify what the model has not seen.

        It may be ended at any time, and called again: what is done is recorded, what is not is done then. Several at
        once do no harm.

        Args:
            model_ref: NAME or NAME@VERSION.
            after: The `next` of the call before; "" from the start.
            limit: Pictures, at most.
            workers: Calls of the pipeline at the same time.
            deadline_s: On `time.monotonic()`'s scale: no call is begun after it. At least one call is made.
            progress: Is told, in this thread, what became of the pictures so far: at first, and after each call.

        Raises:
            ModelMissing: no such model is published.
            BadRequest: `after` is no cursor.
            RecordsFailed: the records can't be read or written.
            GraphPipeError: a stage fails as a whole, again and again. What was done is recorded.
        """
        manifest = self._manifests.get(model_ref)
        tally = Tally(left=self._store.count_missing(manifest.ref), next=after)
        if progress:
            progress(tally.result())
        call = Call(id=call_id, deadline_s=deadline_s)
        stopping = Event()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="reclassify")
        try:
            self._run(pool, manifest, tally, call, stopping, limit=limit, workers=workers, progress=progress)
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)
        return tally.result()

    def _run(
        self,
        pool: ThreadPoolExecutor,
        manifest: Manifest,
        tally: Tally,
        call: Call,
        stopping: Event,
        *,
        limit: int | None,
        workers: int,
        progress: Callable[[Reclassified], None] | None,
    ) -> None:
        waiting: deque[tuple[str, Future[list[Outcome]]]] = deque()
        cursor, taken, more, late = tally.next, 0, True, False
        while True:
            # One more than there are workers, so that none waits for a page; no more, so that little is lost.
            while more and len(waiting) <= workers and not (taken and _over(call.deadline_s)):
                rows = ROWS if limit is None else min(ROWS, limit - taken)
                if rows <= 0:
                    break
                page = self._store.missing(manifest.ref, after=cursor, limit=rows)
                cursor, taken, more = page.next, taken + len(page.records), bool(page.next)
                waiting.append((cursor, pool.submit(self._batch, page.records, manifest, call, stopping)))
            if not waiting:
                return
            place, batch = waiting.popleft()
            outcomes = batch.result()
            # What had no time is no failure but the next slice's first, unless this slice would then get nowhere.
            if tally.total and _over(call.deadline_s):
                in_time = [found for found in outcomes if not (found.error and found.error.code in _LATE)]
                late = late or len(in_time) < len(outcomes)
                outcomes = in_time
            tally.add(outcomes)
            tally.next = tally.next if late else place
            if progress:
                progress(tally.result())

    def _batch(
        self, records: Sequence[Classification], manifest: Manifest, call: Call, stopping: Event
    ) -> list[Outcome]:
        if not records:
            return []
        sources = [self._source(record) for record in records]
        rows = self._asked(sources, manifest, call, stopping, self._pauses_s)
        asked = [row for source, row in zip(sources, rows, strict=True) if not isinstance(source, GraphPipeError)]
        if asked and all(row.unanswered for row in asked):
            raise asked[0].values  # a stage is down; the pictures are not to blame
        rows = [_checked(record, row) for record, row in zip(records, rows, strict=True)]
        again = {place: kept for place, row in enumerate(rows) if (kept := self._instead(records[place], row))}
        if again:
            for place, row in zip(again, self._asked(list(again.values()), manifest, call, stopping), strict=True):
                rows[place] = _checked(records[place], row)
        return [self._recorded(record, row, manifest, call.id) for record, row in zip(records, rows, strict=True)]

    def _source(self, record: Classification) -> str | bytes | GraphPipeError:
        """Return where a picture is found again, or the picture itself, or why it can't be had."""
        source = record.source
        if not record.picture_sha256:
            return UnusableURL("its record holds no SHA-256, so nobody can tell whether it is still the same picture")
        if source.kind == "upload":
            return self._get(record)
        if source.kind == "url" and source.uri.endswith("…"):
            return UnusableURL(f"{source.uri} can't be fetched again: its query, which may be a key, was not kept")
        return source.uri

    def _instead(self, record: Classification, row: _Row) -> bytes | None:
        """Return a picture that somebody also sent, where it can't be had from its URL or bucket any more."""
        if row.error is None or row.error.code in _LATE or record.source.kind == "upload":
            return None
        if row.error.code in _VERDICTS and row.about:  # on these very bytes
            return None
        kept = self._get(record)
        return kept if isinstance(kept, bytes) else None

    def _get(self, record: Classification) -> bytes | GraphPipeError:
        if self._kept is None:
            return SourceNotFound("it was sent by a caller, and no pictures are kept here; set CLASSY_PICTURES")
        try:
            return self._kept.get(record.picture_sha256)
        except GraphPipeError as exc:
            return exc

    def _asked(
        self,
        sources: Sequence[str | bytes | GraphPipeError],
        manifest: Manifest,
        call: Call,
        stopping: Event,
        pauses_s: Sequence[float] = (),
    ) -> list[_Row]:
        """
        Ask the pipeline; a picture that spoils the whole call is found by asking about each alone.

        Args:
            pauses_s: Before each further try of a call that nobody answered.
        """
        try:
            done = self._pipeline.classify(sources, model=manifest.ref, call=call)
        except GraphPipeError as exc:
            if exc.code in _HOPELESS:
                raise
            if _over(call.deadline_s):
                late = TimedOut(f"there was no time left for it ({exc.message})")
                return [_Row(source if isinstance(source, GraphPipeError) else late) for source in sources]
            if exc.code in _PASSING and pauses_s and not _over(call.deadline_s, pauses_s[0]):
                log.warning("call %s: %d %s; trying again", call.id, exc.code, exc.message)
                stopping.wait(pauses_s[0])
                return self._asked(sources, manifest, call, stopping, () if stopping.is_set() else pauses_s[1:])
            if len(sources) == 1:
                return [_Row(exc, unanswered=exc.code in _PASSING)]
            return [row for source in sources for row in self._asked([source], manifest, call, stopping)]
        rows = []
        for source, values, ref, about in zip(sources, done.rows, done.models, done.about, strict=True):
            row = _Row(values, about, done.timings)
            if row.error is not None and row.error.code == BatchTooLarge.code and len(sources) > 1:
                (row,) = self._asked([source], manifest, call, stopping)
            elif row.error is None and ref not in ("", manifest.ref):
                row = _Row(ModelMissing(f"{ref} answered in the place of {manifest.ref}; the stages do not agree"))
            rows.append(row)
        return rows

    def _recorded(self, before: Classification, row: _Row, manifest: Manifest, call_id: str) -> Outcome:
        error = row.error
        if error is not None and (error.code not in _VERDICTS or not row.about):
            return Outcome(before, error=error)
        if error is None:
            best = answers.top_k(row.values, self._settings.top_k)
            classes = scores([answers.class_entry(manifest, index, row.values[index]) for index in best])
        after = redone(
            before,
            places=self._settings.places,
            model=ModelVersion(manifest.name, manifest.version, manifest.sha256),
            classified_at=self._now(),
            top_k=() if error else classes,
            refusal=Refusal(error.code, error.message) if error else None,
            timings=row.timings,
            call_id=call_id,
        )
        self._keep_thumbnail(before, row)
        self._store.put(after)
        if not self._store.has(before.identity):  # it was forgotten meanwhile, and must stay so
            self._store.delete_picture(after.picture)
            if self._kept:
                self._kept.delete(before.picture_sha256)
            return Outcome(before, error=SourceNotFound("it was deleted meanwhile"))
        return Outcome(before, after, error)

    def _keep_thumbnail(self, record: Classification, row: _Row) -> None:
        """Keep the thumbnail of a picture that came before any were kept."""
        thumbnail = parse_about(row.about).thumbnail
        if self._kept and thumbnail:
            try:
                self._kept.put_thumbnail(record.picture_sha256, thumbnail)
            except GraphPipeError as exc:
                log.warning("no thumbnail of %s: %d %s", record.picture_sha256[:12], exc.code, exc.message)


def _checked(record: Classification, row: _Row) -> _Row:
    """Return what was answered, or an error where that is about another picture than the record."""
    sha256 = parse_about(row.about).sha256
    if sha256 == record.picture_sha256 or (row.error is not None and not sha256):
        return row
    where = record.source.uri or "what was kept"
    if not sha256:
        return _Row(UnusableURL(f"{where}: no stage said which picture it had, so its result is not kept"))
    return _Row(SourceNotFound(f"{where} is another picture by now, so the one that was recorded can't be had"))


def _over(deadline_s: float | None, more_s: float = 0.0) -> bool:
    return deadline_s is not None and time.monotonic() + more_s >= deadline_s
