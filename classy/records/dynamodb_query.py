"""
What a query wants of DynamoDB: of entries, of parts of the index by time, of squares of the Earth, and from when on.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection

from classy.errors import BadRequest
from classy.records.dynamodb_items import BUCKET_MAX, Facts, Part, cell_number, moment
from classy.records.values import Box, Query

KINDS = ("url", "bucket", "upload")
EARLIEST, LATEST = "0", ":"  # before and after every `at`, which begins with a digit

_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} [0-9a-f]{16}")
_DIGEST = re.compile("[0-9a-f]{64}")


def wanted(query: Query, class_keys: Collection[str] | None) -> Callable[[Facts], bool]:
    """
    Return what tells whether a query wants a record, but for its time, picture and URI.

    Args:
        class_keys: Of the classes that the query's label names; None where it names none.
    """
    kind, bucket, _ = source_of(query.source)

    def wants(facts: Facts) -> bool:
        name, _, _ = facts.model.partition("@")
        return (
            (class_keys is None or facts.class_key in class_keys)
            and query.model in ("", facts.model, name)
            and query.country in ("", facts.country)
            and kind in ("", facts.kind)
            and bucket in ("", facts.bucket)
            and (query.box is None or _inside(query.box, facts.latitude_deg, facts.longitude_deg))
        )

    return wants


def part_wanted(query: Query) -> Callable[[Part], bool]:
    """Return what tells whether a part may hold what a query wants."""
    kind, bucket, _ = source_of(query.source)

    def wants(part: Part) -> bool:
        name, _, _ = part.model.partition("@")
        return query.model in ("", part.model, name) and (
            (kind in ("", part.home) or (kind == "bucket" and part.home.startswith("s3://")))
            and bucket[:BUCKET_MAX] in ("", part.home.removeprefix("s3://"))
        )

    return wants


def source_of(text: str) -> tuple[str, str, str]:
    """Return the kind of source, the bucket or the URI that a query names; the others are empty."""
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if text in KINDS:
        return text, "", ""
    if text.startswith("s3://") and not key:
        return "bucket", bucket, ""
    return "", "", text


def times(query: Query) -> tuple[str, str]:
    """
    Return between which values of `at` a query's records are, the first included.

    Raises:
        BadRequest: `after` is no cursor.
    """
    since = moment(query.since) if query.since else EARLIEST
    until = moment(query.until) if query.until else LATEST
    return since, min(until, _position(query.after)) if query.after else until


def rows_of(box: Box) -> tuple[str, str]:
    """Return between which texts the cells of a box's parallels are."""
    return cell_number(box.south_deg, 90), f"{cell_number(box.north_deg, 90)}~"


def cell_wanted(query: Query) -> Callable[[str], bool]:
    """Return what tells whether a cell may hold what a query wants."""
    box = query.box
    west, east = (cell_number(box.west_deg, 180), cell_number(box.east_deg, 180)) if box else ("", "")

    def wants(cell: str) -> bool:
        square, _, country = cell.partition(":")
        column = square.partition(".")[2]
        across = box is not None and box.west_deg > box.east_deg
        inside = column >= west or column <= east if across else west <= column <= east
        return query.country in ("", country) and (box is None or (square != "" and inside))

    return wants


def cursor(at: str) -> str:
    """Return an `at` as a text for callers."""
    return base64.urlsafe_b64encode(at.encode()).decode().rstrip("=")


def _position(text: str) -> str:
    try:
        at = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        at = ""
    if not _AT.fullmatch(at):
        raise BadRequest(f"{text[:80]!r} is no cursor; give the one that came with the page before")
    return at


def digest_of(text: str) -> str:
    """
    Return a picture's own digest as it is.

    Raises:
        BadRequest: it is none.
    """
    if not _DIGEST.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is no cursor; give the one that came with the page before")
    return text


def is_digest(text: str) -> bool:
    """Return whether a text may be the digest of a picture, or a record's identity."""
    return _DIGEST.fullmatch(text) is not None


def _inside(box: Box, latitude_deg: float | None, longitude_deg: float | None) -> bool:
    if latitude_deg is None or longitude_deg is None or not box.south_deg <= latitude_deg <= box.north_deg:
        return False
    if box.west_deg <= box.east_deg:
        return box.west_deg <= longitude_deg <= box.east_deg
    return longitude_deg >= box.west_deg or longitude_deg <= box.east_deg
