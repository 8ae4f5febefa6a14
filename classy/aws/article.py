"""
The talk's sister, the Lambda article: its handler's answer and its log lines, `label (score = 0.89107)`.

Source: ryfeus, "Using TensorFlow and the Serverless Framework for deep learning and image recognition".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LANGUAGE = "en"  # of the labels, unless the caller names one


def lines(answer: Mapping[str, Any], language: str) -> list[str]:
    """
    Return a picture's likeliest classes, one a line.

    Args:
        answer: As the front answers for one picture; without results there are no lines.
    """
    return [_line(entry, language) for entry in answer.get("top_k", ())]


def returned(answer: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return what the article's handler returns: the likeliest class; an error as the front tells it."""
    best = lines(answer, language)
    return {"return": best[0]} if best else {"error": answer.get("error", {})}


def _line(entry: Mapping[str, Any], language: str) -> str:
    names = entry.get("label", {})
    label = names.get(language) or next(iter(names.values()), str(entry["class_index"]))
    return f"{label} (score = {entry['probability']:.5f})"
