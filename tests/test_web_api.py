"""The operations of the HTTP API, by Flask's own client with the real front, store and model behind it."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from scripted_server import Peer, response, scripted_server
from web_apps import picture, publish_second, web_app

from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.messages import InferRequest, InferResponse, strings

RED, BLUE = picture(200, 30, 30), picture(20, 30, 220)
PROBLEM = "application/problem+json"
FORM = "multipart/form-data"
NOWHERE = "0" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's application keeps everything."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[FlaskClient]:
    """A client of an application with two pictures on record."""
    with web_app(folder) as app:
        client = app.test_client()
        for data in (RED, BLUE):
            assert client.post("/api/classify", data=data, content_type="image/png").status_code == 200
        yield client


def files(**named: bytes) -> dict[str, Any]:
    """Return a form's files."""
    return {name: (io.BytesIO(data), f"<b>{name}</b>.png") for name, data in named.items()}


def problem(answer: Any, status: int, code: int) -> dict[str, Any]:
    """Return an answer that must be a problem."""
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.data
    value: dict[str, Any] = answer.json
    assert set(value) == {"type", "title", "status", "detail", "code", "retryable", "request_id"}
    assert (value["status"], value["code"]) == (status, code), value
    assert value["request_id"] == answer.headers["X-Request-Id"]
    return value


ASKS: list[Any] = [
    pytest.param({"data": RED, "content_type": "image/png"}, id="raw"),
    pytest.param({"data": RED, "content_type": "application/octet-stream"}, id="raw of unknown type"),
    pytest.param({"data": RED, "content_type": "application/x-www-form-urlencoded"}, id="raw as curl sends it"),
    pytest.param({"data": RED}, id="raw without a type"),
    pytest.param({"json": {"image": base64.b64encode(RED).decode()}}, id="JSON"),
    pytest.param(
        {"data": json.dumps({"image": base64.b64encode(RED).decode()}), "content_type": "text/plain"},
        id="JSON as text",
    ),
    pytest.param({"data": files(anything=RED), "content_type": FORM}, id="a form"),
]


@pytest.mark.parametrize("request_of", ASKS)
def test_a_picture_is_classified_however_it_is_sent(client: FlaskClient, request_of: dict[str, Any]) -> None:
    """Raw, in JSON and in a form the same picture has the same answer, but for what that cost."""
    if request_of.get("content_type") == FORM:
        request_of = {**request_of, "data": files(anything=RED)}
    value = client.post("/api/classify?top_k=2", **request_of).json
    expected = client.post("/api/classify?top_k=2", data=RED, content_type="image/png").json
    for answer in (value, expected):
        del answer["timings"], answer["call_id"]
    assert value == expected
    assert [len(value["top_k"]), value["model"]["name"], value["recorded"]] == [2, "small", True]


def test_several_files_have_an_answer_each_in_order(client: FlaskClient) -> None:
    """A file that is no picture does not spoil its neighbours, and options may stand in the form."""
    data = {**files(a=RED, b=b"nonsense", c=BLUE), "top_k": "1", "language": "en"}
    value = client.post("/api/classify", data=data, content_type=FORM).json
    assert [entry["Id"] for entry in value["results"]] == [0, 1, 2]
    assert value["results"][1]["error"]["code"] == 42211
    assert [len(value["results"][place]["top_k"]) for place in (0, 2)] == [1, 1]


def test_json_may_name_several_pictures(client: FlaskClient) -> None:
    """As the front takes it."""
    images = [{"image": base64.b64encode(data).decode()} for data in (RED, BLUE)]
    value = client.post("/api/classify", json={"images": images, "language": "en"}).json
    assert [entry["Message"].partition(",")[0] for entry in value["results"]] == [
        f"result_class={client.post('/api/classify', data=data).json['label']['en']}" for data in (RED, BLUE)
    ]


