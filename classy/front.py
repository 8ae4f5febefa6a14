"""
Classy, the front: a question in, labels out; and uploads' events in, results written.

It knows no platform: `answer(body, call) -> Reply` is what every adapter serves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from classy import answers
from classy.asks import Ask, Options, ask_of, parse_ask, parse_json, parse_query, with_query
from classy.entries import Entries
from classy.errors import RETRYABLE, BadRequest, UnusableURL
from classy.events import ObjectRef, is_event
from classy.keeping import forget
from classy.kept import KeptPictures
from classy.models.manifest import Manifest
from classy.peers import aws_access
from classy.pipeline import Classified, Manifests, Pipeline, object_storage, row_error
from classy.records.recorder import Recorder
from classy.records.store import RecordStore
from classy.records.values import Source
from classy.s3 import is_pinned
from classy.settings import BadSetting, Settings
from classy.telemetry import Telemetry
from classy.uploads import JSON, Uploads, source_of_object
from classy.urls import shown_url
from graphpipe_fn.errors import GraphPipeError, InternalError, status_of
from graphpipe_fn.messages import Call, Error, InferRequest, Timing
from graphpipe_fn.model import Buffer, Reply

if TYPE_CHECKING:
    from classy.reclassify import Reclassifier

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Classy:
    """
    Answer questions about pictures.

    Args:
        settings: See Settings; the model store is needed for the labels.
        manifests: Shared with other users of the same settings, or made of them.
        now: The clock for a result's `classified_at`, aware UTC.
        telemetry: Told of every question and every outcome; of nothing unless given.

    Raises:
        BadSetting: a setting is missing, or pictures would be kept that no record knows of.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        manifests: Manifests | None = None,
        now: Callable[[], datetime] = _now,
        telemetry: Telemetry | None = None,
    ) -> None:
        if settings.pictures and not settings.records:
            raise BadSetting("CLASSY_PICTURES is set and CLASSY_RECORDS is not; a picture is kept for its record")
        self._settings = settings
        self.manifests = manifests or Manifests(settings)
        self.kept = (
            KeptPictures(object_storage(settings), settings.pictures, limit_bytes=settings.limit_bytes)
            if settings.pictures
            else None
        )
        self._pipeline = Pipeline(settings, self.manifests)
        self._now = now
        self._defaults = Options(settings.top_k, settings.language)
        self._recorder = (
            Recorder(settings.records, places=settings.places, now=now, aws=aws_access(settings))
            if settings.records
            else None
        )
        self._entries = Entries(self.manifests, recorder=self._recorder, kept=self.kept, classes=settings.top_k)
        self._uploads = Uploads(
            settings,
            self.manifests,
            self._uploaded,
            recorder=self._recorder,
            now=now,
            hand_on=self._handed_on if settings.topology == "continued" else None,
        )
        self.telemetry = telemetry or Telemetry()
        self._first = True

    def answer(self, body: Buffer, call: Call) -> Reply:
        """
        Answer one call; never raises.

        Args:
            body: See classy.asks, or an object-storage event.

        Returns:
            JSON. A single picture's error sets the status too; in a batch each entry carries its own.
        """
        reply = self._replied(lambda: self._answered(bytes(body), call), call)
        return replace(reply, failed=True) if reply.status >= 500 and _tells_of_uploads(body, call) else reply

    def finish(self, body: Buffer, call: Call) -> Reply:
        """
        Take the outcome of an upload that nobody waited for; never raises.

        Args:
            body: GraphPipe's message, as classy.continued sends it.

        Returns:
            JSON as answer() gives it for an event; the picture's refusal is in its result.
        """
        return self._replied(lambda: self._finished(body, call), call)

    def _replied(self, work: Callable[[], tuple[dict[str, Any], tuple[Timing, ...]]], call: Call) -> Reply:
        started_s = time.perf_counter()
        cold, self._first = self._first, False
        try:
            value, hops = work()
        except GraphPipeError as exc:
            log.warning("call %s: %d %s", call.id, exc.code, exc.message)
            value, hops = answers.refusal(0, _error(exc), retryable=exc.code in RETRYABLE), ()
        except Exception:
            log.exception("call %s failed", call.id)
            bug = InternalError(f"internal error, call {call.id}; the log has the detail")
            value, hops = answers.refusal(0, _error(bug), retryable=False), ()
        own_s = time.perf_counter() - started_s - sum(hop.seconds for hop in hops)
        hops = (Timing("classy", own_s, cold), *hops)
        value = {**value, "timings": answers.timings(hops), "call_id": call.id}
        status = status_of(value["error"]["code"]) if "error" in value else 200
        return Reply([answers.encode(value)], status, JSON, hops)

    @property
    def pipeline(self) -> Pipeline:
        """Return the stages, for who wants probabilities rather than labels; nothing is recorded of that."""
        return self._pipeline

    @property
    def records(self) -> RecordStore | None:
        """
        Return the record store, None where no records are kept.

        Raises:
            RecordsFailed: a package that it needs is missing.
        """
        return self._recorder.store if self._recorder else None

    def reclassifier(self) -> Reclassifier:
        """
        Return what lets a model see all pictures that are recorded.

        Raises:
            BadSetting: no records are kept.
            RecordsFailed: a package that their store needs is missing.
        """
        from classy.reclassify import Reclassifier

        if self._recorder is None:
            raise BadSetting("CLASSY_RECORDS is not set, so there is nothing to classify again")
        return Reclassifier(
            self._settings,
            store=self._recorder.store,
            kept=self.kept,
            manifests=self.manifests,
            pipeline=self._pipeline,
            now=self._now,
        )

    def forget(self, record_id: str) -> int:
        """
        Delete a picture: every record of it, its kept bytes and its thumbnail.

        Where this is cut short, a second call finishes it; see classy.keeping.

        Args:
            record_id: Of any of its records; see Classification.identity.

        Returns:
            How many records were deleted; 0 where there were none.

        Raises:
            RecordsFailed, StorageFailed: a store can't be reached; ask again.
        """
        return forget(self._recorder.store, self.kept, record_id) if self._recorder else 0

    def prepare(self) -> None:
        """
        Wait for what the first picture would wait for.

        Raises:
            GraphPipeError: a stage does not answer, or its model can't be loaded.
        """
        self._pipeline.prepare()

    def close(self) -> None:
        """Close the connections to the other stages and to the records; the next call opens new ones."""
        self._pipeline.close()
        if self._recorder:
            self._recorder.close()
        self.telemetry.close()

    def _answered(self, body: bytes, call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        limit = self._settings.limit_rows
        defaults = with_query(self._defaults, call.query) if call.method == "POST" else self._defaults
        if call.method != "POST":
            ask = ask_of(parse_query(call.method, call.query), defaults=self._defaults, limit_rows=limit)
        elif body.lstrip().startswith(b"{") and not call.content_type.lower().startswith("image/"):
            value = parse_json(body)
            if is_event(value):
                return self._uploads.answer(value, call)
            ask = ask_of(value, defaults=defaults, limit_rows=limit)
        else:
            ask = parse_ask(body, call.content_type, defaults=defaults, limit_rows=limit)
        results, hops = self.classify(ask, call)
        return ({"results": results} if ask.batch else results[0]), hops

    def classify(
        self, ask: Ask, call: Call, *, sources: Sequence[Source] = ()
    ) -> tuple[list[dict[str, Any]], tuple[Timing, ...]]:
        """
        Return one answer per picture, in order, and what each hop cost; record them where records are kept.

        Args:
            sources: Where the pictures came from, for the records; what the question itself says unless given.

        Raises:
            GraphPipeError: the pipeline fails as a whole. A record that can't be written is no such failure: the
                answer says so.
        """
        with self.telemetry.watch(call) as watched:
            call, watched.pictures = watched.call, len(ask.sources)
            manifest = self.manifests.get(ask.options.model, deadline_s=call.deadline_s)
            if self._recorder:
                self._recorder.prepare()
            if not sources:
                ask = replace(ask, sources=tuple(map(_plain, ask.sources)))
            done = self._pipeline.classify(ask.sources, model=manifest.ref, call=call)
            watched.hops, watched.refused = done.timings, sum(row_error(row) is not None for row in done.rows)
            return self._entries.of(done, ask, manifest, sources, call), done.timings

    def _finished(self, body: Buffer, call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        from classy.continued import Outcome
        from graphpipe_fn.codec import decode_request

        message = decode_request(body)
        if not isinstance(message, InferRequest):
            raise BadRequest("an outcome is no request for metadata")
        outcome = Outcome.of(message)
        source, hops = outcome.then.source, outcome.then.timings
        with self.telemetry.watch(call) as watched:
            watched.pictures, watched.refused, watched.hops = 1, int(row_error(outcome.row) is not None), hops
            manifest = self.manifests.get(outcome.model)
            done = Classified((outcome.row,), (outcome.model,), (outcome.then.about,), hops)
            ask = Ask((source.uri,), self._defaults, batch=True)
            (entry,) = self._entries.of(done, ask, manifest, (source,), call)
            return {"results": [self._uploads.finish(source, entry, manifest, hops, call)]}, hops

    def _handed_on(self, ref: ObjectRef, manifest: Manifest, call: Call) -> None:
        self._pipeline.hand_on(source_of_object(ref), ref.pinned, model=manifest.ref, call=call)

    def _uploaded(self, refs: Sequence[ObjectRef], call: Call) -> tuple[list[dict[str, Any]], tuple[Timing, ...]]:
        ask = Ask(tuple(ref.pinned for ref in refs), self._defaults, batch=True)
        return self.classify(ask, call, sources=[source_of_object(ref) for ref in refs])


def _plain(source: str | bytes | GraphPipeError) -> str | bytes | GraphPipeError:
    """Return what a caller names, or why not: which of a key's versions is read, only events say."""
    if isinstance(source, str) and is_pinned(source):
        return UnusableURL(f"{shown_url(source)} was sent with something before its bucket; write s3://bucket/key")
    return source


def _tells_of_uploads(body: Buffer, call: Call) -> bool:
    """Return whether a call is an event's, whose sender reads no answer but the status, and sends it again."""
    try:
        return call.method == "POST" and is_event(parse_json(bytes(body)))
    except GraphPipeError:
        return False


def _error(exc: GraphPipeError) -> Error:
    return Error(exc.code, exc.message)
