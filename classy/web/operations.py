"""
What an operation of the API is: its path and method, what it takes and answers, and the function that does it.

Requests are checked against the same declaration that the OpenAPI document is made of, so the document can't say
anything else than what is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from classy.errors import BadRequest
from classy.front import Classy
from classy.settings import Settings

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.datastructures import MultiDict

Schema = Mapping[str, Any]

EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
TEXT = r"^[^\u0000-\u001f\u007f\ufffd]*$"  # no control characters, and nothing that was no UTF-8
_SPACE_FOR_PLUS = re.compile(r"(.*:\d\d(?:\.\d+)?) (\d\d:?\d\d)")


@dataclass(frozen=True, slots=True)
class Service:
    """What every operation works with."""

    classy: Classy
    settings: Settings


View = Callable[[Service, Mapping[str, Any]], "Response"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """
    One value in the query or in the path.

    Args:
        schema: JSON Schema of a string, a date-time, an integer or an array of strings; its `default` is what an
            absent one means, else "", an empty tuple or None.
        example: For the document's readers.
    """

    name: str
    schema: Schema
    description: str
    where: Literal["query", "path"] = "query"
    example: str | int = ""

    def read(self, texts: list[str]) -> Any:
        """
        Return the value.

        Args:
            texts: As often as the query has it.

        Raises:
            BadRequest: too often, or not what the schema says.
        """
        kind = self.schema["type"]
        if kind == "array":
            if len(texts) > self.schema["maxItems"]:
                raise BadRequest(
                    f'"{self.name}" was given {len(texts)} times; the limit is {self.schema["maxItems"]}'
                )
            return tuple(self._text(text, self.schema["items"]) for text in texts)
        if len(texts) > 1:
            raise BadRequest(f'"{self.name}" was given twice; give it once')
        if not texts:
            empty = {"integer": None, "string": None if self.schema.get("format") == "date-time" else ""}[kind]
            return self.schema.get("default", empty)
        if kind == "integer":
            return self._integer(texts[0])
        if self.schema.get("format") == "date-time":
            return self._time(texts[0])
        return self._text(texts[0], self.schema)

    def _integer(self, text: str) -> int:
        least, most = self.schema["minimum"], self.schema["maximum"]
        if re.fullmatch(r"-?[0-9]{1,9}", text) and least <= int(text) <= most:
            return int(text)
        raise BadRequest(f'"{self.name}" must be a whole number from {least} to {most}, not {text[:40]!r}')

    def _text(self, text: str, schema: Schema) -> str:
        if "enum" in schema and text not in schema["enum"]:
            raise BadRequest(f'"{self.name}" must be one of {", ".join(schema["enum"])}, not {text[:40]!r}')
        if not re.search(schema.get("pattern", TEXT), text) or text.endswith("\n"):
            raise BadRequest(f'"{self.name}" can\'t be {text[:80]!r}; it takes {self.description}')
        if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 4_000):
            raise BadRequest(f'"{self.name}" has {len(text)} characters; that is too few or too many')
        return text

    def _time(self, text: str) -> datetime:
        # "+09:00" in a query is a space and "09:00" to whoever did not escape the plus.
        text = _SPACE_FOR_PLUS.sub(r"\1+\2", text).upper()
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = None
        if time is None or time.utcoffset() is None or not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text):
            raise BadRequest(f'"{self.name}" must be a time like 2026-11-21T09:30:00+09:00, not {text[:40]!r}')
        try:
            return time.astimezone(UTC)
        except OverflowError:  # within a day of the calendar's ends
            return EARLIEST if time.year == 1 else LATEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's body: by media type, what it is and an example of it."""

    schemas: Mapping[str, Schema]
    examples: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One thing that the API does.

    Args:
        path: With {name} for its parameters.
        name: Of the operation, in one word for programs.
        answers: Of its success: by media type, the schema of the body; None for one without a schema.
        refuses: The statuses of its own errors, beside those that all have.
        changes: Whether something is kept after it, though it is a GET.
        open: Whether it needs no key and counts against no limit.
        links: Other operations, by their names, and what of the answer is their parameters.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    name: str
    summary: str
    view: View
    answers: Mapping[str, Schema]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    refuses: tuple[int, ...] = ()
    open: bool = False
    changes: bool = False
    description: str = ""
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """Return the path as Flask writes it."""
        return re.sub(r"\{(\w+)\}", r"<\1>", self.path)

    def read(self, query: MultiDict[str, str], path: Mapping[str, str]) -> dict[str, Any]:
        """
        Return the values of all parameters.

        Raises:
            BadRequest: one can't be used, or the query has one that there is not.
        """
        known = {parameter.name for parameter in self.parameters if parameter.where == "query"}
        unknown = sorted(set(query) - known)
        if unknown:
            listed = f"known are {', '.join(sorted(known))}" if known else "there are none here"
            raise BadRequest(f"unknown parameter {unknown[0][:80]!r}; {listed}")
        return {
            parameter.name: parameter.read(
                [path[parameter.name]] if parameter.where == "path" else query.getlist(parameter.name)
            )
            for parameter in self.parameters
        }


def body_field(value: Mapping[str, Any], name: str, kind: type, *, default: Any) -> Any:
    """
    Return one field of a JSON body.

    Raises:
        BadRequest: of another type.
    """
    found = value.get(name, default)
    if type(found) is not kind:
        raise BadRequest(f'"{name}" must be {"a text" if kind is str else "a whole number"}, not {found!r:.60}')
    return found
