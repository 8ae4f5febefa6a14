"""classy.reclassify: every recorded picture by another model, found again, checked, and recorded as what it was."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clouds import Cloud
from default_model import default_model
from recorded import NEW, OLD, Scene, colour, objects_of, scene, two_models
from small_records import ESPRESSO, record
from test_local_storage import stored

from classy.commands.reclassify import Bar
from classy.errors import BadRequest, ModelMissing, RecordsFailed
from classy.local.storage import LocalStorage
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.pipeline import Classified
from classy.reclassified import Reclassified, redone, same_class
from classy.reclassify import Reclassifier
from classy.records.store import open_records
from classy.records.values import Classification, ClassScore, ModelVersion, Place, Query, Refusal, Source
from classy.settings import Settings
from graphpipe_fn.errors import TimedOut, TooLarge, Unavailable
from graphpipe_fn.messages import Call

BUCKETS = ("classy-inbox", "photos")
CLASSY = [sys.executable, "-m", "classy.cli"]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    with stored(tmp_path_factory.mktemp("storage"), buckets=BUCKETS, inbox="classy-inbox") as started:
        yield started


@pytest.fixture(scope="module")
def objects(storage: LocalStorage) -> ObjectStorage:
    return objects_of(storage)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    return two_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def here(models: str, storage: LocalStorage, tmp_path: Path) -> Iterator[Scene]:
    """A Classy that reads the buckets, and whatever the storage serves over HTTP."""
    opened = {
        **storage.environment,
        "CLASSY_BUCKETS": " ".join(BUCKETS),
        "CLASSY_DOWNLOAD_ALLOW": storage.endpoint.removeprefix("http://"),
    }
    with scene(tmp_path, models, **opened) as made:
        yield made


def run(here: Scene, **options: Any) -> Reclassified:
    """Let the new model see everything."""
    return here.front.reclassifier().run("other", **options)


def asked(here: Scene, uri: str) -> dict[str, Any]:
    """Classify what a URL names."""
    return here.ask(json.dumps({"name": uri}).encode(), "application/json")


def told(here: Scene, key: str) -> None:
    """Deliver the event of an upload."""
    stored = {"bucket": {"name": "classy-inbox"}, "object": {"key": key}}
    body = {"Records": [{"eventName": "ObjectCreated:Put", "s3": stored}]}
    (entry,) = here.ask(json.dumps(body).encode(), "application/json")["results"]
    assert entry["recorded"], entry


def lasting(kept: Classification) -> Classification:
    """Return a record without what any two runs differ in: its times and its call."""
    return dataclasses.replace(kept, classified_at=datetime(2000, 1, 1, tzinfo=UTC), timings=(), call_id="")


def test_every_picture_is_seen_whatever_way_it_came(
    here: Scene, storage: LocalStorage, objects: ObjectStorage
) -> None:
    """A body, a URL, an object's URI and an announced object each get one record more: the same, by another model."""
    for number in range(1, 4):
        objects.put(f"s3://photos/{number}.png", colour(number))
    objects.put("s3://classy-inbox/an upload.png", colour(4))
    answers = [here.ask(colour(0)), asked(here, "s3://photos/1.png")]
    answers.append(asked(here, f"{storage.endpoint}/photos/2.png"))
    assert all(answer["recorded"] for answer in answers)
    told(here, "an upload.png")
    before = here.of(OLD)
    done = run(here)
    after = here.of(NEW)
    assert (done.done, done.failed, done.next, done.left, done.agreed + done.changed) == (4, (), "", 0, 4)
    assert after.keys() == before.keys()
    assert {kept.source.kind for kept in after.values()} == {"upload", "url", "bucket"}
    for picture, old in before.items():
        new = after[picture]
        assert (new.source, new.picture_sha256, new.taken_at) == (old.source, old.picture_sha256, old.taken_at)
        assert (new.place, new.country, new.call_id) == (old.place, old.country, "reclassify")
        assert new.place is not None
        assert (new.model.ref, len(new.top_k), new.timings != ()) == (NEW, 3, True)


