"""Uploads that nobody waits for: the records and results as with a caller who waits, whatever is doubled or lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from exif_blocks import picture
from small_models import small_store
from test_local_storage import stored

from classy.continued import THEN, Continued, Then, begin
from classy.errors import UploadDelayed
from classy.front import Classy
from classy.local.storage import LocalStorage
from classy.objects import ObjectStorage
from classy.pipeline import downloader, preprocessor, served, vgg
from classy.records.store import RecordStore
from classy.records.values import Classification, Query, Source
from classy.s3 import Storage
from classy.settings import Settings
from graphpipe_fn.codec import decode_request, encode_request
from graphpipe_fn.errors import BadConfig, BadTensor, GraphPipeError, Unavailable
from graphpipe_fn.messages import Call, InferRequest, strings
from graphpipe_fn.model import Model

INBOX, RESULTS = "classy-inbox", "classy-results"
STAGES = ("lambda:downloader", "lambda:preprocessor", "lambda:vgg")
FRONT = "lambda:classy"


@dataclass
class Functions:
    """
    Lambda's queue in this process: every message by way of its bytes; what fails comes twice again, and is dead then.

    Args:
        doubled: Whether each message is delivered twice, as a queue may.
        faults: How often each function fails before it is asked at all.
    """

    models: dict[str, Model] = field(default_factory=dict)
    front: Classy | None = None
    doubled: bool = False
    faults: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)

    def hand_on(self, uri: str, request: InferRequest) -> None:
        assert request.call.deadline_s is None  # of the stage before; the next one has its own
        message = (uri, b"".join(encode_request(request)))
        self.waiting += [message] * (2 if self.doubled else 1)

    def run(self) -> None:
        """Deliver everything that waits, and what that leads to."""
        while self.waiting:
            uri, body = self.waiting.pop(0)
            for tries in range(3):
                try:
                    self._deliver(uri, body)
                    break
                except GraphPipeError as exc:
                    if tries == 2:
                        self.dead.append((uri, exc.message))

    def _deliver(self, uri: str, body: bytes) -> None:
        if self.faults.get(uri, 0):
            self.faults[uri] -= 1
            raise Unavailable("the function is just dying")
        if uri == FRONT:
            assert self.front is not None
            reply = self.front.finish(body, Call(id="end"))
            answer = json.loads(reply.body())
            if reply.status != 200:
                raise UploadDelayed(answer["error"]["message"])
            self.answers.append(answer)
            return
        request = decode_request(body)
        assert isinstance(request, InferRequest)
        assert self.models[uri].infer(request).outputs == ()


@dataclass
class Scene:
    """A cloud whose functions hand on."""

    functions: Functions
    front: Classy
    objects: ObjectStorage
    environ: dict[str, str]

    @property
    def records(self) -> RecordStore:
        store = self.front.records
        assert store is not None
        return store

    def upload(self, key: str, data: bytes) -> dict[str, Any]:
        """Put an object into the inbox and tell Classy; return what it answers."""
        self.objects.put(f"s3://{INBOX}/{key}", data)
        return self.announce(key, _etag(data))

    def announce(self, key: str, etag: str) -> dict[str, Any]:
        """Tell Classy of an object once more."""
        entry = {"bucket": {"name": INBOX}, "object": {"key": key, "eTag": etag, "size": 1}}
        event = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entry}]}
        reply = self.front.answer(json.dumps(event).encode(), Call(id="begin"))
        return {"status": reply.status, **json.loads(reply.body())}

    def kept(self) -> list[Classification]:
        return list(self.records.query(Query(limit=100)).records)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    """An object storage with an inbox."""
    with stored(tmp_path_factory.mktemp("storage"), buckets=(INBOX, RESULTS), inbox=INBOX) as started:
        yield started


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a small model."""
    return small_store(tmp_path_factory.mktemp("model"))[0].uri


