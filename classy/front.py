"""
Classy, the front: a question in, labels out; and uploads' events in, results written.

It knows no platform: `answer(body, call) -> Reply` is what every adapter serves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from classy import answers
from classy.asks import Ask, Options, ask_of, parse_ask, parse_json, parse_query
from classy.errors import (
    BadRequest,
    PictureTooCostly,
    PictureTooLarge,
    SourceNotFound,
    SourceTimedOut,
    StorageFailed,
    UnreadablePicture,
    UploadDelayed,
)
from classy.events import ObjectRef, created_objects, is_event
from classy.objects import ObjectStorage
from classy.pipeline import Manifests, Pipeline, object_storage, row_error
from classy.settings import Settings
from graphpipe_fn.errors import (
    Busy,
    GraphPipeError,
    InternalError,
    TimedOut,
    TooLarge,
    TransportFailed,
    Unavailable,
    status_of,
)
from graphpipe_fn.messages import Call, Error, Timing
from graphpipe_fn.model import Buffer, Reply

log = logging.getLogger(__name__)
JSON = "application/json; charset=utf-8"
# What no second try would mend: the verdict on the picture itself. Anything else sends the event back to its queue.
FINAL = frozenset(
    kind.code for kind in (UnreadablePicture, PictureTooLarge, PictureTooCostly, SourceNotFound, TooLarge)
)
RETRYABLE = frozenset(
    kind.code for kind in (Busy, SourceTimedOut, StorageFailed, TimedOut, TransportFailed, Unavailable, UploadDelayed)
)


def _now() -> datetime:
    return datetime.now(UTC)


class Classy:
    """
    Answer questions about pictures.

    Args:
        settings: See Settings; the model store is needed for the labels.
        manifests: Shared with other users of the same settings, or made of them.
        now: The clock for a result's `classified_at`, aware UTC.
    """

    def __init__(
        self, settings: Settings, *, manifests: Manifests | None = None, now: Callable[[], datetime] = _now
    ) -> None:
        self._now = now
        self._settings = settings
        self._manifests = manifests or Manifests(settings)
        self._pipeline = Pipeline(settings, self._manifests)
        self._defaults = Options(settings.top_k, settings.language)
        self._objects: ObjectStorage | None = None
        self._first = True

    def answer(self, body: Buffer, call: Call) -> Reply:
        """
        Answer one call; never raises.

        Args:
            body: See classy.asks, or an object-storage event.

        Returns:
            JSON. A single picture's error sets the status too; in a batch each entry carries its own.
        """
        started_s = time.perf_counter()
        cold, self._first = self._first, False
        try:
            value, hops = self._answered(bytes(body), call)
        except GraphPipeError as exc:
            log.warning("call %s: %d %s", call.id, exc.code, exc.message)
            value, hops = answers.refusal(0, _error(exc), retryable=_retryable(exc.code)), ()
        except Exception:
            log.exception("call %s failed", call.id)
            bug = InternalError(f"internal error, call {call.id}; the log has the detail")
            value, hops = answers.refusal(0, _error(bug), retryable=False), ()
        own_s = time.perf_counter() - started_s - sum(hop.seconds for hop in hops)
        hops = (Timing("classy", own_s, cold), *hops)
        value = {**value, "timings": answers.timings(hops), "call_id": call.id}
        status = status_of(value["error"]["code"]) if "error" in value else 200
        return Reply([answers.encode(value)], status, JSON, hops)

    def close(self) -> None:
        """Close the connections to the other stages; the next call opens new ones."""
        self._pipeline.close()

    def _answered(self, body: bytes, call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        limit = self._settings.limit_rows
        if call.method != "POST":
            ask = ask_of(parse_query(call.method, call.query), defaults=self._defaults, limit_rows=limit)
        elif body.lstrip().startswith(b"{") and not call.content_type.lower().startswith("image/"):
            value = parse_json(body)
            if is_event(value):
                return self._uploads(value, call)
            ask = ask_of(value, defaults=self._defaults, limit_rows=limit)
        else:
            ask = parse_ask(body, call.content_type, defaults=self._defaults, limit_rows=limit)
        results, hops = self.classify(ask, call)
        return ({"results": results} if ask.batch else results[0]), hops

    def classify(self, ask: Ask, call: Call) -> tuple[list[dict[str, Any]], tuple[Timing, ...]]:
        """
        Return one answer per picture, in order, and what each hop cost.

        Raises:
            GraphPipeError: the pipeline fails as a whole.
        """
        manifest = self._manifests.get(ask.options.model)
        done = self._pipeline.classify(ask.sources, model=manifest.ref, call=call)
        results = []
        for place, (row, ref) in enumerate(zip(done.rows, done.models, strict=True)):
            error = row_error(row)
            if error is not None:
                results.append(answers.refusal(place, error, retryable=_retryable(error.code)))
            else:
                used = manifest if ref in ("", manifest.ref) else self._manifests.get(ref)
                options = ask.options
                results.append(answers.result(place, row, used, k=options.top_k, language=options.language))
        return results, done.timings

    def _uploads(self, event: Mapping[str, Any], call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        """Classify what an event says is new; raise UploadDelayed where a later try may do better."""
        try:
            return self._classified_uploads(event, call)
        except BadRequest:
            raise  # no event of ours, whenever it comes
        except GraphPipeError as exc:
            raise UploadDelayed(exc.message) from exc

    def _classified_uploads(self, event: Mapping[str, Any], call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        manifest = self._manifests.get()
        objects = created_objects(event)
        todo = [ref for ref in objects if not self._is_done(ref, manifest.ref)]
        if not todo:
            return {"results": [], "ignored": len(objects)}, ()
        results, hops = self.classify(Ask(tuple(ref.uri for ref in todo), self._defaults, batch=True), call)
        written = []
        for ref, entry in zip(todo, results, strict=True):
            if "error" in entry and entry["error"]["code"] not in FINAL:
                raise UploadDelayed(f"{ref.uri} can't be classified now: {entry['error']['message']}")
            timed = {**entry, "timings": answers.timings(hops)}
            written.append(self._write(ref, manifest.ref, timed, call))
        return {"results": written, "ignored": len(objects) - len(todo)}, hops

    def _is_done(self, ref: ObjectRef, model: str) -> bool:
        if not self._settings.results:
            return False
        try:
            self._storage.size(self._place(ref, model))
        except SourceNotFound:
            return False
        return True

    def _write(self, ref: ObjectRef, model: str, entry: dict[str, Any], call: Call) -> dict[str, Any]:
        value = {"source": ref.uri, "version": ref.version, **entry}
        if self._settings.results:
            value["classified_at"] = self._now().isoformat()
            value["call_id"] = call.id
            self._storage.put(self._place(ref, model), answers.encode(value), content_type=JSON)
        return value

    def _place(self, ref: ObjectRef, model: str) -> str:
        """Return the result's own URI: the same for every delivery of the same event, never in the inbox."""
        version = ref.version.strip('"') or "current"
        return f"{self._settings.results}/{ref.bucket}/{ref.key}/{version}.{model}.json"

    @property
    def _storage(self) -> ObjectStorage:
        if self._objects is None:
            self._objects = object_storage(self._settings)
        return self._objects


def _error(exc: GraphPipeError) -> Error:
    return Error(exc.code, exc.message)


def _retryable(code: int) -> bool:
    return code in RETRYABLE
