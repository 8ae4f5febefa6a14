"""
What a record says: one classification of one picture by one version of a model, with its time and place.

Plain values: they know no database, no clock and no picture. Times and places are handed in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Literal

from classy.errors import BadRequest
from graphpipe_fn.messages import Timing
from graphpipe_fn.values import dataclass

SourceKind = Literal["url", "bucket", "upload"]
LIMIT_MAX = 1_000  # records of one page
PICTURES_MAX = 100  # named in one query


@dataclass(frozen=True, slots=True)
class Place:
    """
    A point on the Earth, WGS 84.

    Args:
        latitude_deg: -90 to 90, north is positive.
        longitude_deg: -180 to 180, east is positive.
        altitude_m: Above sea level; None where nobody knows.

    Raises:
        ValueError: out of range, or not a number.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None = None

    def __post_init__(self) -> None:
        if not (abs(self.latitude_deg) <= 90 and abs(self.longitude_deg) <= 180):
            raise ValueError(f"there is no place at {self.latitude_deg}, {self.longitude_deg}")
        if self.altitude_m is not None and not math.isfinite(self.altitude_m):
            raise ValueError(f"there is no altitude of {self.altitude_m} m")

    def coarsened(self) -> Place:
        """Return the nearest point of a 0.1° grid (at most 8 km away), without the altitude."""
        return Place(round(self.latitude_deg, 1) + 0.0, round(self.longitude_deg, 1) + 0.0)  # + 0.0: no minus zero


