"""classy.kept and how the front keeps and forgets: pictures beside their records, on a disk and in a bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import Breaking, Scene, colour, objects_of, scene, two_models
from test_local_storage import stored

from classy.errors import SourceNotFound, StorageFailed
from classy.front import Classy
from classy.kept import KeptPictures
from classy.local.storage import LocalStorage
from classy.objects import ObjectStorage
from classy.records.values import Query
from classy.settings import BadSetting, Settings
from graphpipe_fn.messages import Call

PICTURE = colour(1)
SHA256 = hashlib.sha256(PICTURE).hexdigest()
WEBP = b"RIFF\x18\0\0\0WEBPVP8 \x0c\0\0\0" + b"\x10\0\0\x9d\x01\x2a\x10\0\x10\0\0\0"
OTHER = "0" * 64


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    with stored(
        tmp_path_factory.mktemp("storage"), buckets=("classy-inbox", "kept"), inbox="classy-inbox"
    ) as started:
        yield started


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["on disk", "in a bucket"])
def kept(request: pytest.FixtureRequest, storage: LocalStorage, tmp_path: Path) -> KeptPictures:
    if request.param == "on disk":
        return KeptPictures(ObjectStorage(), tmp_path.as_uri())
    return KeptPictures(objects_of(storage), f"s3://kept/{tmp_path.name}")


def files(folder: Path) -> list[str]:
    """Return what is kept in a folder, a mark as its folder only."""
    return sorted(str(path.relative_to(folder).parent) for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_comes_back_and_goes(kept: KeptPictures) -> None:
    """The very bytes, as often as they are kept; after a delete, and a second one, nothing."""
    for _ in range(2):
        kept.put(SHA256, PICTURE)
        kept.put_thumbnail(SHA256, WEBP)
    assert (kept.get(SHA256), kept.thumbnail(SHA256), kept.thumbnail(OTHER)) == (PICTURE, WEBP, None)
    for _ in range(2):
        kept.delete(SHA256)
        assert kept.thumbnail(SHA256) is None
        with pytest.raises(SourceNotFound, match="is not kept"):
            kept.get(SHA256)


def test_the_first_thumbnail_stays(kept: KeptPictures) -> None:
    """A model that sees grey makes a grey one, which is no reason to lose the colours."""
    kept.put_thumbnail(SHA256, WEBP)
    kept.put_thumbnail(SHA256, WEBP[:-1] + b"\1")
    assert kept.thumbnail(SHA256) == WEBP


def test_a_mark_stays_until_it_is_taken_away(kept: KeptPictures) -> None:
    """It says what is still to be deleted."""
    assert kept.marked(OTHER) is None
    kept.mark(OTHER, picture="p", sha256=SHA256)
    assert kept.marked(OTHER) == ("p", SHA256)
    for _ in range(2):
        kept.unmark(OTHER)
    assert kept.marked(OTHER) is None


NAMES = ["", "../" * 5 + "etc/passwd", "A" * 64, SHA256 + "/..", SHA256 + "\n", "é" * 64]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_what_is_no_sha256_names_no_file(kept: KeptPictures, name: str) -> None:
    """A caller's name for a picture is looked at before it becomes a part of a path."""
    assert (kept.thumbnail(name), kept.marked(name)) == (None, None)
    kept.delete(name)
    with pytest.raises(SourceNotFound):
        kept.get(name)
    with pytest.raises(ValueError, match="SHA-256"):
        kept.put(name, PICTURE)
    with pytest.raises(ValueError, match="SHA-256"):
        kept.put_thumbnail(name, WEBP)


def test_a_picture_under_a_wrong_name_is_neither_kept_nor_given_out(kept: KeptPictures) -> None:
    """Whoever changed the file."""
    with pytest.raises(ValueError, match="not its SHA-256"):
        kept.put(OTHER, PICTURE)
    kept._storage.put(f"{kept.place}/originals/{SHA256}", b"something else")
    with pytest.raises(StorageFailed, match="another one now"):
        kept.get(SHA256)


THUMBNAILS: list[Any] = [
    pytest.param(b"", id="nothing"),
    pytest.param(WEBP + b"EXIF\4\0\0\0abcd", id="something behind it"),
    pytest.param(WEBP[:-2], id="cut short"),
    pytest.param(WEBP.replace(b"VP8 ", b"VP8X"), id="room for metadata"),
    pytest.param(PICTURE, id="a PNG"),
    pytest.param(b"<svg onload=alert(1)>".ljust(40), id="a script"),
]


