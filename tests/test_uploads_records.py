"""Uploads and questions leave records: one each, in every topology, through real storage and real functions."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from clouds import Cloud
from event_samples import GOOD, OCI_ETAG, RUBBISH, UNADDRESSABLE, sample
from exif_blocks import OFFSET, TAKEN, block, degrees, picture, rationals, text
from small_models import small_store
from small_records import EVERYTHING, record
from test_local_storage import stored

from classy.cli import main
from classy.events import ObjectRef
from classy.front import Classy
from classy.local.storage import LocalStorage
from classy.objects import ObjectStorage
from classy.records.sql import SqlRecords
from classy.records.store import open_records
from classy.records.values import Classification, Place, Query, Source
from classy.s3 import Storage
from classy.settings import Settings
from graphpipe_fn.messages import Call

NOW = datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC)
EXIF = block(
    {TAKEN: text("2026:11:20 18:30:00"), OFFSET: text("+09:00")},
    {1: text("S"), 2: degrees(33, 51, 2451), 3: text("E"), 4: degrees(151, 12, 4050), 6: rationals((5825, 100))},
)
PHOTO = picture("JPEG", EXIF)
TAKEN_AT = datetime(2026, 11, 20, 18, 30, tzinfo=timezone(timedelta(hours=9)))
EXACT = Place(-(33 * 3600 + 51 * 60 + 24.51) / 3600, (151 * 3600 + 12 * 60 + 40.5) / 3600, 58.25)
History = Callable[..., tuple[int, str, str]]
BUCKETS = ("classy-inbox", "classy-results", "classy-versions", "elsewhere")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    folder = tmp_path_factory.mktemp("storage")
    with stored(folder, buckets=BUCKETS, inbox="classy-inbox") as started:
        s3 = started.s3()
        s3.put_bucket_versioning(Bucket="classy-versions", VersioningConfiguration={"Status": "Enabled"})
        s3.close()
        yield started


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    store, _ = small_store(tmp_path_factory.mktemp("model"))
    return store.uri


@dataclass
class Scene:
    """A Classy with everything in this process, the storage it reads, and the records it writes."""

    front: Classy
    storage: LocalStorage
    store: SqlRecords
    environ: dict[str, str]

    @property
    def objects(self) -> ObjectStorage:
        env = self.storage.environment
        keys = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
        return ObjectStorage(Storage(env["AWS_ENDPOINT_URL"], env["AWS_REGION"], *keys))

    def another(self, **changes: str) -> Scene:
        """Return a second Classy with other settings, over the same storage and records."""
        environ = {**self.environ, **changes}
        return replace(self, front=Classy(Settings.from_env(environ), now=lambda: NOW), environ=environ)

    def upload(self, *keys: str, data: bytes = PHOTO) -> None:
        """Put objects into the inbox, under keys that S3 takes and obstore does not, too."""
        s3 = self.storage.s3()
        for key in keys:
            s3.put_object(Bucket="classy-inbox", Key=key, Body=data)
        s3.close()

    def put(self, key: str, data: bytes, bucket: str = "classy-inbox") -> ObjectRef:
        """Put an object; return it as an event of it names it."""
        s3 = self.storage.s3()
        said = s3.put_object(Bucket=bucket, Key=key, Body=data)
        s3.close()
        if version := said.get("VersionId"):
            return ObjectRef(bucket, key, version, True)
        return ObjectRef(bucket, key, said["ETag"].strip('"'))

    def put_in_parts(self, key: str, data: bytes) -> ObjectRef:
        """Put an object whose etag is no MD5 sum."""
        s3 = self.storage.s3()
        where: Any = {"Bucket": "classy-inbox", "Key": key}
        where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
        part = s3.upload_part(**where, PartNumber=1, Body=data)
        etag = s3.complete_multipart_upload(
            **where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        )["ETag"]
        s3.close()
        return ObjectRef("classy-inbox", key, etag.strip('"'))

    def delete(self, ref: ObjectRef, *, version: str = "") -> None:
        """Delete an object, or one version of it."""
        s3 = self.storage.s3()
        if version:
            s3.delete_object(Bucket=ref.bucket, Key=ref.key, VersionId=version)
        else:
            s3.delete_object(Bucket=ref.bucket, Key=ref.key)
        s3.close()

    def keys(self) -> list[str]:
        """Return the keys of all objects in the inbox."""
        s3 = self.storage.s3()
        found = [entry["Key"] for entry in s3.list_objects_v2(Bucket="classy-inbox").get("Contents", [])]
        s3.close()
        return found

    def tell(self, event: dict[str, Any], call_id: str = "call") -> tuple[int, dict[str, Any]]:
        """Deliver an event."""
        return self.ask(json.dumps(event).encode(), "application/json", call_id)

    def ask(self, body: bytes, content_type: str = "text/plain", call_id: str = "call") -> tuple[int, dict[str, Any]]:
        """Send a body, and read the answer."""
        reply = self.front.answer(body, Call(id=call_id, content_type=content_type))
        return reply.status, json.loads(reply.body())

    @property
    def records(self) -> tuple[Classification, ...]:
        """Return all records, newest first."""
        return self.store.query(Query()).records


@pytest.fixture
def scene(storage: LocalStorage, model_uri: str, tmp_path: Path) -> Iterator[Scene]:
    environ = {
        **storage.environment,
        "CLASSY_MODEL_STORE": model_uri,
        "CLASSY_MODEL": "small",
        "CLASSY_MODEL_CACHE": "memory",
        "CLASSY_BUCKETS": "classy-inbox classy-versions",
        "CLASSY_RECORDS": f"sqlite:///{tmp_path}/records.db",
        "CLASSY_LANGUAGE": "en",
    }
    store = SqlRecords(environ["CLASSY_RECORDS"])
    made = Scene(Classy(Settings.from_env(environ), now=lambda: NOW), storage, store, environ)
    yield made
    made.front.close()
    store.close()


PHOTO_ETAG = hashlib.md5(PHOTO, usedforsecurity=False).hexdigest()


def event_of(*keys: str, etag: str = PHOTO_ETAG, bucket: str = "classy-inbox") -> dict[str, Any]:
    return {
        "Records": [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": k, "eTag": etag}}}
            for k in keys
        ]
    }


def stored_as_told(scene: Scene, name: str, data: bytes) -> tuple[dict[str, Any], list[ObjectRef]]:
    """Put a sample's objects; return the sample with the etags and versions that the storage gave them."""
    said, refs = json.dumps(sample(name), ensure_ascii=False), []
    for ref in GOOD[name][0]:
        if name in UNADDRESSABLE or not ref.version:
            refs.append(ref)
            if name not in UNADDRESSABLE:
                scene.put(ref.key, data)
            continue
        bucket = "classy-versions" if ref.versioned else ref.bucket
        now = scene.put_in_parts(ref.key, data) if "-3" in ref.version[-2:] else scene.put(ref.key, data, bucket)
        if ref.version == OCI_ETAG:
            now = replace(now, version=OCI_ETAG)  # Oracle's own, which its S3 interface need not tell
        said = said.replace(ref.version, now.version).replace(ref.bucket, now.bucket)
        refs.append(now)
    return json.loads(said), refs


