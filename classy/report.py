"""What the command line prints of results: for people, or as JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from classy import answers
from graphpipe_fn.messages import Timing


def print_results(names: Sequence[str], results: Sequence[Mapping[str, Any]], hops: Sequence[Timing]) -> None:
    """Print each picture's labels with a bar, and what the hops cost."""
    for name, entry in zip(names, results, strict=True):
        print(one_line(name))
        if "error" in entry:
            print(f"  refused: {one_line(entry['error']['message'])} (code {entry['error']['code']})")
            continue
        for row in entry["top_k"]:
            labels = " · ".join(row["label"].values())
            print(f"  {row['probability']:8.2%}  {'█' * round(row['probability'] * 20):20}  {one_line(labels)}")
        print(f"  model {entry['model']['name']}@{entry['model']['version']}")
    print("  " + hop_line(answers.timings(hops)))


def print_json(names: Sequence[str], results: Sequence[Mapping[str, Any]], hops: Sequence[Timing]) -> None:
    """Print one JSON object per picture and line."""
    timings = answers.timings(hops)
    for name, entry in zip(names, results, strict=True):
        print(answers.encode({"source": name, **entry, "timings": timings}).decode(), end="")


def hop_line(timings: Sequence[Mapping[str, Any]]) -> str:
    """Return the hops and their times in one line; a cold one says so."""
    return " → ".join(f"{hop['name']} {hop['ms']:.1f} ms{' (cold)' if hop.get('cold') else ''}" for hop in timings)


def one_line(text: str) -> str:
    """Return a text without control characters, as a terminal can be shown it."""
    return "".join(char if char.isprintable() else "�" for char in text)