@pytest.mark.parametrize("webp", THUMBNAILS)
def test_a_thumbnail_is_pixels_only(kept: KeptPictures, webp: bytes) -> None:
    """Whatever a stage says that it made."""
    with pytest.raises(ValueError, match="pixels only"):
        kept.put_thumbnail(SHA256, webp)


def test_an_upload_is_kept_and_its_answer_says_where_it_is_recorded(models: str, tmp_path: Path) -> None:
    """Under the SHA-256 that the answer names, with its thumbnail."""
    with scene(tmp_path, models) as here:
        answer = here.ask(PICTURE)
        (record,) = here.store.query(Query()).records
        assert (answer["recorded"], answer["kept"]) == (True, True)
        said = (answer["record_id"], answer["picture_id"], answer["picture_sha256"])
        assert said == (record.identity, record.picture, SHA256)
        kept = here.front.kept
        assert kept is not None
        assert (kept.get(SHA256), kept.thumbnail(SHA256) is not None) == (PICTURE, True)


def test_a_refused_upload_is_not_kept(models: str, tmp_path: Path) -> None:
    """Nobody will classify it again, and what is no picture is not ours to hand out."""
    with scene(tmp_path, models) as here:
        answer = here.ask(b"no picture", "text/plain")
        assert (answer["recorded"], "kept" in answer, answer["error"]["code"]) == (True, False, 42211)
        assert answer["picture_sha256"] == hashlib.sha256(b"no picture").hexdigest()
        assert files(tmp_path / "pictures") == []


def test_an_answer_is_not_lost_with_its_picture(models: str, tmp_path: Path) -> None:
    """It says what could not be kept and why, it is recorded, and the same picture is kept when that is mended."""
    (tmp_path / "pictures").write_text("no folder")
    with scene(tmp_path, models) as here:
        answer = here.ask(PICTURE)
        assert (answer["kept"], answer["recorded"], answer["class_index"] in range(3)) == (False, True, True)
        assert answer["kept_error"]["code"] == 50211
        (tmp_path / "pictures").unlink()
        assert here.ask(PICTURE)["kept"] is True
        assert len(here.store.query(Query()).records) == 1