def test_a_second_run_has_nothing_to_do(here: Scene) -> None:
    """And a name stands for its current version."""
    for number in range(5):
        here.ask(colour(number))
    assert run(here).done == 5
    before = here.store.query(Query(limit=100)).records
    assert run(here) == Reclassified() == here.front.reclassifier().run(NEW)
    assert here.store.query(Query(limit=100)).records == before


def test_what_changed_is_counted(here: Scene) -> None:
    """By the class's names, not by its index; the counts are those that the records hold."""
    for number in range(30):
        here.ask(colour(number))
    done = run(here)
    old, new = here.of(OLD), here.of(NEW)
    pairs = [(old[picture].top_k[0].labels["en"], new[picture].top_k[0].labels["en"]) for picture in old]
    assert done.agreed == sum(before == after for before, after in pairs)
    assert done.changed == 30 - done.agreed
    assert 0 < done.agreed < 30, "the two models must sometimes agree for this to test anything"
    assert {(change["from"]["en"], change["to"]["en"], change["count"]) for change in done.changes} == {
        (*pair, pairs.count(pair)) for pair in pairs if pair[0] != pair[1]
    }
    counts = [change["count"] for change in done.changes]
    assert counts == sorted(counts, reverse=True)


def test_another_picture_under_the_same_name_is_not_taken_for_it(here: Scene, objects: ObjectStorage) -> None:
    """Changed, gone, or with a query that was not kept: each is reported with its reason, and recorded by nobody."""
    for number in (1, 2, 3):
        objects.put(f"s3://photos/m{number}.png", colour(10 + number))
        asked(here, f"s3://photos/m{number}.png")
    objects.put("s3://classy-inbox/m.png", colour(20))
    told(here, "m.png")
    objects.put("s3://photos/m4.png", colour(14))
    sent = asked(here, "s3://photos/m4.png")
    objects.put("s3://photos/m4.png", b"")  # but somebody sent the same picture, too
    assert here.front.kept is not None
    here.front.kept.put(sent["picture_sha256"], colour(14))
    objects.put("s3://photos/m1.png", colour(99))
    objects.delete("s3://photos/m2.png")
    objects.put("s3://classy-inbox/m.png", colour(98))
    done = run(here)
    assert (done.done, done.left) == (2, 3)
    old = here.of(OLD)
    reasons = {old[failed.picture].source.uri: (failed.code, failed.message) for failed in done.failed}
    assert reasons.keys() == {"s3://photos/m1.png", "s3://photos/m2.png", "s3://classy-inbox/m.png"}
    assert {code for code, _ in reasons.values()} == {42413}
    assert "another picture by now" in reasons["s3://photos/m1.png"][1]
    assert "there is no object" in reasons["s3://photos/m2.png"][1]
    assert {kept.source.uri for kept in here.of(NEW).values()} == {"s3://photos/m3.png", "s3://photos/m4.png"}


def test_a_url_without_its_query_is_not_guessed(here: Scene, storage: LocalStorage, objects: ObjectStorage) -> None:
    """Until somebody sends the same picture: what is kept then stands in for it."""
    objects.put("s3://photos/q.png", colour(30))
    assert asked(here, f"{storage.endpoint}/photos/q.png?X-Amz-Signature=secret")["recorded"] is True
    (failed,) = run(here).failed
    assert (failed.code, "its query" in failed.message) == (40012, True)
    assert here.front.kept is not None
    here.front.kept.put(hashlib.sha256(colour(30)).hexdigest(), colour(30))
    assert run(here).done == 1


def test_an_upload_that_was_not_kept_is_reported(here: Scene, tmp_path: Path, models: str) -> None:
    """With the setting that would have kept it; nothing that is kept under its name is believed unseen."""
    answer = here.ask(colour(1))
    assert here.front.kept is not None
    place = f"{here.front.kept.place}/originals/{answer['picture_sha256']}"
    ObjectStorage().put(place, colour(2))
    (spoilt,) = run(here).failed
    assert (spoilt.code, spoilt.picture) == (50211, answer["picture_id"])
    ObjectStorage().delete(place)
    (missing,) = run(here).failed
    assert (missing.code, "CLASSY_PICTURES" in missing.message) == (42413, True)
    with scene(tmp_path, models, CLASSY_PICTURES="") as bare:
        (failed,) = run(bare).failed
        assert (failed.code, "CLASSY_PICTURES" in failed.message) == (42413, True)


