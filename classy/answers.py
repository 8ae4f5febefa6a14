"""
What Classy answers: probabilities in, JSON values out.

Texts are data here: labels go into JSON strings and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from classy.labels import LANGUAGES, class_ids, label_set
from classy.models.manifest import Manifest
from graphpipe_fn.messages import Error, Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from classy.records.values import Classification


def top_k(probabilities: NDArray[np.float32], k: int) -> list[int]:
    """Return the class indices of the k greatest probabilities, greatest first; ties by index."""
    import numpy as np

    return [int(index) for index in np.argsort(-probabilities, kind="stable")[:k]]


def class_entry(manifest: Manifest, index: int, probability: float) -> dict[str, Any]:
    """Return one class as JSON: its index, id, label in every language that there is, and probability."""
    labels = manifest.labels
    ids = class_ids(labels.set) if labels.set else labels.ids
    entry: dict[str, Any] = {"class_index": index}
    if ids:
        entry["class_id"] = ids[index]
    if labels.set:
        entry["label"] = {language: label_set(labels.set, language)[index] for language in LANGUAGES}
    else:
        entry["label"] = {language: names[index] for language, names in (labels.names or {}).items()}
    entry["probability"] = round(float(probability), 6)
    return entry


def result(
    place: int, probabilities: NDArray[np.float32], manifest: Manifest, *, k: int, language: str
) -> dict[str, Any]:
    """
    Return one picture's answer.

    Args:
        place: Its number in the request, from 0.
        probabilities: float32, shape (classes,).
        manifest: Of the model that made them.
        k: Labels to list.
        language: Of the Message; the first that the model has where it has not this one.
    """
    entries = [class_entry(manifest, index, probabilities[index]) for index in top_k(probabilities, k)]
    best = entries[0]
    label = best["label"].get(language) or next(iter(best["label"].values()), str(best["class_index"]))
    return {
        "Id": place,
        "Message": f"result_class={label}, probability={best['probability']:.6f}",
        **best,
        "top_k": entries,
        "model": {"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256},
    }


def refusal(place: int, error: Error, *, retryable: bool) -> dict[str, Any]:
    """Return what is answered for a picture that has no result."""
    return {"Id": place, "error": {"code": error.code, "message": error.message, "retryable": retryable}}


def recorded(record: Classification) -> dict[str, Any]:
    """Return what an answer says of its record: by which it is found again, and its picture."""
    return {
        "recorded": True,
        "record_id": record.identity,
        "picture_id": record.picture,
        **({"picture_sha256": record.picture_sha256} if record.picture_sha256 else {}),
    }


def timings(hops: Sequence[Timing]) -> list[dict[str, Any]]:
    """Return the hops' timings as JSON, in milliseconds."""
    return [
        {"name": hop.name, "ms": round(hop.seconds * 1000, 3), **({} if hop.cold is None else {"cold": hop.cold})}
        for hop in hops
    ]


def encode(value: Mapping[str, Any]) -> bytes:
    """
    Return JSON as UTF-8 with a final newline; not-a-number is refused, for no JSON reader takes it.

    Half of a surrogate pair, which an event's text may have, becomes a question mark: UTF-8 has none.
    """
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