@pytest.mark.parametrize("name", GOOD)
def test_each_event_leads_to_one_record_or_one_polite_refusal(scene: Scene, name: str) -> None:
    """However often it is delivered, and a text that was uploaded is recorded as refused."""
    ignored = GOOD[name][1]
    event, objects = stored_as_told(scene, name, b"not a picture" if "not-a-picture" in name else PHOTO)
    status, answer = scene.tell(event, "first")
    assert (status, answer["ignored"], len(answer["reasons"])) == (200, ignored, ignored)
    assert [entry["source"] for entry in answer["results"]] == [ref.uri for ref in objects]
    assert all(entry["recorded"] is True for entry in answer["results"])
    before = scene.records
    assert {(kept.source, kept.call_id, kept.classified_at) for kept in before} == {
        (Source("bucket", ref.uri, ref.bucket, ref.key, ref.version), "first", NOW) for ref in objects
    }
    code = 42211 if "not-a-picture" in name else 40012 if name in UNADDRESSABLE else None
    assert {kept.refusal and kept.refusal.code for kept in before} == ({code} if objects else set())
    for call_id in ("second", "third"):
        status, answer = scene.tell(event, call_id)
        assert (status, answer["results"], answer["ignored"]) == (200, [], len(objects) + ignored)
    assert scene.records == before


@pytest.mark.parametrize("name", RUBBISH)
def test_a_rubbish_event_is_refused_and_leaves_nothing(scene: Scene, name: str) -> None:
    """A 400 that says what to send, once and again."""
    for _ in range(2):
        status, answer = scene.tell(sample(name))
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (400, 40011, False)
        assert RUBBISH[name] in answer["error"]["message"]
    assert scene.records == ()


def test_a_record_says_what_the_picture_says(scene: Scene) -> None:
    """Hash, time and place come from the file, the classes from the model, and each hop says whether it was cold."""
    exact = scene.another(CLASSY_PLACES="exact")
    exact.upload("a.jpg")
    _, answer = exact.tell(event_of("a.jpg"))
    (kept,) = scene.records
    assert (kept.taken_at, kept.place) == (TAKEN_AT, EXACT)
    assert kept.taken_at is not None
    assert kept.taken_at.utcoffset() == timedelta(hours=9)
    (entry,) = answer["results"]
    assert (kept.model.name, kept.model.version, kept.model.sha256) == tuple(entry["model"].values())
    assert [(score.class_index, score.probability, score.labels) for score in kept.top_k] == [
        (row["class_index"], row["probability"], row["label"]) for row in entry["top_k"]
    ]
    assert [hop.name for hop in kept.timings] == [hop["name"] for hop in answer["timings"]][1:]
    assert {"downloader", "preprocessor", "vgg"} <= {hop.name for hop in kept.timings}