REFUSED: list[Any] = [
    pytest.param({"data": b"nonsense", "content_type": "image/png"}, 422, 42211, id="no picture"),
    pytest.param({"data": b""}, 400, 40011, id="nothing"),
    pytest.param({"data": b"{", "content_type": "application/json"}, 400, 40011, id="half JSON"),
    pytest.param({"data": b"[]", "content_type": "application/json"}, 400, 40011, id="JSON of another kind"),
    pytest.param({"json": {"name": 7}}, 400, 40011, id="a wrong type"),
    pytest.param({"json": {"nome": "x"}}, 400, 40011, id="an unknown key"),
    pytest.param({"json": {"name": "\ud800"}}, 400, 40011, id="half a character"),
    pytest.param({"data": b'{"name": ' + b"[" * 100_000, "content_type": "application/json"}, 400, 40011, id="deep"),
    pytest.param({"json": {"name": "http://127.0.0.1/x.png"}}, 403, 40311, id="an address of ours"),
    pytest.param({"json": {"name": "file:///etc/passwd"}}, 400, 40012, id="a file of ours"),
    pytest.param({"json": {"name": "http://x/", "model": "nothing@1"}}, 404, 40411, id="no such model"),
    pytest.param({"json": {"name": "http://x/", "model": "../../etc"}}, 404, 40411, id="no name of a model"),
    pytest.param({"data": b"<a/>", "content_type": "application/xml"}, 415, 41511, id="XML"),
    pytest.param({"data": b"x", "headers": {"Content-Encoding": "gzip"}}, 415, 41511, id="compressed"),
    pytest.param({"data": {"top_k": "1"}, "content_type": FORM}, 400, 40011, id="a form without a file"),
    pytest.param({"data": b"--x", "content_type": FORM}, 400, 40011, id="a form without a boundary"),
    pytest.param({"data": b"--x\r\n", "content_type": f"{FORM}; boundary=y"}, 400, 40011, id="another boundary"),
    pytest.param(
        {
            "data": b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + RED,
            "content_type": f"{FORM}; boundary=x",
        },
        400,
        40011,
        id="a form cut short",
    ),
    pytest.param({"data": b"x" * 41_100_000, "content_type": "image/png"}, 413, 41300, id="too many bytes"),
    pytest.param(
        {
            "json": {
                "Records": [
                    {"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}},
                ]
            }
        },
        400,
        40011,
        id="an upload's event",
    ),
]


@pytest.mark.parametrize(("request_of", "status", "code"), REFUSED)
def test_what_can_not_be_classified_is_a_problem(
    client: FlaskClient, request_of: dict[str, Any], status: int, code: int
) -> None:
    """With the front's own code, and nothing about where in the program it happened."""
    value = problem(client.post("/api/classify", **request_of), status, code)
    assert not any(word in value["detail"] for word in ("Traceback", ".py", "/work", "/tmp"))


def test_a_form_of_a_thousand_parts_is_refused(client: FlaskClient) -> None:
    """By its parts, before any of them is looked at."""
    data = files(**{f"f{number}": RED[:9] for number in range(1_000)})
    problem(client.post("/api/classify", data=data, content_type=FORM), 413, 41300)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"top_k": "0"}, "top_k"), ({"top_k": "x"}, "top_k"), ({"language": "xx"}, "language"), ({"evil": "1"}, "evil")],
    ids=["top_k", "no number", "language", "unknown"],
)
def test_a_forms_options_are_checked(client: FlaskClient, fields: dict[str, str], words: str) -> None:
    """As those of JSON are."""
    answer = client.post("/api/classify", data={**files(a=RED), **fields}, content_type=FORM)
    assert words in problem(answer, 400, 40011)["detail"]