def test_a_picture_over_todays_limits_is_recorded_as_refused(here: Scene, tmp_path: Path, models: str) -> None:
    """It is the stages' verdict on these very bytes; the model is not asked again."""
    here.ask(colour(1, size=(300, 300)))
    with scene(tmp_path, models, CLASSY_LIMIT_PX="10000") as strict:
        done = run(strict)
        assert [(failed.code, done.done, done.left) for failed in done.failed] == [(41311, 0, 0)]
        (kept,) = strict.of(NEW).values()
        assert kept.refusal is not None
        assert (kept.refusal.code, run(strict)) == (41311, Reclassified())


def test_a_thumbnail_is_made_where_there_was_none(here: Scene, objects: ObjectStorage, tmp_path: Path) -> None:
    """For a picture that was recorded before any were kept."""
    objects.put("s3://photos/t.png", colour(1))
    answer = asked(here, "s3://photos/t.png")
    kept = here.front.kept
    assert kept is not None
    kept.delete(answer["picture_sha256"])
    assert run(here).done == 1
    assert kept.thumbnail(answer["picture_sha256"]) is not None


@pytest.mark.parametrize("limit", [1, 3, 8, 9, 30])
def test_slices_come_to_the_whole(here: Scene, limit: int) -> None:
    """Each goes on where the one before ended, and tells how much is left; none is done twice or left out."""
    for number in range(20):
        here.ask(colour(number))
    slices = [run(here, limit=limit)]
    while slices[-1].next:
        assert slices[-1].done == limit
        slices.append(run(here, limit=limit, after=slices[-1].next))
    assert sum(part.done for part in slices) == 20
    assert [part.left for part in slices] == [max(20 - limit * (n + 1), 0) for n in range(len(slices))]
    assert len(here.of(NEW)) == 20


def test_a_cursor_of_nothing_is_refused(here: Scene) -> None:
    """As is a model that nobody published."""
    with pytest.raises(BadRequest, match="cursor"):
        run(here, after="nonsense")
    with pytest.raises(ModelMissing):
        here.front.reclassifier().run("nope@1")


def test_a_slice_ends_in_time_and_gets_somewhere(here: Scene) -> None:
    """Even where its time is over before it begins; what had no time is left for the next one."""
    for number in range(40):
        here.ask(colour(number))
    done, after, slices = 0, "", 0
    while True:
        part = run(here, after=after, deadline_s=time.monotonic() - 1)
        done, slices = done + part.done, slices + 1
        assert part.done + len(part.failed) > 0
        if not part.next:
            break
        after = part.next
    assert slices > 1
    assert run(here).left == 0
    assert len(here.of(NEW)) == 40


def test_progress_is_told_from_the_start_to_the_end(here: Scene) -> None:
    """First how much there is, then each call's outcome."""
    for number in range(20):
        here.ask(colour(number))
    seen: list[Reclassified] = []
    done = run(here, progress=seen.append, workers=3)
    assert (seen[0], seen[-1]) == (Reclassified(left=20), done)
    assert [part.done + part.left for part in seen] == [20] * len(seen)
    assert [part.done for part in seen] == sorted(part.done for part in seen)
    assert len(seen) == 4


class Stages:
    """The real pipeline, and something that happens before a call of it."""

    def __init__(self, here: Scene, before: Callable[[Sequence[Any], Call], None]) -> None:
        self._pipeline = here.front.pipeline
        self._before = before
        self.calls: list[int] = []

    def classify(self, sources: Sequence[Any], *, model: str, call: Call) -> Classified:
        self.calls.append(len(sources))
        self._before(sources, call)
        return self._pipeline.classify(sources, model=model, call=call)


def reclassifier(here: Scene, stages: Stages) -> Reclassifier:
    """Return a reclassifier whose stages are these; it does not wait long."""
    return Reclassifier(
        Settings.from_env(here.environ),
        store=here.store,
        kept=here.front.kept,
        manifests=here.front.manifests,
        pipeline=stages,
        now=lambda: datetime.now(UTC),
        pauses_s=(0.01, 0.01),
    )