PLACES: list[Any] = [
    pytest.param({}, Place(-33.9, 151.2), "AU", id="default"),
    pytest.param({"CLASSY_PLACES": "coarse"}, Place(-33.9, 151.2), "AU", id="coarse"),
    pytest.param({"CLASSY_PLACES": "exact"}, EXACT, "AU", id="exact"),
    pytest.param({"CLASSY_PLACES": "country"}, None, "AU", id="country"),
    pytest.param({"CLASSY_PLACES": "off"}, None, "", id="off"),
]


@pytest.mark.parametrize(("environ", "place", "country"), PLACES)
def test_a_place_is_kept_as_precisely_as_the_setting_allows(
    scene: Scene, environ: dict[str, str], place: Place | None, country: str
) -> None:
    """What is not to be kept never reaches the store."""
    scene.another(**environ).ask(PHOTO, "image/jpeg")
    (kept,) = scene.records
    assert (kept.place, kept.country, kept.taken_at) == (place, country, TAKEN_AT)
    if place != EXACT:
        scene.store.close()
        database = Path(scene.environ["CLASSY_RECORDS"].removeprefix("sqlite:///"))
        assert repr(EXACT.latitude_deg).encode() not in b"".join(f.read_bytes() for f in database.parent.iterdir())


def test_a_question_is_recorded_once_per_picture(scene: Scene) -> None:
    """Whether its picture comes by URL or as a body, and however many labels the caller wants."""
    scene.upload("b.jpg")
    status, answer = scene.ask(b'{"name": "s3://classy-inbox/b.jpg", "top_k": 1}', call_id="one")
    assert (status, answer["recorded"], len(answer["top_k"])) == (200, True, 1)
    status, answer = scene.ask(PHOTO, "image/jpeg", "two")
    assert (status, answer["recorded"]) == (200, True)
    (kept,) = scene.records
    assert (kept.source, kept.call_id) == (Source("url", "s3://classy-inbox/b.jpg"), "one")
    assert len(kept.top_k) == 3  # all that this model has
    scene.tell(event_of("b.jpg"))  # and the object that was announced has its own
    assert {kept.source.kind for kept in scene.records} == {"url", "bucket"}


def test_a_url_is_kept_without_its_query(scene: Scene) -> None:
    """A signed URL's key is nobody's to keep."""
    scene.upload("signed.jpg")
    host = scene.storage.endpoint.removeprefix("http://")
    opened = scene.another(CLASSY_DOWNLOAD_ALLOW=host)
    url = f"{scene.storage.endpoint}/classy-inbox/signed.jpg"
    status, answer = opened.ask(json.dumps({"name": f"{url}?X-Amz-Signature=secret"}).encode())
    assert (status, answer["recorded"]) == (200, True)
    (kept,) = scene.records
    assert kept.source == Source("url", f"{url}?…")


REFUSED: list[Any] = [
    pytest.param(b"no picture", 42211, 1, id="no picture"),
    pytest.param(b'{"name": "s3://classy-inbox/missing.jpg"}', 42413, 1, id="no such object"),
    pytest.param(b'{"name": "ftp://example.org/a.jpg"}', 40012, 0, id="no URL that is fetched"),
    pytest.param(b'{"name": "http://127.0.0.1/a.jpg"}', 40311, 0, id="a forbidden address"),
    pytest.param(b'{"nmae": 1}', 40011, 0, id="no question"),
]


@pytest.mark.parametrize(("body", "code", "count"), REFUSED)
def test_a_verdict_on_a_picture_is_recorded_and_a_callers_mistake_is_not(
    scene: Scene, body: bytes, code: int, count: int
) -> None:
    """A refusal's record has its reason, and no classes."""
    for _ in range(2):
        _, answer = scene.ask(body)
        assert answer["error"]["code"] == code
        assert answer.get("recorded") == (True if count else None)
    assert [(kept.refusal and kept.refusal.code, kept.top_k) for kept in scene.records] == [(code, ())] * count


def test_each_picture_of_a_batch_has_its_own_record(scene: Scene) -> None:
    """Good or bad."""
    scene.upload("c.jpg", data=picture("PNG", EXIF))
    scene.upload("d.jpg", data=b"no picture")
    uris = [f"s3://classy-inbox/{key}.jpg" for key in ("c", "d", "none")]
    _, answer = scene.ask(json.dumps({"images": uris}).encode())
    assert [entry["recorded"] for entry in answer["results"]] == [True, True, True]
    assert {(kept.source.uri, kept.refusal and kept.refusal.code) for kept in scene.records} == {
        (uris[0], None), (uris[1], 42211), (uris[2], 42413)
    }  # fmt: skip


def test_without_records_nothing_is_said_of_them(scene: Scene) -> None:
    """And no stage is asked what it knows of a picture."""
    plain = scene.another(CLASSY_RECORDS="")
    status, answer = plain.ask(PHOTO, "image/jpeg")
    assert (status, "recorded" in answer) == (200, False)


