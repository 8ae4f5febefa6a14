"""The four functions for real: fdk processes behind the Fn-compatible endpoint, and the storage's own events."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from clouds import Cloud, running_cloud
from default_model import default_model
from direct import direct_probabilities
from local_agents import descendants
from photos import photo

from classy.front import Classy
from classy.local.state import read_state
from classy.settings import Settings
from graphpipe_fn import remote
from graphpipe_fn.errors import RemoteError
from graphpipe_fn.messages import Call, InferRequest, strings
from graphpipe_fn.transports import connect

UPLOAD_S = 60.0


def post(url: str, body: bytes, content_type: str = "text/plain") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@pytest.fixture(scope="session")
def photos(cloud: Cloud) -> dict[str, str]:
    """Return the URLs of some photos on the cloud's own storage."""
    for name in ("coffee.png", "china.jpg", "chelsea.png"):
        cloud.objects.put(f"s3://classy-photos/{name}", photo(name))
    cloud.objects.put("s3://classy-photos/page.html", b"<!DOCTYPE html><p>no picture")
    names = ("coffee.png", "china.jpg", "chelsea.png", "page.html", "missing.png")
    return {name: f"{cloud.storage_url}/classy-photos/{name}" for name in names}


def test_the_talks_call_gives_the_talks_answer(cloud: Cloud, photos: dict[str, str]) -> None:
    """`echo -n '{"name": …}' | fn invoke` sends text/plain, and reads Id and Message with six decimals."""
    status, answer = post(cloud.url("classy-func"), json.dumps({"name": photos["coffee.png"]}).encode())
    assert (status, answer["Id"], answer["class_id"]) == (200, 0, "n07920052")
    assert answer["Message"] == f"result_class=エスプレッソ, probability={answer['probability']:.6f}"
    assert answer["model"]["name"] == "efficientnet-lite0"
    names = [hop["name"] for hop in answer["timings"]]
    assert names == ["classy", "hop", "downloader", "hop", "preprocessor", "hop", "vgg"]
    assert all(isinstance(hop["cold"], bool) for hop in answer["timings"] if hop["name"] != "hop")


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream"])
def test_a_picture_as_the_body_is_classified(cloud: Cloud, content_type: str) -> None:
    """With its type or without."""
    status, answer = post(cloud.url("classy-func"), photo("coffee.png"), content_type)
    assert (status, answer["label"]["en"]) == (200, "espresso")


def test_one_bad_picture_of_a_batch_is_its_own_error(cloud: Cloud, photos: dict[str, str]) -> None:
    """The others come through, each in its place."""
    names = ["coffee.png", "missing.png", "page.html", "china.jpg"]
    ask = {"images": [photos[name] for name in names], "language": "en", "top_k": 2}
    status, answer = post(cloud.url("classy-func"), json.dumps(ask).encode())
    assert status == 200
    results = answer["results"]
    assert [entry.get("class_index") for entry in results] == [967, None, None, 698]
    assert [entry["error"]["code"] for entry in results if "error" in entry] == [42413, 42211]
    assert [len(entry["top_k"]) for entry in results if "top_k" in entry] == [2, 2]