QUERIES: list[Any] = [
    pytest.param("/api/classify", 400, 40011, id="nothing asked"),
    pytest.param("/api/classify?url=http://x/&imagelink=http://y/", 400, 40011, id="two pictures"),
    pytest.param("/api/classify?url=http://x/&url=http://y/", 400, 40011, id="the same twice"),
    pytest.param("/api/classify?url=http://127.0.0.1/", 403, 40311, id="url"),
    pytest.param("/api/classify?imagelink=http://127.0.0.1/", 403, 40311, id="imagelink"),
    pytest.param("/api/classify?url=http://x/&top_k=0", 400, 40011, id="top_k"),
    pytest.param("/api/classify?url=http://x/&top_k=1e1", 400, 40011, id="no whole number"),
    pytest.param("/api/classify?url=http://x/&language=xx", 400, 40011, id="language"),
    pytest.param("/api/classify?url=http://x/&model=no/name", 400, 40011, id="no name of a model"),
    pytest.param("/api/classify?url=http://x/&model=nothing", 404, 40411, id="no such model"),
    pytest.param("/api/classify?image=x", 400, 40011, id="an unknown parameter"),
    pytest.param("/api/classify?url=a%00b", 400, 40011, id="a control character"),
    pytest.param("/api/classify?url=a%ffb", 400, 40012, id="no UTF-8"),
    pytest.param("/api/records?limit=0", 400, 40011, id="no records"),
    pytest.param("/api/records?limit=1001", 400, 40011, id="too many records"),
    pytest.param("/api/records?since=2026-11-21", 400, 40011, id="a day"),
    pytest.param("/api/records?since=2026-11-21T10:00:00", 400, 40011, id="a time without an offset"),
    pytest.param("/api/records?since=tomorrow", 400, 40011, id="no time"),
    pytest.param("/api/records?box=1,2,3", 400, 40011, id="half a box"),
    pytest.param("/api/records?box=0,50,1,40", 400, 40011, id="a box upside down"),
    pytest.param("/api/records?after=xxx", 400, 40011, id="no cursor"),
    pytest.param("/api/records?country=jp", 400, 40011, id="a country in small letters"),
    pytest.param("/api/records?picture=x", 400, 40011, id="no picture's name"),
    pytest.param("/api/records?" + "&".join([f"picture={NOWHERE}"] * 101), 400, 40011, id="too many pictures"),
    pytest.param("/api/records?format=xml", 400, 40011, id="another format"),
    pytest.param("/api/records/x", 400, 40011, id="no id"),
    pytest.param(f"/api/records/{NOWHERE}", 404, 40400, id="no such record"),
    pytest.param(f"/api/thumbnails/{NOWHERE}", 404, 40400, id="no such thumbnail"),
    pytest.param(f"/api/pictures/{NOWHERE}", 404, 40400, id="no such picture"),
    pytest.param("/api/pictures/..%2F..%2Frecords.db", 404, 40400, id="out of the pictures"),
    pytest.param("/api/thumbnails/%2e%2e", 400, 40011, id="no hash"),
    pytest.param("/models/small/1/..", 400, 40011, id="out of the model"),
    pytest.param("/models/small/1/current.json", 404, 40400, id="no file of the model"),
    pytest.param("/models/small/9/manifest.json", 404, 40411, id="no such version"),
    pytest.param("/models/small/1/.hidden", 400, 40011, id="a hidden file"),
    pytest.param("/nope", 404, 40400, id="no such path"),
    pytest.param("/api", 404, 40400, id="no such path of the API"),
    pytest.param("/api/health/", 404, 40400, id="a slash too many"),
    pytest.param("//api/health", 404, 40400, id="a slash too many before"),
    pytest.param("/api/health?x=1", 400, 40011, id="a parameter too many"),
    pytest.param("/static/../app.py", 404, 40400, id="out of the page"),
    pytest.param("/static/%2e%2e/app.py", 404, 40400, id="out of the page, escaped"),
    pytest.param("/static/.hidden", 404, 40400, id="a hidden file of the page"),
    pytest.param("/static/i18n", 404, 40400, id="a folder of the page"),
]


