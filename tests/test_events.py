from __future__ import annotations

from typing import Any

import pytest
from event_samples import FOLDER, GOOD, RUBBISH, sample

from classy.errors import BadRequest
from classy.events import ObjectRef, announced, is_event


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
    pytest.param({"Records": [record("a", eTag="e", versionId="v")]}, [ObjectRef("inbox", "a", "v")], id="version"),
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
