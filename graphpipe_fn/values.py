"""
`@dataclass` for values, at a third of its price: each of the standard library's takes 1 ms of a cold start.

What it makes is frozen, has slots, and can do what `dataclass(frozen=True, slots=True)` can; dataclasses.fields,
replace and asdict work on it. The standard library compiles six methods of text for each class, of which only
`__init__` is quicker for it; here it is compiled at its first use, and the others are made of closures. Type
checkers are told that it is the original.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, eq: bool = True, kw_only: bool = False) -> Callable[[type], type]:
        """
        Make a class of its annotations; see dataclasses.dataclass.

        Args:
            frozen, slots: True, or take the standard library's.
        """
        from dataclasses import dataclass as standard

        if not (frozen and slots):
            raise TypeError("mutable classes, and those without slots, are made by the standard library's dataclass")
        plain = standard(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)

        def made(cls: type) -> type:
            cls = plain(cls)
            listed = fields(cls)
            cls.__init__ = _Init(cls, listed)
            cls.__setattr__, cls.__delattr__ = _refuse_set, _refuse_delete
            cls.__getstate__, cls.__setstate__ = _state, _set_state
            if "__repr__" not in cls.__dict__:
                cls.__repr__ = _repr
            if eq:
                cls.__eq__, cls.__hash__ = _comparing(tuple(field.name for field in listed if field.compare))
            return cls

        return made


class _Init:
    """`__init__`, until somebody asks for it: of the values that are imported many are never made."""

    def __init__(self, cls: type, listed: tuple[Field[Any], ...]) -> None:
        self._cls = cls
        self._listed = listed

    def __get__(self, value: object, cls: type) -> Callable[..., None]:
        made = _init(self._cls, self._listed)
        self._cls.__init__ = made  # type: ignore[misc]
        return made.__get__(value, cls)  # type: ignore[no-any-return]


def _init(cls: type, listed: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Return `__init__`, compiled: it runs for every message."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": MISSING}
    places: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for field in listed:
        name, value = field.name, field.name
        parameter = name
        if field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            parameter, value = f"{name}=_MISSING", f"_make_{name}() if {name} is _MISSING else {name}"
        elif field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
        (named if field.kw_only else places).append(parameter)
        lines.append(f"    _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    parameters = ", ".join(["self", *places, *(["*", *named] if named else [])])
    exec(f"def __init__({parameters}):\n" + "\n".join(lines or ["    pass"]), known)  # noqa: S102 - own words
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**{field.name: field.type for field in listed}, "return": None}
    return made


def _comparing(names: tuple[str, ...]) -> tuple[Callable[[Any, object], Any], Callable[[Any], int]]:
    """Return `__eq__` and `__hash__` of these attributes."""
    told: Callable[[Any], Any] = attrgetter(*names) if names else lambda value: ()

    def equal(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return told(self) == told(other)
        return NotImplemented

    return equal, lambda self: hash(told(self))


def _repr(self: Any) -> str:
    told = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(told)})"


def _refuse_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