def test_an_answer_is_not_lost_with_its_record(scene: Scene, tmp_path: Path) -> None:
    """The caller gets it and is told why it is not kept; an event is sent back until that is mended."""
    scene.upload("e.jpg")
    database = tmp_path / "gone" / "records.db"
    broken = scene.another(CLASSY_RECORDS=f"sqlite:///{database}")
    status, answer = broken.ask(PHOTO, "image/jpeg")
    assert (status, answer["recorded"], answer["class_index"] in range(3)) == (200, False, True)
    assert answer["recorded_error"]["code"] == 50213
    assert str(tmp_path) not in json.dumps(answer)
    status, answer = broken.tell(event_of("e.jpg"))
    assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (502, 50212, True)
    database.parent.mkdir()
    status, answer = broken.tell(event_of("e.jpg"))
    assert (status, answer["results"][0]["recorded"]) == (200, True)


def test_a_result_and_a_record_are_both_there_in_the_end(scene: Scene) -> None:
    """A function that died between the two does what is left when the event comes again, and nothing twice."""
    scene.upload("f.jpg", "odd//key.jpg")
    both = scene.another(CLASSY_RESULTS="s3://classy-results/here")
    scene.tell(event_of("f.jpg"))  # the record is there, and no result
    before = scene.records
    status, answer = both.tell(event_of("f.jpg"))
    assert (status, len(answer["results"])) == (200, 1)
    (uri,) = scene.objects.list("s3://classy-results/here/classy-inbox/f.jpg")
    assert json.loads(scene.objects.get(uri, limit_bytes=10_000))["classified_at"] == NOW.isoformat()
    assert scene.records == before
    assert both.tell(event_of("f.jpg"))[1]["results"] == []
    both.tell(event_of("odd//key.jpg"))
    (uri,) = scene.objects.list("s3://classy-results/here/unusual-keys")
    assert json.loads(scene.objects.get(uri, limit_bytes=10_000))["error"]["code"] == 40012
    assert both.tell(event_of("odd//key.jpg"))[1]["results"] == []


def test_an_object_that_comes_back_is_classified(scene: Scene) -> None:
    """Deleted before its event came, uploaded again with the same etag: the refusal gives way to the result."""
    event = event_of("g.jpg")
    assert scene.tell(event)[1]["results"][0]["error"]["code"] == 42413
    assert [kept.refusal and kept.refusal.code for kept in scene.records] == [42413]
    scene.upload("g.jpg")
    assert scene.tell(event)[1]["results"][0]["recorded"] is True
    assert [kept.refusal for kept in scene.records] == [None]


OTHER = picture("PNG", EXIF)


def told(*refs: ObjectRef) -> dict[str, Any]:
    """Return S3's notification of objects."""
    found = [
        {"key": quote_plus(ref.key), "versionId" if ref.versioned else "eTag": ref.version, "size": 1} for ref in refs
    ]
    return {
        "Records": [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": ref.bucket}, "object": stored}}
            for ref, stored in zip(refs, found, strict=True)
        ]
    }


def outcomes(scene: Scene) -> dict[str, tuple[int | None, str]]:
    """Return of each recorded version its refusal's code and its picture's SHA-256; each is there once."""
    found = {
        kept.source.version: (kept.refusal.code if kept.refusal else None, kept.picture_sha256)
        for kept in scene.records
    }
    assert len(found) == len(scene.records)
    return found


def done(data: bytes) -> tuple[None, str]:
    return None, hashlib.sha256(data).hexdigest()


REPLACED = (42414, "")
ORDERS = ["1 2", "2 1", "1 1 2 2 1", "2 2 1 2 1", "12", "21 1 12"]


