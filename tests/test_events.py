from __future__ import annotations

from typing import Any

import pytest
from event_samples import FOLDER, GOOD, OCI_ETAG, RUBBISH, sample

from classy.errors import BadRequest, UnusableURL
from classy.events import ObjectRef, announced, is_event
from classy.s3 import is_another, is_pinned, unpinned
from classy.urls import shown_url


def record(key: Any, *, name: str = "ObjectCreated:Put", **stored: Any) -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": "inbox"}, "object": {"key": key, **stored}}}


def created(**additional: Any) -> dict[str, Any]:
    data = {"resourceName": "a.jpg", "additionalDetails": {"bucketName": "inbox", **additional}}
    return {"eventType": "com.oraclecloud.objectstorage.createobject", "data": data}


@pytest.mark.parametrize("name", GOOD)
def test_a_platforms_event_names_its_new_objects(name: str) -> None:
    """Each object once, its key decoded as that platform encodes it, and for everything else a reason."""
    objects, ignored = GOOD[name]
    event = sample(name)
    assert is_event(event)
    found = announced(event)
    assert (list(found.objects), len(found.ignored)) == (objects, ignored)
    assert all(found.ignored)


@pytest.mark.parametrize("name", RUBBISH)
def test_a_rubbish_event_is_refused_with_the_remedy(name: str) -> None:
    """Our own error, a 400, says what is missing."""
    event = sample(name)
    assert is_event(event)
    with pytest.raises(BadRequest) as refused:
        announced(event)
    assert RUBBISH[name] in refused.value.message


def test_every_sample_is_in_one_of_the_tables() -> None:
    """No file lies there unread."""
    assert {path.stem for path in FOLDER.glob("*.json")} == {*GOOD, *RUBBISH}


EVENTS: list[Any] = [
    pytest.param({"Records": [record("a.jpg", eTag="e")]}, [ObjectRef("inbox", "a.jpg", "e")], id="etag"),
    pytest.param({"Records": [record("a", eTag='"e-2"')]}, [ObjectRef("inbox", "a", "e-2")], id="etag in quotes"),
    pytest.param({"Records": [record("a", eTag='W/"e"')]}, [ObjectRef("inbox", "a", "e")], id="weak etag"),
    pytest.param(
        {"Records": [record("a", eTag="e", versionId="v")]}, [ObjectRef("inbox", "a", "v", True)], id="version"
    ),
    pytest.param(
        {"Records": [record("a", eTag="e", versionId="null")]}, [ObjectRef("inbox", "a", "e")], id="no version yet"
    ),
    pytest.param({"Records": [record("100%2525.jpg")]}, [ObjectRef("inbox", "100%25.jpg")], id="decoded once only"),
    pytest.param({"Records": [record("folder/", size=7)]}, [ObjectRef("inbox", "folder/")], id="no folder: 7 bytes"),
    pytest.param({"Records": []}, [], id="no records"),
    pytest.param(created(eTag=None), [ObjectRef("inbox", "a.jpg")], id="a null etag"),
    pytest.param({**created(), "Type": "x"}, [ObjectRef("inbox", "a.jpg")], id="eventType before type"),
]


@pytest.mark.parametrize(("event", "objects"), EVENTS)
def test_created_objects_are_found(event: dict[str, Any], objects: list[ObjectRef]) -> None:
    """Versions win over etags, keys are decoded exactly once, and absence is no error."""
    assert list(announced(event).objects) == objects


UNREADABLE: list[Any] = [
    *(
        {"Records": records}
        for records in (None, {}, "x", ["x"], [{"eventName": "ObjectCreated:Put"}], [record(None)])
    ),
    {"Records": [record("")]},
    {"Records": [record("a", versionId=7)]},
    {"Records": [record("a", eTag="e" * 1025)]},
    {"Records": [record("a", versionId="v\nHost: x")]},
    created(bucketName=""),
    created(bucketName=["inbox"]),
    created(eTag={"a": 1}),
    {"specversion": "1.0", "type": 7},
    {"eventType": None, "type": "com.oraclecloud.objectstorage.createobject"},
    {"eventType": "com.oraclecloud.objectstorage.createobject", "data": [1]},
    {"eventType": "com.oraclecloud.objectstorage.createobject", "data": {"additionalDetails": "x"}},
]


