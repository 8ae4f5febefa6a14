from __future__ import annotations

from typing import Any

import pytest

from classy.errors import BadRequest
from classy.events import ObjectRef, created_objects, is_event


def record(key: str, *, name: str = "ObjectCreated:Put", **stored: Any) -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": "inbox"}, "object": {"key": key, **stored}}}


EVENTS: list[Any] = [
    pytest.param([record("a.jpg", eTag="e")], [ObjectRef("inbox", "a.jpg", "e")], id="one"),
    pytest.param([record("a.jpg", eTag="e", versionId="v")], [ObjectRef("inbox", "a.jpg", "v")], id="versioned"),
    pytest.param([record("a+%2B+%E6%97%A5%E6%9C%AC")], [ObjectRef("inbox", "a + 日本")], id="encoded once"),
    pytest.param([record("100%2525.jpg")], [ObjectRef("inbox", "100%25.jpg")], id="decoded once only"),
    pytest.param([record("a.jpg"), record("a.jpg"), record("b.jpg")],
                 [ObjectRef("inbox", "a.jpg"), ObjectRef("inbox", "b.jpg")], id="twice in one event"),
    pytest.param([record("a.jpg", name="s3:ObjectCreated:Post")], [ObjectRef("inbox", "a.jpg")], id="prefixed"),
    pytest.param([record("a.jpg", name="ObjectRemoved:Delete")], [], id="a deletion is none of ours"),
    pytest.param([{"eventName": "INSERT", "dynamodb": {}}], [], id="another service's record"),
    pytest.param([], [], id="no records"),
]  # fmt: skip


@pytest.mark.parametrize(("records", "objects"), EVENTS)
def test_created_objects_are_found(records: list[Any], objects: list[ObjectRef]) -> None:
    """Keys are decoded exactly once, and each object is named once."""
    assert created_objects({"Records": records}) == objects


@pytest.mark.parametrize("records", [None, {}, "x", ["x"], [{"eventName": "ObjectCreated:Put"}], [record(None)]])  # type: ignore[arg-type]
def test_an_event_that_can_not_be_read_is_refused(records: Any) -> None:
    """Rubbish leads to our own error, never to another."""
    with pytest.raises(BadRequest):
        created_objects({"Records": records})


@pytest.mark.parametrize(
    ("value", "answer"), [({"Records": []}, True), ({"Event": "s3:TestEvent"}, True), ({"name": "https://x"}, False)]
)
def test_events_are_told_from_questions(value: dict[str, Any], answer: bool) -> None:
    """A caller's question never looks like an event."""
    assert is_event(value) is answer