@dataclass(frozen=True, slots=True)
class Box:
    """
    A part of the Earth between two parallels and two meridians.

    Args:
        west_deg, east_deg: Where west is the greater, the box goes across the antimeridian. Source: RFC 7946, 5.2.
        south_deg, north_deg: South is not the greater.

    Raises:
        BadRequest: out of range, upside down, or not a number.
    """

    west_deg: float
    south_deg: float
    east_deg: float
    north_deg: float

    def __post_init__(self) -> None:
        order = "a box is WEST,SOUTH,EAST,NORTH in degrees"
        for name, value, most in (
            ("west", self.west_deg, 180), ("south", self.south_deg, 90),
            ("east", self.east_deg, 180), ("north", self.north_deg, 90),
        ):  # fmt: skip
            if not abs(value) <= most:
                raise BadRequest(f"{order}, and its {name} is {value:g}; give -{most} to {most}")
        if self.south_deg > self.north_deg:
            raise BadRequest(f"{order}, and its south ({self.south_deg:g}) is above its north ({self.north_deg:g})")

    @classmethod
    def parse(cls, text: str) -> Box:
        """
        Read "WEST,SOUTH,EAST,NORTH" in degrees.

        Raises:
            BadRequest: anything else.
        """
        try:
            west, south, east, north = (float(part) for part in text.split(","))
        except ValueError:
            raise BadRequest(f"{text[:80]!r} is no box; give WEST,SOUTH,EAST,NORTH in degrees") from None
        return cls(west, south, east, north)


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where a picture came from.

    Args:
        kind: "url" that a caller named (an object's URI too), "bucket" whose event announced it, "upload" in a
            call's own body.
        uri: For people; without a URL's query, which may hold a key. "" for an upload.
        bucket, key, version: Of an object that was announced; the version may be its etag, or "".
    """

    kind: SourceKind
    uri: str = ""
    bucket: str = ""
    key: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A published model, and the SHA-256 of its files in hex."""

    name: str
    version: str
    sha256: str = ""

    @property
    def ref(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """
    One of the classes that a model found likely.

    Args:
        class_index: In the model's output.
        probability: 0 to 1.
        class_id: WordNet's for ImageNet's classes; "" where the model's classes have none.
        labels: The class's name per language.
    """

    class_index: int
    probability: float
    class_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a picture has no classes: the error's code and its message."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """
    One record: what one version of a model made of one picture, or why nothing.

    Args:
        source: Where the picture came from.
        model: That was asked.
        classified_at: Aware; kept in UTC.
        picture_sha256: Of the file, in hex; "" where nobody got hold of it.
        taken_at: When the picture was taken, as its camera wrote it; naive where the camera did not say how far
            its clock was from UTC. None where it did not say at all.
        place: Where it was taken, as precisely as the privacy setting allows.
        country: Where it was taken, ISO 3166-1 alpha-2; "" where nobody knows, at sea, or where borders are disputed.
        top_k: The likeliest classes, greatest first; empty for a refusal.
        refusal: Why there are none.
        timings: What each hop cost, and whether it was cold.
        call_id: Of the call that led to this record.

    Raises:
        ValueError: `classified_at` is naive, or there are neither classes nor a refusal, or both.
    """

    source: Source
    model: ModelVersion
    classified_at: datetime
    picture_sha256: str = ""
    taken_at: datetime | None = None
    place: Place | None = None
    country: str = ""
    top_k: tuple[ClassScore, ...] = ()
    refusal: Refusal | None = None
    timings: tuple[Timing, ...] = ()
    call_id: str = ""

    def __post_init__(self) -> None:
        if self.classified_at.utcoffset() is None:
            raise ValueError("classified_at must be aware, or nobody knows which hour it was")
        if bool(self.top_k) == (self.refusal is not None):
            raise ValueError("a record has either classes or a refusal")
        object.__setattr__(self, "classified_at", self.classified_at.astimezone(UTC))

    @property
    def identity(self) -> str:
        """
        Return what there is only one record of, as SHA-256 in hex.

        An announced object is known by bucket, key and version, whatever a later fetch gets; any other picture by
        its bytes; and where nobody got hold of these, by the URL. Always together with the model's version.
        """
        return _digest(*self._picture, self.model.ref)

    @property
    def picture(self) -> str:
        """Return what all records of the same picture share, whatever the model, as SHA-256 in hex."""
        return _digest(*self._picture)

    @property
    def _picture(self) -> tuple[str, ...]:
        if self.source.kind == "bucket":
            return ("object", self.source.bucket, self.source.key, self.source.version)
        if self.picture_sha256:
            return ("picture", self.picture_sha256)
        return ("url", self.source.uri)


def object_identity(bucket: str, key: str, version: str, model_ref: str) -> str:
    """Return the identity of the record of an announced object."""
    return _digest("object", bucket, key, version, model_ref)


def picture_of_bytes(picture_sha256: str) -> str:
    """Return the `picture` that all pictures of the same bytes share, unless they are a bucket's objects."""
    return _digest("picture", picture_sha256)


def _digest(*parts: str) -> str:
    # As JSON, so that ("a", "b/c") and ("a/b", "c") differ; its escapes take any text, half a surrogate pair too.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """
    Which records are wanted, newest first; everything that is left out matches all.

    Args:
        since, until: Aware; `classified_at` from the first on, and before the second.
        box: Where the picture was taken.
        label: The likeliest class, by its name in any language that the model has, or by its id; case doesn't matter.
        model: NAME or NAME@VERSION.
        source: A kind of source, "s3://bucket" for a bucket, or a whole URI.
        country: ISO 3166-1 alpha-2, in capitals.
        pictures: Of these only, PICTURES_MAX at most; see Classification.picture. Empty for all.
        limit: Records of one page, 1 to LIMIT_MAX.
        after: The `next` of the page before.

    Raises:
        BadRequest: a naive time, a source that names no bucket, or a limit out of range.
    """

    since: datetime | None = None
    until: datetime | None = None
    box: Box | None = None
    label: str = ""
    model: str = ""
    source: str = ""
    country: str = ""
    pictures: tuple[str, ...] = ()
    limit: int = 50
    after: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LIMIT_MAX:
            raise BadRequest(f"a page has 1 to {LIMIT_MAX:,} records, not {self.limit}")
        if len(self.pictures) > PICTURES_MAX:
            raise BadRequest(f"a query names at most {PICTURES_MAX} pictures, not {len(self.pictures)}")
        for name, time in (("since", self.since), ("until", self.until)):
            if time is not None and time.utcoffset() is None:
                raise BadRequest(f"{name} has no offset from UTC; write it like 2026-11-21T09:30:00+09:00")
        if self.source == "s3://":
            raise BadRequest("the source s3:// names no bucket; give s3://BUCKET")


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the cursor of the next page; "" where there is none."""

    records: tuple[Classification, ...]
    next: str = ""