@pytest.mark.parametrize("order", ORDERS)
def test_an_object_that_was_overwritten_is_never_taken_for_what_it_was(
    scene: Scene, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One result for what it is and one refusal for what it was, in whatever order and however often events come."""
    both = {"1": scene.put("o.jpg", PHOTO), "2": scene.put("o.jpg", OTHER)}
    with caplog.at_level(logging.WARNING, "classy.uploads"):
        for place, event in enumerate(order.split()):
            status, answer = scene.tell(told(*(both[number] for number in event)), f"call {place}")
            assert status == 200
            for entry in answer["results"]:
                assert ("error" in entry) == (entry["version"] == both["1"].version)
                assert entry["recorded"] is True
    assert outcomes(scene) == {both["1"].version: REPLACED, both["2"].version: done(OTHER)}
    (refused,) = (kept.refusal for kept in scene.records if kept.refusal)
    assert refused.reason.startswith("s3://classy-inbox/o.jpg was overwritten since it was announced")
    assert refused.reason in caplog.text
    assert {kept.source.uri for kept in scene.records} == {"s3://classy-inbox/o.jpg"}


def test_an_object_that_is_overwritten_by_what_it_was_is_classified(scene: Scene) -> None:
    """Its first event met another object; the same bytes come with the same etag, and their event finds them."""
    first, second = scene.put("o.jpg", PHOTO), scene.put("o.jpg", OTHER)
    scene.tell(told(first))
    assert outcomes(scene) == {first.version: REPLACED}
    assert scene.put("o.jpg", PHOTO) == first
    scene.tell(told(first))
    scene.tell(told(second))
    assert outcomes(scene) == {first.version: done(PHOTO), second.version: REPLACED}


@pytest.mark.parametrize("order", ORDERS)
def test_each_version_of_an_object_has_its_own_result(scene: Scene, order: str) -> None:
    """A bucket that keeps versions loses none: each is read as its event names it, behind a deletion too."""
    key = f"versions {order}.jpg"
    both = {"1": scene.put(key, PHOTO, "classy-versions"), "2": scene.put(key, OTHER, "classy-versions")}
    scene.delete(both["1"])  # a mark only: both are still there
    for event in order.split():
        assert scene.tell(told(*(both[number] for number in event)))[0] == 200
    assert outcomes(scene) == {both["1"].version: done(PHOTO), both["2"].version: done(OTHER)}


def test_a_version_that_is_gone_is_refused(scene: Scene) -> None:
    """For good, and the newer one is not taken for it."""
    first, second = scene.put("g.jpg", PHOTO, "classy-versions"), scene.put("g.jpg", OTHER, "classy-versions")
    scene.delete(first, version=first.version)
    for _ in range(2):
        status, answer = scene.tell(told(first, second))
        assert (status, answer["results"][0]["error"]["code"]) == (200, 42413)
        assert "has no such version any more" in answer["results"][0]["error"]["message"]
    assert outcomes(scene) == {first.version: (42413, ""), second.version: done(OTHER)}


def test_a_deleted_object_is_refused(scene: Scene) -> None:
    """Its event comes no more, whoever was first."""
    ref = scene.put("d.jpg", PHOTO)
    scene.delete(ref)
    for _ in range(2):
        status, answer = scene.tell(told(ref))
        assert (status, answer["results"][0]["error"]["code"]) == (200, 42413)
    assert outcomes(scene) == {ref.version: (42413, "")}


def test_without_records_the_results_say_the_same(scene: Scene) -> None:
    """What was overwritten, or gone, is looked for again when its event comes again; what has a result is not."""
    plain = scene.another(CLASSY_RECORDS="", CLASSY_RESULTS="s3://classy-results/only")

    def results() -> dict[str, Any]:
        values = [
            json.loads(scene.objects.get(uri, limit_bytes=100_000))
            for uri in scene.objects.list("s3://classy-results/only")
        ]
        return {value["version"]: value.get("error", {}).get("code") for value in values}

    first, second = scene.put("o.jpg", PHOTO), scene.put("o.jpg", OTHER)
    for ref in (second, first, second, first):
        assert plain.tell(told(ref))[0] == 200
    assert results() == {first.version: 42414, second.version: None}
    scene.put("o.jpg", PHOTO)
    plain.tell(told(second, first))
    assert results() == {first.version: None, second.version: None}
    scene.delete(first)
    assert plain.tell(told(second, first))[1]["ignored"] == 2


WRITTEN: list[Any] = [
    pytest.param(lambda etag: etag, id="bare"),
    pytest.param(lambda etag: f'"{etag}"', id="in quotes"),
    pytest.param(lambda etag: f'W/"{etag}"', id="weak"),
    pytest.param(str.upper, id="in capitals"),
]


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("write", WRITTEN)
def test_an_etag_is_known_however_it_is_written(scene: Scene, write: Callable[[str], str], in_parts: bool) -> None:
    """Of one piece or of parts."""
    ref = (scene.put_in_parts if in_parts else scene.put)("w.jpg", PHOTO)
    assert ref.version.endswith("-1") == in_parts
    _, answer = scene.tell(told(replace(ref, version=write(ref.version))))
    assert [entry.get("error") for entry in answer["results"]] == [None]


def test_callers_get_the_newest_of_a_key_only(scene: Scene) -> None:
    """Only an event says which version is read; a caller who does is refused, and nothing is recorded."""
    old, new = scene.put("c.jpg", PHOTO, "classy-versions"), scene.put("c.jpg", OTHER, "classy-versions")
    for uri in (old.pinned, new.pinned, "S3://etag=x@classy-versions/c.jpg", "s3://me:secret@classy-versions/c.jpg"):
        status, answer = scene.ask(json.dumps({"name": uri}).encode())
        assert (status, answer["error"]["code"]) == (400, 40012)
        assert "://classy-versions/c.jpg was sent with something before its bucket" in answer["error"]["message"]
        assert "secret" not in json.dumps(answer)
    assert scene.records == ()
    _, answer = scene.ask(json.dumps({"images": [old.pinned, new.uri]}).encode())
    assert ["error" in entry for entry in answer["results"]] == [True, False]


def test_our_own_results_are_no_uploads(scene: Scene) -> None:
    """A result that is announced is passed by; results amid the uploads are refused before the first is written."""
    scene.upload("h.jpg", "results/classy-inbox/x.jpg/e.small@1.json")
    beside = scene.another(CLASSY_RESULTS="s3://classy-inbox/results")
    status, answer = beside.tell(event_of("results/classy-inbox/x.jpg/e.small@1.json", "h.jpg"))
    assert (status, [entry["source"] for entry in answer["results"]]) == (200, ["s3://classy-inbox/h.jpg"])
    assert "is a result of ours" in answer["reasons"][0]
    passing = scene.another(CLASSY_HANDOVER="s3://classy-inbox/handover")
    scene.upload("handover/0123")
    assert "is a message between stages" in passing.tell(event_of("handover/0123"))[1]["reasons"][0]
    before = scene.keys()
    amid = scene.another(CLASSY_RESULTS="s3://classy-inbox/")
    status, answer = amid.tell(event_of("h.jpg"))
    assert (status, answer["error"]["code"]) == (502, 50212)
    assert "CLASSY_RESULTS is s3://classy-inbox" in answer["error"]["message"]
    assert scene.keys() == before


def test_an_object_that_must_wait_does_not_hold_up_the_others(scene: Scene) -> None:
    """The event comes again for it alone."""
    scene.upload("i.jpg")
    event = {"Records": event_of("a.jpg", bucket="elsewhere")["Records"] + event_of("i.jpg", "j//k.jpg")["Records"]}
    status, answer = scene.tell(event)
    assert (status, answer["error"]["code"]) == (502, 50212)
    assert "s3://elsewhere/a.jpg" in answer["error"]["message"]
    assert {kept.source.key for kept in scene.records} == {"i.jpg", "j//k.jpg"}


def test_an_event_of_more_bytes_than_a_request_may_hold_is_dealt_with_in_several_tries(scene: Scene) -> None:
    """What has no room beside the others is no verdict on a picture: the event comes again, for that one alone."""
    keys = ("big/1.jpg", "big/2.jpg", "big/3.jpg")
    scene.upload(*keys)
    small = scene.another(CLASSY_LIMIT_BYTES=str(len(PHOTO)), CLASSY_LIMIT_REQUEST_BYTES=str(len(PHOTO) * 3 // 2))
    answers = [small.tell(event_of(*keys)) for _ in range(3)]
    assert [status for status, _ in answers] == [502, 502, 200]
    assert "CLASSY_LIMIT_REQUEST_BYTES" in answers[0][1]["error"]["message"]
    assert sorted(kept.source.key for kept in scene.records) == sorted(keys)
    assert all(kept.refusal is None for kept in scene.records)


def test_an_event_that_comes_eight_times_at_once_leads_to_one_record(scene: Scene) -> None:
    """Nobody fails for another's being faster."""
    scene.upload("l.jpg", "m.jpg")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: scene.tell(event_of("l.jpg", "m.jpg"), f"{number}"), range(8)))
    assert {status for status, _ in answers} == {200}
    assert sorted(kept.source.key for kept in scene.records) == ["l.jpg", "m.jpg"]