@pytest.mark.parametrize("event", UNREADABLE, ids=lambda event: repr(event)[:60])
def test_an_event_that_can_not_be_read_is_refused(event: dict[str, Any]) -> None:
    """Rubbish leads to our own error, never to another."""
    with pytest.raises(BadRequest):
        announced(event)


PINNED: list[Any] = [
    (ObjectRef("inbox", "a.jpg"), "s3://inbox/a.jpg"),
    (ObjectRef("inbox", "a.jpg", "9b2c-3"), "s3://etag=9b2c-3@inbox/a.jpg"),
    (ObjectRef("inbox", "a.jpg", "v.1_x", True), "s3://version=v.1_x@inbox/a.jpg"),
    (ObjectRef("inbox", "a@b/c?d#e%20=@.jpg", "/@?#%:日", True), "s3://version=%2F%40%3F%23%25%3A%E6%97%A5@inbox/"
     "a@b/c?d#e%20=@.jpg"),
]  # fmt: skip


@pytest.mark.parametrize(("ref", "uri"), PINNED, ids=[uri for _, uri in PINNED])
def test_a_pinned_uri_says_which_object_and_is_read_back(ref: ObjectRef, uri: str) -> None:
    """Whatever key, version or etag hold, and no message shows what stands before the bucket."""
    assert ref.pinned == uri
    assert is_pinned(uri) == bool(ref.version)
    expected = (ref.uri, ref.version, "") if ref.versioned else (ref.uri, "", ref.version)
    assert unpinned(uri) == expected
    assert shown_url(uri) == shown_url(ref.uri)


@pytest.mark.parametrize(
    "pin", ["x", "user:secret", "etag", "etag=", "etag=%0A", "head=1", "version=a=b", "etag=a@b"]
)
def test_what_is_no_pin_is_refused(pin: str) -> None:
    """Nothing of it is shown, for it may be a password."""
    with pytest.raises(UnusableURL, match=r"^s3://bucket/key was sent with something before its bucket"):
        unpinned(f"s3://{pin}@bucket/key")


ETAGS: list[Any] = [
    ("9b2c", '"9B2C"', False),
    ("9b2c", "9b2d", True),
    ("9b2c-3", '"9b2c"', True),  # of the same bytes in parts: another upload
    ("9b2c", None, False),
    ("", '"9b2c"', False),
    (OCI_ETAG, f'"{OCI_ETAG.upper()}"', False),
    (OCI_ETAG, '"e1f0a1b2-0c3d-4e5f-8a9b-0123456789ac"', True),
    (OCI_ETAG, '"9b2cf535f27731c974343645a3985328"', False),  # Oracle's two interfaces name it differently
]


@pytest.mark.parametrize(("said", "found", "another"), ETAGS)
def test_etags_tell_objects_apart_where_they_are_of_one_kind(said: str, found: str | None, another: bool) -> None:
    """Neither quotes nor case matter, and what can't be compared is no proof of another object."""
    assert is_another(said, found) is another


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"Records": []}, True),
        ({"Event": "s3:TestEvent"}, True),
        ({"EVENTTYPE": "x"}, True),
        ({"SpecVersion": "1.0"}, True),
        ({"name": "https://x"}, False),
        ({"images": [], "model": "m", "top_k": 1, "language": "en"}, False),
    ],
)
def test_events_are_told_from_questions(value: dict[str, Any], answer: bool) -> None:
    """A caller's question never looks like an event."""
    assert is_event(value) is answer
