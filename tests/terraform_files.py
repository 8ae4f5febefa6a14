"""Terraform files as plain values: what a parser can say of them without Terraform, which no package registry has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

META = {"count", "depends_on", "for_each", "provider"}
_REFERENCE = re.compile(r"\b(?:var|local|each|data\.[a-z_]+|oci_[a-z_]+)\.[A-Za-z_]+")


@dataclass(frozen=True)
class Block:
    """A block: its labels (`oci_events_rule`, `uploads`) and its arguments, nested blocks as lists of blocks."""

    kind: str
    labels: tuple[str, ...]
    body: dict[str, Any]

    @property
    def address(self) -> str:
        """Return how others refer to it."""
        prefix = {"variable": ("var",), "data": ("data",)}.get(self.kind, ())
        return ".".join((*prefix, *self.labels))


def blocks(folder: Path) -> list[Block]:
    """Return every block of a folder's Terraform files."""
    return [block for path in sorted(folder.glob("*.tf")) for block in _blocks(hcl2.loads(path.read_text()))]


def _blocks(parsed: dict[str, Any]) -> Iterator[Block]:
    for kind, entries in _cleaned(parsed).items():
        for entry in entries:
            labels: list[str] = []
            body = entry
            while kind not in ("locals", "terraform") and len(body) == 1 and _is_label(body):
                ((label, body),) = body.items()
                labels.append(label.strip('"'))
            yield Block(kind, tuple(labels), body)


def _is_label(body: dict[str, Any]) -> bool:
    ((key, value),) = body.items()
    return key.startswith('"') and isinstance(value, dict)


def _cleaned(value: Any) -> Any:
    """Drop what the parser adds, and the quotes that it leaves around plain strings."""
    if isinstance(value, dict):
        return {key: _cleaned(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value[1:-1] if isinstance(value, str) and re.fullmatch(r'"[^"]*"', value) else value


def texts(value: Any) -> Iterator[str]:
    """Yield every string in a value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def references(block: Block) -> set[str]:
    """Return the addresses that a block refers to: `var.region`, `local.buckets`, `oci_core_vcn.classy`."""
    return {match for text in texts(block.body) for match in _REFERENCE.findall(text)}