@pytest.mark.parametrize(("path", "status", "code"), QUERIES)
def test_what_is_not_there_or_not_asked_rightly_is_a_problem(
    client: FlaskClient, path: str, status: int, code: int
) -> None:
    """By its code; a path that is not there never opens a file."""
    value = problem(client.get(path), status, code)
    assert value["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/classify", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", "/api/classify", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/api/records", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", f"/api/records/{NOWHERE}", {"GET", "HEAD", "OPTIONS", "DELETE"}),
        ("GET", "/api/reclassify", {"OPTIONS", "POST"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
        ("GARBAGE", "/api/health", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/api/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    client: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    """By a problem, and by Allow as OPTIONS has it too."""
    answer = client.open(path, method=method)
    problem(answer, 405, 40500)
    assert set(answer.headers["Allow"].split(", ")) == allowed
    options = client.options(path)
    assert (options.status_code, set(options.headers["Allow"].split(", "))) == (204, allowed)


def test_records_are_found_as_they_are_asked_for(client: FlaskClient) -> None:
    """Newest first, page after page, filtered by every parameter."""
    page = client.get("/api/records?limit=1").json
    assert len(page["records"]) == 1
    assert page["next"]
    link = client.get("/api/records?limit=1&source=upload").headers["Link"]
    assert link.startswith("<?limit=1&source=upload&after=")
    assert link.endswith('>; rel="next"')
    records = client.get("/api/records").json["records"]
    rest = client.get(f"/api/records?limit=1&after={page['next']}").json
    assert [page["records"][0], rest["records"][0]] == records[:2]
    assert sorted(record["classified_at"] for record in records) == [
        record["classified_at"] for record in reversed(records)
    ]
    newest = next(record for record in records if "label" in record)
    for query, count in {
        f"label={newest['label']['en']}&picture={newest['picture']}": 1,
        "label=tench": 0,
        "model=small@1": len(records),
        "model=small": len(records),
        "model=other": 0,
        "source=url": 0,
        "source=upload": len(records),
        "since=2000-01-01T00:00:00Z": len(records),
        "since=2000-01-01T00:00:00+09:00": len(records),
        "since=0001-01-01T00:00:00%2B23:59": len(records),
        "until=9999-12-31T23:59:59-23:59": len(records),
        "since=2000-01-01t00:00:00.5z&until=2000-01-01T00:00:01Z": 0,
        "box=139,35,140,36": 0,
        "country=JP": 0,
        f"picture={newest['picture']}&picture={NOWHERE}": 1,
    }.items():
        assert (query, len(client.get(f"/api/records?{query}").json["records"])) == (query, count)


def test_models_stand_side_by_side(tmp_path: Path) -> None:
    """Each picture once with the result of every model, page after page, filtered as records are."""
    with web_app(tmp_path) as app:
        client = app.test_client()
        for data in (RED, BLUE):
            client.post("/api/classify", data=data, content_type="image/png")
        publish_second(tmp_path)
        assert client.post("/api/reclassify", json={"model": "small@2"}).json["done"] == 2
        answer = client.get("/api/history").json
        assert (answer["models"], answer["next"]) == (["small@1", "small@2"], "")
        assert [sorted(row["results"]) for row in answer["pictures"]] == [["small@1", "small@2"]] * 2
        for row in answer["pictures"]:
            for ref, result in row["results"].items():
                record = client.get(f"/api/records/{result['id']}").json
                assert f"{record['model']['name']}@{record['model']['version']}" == ref
                assert (record["picture"], record["label"]) == (row["picture"], result["label"])
        pictures, path = [], "/api/history?limit=1&model=small@1"
        while path:
            page = client.get(path)
            pictures += [row["picture"] for row in page.json["pictures"]]
            link = page.headers.get("Link", "")
            path = "/api/history" + link[1 : link.index(">")] if link else ""
        assert sorted(pictures) == sorted(row["picture"] for row in answer["pictures"])
        assert client.get("/api/history?model=other").json["pictures"] == []
        problem(client.get("/api/history?format=csv"), 400, 40011)
        problem(client.get("/api/history?after=x"), 400, 40011)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/records/zzz", "\"id\" can't be 'zzz'; it takes the id of a record: 64 digits 0-9 and a-f"),
        ("/api/records?picture=x", 'a record\'s "picture": 64 digits 0-9 and a-f'),
        ("/api/records?box=0,10,1,5", "its south (10) is above its north (5)"),
        ("/api/records?source=s3://", "names no bucket; give s3://BUCKET"),
    ],
    ids=["id", "picture", "box", "source"],
)
def test_a_parameter_that_is_none_is_told_what_it_takes(client: FlaskClient, path: str, words: str) -> None:
    """In words that lead to a better one."""
    assert words in problem(client.get(path), 400, 40011)["detail"]


def test_records_come_as_csv_too(client: FlaskClient) -> None:
    """With a header, and as a file for a browser."""
    answer = client.get("/api/records?format=csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [record["id"] for record in client.get("/api/records").json["records"]]


def test_a_record_leads_to_its_picture_and_thumbnail(client: FlaskClient) -> None:
    """The picture as it was sent, to be saved and nothing else; a thumbnail of our own."""
    answered = client.post("/api/classify", data=RED).json
    record = client.get(f"/api/records/{answered['record_id']}").json
    assert (record["picture"], record["picture_sha256"]) == (answered["picture_id"], answered["picture_sha256"])
    original = client.get(f"/api/pictures/{record['picture_sha256']}")
    assert original.data == RED
    assert original.content_type == "application/octet-stream"
    assert original.headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in original.headers["Content-Security-Policy"]
    thumbnail = client.get(f"/api/thumbnails/{record['picture_sha256']}")
    assert (thumbnail.content_type, thumbnail.data[8:12]) == ("image/webp", b"WEBP")
    again = client.get(
        f"/api/thumbnails/{record['picture_sha256']}", headers={"If-None-Match": thumbnail.headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")


def test_deleting_a_record_forgets_its_picture(tmp_path: Path) -> None:
    """All its records, by whichever model, its bytes and its thumbnail; a second time there is nothing."""
    with web_app(tmp_path) as app:
        client = app.test_client()
        publish_second(tmp_path)
        first = client.post("/api/classify", data=RED).json
        second = client.post("/api/classify?model=small@2", data=RED).json
        client.post("/api/classify", data=BLUE)
        assert client.delete(f"/api/records/{first['record_id']}").json == {"deleted": 2}
        for path in (
            f"records/{first['record_id']}",
            f"records/{second['record_id']}",
            f"thumbnails/{first['picture_sha256']}",
            f"pictures/{first['picture_sha256']}",
        ):
            problem(client.get(f"/api/{path}"), 404, 40400)
        problem(client.delete(f"/api/records/{first['record_id']}"), 404, 40400)
        assert len(client.get("/api/records").json["records"]) == 1


def test_models_are_listed_with_what_a_page_needs(client: FlaskClient, folder: Path) -> None:
    """With an ETag; the list of a changed store is another one after a while."""
    answer = client.get("/api/models")
    (model,) = answer.json["models"]
    assert answer.json["default"] == model["ref"] == "small@1"
    assert client.get("/api/models/current").json == {"tag": "small@1"}
    assert (model["current"], model["drawn"], model["classes"], model["languages"]) == (True, False, 3, ["en"])
    written = datetime.fromtimestamp((folder / "store/small/1/manifest.json").stat().st_mtime, UTC)
    assert model["createdAt"] == written.isoformat(timespec="seconds")
    size = (folder / "store/small/1/graph.onnx").stat().st_size
    assert model["browser"] == {"url": "models/small/1/", "bytes": size}
    again = client.get("/api/models", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])


def test_the_list_of_models_outlives_its_store(tmp_path: Path) -> None:
    """Where the storage fails, who has asked before is told what was known."""
    with web_app(tmp_path, model_alias_age_s=0.0) as app:
        client = app.test_client()
        before = client.get("/api/models").json
        publish_second(tmp_path)
        after = client.get("/api/models").json
        assert [model["ref"] for model in after["models"]] == ["small@1", "small@2"]
        assert [model["current"] for model in after["models"]] == [True, False]
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").symlink_to("store")  # can be read by nobody, not even by root
        assert client.get("/api/models").json == after != before


def test_a_models_files_can_be_had_for_ever(client: FlaskClient, folder: Path) -> None:
    """Byte by byte as they were published, the manifest with its labels in it."""
    manifest = client.get("/models/small/1/manifest.json")
    assert manifest.json["labels"]["names"]["en"] == ["class 0", "class 1", "class 2"]
    name = manifest.json["files"][0]["name"]
    graph = client.get(f"/models/small/1/{name}")
    assert graph.data == (folder / "store/small/1" / name).read_bytes()
    assert graph.content_length == manifest.json["files"][0]["bytes"]
    assert "immutable" in graph.headers["Cache-Control"]
    head = client.head(f"/models/small/1/{name}")
    assert (head.data, head.content_length) == (b"", graph.content_length)
    again = client.get(f"/models/small/1/{name}", headers={"If-None-Match": graph.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_second_model_sees_what_the_first_has_seen(tmp_path: Path) -> None:
    """Slice by slice until nothing is left, and once only."""
    with web_app(tmp_path) as app:
        client = app.test_client()
        for blue in range(0, 250, 50):
            client.post("/api/classify", data=picture(blue=blue))
        publish_second(tmp_path)
        done, after, slices = 0, "", 0
        while slices == 0 or after:
            value = client.post("/api/reclassify", json={"model": "small@2", "after": after, "limit": 2}).json
            assert value["model"] == "small@2"
            assert (value["failed"], value["done"], value["agreed"] + value["changed"]) == ([], *[value["done"]] * 2)
            done, after, slices = done + value["done"], value["next"], slices + 1
        assert (done, value["left"]) == (5, 0)
        assert slices >= 3
        assert len(client.get("/api/records?model=small@2").json["records"]) == 5
        assert client.post("/api/reclassify", json={"model": "small@2"}).json["done"] == 0
        assert client.post("/api/predictions/repredict-all").json["done"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nothing@1"}, 404, 40411),
        ({"model": 7}, 400, 40011),
        ({"limit": 0}, 400, 40011),
        ({"limit": 201}, 400, 40011),
        ({"limit": True}, 400, 40011),
        ({"limit": 10**400}, 400, 40011),
        ({"after": "no cursor"}, 400, 40011),
        ({"nope": 1}, 400, 40011),
    ],
    ids=["no such model", "a number", "nothing", "too many", "no number", "huge", "no cursor", "unknown"],
)
def test_a_slice_that_can_not_be_is_a_problem(client: FlaskClient, body: Any, status: int, code: int) -> None:
    """Before anything is classified."""
    problem(client.post("/api/reclassify", json=body), status, code)


def test_the_mnist_applications_own_endpoints_answer(client: FlaskClient) -> None:
    """Every class's probability in order, and a history whose result is a text."""
    value = client.post("/api/predictions", data=files(image=RED), content_type=FORM).json
    by_class = {entry["class_index"]: entry["probability"] for entry in value["top_k"]}
    assert value["result"] == [by_class[index] for index in range(3)]
    assert sum(value["result"]) == pytest.approx(1, abs=1e-5)
    history = client.get("/api/prediction-history").json["history"]
    (found,) = [entry for entry in history if entry["imageId"] == value["picture_id"]]
    assert json.loads(found["result"]) == value["result"]
    assert found["modelTag"] == "small@1"
    assert client.get(f"/{found['originalFilename']}").data == RED
    assert client.get(f"/{found['resizedFilename']}").content_type == "image/webp"
    problem(client.post("/api/predictions", data=files(other=RED), content_type=FORM), 400, 40011)
    problem(client.post("/api/predictions", data=RED), 415, 41511)


def _graphpipe(client: FlaskClient, request: InferRequest) -> tuple[int, InferResponse]:
    answer = client.post("/graphpipe", data=b"".join(encode_request(request)))
    return answer.status_code, decode_response(answer.data)


def test_graphpipe_answers_as_a_graphpipe_server(client: FlaskClient) -> None:
    """Metadata for GET; a row's error in the output `errors`, or for the whole request where nobody asks for it."""
    assert client.get("/graphpipe").json["Inputs"][0]["Name"] == "urls"
    urls = strings(["http://127.0.0.1/a", "nonsense"])
    status, found = _graphpipe(client, InferRequest((urls,)))
    assert (status, found.errors[0].code) == (403, 40311)
    _, found = _graphpipe(client, InferRequest((urls,), output_names=("errors", "model")))
    assert [bytes(text)[:5] for text in found.outputs[0]] == [b"40311", b"40012"]
    assert list(found.outputs[1]) == [b"small@1"] * 2
    assert _graphpipe(client, InferRequest((urls,), config='{"model": "nothing"}'))[0] == 404
    assert _graphpipe(client, InferRequest((strings([]),)))[0] == 422
    assert _graphpipe(client, InferRequest((strings(["http://x/"] * 65),)))[0] == 413
    answer = client.post("/graphpipe", data=b"nonsense")
    assert (answer.status_code, decode_response(answer.data).errors[0].code) == (400, 40001)


def test_graphpipe_answers_the_probabilities_of_urls(tmp_path: Path) -> None:
    """Those that the HTTP API gives for the same picture."""

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(response(RED))

    with scripted_server(serve) as server, web_app(tmp_path, download_allow=f"127.0.0.1:{server.port}") as app:
        client, place = app.test_client(), f"127.0.0.1:{server.port}"
        status, answer = _graphpipe(client, InferRequest((strings([f"http://{place}/red.png"]),)))
        assert (status, answer.errors) == (200, ())
        expected = client.post("/api/predictions", data=files(image=RED), content_type=FORM).json["result"]
        assert np.asarray(answer.outputs[0])[0].tolist() == pytest.approx(expected, abs=1e-6)
        by_url = client.get(f"/api/classify?url=http://{place}/red.png").json
        assert by_url["picture_sha256"] == client.post("/api/classify", data=RED).json["picture_sha256"]
        assert (
            len(client.get(f"/api/records?source=http://{place}/red.png").json["records"]) == 0
        )  # known by its bytes


def test_without_records_the_rest_works(tmp_path: Path) -> None:
    """What would need them says how to have them."""
    with web_app(tmp_path, records="", pictures="") as app:
        client = app.test_client()
        assert "recorded" not in client.post("/api/classify", data=RED).json
        for path in ("records", f"records/{NOWHERE}", f"thumbnails/{NOWHERE}", "prediction-history"):
            assert "CLASSY_" in problem(client.get(f"/api/{path}"), 404, 40412)["detail"]
        problem(client.delete(f"/api/records/{NOWHERE}"), 404, 40412)
        problem(client.post("/api/reclassify"), 404, 40412)


def test_a_bug_answers_its_call_id_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the rest."""
    with web_app(tmp_path) as app:

        @app.get("/bug")
        def bug() -> str:
            raise RuntimeError("the password is swordfish")

        client = app.test_client()
        value = problem(client.get("/bug", headers={"X-Request-Id": "call-7"}), 500, 50000)
        assert value["request_id"] == "call-7"
        assert "swordfish" not in json.dumps(value)
        assert "swordfish" in caplog.text


def test_what_a_user_says_never_becomes_html(client: FlaskClient) -> None:
    """Not even in an error: all answers but the page and the docs are data, and no browser may guess otherwise."""
    evil = "<script>alert(1)</script>"
    for answer in (
        client.get(f"/{evil}"),
        client.get(f"/api/classify?{evil}=1"),
        client.get(f"/api/records?label={evil}"),
        client.post("/api/classify", json={"name": evil}),
        client.post("/api/classify", data={**files(a=RED), evil: evil}, content_type=FORM),
        client.get("/api/models", headers={"X-Request-Id": evil, "Origin": evil}),
    ):
        assert answer.mimetype in ("application/json", PROBLEM)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not any(evil in value for value in answer.headers.values())