def large_picture(size: int) -> bytes:
    """Return a grey BMP of about so many bytes: as large a file as its pixels."""
    side_px = math.isqrt(size // 3) // 4 * 4  # rows of whole words
    pixels = bytes([128]) * (3 * side_px * side_px)
    sizes = struct.pack("<IHHIIiiHHIIiiII", 54 + len(pixels), 0, 0, 54, 40, side_px, side_px, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + sizes + pixels


def test_64_pictures_of_17_mb_stay_within_every_functions_memory(cloud: Cloud) -> None:
    """Those that have room are answered, the others refused by name; no process is killed over its memory."""
    picture = large_picture(17_000_000)
    assert 16_900_000 < len(picture) <= 17_000_100
    cloud.objects.put("s3://classy-photos/large.bmp", picture)
    urls = [f"{cloud.storage_url}/classy-photos/large.bmp?{number}" for number in range(64)]
    for _ in range(2):  # the second time finds what the first left behind
        status, answer = post(cloud.url("classy-func"), json.dumps({"images": urls}).encode())
        assert (status, len(answer.get("results", []))) == (200, 64), answer
        answered = [entry for entry in answer["results"] if "class_index" in entry]
        refused = [entry["error"] for entry in answer["results"] if "error" in entry]
        assert 1 <= len(answered) <= 2
        assert {error["code"] for error in refused} == {41313}
        assert all("CLASSY_LIMIT_REQUEST_BYTES" in error["message"] for error in refused)
    logs = "".join(path.read_text() for path in cloud.log_dir.glob("classy-fn.*.log"))
    assert "over its limit" not in logs


@pytest.mark.parametrize(
    ("size", "status", "outcome"),
    [
        pytest.param(20_000_000, 200, None, id="20 MB, as large as a picture may be"),
        pytest.param(21_000_000, 200, 41311, id="21 MB, refused by the preprocessor"),
        pytest.param(85_000_000, 200, 41311, id="85 MB, the most that reaches the front"),
        pytest.param(120_000_000, 413, "Request content too large", id="120 MB, refused by the agent"),
        pytest.param(300_000_000, 413, "Request content too large", id="300 MB, refused by the agent"),
    ],
)
def test_a_body_of_any_size_has_a_clear_outcome(cloud: Cloud, size: int, status: int, outcome: object) -> None:
    """It is classified, or refused in words; no process is killed over its memory."""
    found, answer = post(cloud.url("classy-func"), large_picture(size), "image/bmp")
    error = answer.get("error", {}).get("code")
    assert (found, answer.get("message", error)) == (status, outcome)
    assert ("class_index" in answer) == (outcome is None)
    logs = "".join(path.read_text() for path in cloud.log_dir.glob("classy-fn.*.log"))
    assert "over its limit" not in logs


TOPOLOGIES = ["in-process", "caller-led", "server-led", "hybrid"]
CASES: list[Any] = [
    pytest.param(["coffee.png"], id="one"),
    pytest.param(["coffee.png", "china.jpg", "chelsea.png"], id="several"),
    pytest.param(["page.html", "coffee.png", "missing.png"], id="bad ones among them"),
    pytest.param(["missing.png", "page.html"], id="none good"),
]


@pytest.fixture(scope="session")
def fronts(cloud: Cloud) -> Iterator[dict[str, Classy]]:
    """Return a Classy of each topology, all in front of the same functions and store."""
    made = {name: Classy(Settings.from_env(cloud.settings(name))) for name in TOPOLOGIES}
    yield made
    for front in made.values():
        front.close()


@pytest.mark.parametrize("names", CASES)
@pytest.mark.parametrize("topology", TOPOLOGIES[1:])
def test_every_topology_gives_the_same_answer(
    fronts: dict[str, Classy], photos: dict[str, str], topology: str, names: list[str]
) -> None:
    """Who calls whom is a setting; what comes out is not."""
    body = json.dumps({"images": [photos[name] for name in names]}).encode()

    def answered(front: Classy) -> Any:
        answer = json.loads(front.answer(body, Call(id="x")).body())
        return {key: value for key, value in answer.items() if key != "timings"}

    expected = answered(fronts["in-process"])
    assert len(expected["results"]) == len(names)
    assert answered(fronts[topology]) == expected


@pytest.mark.parametrize("topology", TOPOLOGIES[1:])
def test_pictures_skip_the_downloader_in_every_topology(fronts: dict[str, Classy], topology: str) -> None:
    """A body needs no fetch, and its answer is the same."""
    reply = fronts[topology].answer(photo("china.jpg"), Call(content_type="image/jpeg"))
    answer = json.loads(reply.body())
    assert (reply.status, answer["class_index"]) == (200, 698)
    assert "downloader" not in [hop["name"] for hop in answer["timings"]]


def test_the_originals_contract_holds(cloud: Cloud, photos: dict[str, str]) -> None:
    """URLs to the downloader, the preprocessor's bare URL as config, (N, classes) probabilities back."""
    urls = strings([photos["coffee.png"], photos["chelsea.png"]])
    with closing(connect(cloud.url("downloader"))) as client:
        response = client.infer(InferRequest((urls,), config=cloud.url("preprocessor")))
    (probabilities,) = response.outputs
    assert probabilities.shape == (2, 1000)
    graph = default_model()[0] / "graph.onnx"
    direct = np.stack([direct_probabilities(photo(name), graph) for name in ("coffee.png", "chelsea.png")])
    np.testing.assert_allclose(np.asarray(probabilities), direct, atol=1e-3)


def test_the_original_clients_names_work_on_a_function(cloud: Cloud) -> None:
    """`remote.execute` and the metadata calls find a function as they found a server."""
    assert remote.get_input_names(cloud.url("downloader")) == ["urls"]
    batch = np.zeros((2, 3, 224, 224), np.float32)
    assert remote.execute(cloud.url("vgg"), batch).shape == (2, 1000)


def test_a_route_to_a_stranger_is_refused(cloud: Cloud, photos: dict[str, str]) -> None:
    """A config can't make a function call what its operator did not allow."""
    request = InferRequest((strings([photos["coffee.png"]]),), config="http://169.254.169.254/latest/meta-data")
    with closing(connect(cloud.url("downloader"))) as client, pytest.raises(RemoteError) as refused:
        client.infer(request)
    assert "is not allowed" in refused.value.message
    assert refused.value.code == 40003


def results_of(cloud: Cloud, key: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Return the results of an uploaded object, once there are so many."""
    deadline_s = time.monotonic() + UPLOAD_S
    prefix = f"s3://classy-results/classy-inbox/{key}/"
    while time.monotonic() < deadline_s:
        found = cloud.objects.list(prefix)
        if len(found) >= count:
            return [json.loads(cloud.objects.get(uri, limit_bytes=100_000)) for uri in found]
        time.sleep(0.05)
    raise AssertionError(f"no result under {prefix}; logs are in {cloud.log_dir}")


@pytest.mark.parametrize("key", ["plain.jpg", "folder/a b+c ü 日本.jpg", "100%25.jpg"])
def test_an_upload_is_classified_whatever_its_name(cloud: Cloud, key: str) -> None:
    """Keys arrive encoded once, and are decoded once."""
    cloud.objects.put(f"s3://classy-inbox/{key}", photo("china.jpg"))
    (result,) = results_of(cloud, key)
    assert (result["source"], result["class_index"]) == (f"s3://classy-inbox/{key}", 698)
    assert result["classified_at"].endswith("+00:00")


def test_an_upload_that_is_no_picture_gets_a_result_that_says_so(cloud: Cloud) -> None:
    """It is refused for good and does not come back from the queue."""
    cloud.objects.put("s3://classy-inbox/notes.txt", b"not a picture")
    (result,) = results_of(cloud, "notes.txt")
    assert result["error"]["code"] == 42211


def test_a_duplicate_event_changes_nothing(cloud: Cloud) -> None:
    """The second delivery finds the result there, and says so."""
    cloud.objects.put("s3://classy-inbox/twice.jpg", photo("china.jpg"))
    before = results_of(cloud, "twice.jpg")
    stored = {"key": quote("twice.jpg"), "eTag": before[0]["version"]}
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "classy-inbox"}, "object": stored}}
    status, answer = post(cloud.url("classy-func"), json.dumps({"Records": [record]}).encode())
    assert (status, answer["results"], answer["ignored"]) == (200, [], 1)
    assert results_of(cloud, "twice.jpg") == before


@pytest.mark.slow
def test_a_storage_that_hangs_is_told_to_the_caller(tmp_path: Path) -> None:
    """Not "function failed", not "Timed out": what does not answer, and that it may pass."""
    with running_cloud(tmp_path / "state") as cloud:
        state = read_state(tmp_path / "state")
        assert state is not None
        (storage,) = (
            pid for pid in descendants(state.pid) if b"ministack" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(storage, signal.SIGSTOP)
        try:
            status, answer = post(cloud.url("classy-func"), photo("coffee.png"), "image/png")
        finally:
            os.kill(storage, signal.SIGCONT)
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (200, 50211, True)
        assert f"{cloud.storage_url} does not answer" in answer["error"]["message"]
        assert post(cloud.url("classy-func"), photo("coffee.png"), "image/png")[1]["class_index"] == 967


@pytest.mark.slow
def test_uploads_survive_the_death_of_everything(tmp_path: Path) -> None:
    """What lay in the inbox when all was killed is classified after the next start, each object once."""
    keys = [f"{number} ü.jpg" for number in range(20)]
    with running_cloud(tmp_path / "state") as first:
        for key in keys:
            first.objects.put(f"s3://classy-inbox/{key}", photo("china.jpg"))
        state = read_state(tmp_path / "state")
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
    with running_cloud(tmp_path / "state") as second:
        for key in keys:
            (result,) = results_of(second, key)
            assert result["class_index"] == 698


def test_an_event_that_can_not_be_dealt_with_now_is_no_success(cloud: Cloud) -> None:
    """A bucket that the downloader may not read is our mistake, so the event must come again."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "elsewhere"}, "object": {"key": "a.jpg"}}}
    status, answer = post(cloud.url("classy-func"), json.dumps({"Records": [record]}).encode())
    assert (status, answer) == (502, {"message": "function failed"})


def through_the_trigger(
    cloud: Cloud, query: str = "", body: bytes | None = None, method: str = "GET"
) -> tuple[int, Any]:
    url = f"{cloud.agent_url}/t/classy-fn/classify{query}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_the_trigger_takes_gets_and_posts_with_true_statuses(cloud: Cloud, photos: dict[str, str]) -> None:
    """`?url=`, the article's `?imagelink=`, JSON: the same answer; a refusal has its own status."""
    for key in ("url", "imagelink"):
        status, answer = through_the_trigger(cloud, f"?{key}={quote(photos['coffee.png'])}&top_k=2&language=en")
        assert (status, answer["label"]["en"], len(answer["top_k"])) == (200, "espresso", 2)
    ask = json.dumps({"name": photos["coffee.png"]}).encode()
    assert through_the_trigger(cloud, body=ask, method="POST")[0] == 200
    status, answer = through_the_trigger(cloud, f"?url={quote(photos['missing.png'])}")
    assert (status, answer["error"]["code"]) == (424, 42413)
    assert through_the_trigger(cloud)[0] == 400
    assert through_the_trigger(cloud, method="DELETE")[0] == 405


REFUSED: list[Any] = [
    pytest.param(b"", 40011, "the body is empty", id="empty body"),
    pytest.param(b'{"nmae": "x"}', 40011, "unknown key 'nmae'", id="a typing mistake"),
    pytest.param(b"just text", 42211, "this is no picture", id="a text file"),
    pytest.param(b'{"name": "ftp://example.org/x.jpg"}', 40012, "ftp", id="ftp"),
    pytest.param(b'{"name": "http://no-such-host.invalid/x.jpg"}', 42411, "no-such-host.invalid", id="unknown host"),
    pytest.param(b'{"name": "http://169.254.169.254/"}', 40311, "not a public address", id="metadata service"),
    pytest.param(b'{"name": "s3://classy-models/x"}', 40012, "CLASSY_BUCKETS", id="another bucket"),
    pytest.param(b'{"name": "http://x/", "model": "nope@1"}', 50311, "nope@1", id="no such model"),
]


@pytest.mark.parametrize(("body", "code", "words"), REFUSED)
def test_a_refusal_reads_like_help(cloud: Cloud, body: bytes, code: int, words: str) -> None:
    """Code, culprit and remedy are in the answer, whatever the platform makes of the status."""
    _, answer = post(cloud.url("classy-func"), body)
    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]
    assert answer["call_id"]