def test_a_picture_that_is_deleted_meanwhile_stays_deleted(here: Scene, tmp_path: Path) -> None:
    """Its new record would bring it back from the dead."""
    ids = [here.ask(colour(number))["record_id"] for number in range(3)]

    def forget(sources: Sequence[Any], call: Call) -> None:
        here.front.forget(ids[0])

    done = reclassifier(here, Stages(here, forget)).run("other")
    assert (done.done, [failed.message for failed in done.failed]) == (2, ["it was deleted meanwhile"])
    assert len(here.of(OLD)) == len(here.of(NEW)) == 2
    assert len(list((tmp_path / "pictures").rglob("*.webp"))) == 2


def test_a_stage_that_is_down_for_a_moment_is_asked_again(here: Scene) -> None:
    """And no picture is to blame."""
    for number in range(5):
        here.ask(colour(number))

    def busy(sources: Sequence[Any], call: Call) -> None:
        if len(stages.calls) < 3:
            raise Unavailable("a moment")

    stages = Stages(here, busy)
    assert reclassifier(here, stages).run("other").done == 5
    assert stages.calls == [5, 5, 5]


def test_a_stage_that_is_down_ends_the_run(here: Scene) -> None:
    """With its own error, soon, and nothing recorded; a later run does it all."""
    for number in range(30):
        here.ask(colour(number))

    def down(sources: Sequence[Any], call: Call) -> None:
        raise Unavailable("for good")

    with pytest.raises(Unavailable, match="for good"):
        reclassifier(here, Stages(here, down)).run("other")
    assert here.of(NEW) == {}
    assert run(here).done == 30


def test_one_picture_that_spoils_a_call_is_found(here: Scene) -> None:
    """The others of its call are done without it."""
    bad = colour(3)
    for number in range(6):
        here.ask(colour(number))

    def picky(sources: Sequence[Any], call: Call) -> None:
        if bad in sources:
            raise TooLarge("the message is too long")

    done = reclassifier(here, Stages(here, picky)).run("other")
    assert (done.done, [failed.code for failed in done.failed]) == (5, [41300])
    assert run(here).done == 1


def test_pictures_that_have_no_room_in_one_request_go_alone(here: Scene, tmp_path: Path, models: str) -> None:
    """The limit of a request's bytes is no verdict on a picture."""
    for number in range(6):
        here.ask(colour(number))
    with scene(tmp_path, models, CLASSY_LIMIT_REQUEST_BYTES="200") as narrow:
        assert (run(narrow).done, run(narrow)) == (6, Reclassified())


def test_what_a_deadline_cut_off_is_the_next_slices_first(here: Scene) -> None:
    """It is no failure of the picture's."""
    for number in range(24):
        here.ask(colour(number))
    here.front.pipeline.classify([colour(0)], model=NEW, call=Call())  # loads it
    deadline_s = time.monotonic() + 1.0

    def slow(sources: Sequence[Any], call: Call) -> None:
        if len(stages.calls) > 1:
            assert call.deadline_s == deadline_s
            time.sleep(max(deadline_s - time.monotonic(), 0) + 0.01)
            raise TimedOut("too slow")

    stages = Stages(here, slow)
    part = reclassifier(here, stages).run("other", workers=1, deadline_s=deadline_s)
    assert (part.done, part.failed, part.left, part.next != "") == (8, (), 16, True)
    rest = run(here, after=part.next)
    assert (rest.done, rest.left) == (16, 0)


def test_records_that_can_not_be_written_end_the_run(here: Scene, tmp_path: Path) -> None:
    """There is no point in going on."""
    here.ask(colour(1))

    def spoil(sources: Sequence[Any], call: Call) -> None:
        here.store.close()
        (tmp_path / "records.db").unlink()
        (tmp_path / "records.db").mkdir()

    with pytest.raises(RecordsFailed):
        reclassifier(here, Stages(here, spoil)).run("other")


