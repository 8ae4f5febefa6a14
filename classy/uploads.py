"""
Uploads that classify themselves: an event in, results written and recorded.

Events come at least once and in any order, so everything here can be done twice: what was done already is left
alone. A picture that can't be read is a result; a failure of ours is none, and sends the event back to its queue.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from classy import answers
from classy.errors import (
    FINAL,
    GONE,
    BadRequest,
    SourceNotFound,
    SourceReplaced,
    UnusableURL,
    UploadDelayed,
)
from classy.events import ObjectRef, announced
from classy.models.manifest import Manifest
from classy.objects import ObjectStorage
from classy.pipeline import Manifests, object_storage
from classy.records.recorder import Recorder
from classy.records.values import Refusal, Source, object_identity
from classy.s3 import bucket_and_key
from classy.settings import Settings
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import Call, Error, Timing

log = logging.getLogger(__name__)
JSON = "application/json; charset=utf-8"
KEY_BYTES = 1024  # of an S3 key, at most
RESULT_BYTES = 1_000_000  # of a result that is read again: a thousand labels in three languages have 0.1 MB
Answered = tuple[list[dict[str, Any]], tuple[Timing, ...]]


class Uploads:
    """
    Deal with events of uploads.

    Args:
        classify: Answers for announced pictures, and records the answers where records are kept: each then
            says so, under "recorded".
        recorder: None where no records are kept.
        hand_on: Sends a picture on its way where nobody waits for it; its outcome comes back by finish().
        now: The clock, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        manifests: Manifests,
        classify: Callable[[Sequence[ObjectRef], Call], Answered],
        *,
        recorder: Recorder | None,
        now: Callable[[], datetime],
        hand_on: Callable[[ObjectRef, Manifest, Call], None] | None = None,
    ) -> None:
        self._results = settings.results.rstrip("/")
        self._own = {
            "CLASSY_RESULTS": (self._results, "a result of ours"),
            "CLASSY_PICTURES": (settings.pictures, "a picture that is kept"),
            # A large one would be handed over again on its way through the stages, and announced again, for ever.
            "CLASSY_HANDOVER": (settings.handover, "a message between stages"),
        }
        self._settings = settings
        self._manifests = manifests
        self._classify = classify
        self._recorder = recorder
        self._now = now
        self._hand_on = hand_on
        self._objects: ObjectStorage | None = None

    def answer(self, event: Mapping[str, Any], call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        """
        Classify what an event says is new.

        Returns:
            {"results": one answer per object, "ignored": how much else there was, "reasons": why}, and the hops.
            Where pictures are handed on, {"handed_on": their URIs} beside it instead of their answers.

        Raises:
            BadRequest: no event that can be read, whenever it comes.
            UploadDelayed: a later try may do better.
        """
        try:
            return self._answered(event, call)
        except (BadRequest, UploadDelayed):
            raise
        except GraphPipeError as exc:
            raise UploadDelayed(exc.message) from exc

    def finish(
        self, source: Source, entry: dict[str, Any], manifest: Manifest, hops: Sequence[Timing], call: Call
    ) -> dict[str, Any]:
        """
        Return the result of a picture that was handed on, written where the settings say.

        Args:
            entry: Its answer, recorded already.

        Raises:
            UploadDelayed: a later try may do better.
            GraphPipeError: the result can't be written.
        """
        if why := _delay(entry):
            raise UploadDelayed(f"{source.uri} can't be dealt with now: {why}")
        ref = ObjectRef(source.bucket, source.key, source.version)
        return self._written(ref, entry, manifest, hops, call)

    def _answered(self, event: Mapping[str, Any], call: Call) -> tuple[dict[str, Any], tuple[Timing, ...]]:
        said = announced(event)
        if not said.objects:
            return {"results": [], "ignored": len(said.ignored), "reasons": list(said.ignored)}, ()
        manifest = self._manifests.get(deadline_s=call.deadline_s)
        done = {ref: why for ref in said.objects if (why := self._done(ref, manifest.ref))}
        odd = {ref: exc for ref in said.objects if ref not in done and (exc := _unaddressable(ref))}
        todo = [ref for ref in said.objects if ref not in done and ref not in odd]
        handed: dict[str, Any] = {}
        if self._hand_on and todo:
            for ref in todo:
                self._hand_on(ref, manifest, call)
            handed, todo = {"handed_on": [ref.uri for ref in todo]}, []
        entries, hops = self._classify(todo, call) if todo else ([], ())
        found = dict(zip(todo, entries, strict=True))
        late = {ref: why for ref, entry in found.items() if (why := _delay(entry))}
        found |= {ref: self._refused(ref, exc, manifest, call) for ref, exc in odd.items()}
        results = [
            self._written(ref, found[ref], manifest, hops, call)
            for ref in said.objects
            if ref in found and ref not in late
        ]
        for ref, why in late.items():  # only now, so that a bad one does not hold up the others
            raise UploadDelayed(f"{ref.uri} can't be dealt with now: {why}")
        reasons = [*said.ignored, *done.values()]
        return {"results": results, "ignored": len(reasons), "reasons": reasons, **handed}, hops

    def _done(self, ref: ObjectRef, model: str) -> str:
        """Return why there is nothing to do for an object, "" where there is."""
        for setting, (place, what) in self._own.items():
            if place and ref.uri.startswith(f"{place}/"):
                if "/" not in place.removeprefix("s3://"):
                    raise UploadDelayed(
                        f"{setting} is {place}, the bucket that uploads come to, so whatever is written there would "
                        "be an upload; name another bucket, or a prefix in it that announces nothing"
                    )
                return f"{ref.uri} is {what}"
        if not self._recorder and not self._results:
            return ""
        if self._recorder:
            record = self._recorder.store.get(object_identity(ref.bucket, ref.key, ref.version, model))
            if record is None or (record.refusal is not None and record.refusal.code in GONE):
                return ""
        if self._results and not self._has_result(ref, model):
            return ""
        return f"{ref.uri} was classified by {model} before"

    def _refused(self, ref: ObjectRef, exc: UnusableURL, manifest: Manifest, call: Call) -> dict[str, Any]:
        """Refuse an object that nobody can open."""
        entry = answers.refusal(0, Error(exc.code, exc.message), retryable=False)
        if self._recorder:
            refusal = Refusal(exc.code, exc.message)
            record = self._recorder.record(refusal, source=source_of_object(ref), manifest=manifest, call=call)
            entry |= answers.recorded(record)
        return entry

    def _written(
        self, ref: ObjectRef, entry: dict[str, Any], manifest: Manifest, hops: Sequence[Timing], call: Call
    ) -> dict[str, Any]:
        """Return one object's result, written where the settings say."""
        code = entry["error"]["code"] if "error" in entry else 0
        if code == SourceReplaced.code:
            log.warning("call %s: %s", call.id, entry["error"]["message"])
        value = {"source": ref.uri, "version": ref.version, **entry, "timings": answers.timings(hops)}
        # What is gone by now another delivery of the event may have seen in time.
        if self._results and not (code in GONE and self._has_result(ref, manifest.ref)):
            value["classified_at"] = self._now().isoformat()
            value["call_id"] = call.id
            self._storage.put(self._place(ref, manifest.ref), answers.encode(value), content_type=JSON)
        return value

    def _has_result(self, ref: ObjectRef, model: str) -> bool:
        """Return whether a result is written that stays: any but that the object was gone."""
        try:
            result = self._storage.get(self._place(ref, model), limit_bytes=RESULT_BYTES)
        except SourceNotFound:
            return False
        return _code(result) not in GONE

    def _place(self, ref: ObjectRef, model: str) -> str:
        """Return the result's own URI: the same for every delivery of the same event."""
        version = ref.version.strip('"') or "current"
        place = f"{self._results}/{ref.bucket}/{ref.key}/{version}.{model}.json"
        try:
            if len(bucket_and_key(place)[1].encode()) <= KEY_BYTES:
                return place
        except UnusableURL:
            pass  # an object whose key nobody can open has a result nevertheless
        return f"{self._results}/unusual-keys/{object_identity(ref.bucket, ref.key, version, model)}.json"

    @property
    def _storage(self) -> ObjectStorage:
        if self._objects is None:
            self._objects = object_storage(self._settings)
        return self._objects


def source_of_object(ref: ObjectRef) -> Source:
    """Return where an announced picture came from, for its record."""
    return Source("bucket", ref.uri, ref.bucket, ref.key, ref.version)


def _unaddressable(ref: ObjectRef) -> UnusableURL | None:
    try:
        bucket_and_key(ref.uri)
    except UnusableURL as exc:
        return exc
    return None


def _code(result: bytes) -> int:
    """Return the error's code of a result that was written before, 0 where there is none."""
    try:
        return int(json.loads(result)["error"]["code"])
    except (ValueError, TypeError, KeyError):
        return 0


def _delay(entry: Mapping[str, Any]) -> str:
    """Return why an answer is not the last word on its picture, "" where it is."""
    error = entry.get("error")
    if error and error["code"] not in FINAL:
        return str(error["message"])
    if not entry.get("kept", True):
        return str(entry["kept_error"]["message"])
    return "" if entry.get("recorded", True) else str(entry["recorded_error"]["message"])