def event_of(key: str) -> bytes:
    stored = {"bucket": {"name": "classy-inbox"}, "object": {"key": key}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": stored}]}).encode()


def test_an_event_comes_again_until_its_thumbnail_is_kept(models: str, storage: LocalStorage, tmp_path: Path) -> None:
    """Without a record, so that the next delivery finds something to do."""
    objects_of(storage).put("s3://classy-inbox/a.png", PICTURE)
    folder = tmp_path / "pictures"
    folder.write_text("no folder")
    with scene(tmp_path, models, **storage.environment, CLASSY_BUCKETS="classy-inbox") as here:
        answer = here.ask(event_of("a.png"), "application/json")
        assert answer["error"]["code"] == 50212
        assert here.store.query(Query()).records == ()
        folder.unlink()
        (entry,) = here.ask(event_of("a.png"), "application/json")["results"]
        assert (entry["kept"], entry["recorded"]) == (True, True)
        assert files(folder) == ["thumbnails"], "an object is not kept a second time"
        assert here.ask(event_of("a.png"), "application/json")["results"] == []


def test_an_empty_object_is_refused_for_good(models: str, storage: LocalStorage, tmp_path: Path) -> None:
    """It is recorded as what it is, and its event does not come back."""
    objects_of(storage).put("s3://classy-inbox/empty.png", b"")
    with scene(tmp_path, models, **storage.environment, CLASSY_BUCKETS="classy-inbox") as here:
        (entry,) = here.ask(event_of("empty.png"), "application/json")["results"]
        assert (entry["error"]["code"], entry["recorded"], "kept" in entry) == (42211, True, False)
        assert here.ask(event_of("empty.png"), "application/json")["results"] == []
        assert here.front.reclassifier().run("other").left == 0


@pytest.mark.parametrize(
    "pictures", ["s3://classy-inbox/kept", pytest.param("s3://classy-inbox", id="the whole inbox")]
)
def test_what_is_kept_amid_the_uploads_is_no_upload(
    models: str, storage: LocalStorage, tmp_path: Path, pictures: str
) -> None:
    """A thumbnail that is announced would otherwise get a thumbnail."""
    environ = {**storage.environment, "CLASSY_BUCKETS": "classy-inbox", "CLASSY_PICTURES": pictures}
    with scene(tmp_path, models, **environ) as here:
        answer = here.ask(event_of("kept/thumbnails/x.webp"), "application/json")
        if pictures.endswith("kept"):
            assert (answer["results"], answer["ignored"]) == ([], 1)
        else:
            assert "CLASSY_PICTURES" in answer["error"]["message"]


def test_pictures_are_kept_for_records_only(models: str, tmp_path: Path) -> None:
    """What no record knows nobody could delete."""
    settings = Settings(model_store=models, pictures=tmp_path.as_uri())
    with pytest.raises(BadSetting, match="CLASSY_RECORDS"):
        Classy(settings)


def forgotten(here: Scene, folder: Path) -> bool:
    """Return whether there is nothing left of any picture."""
    return here.store.query(Query()).records == () and files(folder) == []


def test_forgetting_a_picture_leaves_nothing_of_it(models: str, tmp_path: Path) -> None:
    """Its records by every model, its bytes and its thumbnail go by any of its records; others stay."""
    with scene(tmp_path, models) as here:
        answer = here.ask(PICTURE)
        here.front.reclassifier().run("other")
        other = here.ask(colour(2))
        assert here.front.forget(answer["record_id"]) == 2
        assert [kept.picture for kept in here.store.query(Query()).records] == [other["picture_id"]]
        assert files(tmp_path / "pictures") == ["originals", "thumbnails"]
        assert here.front.forget(answer["record_id"]) == 0
        assert here.front.forget(other["record_id"]) == 1
        assert forgotten(here, tmp_path / "pictures")


@pytest.mark.parametrize("record_id", ["", OTHER, "../x", "x"])
def test_forgetting_what_never_was_does_nothing(models: str, tmp_path: Path, record_id: str) -> None:
    """It is no error, and it deletes nothing."""
    with scene(tmp_path, models) as here:
        here.ask(PICTURE)
        assert here.front.forget(record_id) == 0
        assert len(here.store.query(Query()).records) == 1


@pytest.mark.parametrize("writes", range(5))
def test_forgetting_can_be_cut_short_anywhere(models: str, tmp_path: Path, writes: int) -> None:
    """No record is left whose picture is gone, and a second call finishes it."""
    folder = tmp_path / "pictures"
    with scene(tmp_path, models) as here:
        record_id = here.ask(PICTURE)["record_id"]
        whole = here.front.kept
        assert whole is not None
        here.front.kept = KeptPictures(Breaking(writes), folder.as_uri())
        try:
            here.front.forget(record_id)
        except StorageFailed:
            left = here.store.query(Query()).records
            assert writes < 4
            assert not left or (whole.get(SHA256) == PICTURE and whole.thumbnail(SHA256))
            assert left or "forgetting" in files(folder)
        here.front.kept = whole
        here.front.forget(record_id)
        assert forgotten(here, folder)


def test_without_kept_pictures_the_records_are_forgotten(models: str, tmp_path: Path) -> None:
    """And nothing is said of keeping."""
    with scene(tmp_path, models, CLASSY_PICTURES="") as here:
        answer = here.ask(PICTURE)
        assert ("kept" in answer, here.front.kept) == (False, None)
        assert here.front.forget(answer["record_id"]) == 1
        assert here.store.query(Query()).records == ()


def test_a_call_without_records_says_nothing_of_them(models: str, tmp_path: Path) -> None:
    """Neither ids nor a store."""
    with scene(tmp_path, models, CLASSY_PICTURES="", CLASSY_RECORDS="") as here:
        assert {"record_id", "picture_id", "kept"} & set(here.ask(PICTURE)) == set()
        assert (here.front.records, here.front.forget(OTHER)) == (None, 0)
        with pytest.raises(BadSetting, match="CLASSY_RECORDS"):
            here.front.reclassifier()
        assert here.front.answer(PICTURE, Call(content_type="image/png")).status == 200