EXACT, COARSE = Place(35.658581, 139.745433, 30.5), Place(35.7, 139.7)
PLACES: list[Any] = [
    pytest.param(EXACT, "JP", "exact", EXACT, "JP", id="exact stays exact"),
    pytest.param(EXACT, "JP", "coarse", COARSE, "JP", id="exact becomes coarse"),
    pytest.param(EXACT, "JP", "country", None, "JP", id="exact becomes a country"),
    pytest.param(EXACT, "JP", "off", None, "", id="exact becomes nothing"),
    pytest.param(COARSE, "JP", "exact", COARSE, "JP", id="coarse stays coarse"),
    pytest.param(COARSE, "JP", "off", None, "", id="coarse becomes nothing"),
    pytest.param(None, "JP", "exact", None, "JP", id="a country stays a country"),
    pytest.param(None, "", "exact", None, "", id="nothing stays nothing"),
]


@pytest.mark.parametrize(("place", "country", "setting", "kept_place", "kept_country"), PLACES)
def test_a_place_is_never_more_precise_than_before_or_than_today(
    place: Place | None, country: str, setting: Any, kept_place: Place | None, kept_country: str
) -> None:
    """The privacy setting may have changed between two models, and what was never kept does not come back."""
    before = record(1, place=place, country=country)
    again = redone(before, places=setting, model=ModelVersion("other", "1"))
    assert (again.place, again.country, again.picture) == (kept_place, kept_country, before.picture)
    assert again.identity != before.identity


def test_a_stricter_setting_holds_for_a_real_run(here: Scene, tmp_path: Path, models: str) -> None:
    """What the file still says is not asked."""
    here.ask(colour(1))
    assert [kept.place for kept in here.of(OLD).values()] == [Place(35.7, 139.7)]
    with scene(tmp_path, models, CLASSY_PLACES="off") as strict:
        run(strict)
    assert [kept.place for kept in here.of(NEW).values()] == [None]
    assert {kept.taken_at for kept in here.of(OLD).values()} == {kept.taken_at for kept in here.of(NEW).values()}


def score(index: int, class_id: str = "", **labels: str) -> ClassScore:
    return ClassScore(index, 0.5, class_id, labels)


SAME: list[Any] = [
    pytest.param(score(1, "n1", en="a"), score(2, "n1", en="b"), "other", True, id="one id"),
    pytest.param(score(1, "n1", en="a"), score(1, "n2", en="a"), "other", False, id="two ids"),
    pytest.param(score(1, en="Cup"), score(2, en="cup"), "other", True, id="one name"),
    pytest.param(
        score(1, en="cup", ja="カップ"), score(2, ja="カップ"), "other", True, id="one name in one language"
    ),
    pytest.param(score(1, "n1", en="cup"), score(2, en="cup"), "other", True, id="an id on one side only"),
    pytest.param(score(1, en="cup"), score(1, en="mug"), "other", False, id="two names at one place"),
    pytest.param(score(1), score(1), "other", False, id="no name, two models"),
    pytest.param(score(1), score(1), "efficientnet-lite0", True, id="no name, one model"),
    pytest.param(score(1), score(2), "efficientnet-lite0", False, id="no name, another place"),
]


@pytest.mark.parametrize(("old", "new", "model", "same"), SAME)
def test_two_models_agree_on_what_they_call_the_same(
    old: ClassScore, new: ClassScore, model: str, same: bool
) -> None:
    """Not on the place in their outputs, which is each model's own."""
    after = record(1, top_k=(new,), model=ModelVersion(model, "2"))
    assert same_class(record(1, top_k=(old,)), after) is same


def test_a_picture_that_was_refused_before_neither_agrees_nor_changes(here: Scene) -> None:
    """There is nothing to compare with."""
    here.ask(colour(1))
    (old,) = here.of(OLD).values()
    refused = dataclasses.replace(
        old, model=ModelVersion("third", "1"), top_k=(), refusal=Refusal(42211, "x"), classified_at=datetime.now(UTC)
    )
    assert here.store.put(refused)
    done = run(here)
    assert (done.done, done.agreed, done.changed) == (1, 0, 0)
    assert ESPRESSO not in old.top_k


# The command line, as a process


def classy(here: Scene, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLASSY, *args], env=environ_of(here), capture_output=True, text=True, timeout=60)


