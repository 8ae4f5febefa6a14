"""
What re-classification comes to: the new record of an old picture, and what changed by it, counted.

It asks no stage and no store; classy.reclassify does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from classy.records.values import Classification
from classy.settings import Places
from graphpipe_fn.errors import GraphPipeError

CHANGES = 50  # of the pairs of classes, the most frequent ones


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture (see Classification.picture) that could not be classified, and why."""

    picture: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Reclassified:
    """
    What became of the pictures that a model had not seen.

    Args:
        done: Pictures that have its result now.
        failed: Those that have not; one that the model's stages refuse for good is recorded as refused.
        agreed, changed: Of those done, how many were the same class by the model before, and how many another one;
            a picture that was refused before is neither.
        changes: {"from": labels, "to": labels, "count": pictures}, the most frequent first.
        next: Where to go on, "" where all pictures have had their turn.
        left: Pictures that the model has still not seen, those that failed among them.
    """

    done: int = 0
    failed: tuple[Failed, ...] = ()
    agreed: int = 0
    changed: int = 0
    changes: tuple[Mapping[str, Any], ...] = ()
    next: str = ""
    left: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture: its new record, or why there is none; both for a refusal that was recorded."""

    before: Classification
    after: Classification | None = None
    error: GraphPipeError | None = None


def redone(before: Classification, *, places: Places, **changes: Any) -> Classification:
    """
    Return the record of a picture that is classified again: the same picture, time and place.

    Args:
        places: Today's setting; a place is never kept more precisely than it allows.
        changes: The new model, outcome, time and call.
    """
    place = before.place if places in ("coarse", "exact") else None
    if place is not None and places == "coarse":
        place = place.coarsened()
    return replace(before, place=place, country="" if places == "off" else before.country, **changes)


def same_class(before: Classification, after: Classification) -> bool:
    """
    Return whether two models named the same class: by its id, else by a name in any language.

    A class that has neither is the same at the same place in the same model's output only.
    """
    old, new = before.top_k[0], after.top_k[0]
    if old.class_id and new.class_id:
        return old.class_id == new.class_id
    names = [{name.casefold() for name in score.labels.values()} for score in (old, new)]
    if all(names):
        return bool(names[0] & names[1])
    return before.model.name == after.model.name and old.class_index == new.class_index


@dataclass
class Tally:
    """Count outcomes."""

    left: int
    next: str
    done: int = 0
    agreed: int = 0
    changed: int = 0
    failed: list[Failed] = field(default_factory=list)
    changes: Counter[tuple[tuple[tuple[str, str], ...], ...]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Return how many pictures had their turn."""
        return self.done + len(self.failed)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count the outcomes of one call."""
        for found in outcomes:
            if found.after is not None:
                self.left -= 1
            if found.error is not None:
                self.failed.append(Failed(found.before.picture, found.error.code, found.error.message))
                continue
            assert found.after is not None  # an outcome is a record or an error
            self.done += 1
            if not found.before.top_k:
                continue
            if same_class(found.before, found.after):
                self.agreed += 1
            else:
                self.changed += 1
                self.changes[_labels(found.before), _labels(found.after)] += 1

    def result(self) -> Reclassified:
        """Return the counts so far."""
        changes = tuple(
            {"from": dict(old), "to": dict(new), "count": count}
            for (old, new), count in self.changes.most_common(CHANGES)
        )
        return Reclassified(
            self.done, tuple(self.failed), self.agreed, self.changed, changes, self.next, max(self.left, 0)
        )


def _labels(record: Classification) -> tuple[tuple[str, str], ...]:
    best = record.top_k[0]
    return tuple(best.labels.items()) or (("", str(best.class_index)),)