# The whole cloud, with its functions as processes.


@pytest.fixture(scope="module")
def kept_by_the_cloud(cloud: Cloud) -> Iterator[SqlRecords]:
    store = SqlRecords(f"sqlite:///{cloud.log_dir.parent}/records.db")
    yield store
    store.close()


def _eventually(find: Callable[[], tuple[Classification, ...]], count: int = 1) -> tuple[Classification, ...]:
    deadline_s = time.monotonic() + 60
    while len(found := find()) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("topology", ["in-process", "caller-led", "server-led", "hybrid"])
def test_every_topology_keeps_the_same_records(cloud: Cloud, tmp_path: Path, topology: str) -> None:
    """What the Preprocessor read in a file arrives whoever calls whom, for URLs and bodies, good and bad."""
    cloud.objects.put("s3://classy-photos/taken.jpg", PHOTO)
    cloud.objects.put("s3://classy-photos/none.jpg", b"no picture")
    url = f"sqlite:///{tmp_path}/{topology}.db"
    environ = {**cloud.settings(topology), "CLASSY_RECORDS": url, "CLASSY_PLACES": "exact"}
    front = Classy(Settings.from_env(environ), now=lambda: NOW)
    uris = [f"{cloud.storage_url}/classy-photos/{name}.jpg" for name in ("none", "taken", "missing")]
    reply = front.answer(json.dumps({"images": uris}).encode(), Call())
    assert [entry["recorded"] for entry in json.loads(reply.body())["results"]] == [True] * 3
    other = picture("WEBP", EXIF)
    front.answer(other, Call(content_type="image/webp"))
    front.close()
    store = open_records(url)
    found = {
        (kept.source.uri.rpartition("/")[2], kept.refusal and kept.refusal.code, kept.taken_at, kept.place,
         len(kept.top_k), bool(kept.picture_sha256))
        for kept in store.query(Query()).records
    }  # fmt: skip
    store.close()
    assert found == {
        ("none.jpg", 42211, None, None, 0, True),
        ("taken.jpg", None, TAKEN_AT, EXACT, 5, True),
        ("missing.jpg", 42413, None, None, 0, False),
        ("", None, TAKEN_AT, EXACT, 5, True),
    }