def environ_of(here: Scene) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_"))}
    return {**own, **here.environ}


def test_the_command_line_prints_what_came_of_it(here: Scene) -> None:
    """A summary for people with the failures' reasons, one JSON object for scripts, and a status for both."""
    for number in range(12):
        last = here.ask(colour(number))
    assert here.front.kept is not None
    here.front.kept.delete(last["picture_sha256"])
    done = classy(here, "reclassify", "--model", "other", "--limit", "3", "--json")
    value = json.loads(done.stdout)
    assert (done.returncode, value["model"], value["done"] + len(value["failed"])) == (bool(value["failed"]), NEW, 3)
    done = classy(here, "reclassify", "--model", NEW)
    assert done.returncode == 1
    assert f"{NEW}: {8 + len(value['failed'])} done, 1 failed, 1 left" in done.stdout
    assert "1 failed: the picture" in done.stdout
    assert "0 of " in done.stderr
    here.front.kept.put(last["picture_sha256"], colour(11))
    done = classy(here, "reclassify", "--model", NEW, "--workers", "4")
    assert (done.returncode, "1 done, 0 failed, 0 left" in done.stdout) == (0, True)
    assert len(here.of(NEW)) == 12


def test_the_command_line_says_what_is_missing(here: Scene, tmp_path: Path) -> None:
    """A model that is not published, and records that are nowhere."""
    done = classy(here, "reclassify", "--model", "nope@1")
    assert (done.returncode, "nope@1" in done.stderr, done.stdout) == (1, True, "")
    bare = {name: value for name, value in environ_of(here).items() if name not in ("CLASSY_RECORDS",)}
    bare.pop("CLASSY_PICTURES")
    command = [*CLASSY, "--state-dir", str(tmp_path / "none"), "reclassify", "--model", NEW]
    nothing = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60)
    assert (nothing.returncode, "there are no records" in nothing.stderr) == (0, True)


def recorded_pictures(here: Scene, count: int) -> None:
    """Record and keep pictures, many at a time."""
    images = [{"image": base64.b64encode(colour(number)).decode()} for number in range(count)]
    for start in range(0, count, 64):
        body = json.dumps({"images": images[start : start + 64]}).encode()
        assert all(entry["kept"] for entry in here.ask(body, "application/json")["results"])