@pytest.fixture
def scene(storage: LocalStorage, model_uri: str, tmp_path: Path) -> Iterator[Scene]:
    """Three stages and a front, in this process, with real storage, real records and a real model."""
    environ = {
        **storage.environment,
        "CLASSY_TOPOLOGY": "continued",
        "CLASSY_MODEL": "small",
        "CLASSY_MODEL_STORE": model_uri,
        "CLASSY_MODEL_CACHE": "memory",
        "CLASSY_RECORDS": f"sqlite:///{tmp_path}/records.db",
        "CLASSY_RESULTS": f"s3://{RESULTS}/{tmp_path.name}",
        "CLASSY_BUCKETS": INBOX,
        "CLASSY_DOWNLOADER": STAGES[0],
        "CLASSY_PREPROCESSOR": STAGES[1],
        "CLASSY_VGG": STAGES[2],
        "CLASSY_FRONT": FRONT,
        "CLASSY_ALLOWED_HOPS": " ".join((*STAGES, FRONT)),
    }
    settings = Settings.from_env(environ)
    functions = Functions()
    for uri, stage in zip(STAGES, (downloader(settings), preprocessor(settings), vgg(settings)), strict=True):
        functions.models[uri] = Continued(stage, stage, hand_on=functions.hand_on, allowed=settings.allowed_hops)
    front = Classy(settings)
    front.pipeline._queue.hand_on = functions.hand_on  # type: ignore[method-assign]
    functions.front = front
    env = storage.environment
    keys = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
    yield Scene(functions, front, ObjectStorage(Storage(env["AWS_ENDPOINT_URL"], env["AWS_REGION"], *keys)), environ)
    front.close()


PHOTO = picture("JPEG", b"")


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_an_upload_is_handed_on_and_recorded_at_the_end(scene: Scene) -> None:
    """The event is answered at once; record and result are those of a Classy that waits."""
    begun = scene.upload("a.jpg", PHOTO)
    assert (begun["status"], begun["results"], begun["handed_on"]) == (200, [], [f"s3://{INBOX}/a.jpg"])
    assert scene.kept() == []
    scene.functions.run()
    (record,) = scene.kept()
    assert (record.source.uri, record.model.ref, record.call_id) == (f"s3://{INBOX}/a.jpg", "small@1", "end")
    assert [hop.name for hop in record.timings] == ["downloader", "preprocessor", "vgg"]
    waited = Classy(Settings.from_env({**scene.environ, "CLASSY_TOPOLOGY": "in-process", "CLASSY_RECORDS": ""}))
    answer = json.loads(waited.answer(PHOTO, Call()).body())
    assert [(s.class_index, s.probability) for s in record.top_k] == [
        (s["class_index"], s["probability"]) for s in answer["top_k"]
    ]
    (written,) = scene.objects.list(scene.environ["CLASSY_RESULTS"])
    assert json.loads(scene.objects.get(written, limit_bytes=1 << 20))["top_k"] == answer["top_k"]


def test_a_refused_picture_goes_straight_to_its_record(scene: Scene) -> None:
    """No stage is asked about what cannot be read."""
    scene.upload("rubbish.jpg", b"rubbish" * 99)
    scene.functions.run()
    (record,) = scene.kept()
    assert record.refusal is not None
    assert [hop.name for hop in record.timings] == ["downloader", "preprocessor"]
    assert scene.functions.dead == []


def test_what_comes_twice_is_recorded_once(scene: Scene) -> None:
    """Every message doubled, and the event as well: one record, one result."""
    scene.functions.doubled = True
    scene.upload("a.jpg", PHOTO)
    scene.announce("a.jpg", _etag(PHOTO))
    scene.functions.run()
    assert len(scene.functions.answers) == 32  # 2 events of 4 doubled messages each
    assert len(scene.kept()) == 1
    assert len(scene.objects.list(scene.environ["CLASSY_RESULTS"])) == 1
    again = scene.announce("a.jpg", _etag(PHOTO))
    assert (again["ignored"], scene.functions.waiting) == (1, [])


def test_what_is_overwritten_on_its_way_is_refused(scene: Scene) -> None:
    """The Downloader knows what it was sent for, and the newer upload has its own message."""
    scene.upload("a.jpg", PHOTO)
    newer = picture("PNG", b"")
    scene.upload("a.jpg", newer)
    scene.functions.run()
    assert {record.source.version: record.refusal and record.refusal.code for record in scene.kept()} == {
        _etag(PHOTO): 42414, _etag(newer): None
    }  # fmt: skip
    assert {record.source.uri for record in scene.kept()} == {f"s3://{INBOX}/a.jpg"}
    assert len(scene.objects.list(scene.environ["CLASSY_RESULTS"])) == 2
    assert scene.functions.dead == []


@pytest.mark.parametrize("uri", [*STAGES, FRONT])
def test_a_stage_that_fails_twice_costs_nothing(scene: Scene, uri: str) -> None:
    """Lambda tries again, and the third time everything goes on."""
    scene.functions.faults[uri] = 2
    scene.upload("a.jpg", PHOTO)
    scene.functions.run()
    assert (len(scene.kept()), scene.functions.dead) == (1, [])


