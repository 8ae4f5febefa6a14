"""Which pictures one version of a model has not seen: what re-classification has left to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from classy.errors import BadRequest
from classy.records.schema import records

_DIGEST = re.compile("[0-9a-f]{64}")


def pictures(model_ref: str, after: str = "") -> sa.Select[tuple[str]]:
    """
    Return a statement for the pictures that a model version has no record of, in their own order.

    One walk along the index of pictures, which holds all that is asked for and stops where the page is full.

    Args:
        model_ref: NAME@VERSION.
        after: The last picture of the page before.
    """
    name, _, version = model_ref.partition("@")
    seen = sa.case(((records.c.model_name == name) & (records.c.model_version == version), 1), else_=0)
    result = sa.case((records.c.error_code.is_(None), 1), else_=0)
    picture = records.c.picture
    grouped = sa.select(picture).where(picture > after).group_by(picture).order_by(picture)
    return grouped.having(sa.func.max(seen) == 0, sa.func.max(result) == 1)


def position(after: str) -> str:
    """
    Return where a page begins.

    Raises:
        BadRequest: no cursor of such a page.
    """
    if after and not _DIGEST.fullmatch(after):
        raise BadRequest(f"{after[:80]!r} is no cursor; give the one that came with the page before")
    return after


def newest(rows: Iterable[Any]) -> list[Any]:
    """Return the newest row of each picture, in the pictures' order."""
    of_picture: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: (row.classified_at, row.id)):
        of_picture[row.picture] = row
    return [of_picture[picture] for picture in sorted(of_picture)]
