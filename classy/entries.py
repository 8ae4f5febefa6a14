"""
What is said of each picture, and done about it: its answer, its kept bytes, its record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from classy import answers
from classy.asks import Ask
from classy.errors import FINAL, RETRYABLE
from classy.exif import parse_about
from classy.keeping import Writing, keep
from classy.kept import KeptPictures
from classy.models.manifest import Manifest
from classy.pipeline import Classified, Manifests, row_error
from classy.records.recorder import Recorder, scores, source_of
from classy.records.values import Classification, Refusal, Source
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import Call


class Entries:
    """
    Answers of pictures.

    Args:
        manifests: Of the models that answer.
        recorder: None where no records are kept.
        kept: None where no pictures are kept.
        classes: How many a record holds.
    """

    def __init__(
        self, manifests: Manifests, *, recorder: Recorder | None, kept: KeptPictures | None, classes: int
    ) -> None:
        self._manifests = manifests
        self._recorder = recorder
        self._kept = kept
        self._classes = classes

    def of(
        self, done: Classified, ask: Ask, manifest: Manifest, sources: Sequence[Source], call: Call
    ) -> list[dict[str, Any]]:
        """
        Return one answer per picture, in order, and record them.

        Args:
            done: What the pipeline said of the question's pictures.
            ask: The question.
            manifest: Of the model that was asked.
            sources: Where the pictures came from; what the question itself says unless given.

        Raises:
            GraphPipeError: the model that answered is not published any more. A record that can't be written is no
                such failure: the answer says so.
        """
        results, writing = [], Writing(call)
        for place, (row, ref) in enumerate(zip(done.rows, done.models, strict=True)):
            error = row_error(row)
            if error is not None:
                used = manifest
                entry = answers.refusal(place, error, retryable=error.code in RETRYABLE)
            else:
                used = manifest if ref in ("", manifest.ref) else self._manifests.get(ref)
                entry = answers.result(place, row, used, k=ask.options.top_k, language=ask.options.language)
            asked = ask.sources[place]
            if self._recorder and not isinstance(asked, GraphPipeError) and (error is None or error.code in FINAL):
                outcome = Refusal(error.code, error.message) if error else scores(self._kept_classes(row, used))
                about = done.about[place]
                if isinstance(asked, bytes):  # what its SHA-256 is nobody else needs to be believed
                    about += "\n" + json.dumps({"sha256": hashlib.sha256(asked).hexdigest()})
                record = partial(
                    self._recorder.record,
                    outcome,
                    source=sources[place] if sources else source_of(asked),
                    manifest=used,
                    about=about,
                    timings=done.timings,
                    call=call,
                )
                entry |= self._written(asked, about, record, writing, refused=error is not None, call=call)
            results.append(entry)
        return results

    def _written(
        self,
        asked: str | bytes,
        about: str,
        record: partial[Classification],
        writing: Writing,
        *,
        refused: bool,
        call: Call,
    ) -> dict[str, Any]:
        """Keep a picture, then record it, so that no record tells of a picture that is still to be kept."""
        picture = asked if isinstance(asked, bytes) else None
        said = {} if refused else keep(self._kept, parse_about(about), picture, call)
        if said.get("kept") is False and record.keywords["source"].kind == "bucket":
            return said  # without a record its event comes again, and both are done
        return said | writing.recorded(record)

    def _kept_classes(self, row: Any, manifest: Manifest) -> list[dict[str, Any]]:
        """Return the classes that a record holds, however many this caller asked for."""
        return [answers.class_entry(manifest, index, row[index]) for index in answers.top_k(row, self._classes)]
