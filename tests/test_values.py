"""The library's own @dataclass, held to the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from graphpipe_fn.messages import Call, InferRequest, Timing
from graphpipe_fn.model import Reply
from graphpipe_fn.values import dataclass

Decorator = Callable[..., Any]


def _point(decorator: Decorator) -> Any:
    @decorator(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        names: tuple[str, ...] = dataclasses.field(default=(), compare=False)
        more: list[int] = dataclasses.field(default_factory=list, hash=False, compare=False, repr=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("x")

    return Point


def _limits(decorator: Decorator) -> Any:
    @decorator(frozen=True, slots=True, kw_only=True)
    class Limits:
        """Named only."""

        bytes: int = 5
        rows: int

    return Limits


def _tensor(decorator: Decorator) -> Any:
    @decorator(frozen=True, slots=True, eq=False)
    class Tensor:
        """Compared by its own rule, and shown by it."""

        value: int

        def __eq__(self, other: object) -> bool:
            return self.value == other

        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            return "own"

    return Tensor


def _nothing(decorator: Decorator) -> Any:
    @decorator(frozen=True, slots=True)
    class Nothing:
        """No fields at all."""

    return Nothing


def _told(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - its type is what is compared
        return type(exc)


QUESTIONS: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("repr", _point, lambda kind: repr(kind(1, names=("a",))).rpartition(".")[2]),
    ("equal", _point, lambda kind: (kind(1) == kind(1, 2, ("b",)), kind(1) == kind(3), kind(1) == (1, 2))),
    ("hash", _point, lambda kind: hash(kind(1)) == hash(kind(1, 2, ("c",)))),
    ("factory", _point, lambda kind: kind(1).more is kind(1).more),
    ("too few", _point, lambda kind: kind()),
    ("too many", _point, lambda kind: kind(1, 2, (), [], 5)),
    ("unknown", _point, lambda kind: kind(1, z=1)),
    ("post-init", _point, lambda kind: kind(-1)),
    ("set", _point, lambda kind: setattr(kind(1), "x", 2)),
    ("delete", _point, lambda kind: delattr(kind(1), "x")),
    ("no dict", _point, lambda kind: hasattr(kind(1), "__dict__")),
    ("replace", _point, lambda kind: dataclasses.asdict(dataclasses.replace(kind(1), y=7))),
    ("replace, refused", _point, lambda kind: dataclasses.replace(kind(1), x=-7)),
    ("copy", _point, lambda kind: dataclasses.astuple(copy.copy(kind(4, 5, ("d",), [6])))),
    ("deep copy", _point, lambda kind: dataclasses.astuple(copy.deepcopy(kind(4, 5, ("d",), [6])))),
    ("fields", _point, lambda kind: [field.name for field in dataclasses.fields(kind)]),
    ("match", _point, lambda kind: kind.__match_args__),
    ("names", _point, lambda kind: (kind.__name__, kind.__doc__, kind.__module__)),
    ("signature", _point, lambda kind: list(inspect.signature(kind).parameters)),
    ("kinds", _limits, lambda kind: [str(one.kind) for one in inspect.signature(kind).parameters.values()]),
    ("named", _limits, lambda kind: dataclasses.asdict(kind(rows=1))),
    ("by place", _limits, lambda kind: kind(1, 2)),
    ("own rules", _tensor, lambda kind: (kind(1) == 1, repr(kind(1)))),
    ("own hash", _tensor, lambda kind: hash(kind(1))),
    ("nothing", _nothing, lambda kind: (kind() == kind(), hash(kind()), repr(kind())[-9:])),
]


@pytest.mark.parametrize(("make", "ask"), [row[1:] for row in QUESTIONS], ids=[row[0] for row in QUESTIONS])
def test_a_value_does_what_the_standard_librarys_does(make: Callable[[Any], Any], ask: Callable[[Any], Any]) -> None:
    """The same answer, or an error of the same type."""
    assert _told(lambda: ask(make(dataclass))) == _told(lambda: ask(make(dataclasses.dataclass)))


@pytest.mark.parametrize("value", [Call(id="a"), Timing("x", 1.0), InferRequest(config="c"), Reply([b"x"])])
def test_a_message_survives_pickling(value: object) -> None:
    """Whoever calls a model in another process sends it there."""
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_class_that_is_no_value_is_refused() -> None:
    """What can be changed is made by the standard library."""
    with pytest.raises(TypeError, match="standard library"):
        dataclass(frozen=False, slots=True)