@pytest.mark.parametrize("topology", ["in-process", "caller-led", "server-led", "hybrid"])
def test_every_topology_reads_what_an_event_names(cloud: Cloud, tmp_path: Path, topology: str) -> None:
    """The functions' Downloader knows which object is meant, whoever calls it."""
    environ = {**cloud.settings(topology), "CLASSY_RECORDS": f"sqlite:///{tmp_path}/records.db"}
    front = Classy(Settings.from_env(environ), now=lambda: NOW)
    cloud.objects.put("s3://classy-photos/told.png", OTHER)
    now, before = (
        ObjectRef("classy-photos", "told.png", hashlib.md5(data, usedforsecurity=False).hexdigest())
        for data in (OTHER, PHOTO)
    )
    reply = front.answer(json.dumps(told(now, before)).encode(), Call())
    front.close()
    entries = json.loads(reply.body())["results"]
    assert [entry.get("error", {}).get("code") for entry in entries] == [None, 42414]
    assert entries[0]["picture_sha256"] == done(OTHER)[1]


def test_an_upload_to_the_cloud_leaves_one_record(cloud: Cloud, kept_by_the_cloud: SqlRecords) -> None:
    """By the storage's own event, and not another one when Oracle's events tell of the same."""
    key = "holiday/写真 1.jpg"
    cloud.objects.put(f"s3://classy-inbox/{key}", PHOTO)
    query = Query(source=f"s3://classy-inbox/{key}")
    (kept,) = _eventually(lambda: kept_by_the_cloud.query(query).records)
    assert (kept.source.key, kept.taken_at, kept.place) == (key, TAKEN_AT, Place(-33.9, 151.2))
    event = sample("oci-created")
    event["data"]["resourceName"], event["data"]["additionalDetails"]["eTag"] = key, kept.source.version
    for _ in range(2):
        request = urllib.request.Request(cloud.url("classy-func"), json.dumps(event).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["ignored"] == 1
    assert kept_by_the_cloud.query(query).records == (kept,)


def test_uploads_at_once_leave_one_record_each(cloud: Cloud, kept_by_the_cloud: SqlRecords) -> None:
    """Several processes of the function write to one file."""
    keys = [f"many/{number}.png" for number in range(12)]
    data = picture("PNG", EXIF)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: cloud.objects.put(f"s3://classy-inbox/{key}", data), keys))

    def found() -> tuple[Classification, ...]:
        records = kept_by_the_cloud.query(Query(source="s3://classy-inbox", limit=1000)).records
        return tuple(kept for kept in records if kept.source.key.startswith("many/"))

    assert sorted(kept.source.key for kept in _eventually(found, 12)) == sorted(keys)


@pytest.fixture
def history(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> History:
    """Return what runs `classy history` in this process: exit status, output, complaints."""

    def run(state_dir: Path, *arguments: str, **environ: str) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("CLASSY_")]:
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        try:
            status = main(["--state-dir", str(state_dir), "history", *arguments])
        except SystemExit as exc:  # argparse's own
            status = int(str(exc.code))
        return (status, *capsys.readouterr())

    return run