@pytest.mark.parametrize("uri", [*STAGES, FRONT])
def test_a_stage_that_stays_dead_leaves_its_message_with_the_reason(scene: Scene, uri: str) -> None:
    """Nothing is lost in silence: the message is in that function's dead-letter queue."""
    scene.functions.faults[uri] = 3
    scene.upload("a.jpg", PHOTO)
    scene.functions.run()
    assert (scene.kept(), scene.functions.dead) == ([], [(uri, "the function is just dying")])


def test_an_object_storage_that_is_away_is_no_verdict(scene: Scene) -> None:
    """The downloader fails, and is tried again, instead of refusing the picture."""
    away = Settings.from_env({**scene.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    stage = downloader(away)
    scene.functions.models[STAGES[0]] = Continued(
        stage, stage, hand_on=scene.functions.hand_on, allowed=away.allowed_hops
    )
    scene.upload("a.jpg", PHOTO)
    scene.functions.run()
    assert scene.kept() == []
    ((uri, why),) = scene.functions.dead
    assert uri == STAGES[0]
    assert "can't be dealt with now" in why


def test_an_event_that_can_not_be_queued_comes_again(scene: Scene) -> None:
    """The event stays in its queue: Classy answers that it was not dealt with."""

    def refuse(uri: str, request: InferRequest) -> None:
        raise Unavailable("Lambda has too much to do")

    scene.front.pipeline._queue.hand_on = refuse  # type: ignore[method-assign]
    assert scene.upload("a.jpg", PHOTO)["status"] == 502


SOURCE = Source("bucket", "s3://b/k", "b", "k", "v")
REQUEST = begin(SOURCE, SOURCE.uri, (STAGES[1], FRONT), call=Call(), model="small@1")


def _with(**changes: Any) -> InferRequest:
    config = json.loads(REQUEST.config)
    config[THEN] |= changes
    return REQUEST.replace(config=json.dumps(config))


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        pytest.param(_with(hops=["http://169.254.169.254/"]), BadConfig, "not allowed", id="a hop of a stranger"),
        pytest.param(_with(hops=[]), BadConfig, "has 0 hops", id="no hops"),
        pytest.param(_with(hops=[FRONT] * 99), BadConfig, "has 99 hops", id="a loop"),
        pytest.param(
            _with(source={"kind": "bucket", "evil": 1}), BadConfig, "none that Classy wrote", id="no source"
        ),
        pytest.param(_with(timings=[["a"]]), BadConfig, "none that Classy wrote", id="no timings"),
        pytest.param(
            REQUEST.replace(inputs=(strings(["a", "b"]),)), BadTensor, "holds one picture", id="two pictures"
        ),
    ],
)
def test_a_message_that_is_none_is_refused(
    scene: Scene, request_: InferRequest, error: type[GraphPipeError], words: str
) -> None:
    """Before anything is done or sent."""
    with pytest.raises(error, match=words):
        scene.functions.models[STAGES[0]].infer(request_)
    assert scene.functions.waiting == []


def test_a_caller_who_waits_is_answered(scene: Scene) -> None:
    """A request without the route is an ordinary one."""
    outputs = scene.functions.models[STAGES[1]].infer(InferRequest((strings([PHOTO]),))).outputs
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(InferRequest((strings(["a"]),)), id="an ordinary request"),
        pytest.param(REQUEST, id="not the last stage's"),
        pytest.param(REQUEST.replace(inputs=(strings(["a"]), strings(["m"]), strings([""]))), id="no probabilities"),
    ],
)
def test_an_outcome_that_is_none_is_refused(scene: Scene, message: InferRequest) -> None:
    """And nothing is recorded."""
    reply = scene.front.finish(b"".join(encode_request(message)), Call())
    assert reply.status in (400, 422)
    assert scene.kept() == []


def test_the_route_survives_the_wire() -> None:
    """What is sent along is read back as it was, for any key."""
    source = replace(SOURCE, uri="s3://b/日本 ü+.jpg", key="日本 ü+.jpg")
    sent = decode_request(
        b"".join(encode_request(begin(source, source.uri, STAGES, call=Call(), model="m@1", thumbnail_px=160)))
    )
    assert isinstance(sent, InferRequest)
    config = json.loads(sent.config)
    assert Then.parse(config[THEN]) == Then(STAGES, source)
    assert (config["model"], config["thumbnail_px"]) == ("m@1", 160)


def test_served_hands_on_only_where_the_settings_say_so(scene: Scene) -> None:
    """A stage of another topology takes no such message: the route is nothing that it knows."""
    stage = scene.functions.models[STAGES[0]]
    assert isinstance(served(stage, Settings.from_env(scene.environ)), Continued)
    assert not isinstance(served(stage, Settings.from_env({**scene.environ, "CLASSY_TOPOLOGY": "hybrid"})), Continued)