def begun(here: Scene, wanted: int = 1, model: str = NEW) -> subprocess.Popen[str]:
    """Start the command, and return once it has recorded something more."""
    have = len(here.of(model))
    process = subprocess.Popen(
        [*CLASSY, "reclassify", "--model", model, "--workers", "1"],
        env=environ_of(here), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline_s = time.monotonic() + 60
    while len(here.of(model)) < have + wanted and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    return process


def test_an_interrupt_leaves_the_rest_for_the_next_time(here: Scene) -> None:
    """Ctrl-C ends it with a status of its own, a summary, and what to do next."""
    recorded_pictures(here, 120)
    process = begun(here)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command does the rest" in err
    some = len(here.of(NEW))
    assert 0 < some < 120
    assert f"{NEW}: " in out
    assert run(here).done == 120 - some


def killed_and_undisturbed(models: str, folder: Path, *, model: str, count: int, kills: int) -> None:
    """Kill a run again and again, finish it, and compare it with one that nobody disturbed."""
    chance = random.Random(6)
    (folder / "killed").mkdir()
    (folder / "calm").mkdir()
    with scene(folder / "killed", models) as killed, scene(folder / "calm", models) as calm:
        for here in (killed, calm):
            recorded_pictures(here, count)
        hits = 0
        for _ in range(kills):
            process = begun(killed, chance.randrange(1, max(count // (2 * kills), 2)), model)
            time.sleep(chance.random() * 0.02)  # anywhere in a batch: before, amid and behind its writes
            hits += process.poll() is None
            process.kill()
            process.communicate(timeout=60)
        assert hits == kills, "it was done before it could be killed"
        assert 0 < len(killed.of(model)) < count
        last = classy(killed, "reclassify", "--model", model, "--json")
        assert (last.returncode, json.loads(last.stdout)["left"]) == (0, 0), last.stderr
        assert classy(calm, "reclassify", "--model", model).returncode == 0
        results = [{picture: lasting(kept) for picture, kept in here.of(model).items()} for here in (killed, calm)]
        assert results[0] == results[1]
        assert len(results[0]) == len(killed.of(OLD)) == count
        kept = [
            sorted(str(path.relative_to(folder / name)) for path in (folder / name / "pictures").rglob("*.webp"))
            for name in ("killed", "calm")
        ]
        assert kept[0] == kept[1]


def test_a_kill_spoils_nothing(models: str, tmp_path: Path) -> None:
    """Twice SIGKILL amid the work, and the records are those of a run that nobody disturbed."""
    killed_and_undisturbed(models, tmp_path, model=NEW, count=56, kills=2)


@pytest.mark.slow
def test_ten_kills_spoil_nothing(tmp_path: Path) -> None:
    """As two do not, and with the default model."""
    models = two_models(tmp_path)
    manifest = publish(default_model()[0], ModelStore(ObjectStorage(), models))
    killed_and_undisturbed(models, tmp_path, model=manifest.ref, count=300, kills=10)


def test_two_runs_at_once_do_the_same_as_one(here: Scene) -> None:
    """They may both do a picture; it is recorded once."""
    recorded_pictures(here, 40)
    both = [begun(here, 0) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(here.of(NEW)) == len(here.of(OLD)) == 40


def test_the_local_clouds_records_and_pictures_are_found(cloud: Cloud) -> None:
    """By its state folder alone, while it runs; its default model sees what another one saw before."""
    state_dir = cloud.log_dir.parent
    sha256 = hashlib.sha256(colour(77)).hexdigest()
    cloud.objects.put(f"s3://classy-pictures/originals/{sha256}", colour(77))
    before = record(1, source=Source("upload"), picture_sha256=sha256, model=ModelVersion("small", "1"))
    store = open_records(f"sqlite:///{state_dir / 'records.db'}")
    try:
        store.put(before)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSY_", "AWS_"))}
        command = [*CLASSY, "--state-dir", str(state_dir), "reclassify", "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        value = json.loads(done.stdout)
        assert (value["model"].partition("@")[0], value["next"]) == ("efficientnet-lite0", ""), done.stderr
        (after,) = [
            kept
            for kept in store.query(Query(pictures=(before.picture,))).records
            if kept.model.ref == value["model"]
        ]
        assert (after.source, after.refusal) == (before.source, None)
        assert cloud.objects.size(f"s3://classy-pictures/thumbnails/{sha256}.webp") > 0
    finally:
        store.delete_picture(before.picture)
        store.close()


class Terminal(io.StringIO):
    """A terminal that remembers what it was shown."""

    def isatty(self) -> bool:
        return True


def test_a_bar_says_how_far_it_is_and_how_long_it_will_take() -> None:
    """On a terminal in one line; elsewhere not more often than anyone reads."""
    terminal, plain = Terminal(), io.StringIO()
    for out in (terminal, plain):
        bar = Bar(out, limit=150)
        for done in range(0, 101, 10):
            bar.show(Reclassified(done=done, left=200 - done))
        bar.end()
    shown = terminal.getvalue().split("\r")
    assert len(shown) == 12
    assert (terminal.getvalue().count("\n"), plain.getvalue().count("\n")) == (1, 1)
    assert "100 of 150" in shown[-1]
    assert Bar(terminal).line(0, 0.0).endswith("0 of 0")
    bar = Bar(terminal)
    bar.show(Reclassified(left=1_000))
    assert bar.line(250, 60.0) == "██████░░░░░░░░░░░░░░░░░░ 250 of 1,000, 4.2/s, about 3 min left"


def test_a_failure_reads_as_what_it_is(here: Scene) -> None:
    """The picture's own id, a code of ours, and words for people."""
    here.ask(colour(1))
    assert here.front.kept is not None
    (sha256,) = [kept.picture_sha256 for kept in here.of(OLD).values()]
    here.front.kept.delete(sha256)
    (failed,) = run(here).failed
    assert dataclasses.asdict(failed).keys() == {"picture", "code", "message"}
    assert failed.picture in here.of(OLD)
