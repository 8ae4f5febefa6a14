"""What a record says: values that can't say nonsense, and identities that are known before a picture is."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from small_records import CUP, MODEL, REFUSAL, record

from classy.errors import BadRequest
from classy.records.values import Box, Place, Query, object_identity


def test_an_events_identity_is_known_before_its_object_is_fetched() -> None:
    """Bucket, key, version and model are enough to ask whether there is a record."""
    source = record(3).source
    assert object_identity(source.bucket, source.key, source.version, MODEL.ref) == record(3).identity


BAD: list[Any] = [
    pytest.param(lambda: record(classified_at=datetime(2026, 1, 1)), "must be aware", id="a naive time"),  # noqa: DTZ001
    pytest.param(lambda: record(top_k=()), "either classes or a refusal", id="neither"),
    pytest.param(lambda: record(top_k=(CUP,), refusal=REFUSAL), "either classes or a refusal", id="both"),
    pytest.param(lambda: Place(90.1, 0), "no place", id="off the Earth"),
    pytest.param(lambda: Place(0, float("nan")), "no place", id="NaN"),
    pytest.param(lambda: Place(0, 1, float("inf")), "no altitude", id="infinity"),
]


@pytest.mark.parametrize(("make", "complaint"), BAD)
def test_a_record_that_says_nothing_is_not_made(make: Any, complaint: str) -> None:
    """A mistake of ours shows where it is made."""
    with pytest.raises(ValueError, match=complaint):
        make()


WRONG: list[Any] = [
    pytest.param("1,2,3", "'1,2,3' is no box; give WEST,SOUTH,EAST,NORTH", id="three"),
    pytest.param("-181,0,0,0", "its west is -181; give -180 to 180", id="west"),
    pytest.param("0,-91,0,0", "its south is -91; give -90 to 90", id="south"),
    pytest.param("0,0,1e9,0", "its east is 1e+09; give -180 to 180", id="east"),
    pytest.param("0,0,0,nan", "its north is nan; give -90 to 90", id="north"),
    pytest.param("0,10,1,5", "its south (10) is above its north (5)", id="upside down"),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
def test_a_box_that_is_none_says_which_side_is_wrong(text: str, complaint: str) -> None:
    """By its name and value, and what it may be."""
    with pytest.raises(BadRequest, match=re.escape(complaint)):
        Box.parse(text)


def test_a_source_of_no_bucket_is_refused() -> None:
    """It would find what lies in no bucket: uploads and URLs."""
    with pytest.raises(BadRequest, match="names no bucket"):
        Query(source="s3://")


COARSE: list[Any] = [
    (Place(35.65858, 139.74543, 12.5), Place(35.7, 139.7)),
    (Place(-35.65858, -139.74543), Place(-35.7, -139.7)),
    (Place(89.99, 179.99), Place(90.0, 180.0)),
    (Place(-0.04, 0.04), Place(0.0, 0.0)),
]


@pytest.mark.parametrize(("place", "coarse"), COARSE)
def test_a_coarse_place_is_a_tenth_of_a_degree(place: Place, coarse: Place) -> None:
    """And says nothing about how high."""
    assert place.coarsened() == coarse
    assert str(place.coarsened().latitude_deg) != "-0.0"