def test_history_prints_what_the_cloud_keeps(cloud: Cloud, kept_by_the_cloud: SqlRecords) -> None:
    """Without a setting, from the state folder, newest first."""
    cloud.objects.put("s3://classy-inbox/listed.jpg", PHOTO)
    _eventually(lambda: kept_by_the_cloud.query(Query(source="s3://classy-inbox/listed.jpg")).records)
    command = [sys.executable, "-m", "classy.cli", "--state-dir", str(cloud.log_dir.parent), "history", "--json"]
    done = subprocess.run(
        [*command, "--source", "s3://classy-inbox/listed.jpg"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    value = json.loads(line)
    assert (value["source"]["key"], value["taken_at"]) == ("listed.jpg", "2026-11-20T18:30:00+09:00")
    assert value["place"] == {"latitude_deg": -33.9, "longitude_deg": 151.2}
    assert value["model"]["name"] == "efficientnet-lite0"


EVIL = Source("bucket", "s3://inbox/=1+2.jpg", "inbox", "=cmd|' /C calc'!A0", "@e")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state_dir = tmp_path_factory.mktemp("history")
    store = open_records(f"sqlite:///{state_dir}/records.db")
    for kept in (EVERYTHING, record(1), record(2, source=EVIL), record(3, source=Source("upload"))):
        store.put(kept)
    store.close()
    return state_dir


def test_history_as_a_table_is_one_line_each(listed: Path, history: History) -> None:
    """Newest first, in this machine's time."""
    lines = history(listed, "--limit", "3")[1].splitlines()
    times = [record(number).classified_at.astimezone().strftime("%Y-%m-%d %H:%M:%S") for number in (3, 2, 1)]
    assert [line[:19] for line in lines] == times
    assert "espresso · エスプレッソ" in lines[2]
    (line,) = history(listed, "--label", "浓缩咖啡 ☕")[1].splitlines()
    assert "taken 2020-02-29 23:59:59-03:30, at 35.659, 139.75, in Japan" in line


def test_history_as_csv_holds_no_formula(listed: Path, history: History) -> None:
    """Every cell of a text that a spreadsheet would calculate starts with an apostrophe; numbers stay numbers."""
    rows = list(csv.DictReader(io.StringIO(history(listed, "--csv")[1])))
    assert [row["picture"] for row in rows][1:] == [
        record(2, source=EVIL).picture,
        record(1).picture,
        EVERYTHING.picture,
    ]
    assert [row["country"] for row in rows] == ["", "", "", "JP"]
    assert [row["key"] for row in rows] == ["", "'=cmd|' /C calc'!A0", "photos/1.jpg", "写真/🐕 a+b%25.jpg"]
    assert (rows[1]["version"], rows[3]["altitude_m"], rows[3]["longitude_deg"]) == (
        "'@e",
        "-0.1",
        "139.7454329999999",
    )
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_history_as_json_holds_everything(listed: Path, history: History) -> None:
    """One object per line, in which times without an offset stay so."""
    values = [json.loads(line) for line in history(listed, "--json", "--limit", "9")[1].splitlines()]
    assert [(value["id"], value["picture"], value["country"]) for value in values[-1:]] == [
        (EVERYTHING.identity, EVERYTHING.picture, "JP")
    ]
    assert values[-1]["classified_at"] == "2026-11-20T16:02:03.000001+00:00"
    assert values[-1]["place"] == {
        "latitude_deg": 35.65858055555556,
        "longitude_deg": 139.7454329999999,
        "altitude_m": -0.1,
    }
    assert values[-1]["timings"][1] == {"name": "vgg", "ms": 0.001, "cold": True}


FILTERS: list[Any] = [
    pytest.param(["--since", "2026-11-21T03:02Z", "--until", "2026-11-21T03:03Z"], 1, id="times in UTC"),
    pytest.param(["--since", "2026-11-21T12:02:00+09:00"], 2, id="times elsewhere"),
    pytest.param(["--since", "2026-11-19", "--until", "2026-11-23"], 4, id="days of this machine"),
    pytest.param(["--box=139,35,140,36"], 1, id="a box"),
    pytest.param(["--box=-180,-90,180,90"], 1, id="a box that starts with a minus"),
    pytest.param(["--model", "vgg16"], 0, id="a model"),
    pytest.param(["--source", "upload"], 1, id="a source"),
    pytest.param(["--label", "Espresso"], 3, id="a label"),
    pytest.param(["--country", "jp"], 1, id="a country"),
    pytest.param(["--country", "FR"], 0, id="another country"),
]


@pytest.mark.parametrize(("arguments", "count"), FILTERS)
def test_history_is_filtered(listed: Path, history: History, arguments: list[str], count: int) -> None:
    """By time, place, model, source and label."""
    status, lines, complaints = history(listed, *arguments)
    assert (status, complaints, len(lines.splitlines())) == (0, "", count)


WRONG: list[Any] = [
    (["--since", "yesterday"], 2, "'yesterday' is no time; give one like 2026-11-21 or 2026-11-21T09:30+09:00"),
    (["--until", "9999-12-31T23:59-12:00"], 2, "is no time"),
    (["--since", "0001-01-01T00:00+12:00"], 2, "is no time"),
    (["--model", "a@b@c"], 2, "'a@b@c' names no model; give NAME or NAME@VERSION"),
    (["--limit", "0"], 2, "'0' is not a whole number from 1 to 1000000000"),
    (["--limit=-3"], 2, "'-3' is not a whole number from 1 to 1000000000"),
    (["--box=1,2"], 1, "give WEST,SOUTH,EAST,NORTH"),
    (["--json", "--csv"], 2, "not allowed with"),
    (["--country", "Japan"], 2, "'Japan' is no country; give two letters of ISO 3166-1, as JP"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), WRONG)
def test_history_says_what_it_does_not_understand(
    listed: Path, history: History, arguments: list[str], status: int, words: str
) -> None:
    """And lists nothing."""
    ended, lines, complaints = history(listed, *arguments)
    assert (ended, lines) == (status, "")
    assert words in complaints


def test_a_reader_who_leaves_is_no_error(listed: Path) -> None:
    """`classy history | head -0`, whether there is much to say or little."""
    for more in ([], ["--json", "--limit", "1000"]):
        command = [sys.executable, "-m", "classy.cli", "--state-dir", str(listed), "history", *more]
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            command, env={"PATH": "/usr/bin:/bin"}, stdout=writing, stderr=subprocess.PIPE, timeout=60
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (1, b"")


def test_history_of_nothing_says_so(tmp_path: Path, history: History) -> None:
    """It makes no file, and a store that is named and does not work is an error."""
    status, lines, complaints = history(tmp_path, "--json")
    assert (status, lines) == (0, "")
    assert "there are no records" in complaints
    assert list(tmp_path.iterdir()) == []
    status, _, complaints = history(tmp_path, CLASSY_RECORDS=f"sqlite:///{tmp_path}/no/records.db")
    assert (status, "code 50213" in complaints) == (1, True)
