"""Fn's API on the local agent: the calls that the unmodified fn CLI makes, and the real server's rules and words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_agents import APP, Running, running, specs

from classy.local.ids import make_call_id, make_id

ZERO_TIME = "0001-01-01T00:00:00.000Z"  # what Go sends for times that were not set
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
APP_ID, FN_ID = make_id(APP), make_id(APP, "echo")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, specs("echo", "status", "work")) as started:
        yield started


def test_version(agent: Running) -> None:
    """`fn version` gets the version of the server whose answers these are."""
    answer = agent.api("GET", "/version")
    assert (answer.status, answer.json) == (200, {"version": "0.3.753"})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Server" not in answer.headers


def test_list_apps(agent: Running) -> None:
    """`fn list apps` gets each app with its config and times."""
    (app,) = agent.api("GET", "/v2/apps").json["items"]
    assert {key: app[key] for key in ("id", "name", "config")} == {
        "id": APP_ID,
        "name": APP,
        "config": {"FROM_APP": "1"},
    }
    assert set(app) == {"id", "name", "config", "created_at", "updated_at"}
    assert TIME.fullmatch(app["created_at"])


def test_list_functions(agent: Running) -> None:
    """`fn list functions` looks the app up by name, then its functions, which come in the order of their names."""
    (app,) = agent.api("GET", f"/v2/apps?name={APP}").json["items"]
    fns = agent.api("GET", f"/v2/fns?app_id={app['id']}").json["items"]
    assert [fn["name"] for fn in fns] == ["echo", "status", "work"]


def test_inspect_function(agent: Running) -> None:
    """A function's object has the real server's fields, and an endpoint of the host that was asked."""
    path = f"/v2/fns?app_id={APP_ID}&name=echo"
    (fn,) = agent.send("GET", path, None, {"Host": "classy.example:81"}).json["items"]
    assert {key: fn[key] for key in fn if not key.endswith("_at")} == {
        "id": FN_ID,
        "name": "echo",
        "app_id": APP_ID,
        "image": "local/echo:0.0.1",
        "memory": 128,
        "timeout": 30,
        "idle_timeout": 30,
        "config": {},
        "annotations": {"fnproject.io/fn/invokeEndpoint": f"http://classy.example:81/invoke/{FN_ID}"},
    }
    assert fn == agent.send("GET", f"/v2/fns/{FN_ID}", None, {"Host": "classy.example:81"}).json


@pytest.mark.parametrize("config", [{"K": "\ud800"}, {"\ud800": "x"}], ids=["value", "name"])
def test_half_a_character_spoils_no_later_answer(agent: Running, config: dict[str, str]) -> None:
    """JSON can name what UTF-8 can't hold; it becomes the character for unknown ones, as in Go."""
    expected = {key.replace("\ud800", "\ufffd"): value.replace("\ud800", "\ufffd") for key, value in config.items()}
    answer = agent.api("PUT", f"/v2/fns/{FN_ID}", {"config": config})
    assert (answer.status, answer.json["config"]) == (200, expected)
    assert agent.api("GET", f"/v2/fns/{FN_ID}").json["config"] == expected
    assert agent.api("POST", "/v2/apps", {"name": "\ud800"}).status == 400


def test_invoke_as_the_cli_does(agent: Running) -> None:
    """`fn invoke` posts to the endpoint that the function's object names."""
    (fn,) = agent.api("GET", f"/v2/fns?app_id={APP_ID}&name=echo").json["items"]
    endpoint = fn["annotations"]["fnproject.io/fn/invokeEndpoint"]
    assert endpoint.startswith(agent.agent.url)
    answer = agent.send(
        "POST", endpoint.removeprefix(agent.agent.url), b'{"name": "x"}', {"Content-Type": "text/plain"}
    )
    assert (answer.status, answer.body) == (200, b'{"name": "x"}')


def test_create_app_and_function(agent: Running) -> None:
    """`fn create app` and `fn create function` get whole objects; a second time they are refused."""
    sent: dict[str, Any] = {"name": "mine", "created_at": ZERO_TIME, "updated_at": ZERO_TIME}
    created = agent.api("POST", "/v2/apps", sent)
    assert (created.status, created.json["id"]) == (200, make_id("mine"))
    assert set(created.json) == {"id", "name", "created_at", "updated_at"}
    assert created.json["created_at"] != ZERO_TIME
    again = agent.api("POST", "/v2/apps", sent)
    assert (again.status, again.message) == (409, "App already exists")

    function = {**sent, "name": "mine-fn", "app_id": make_id("mine"), "image": "registry/echo:1.2", "memory": 256}
    made = agent.api("POST", "/v2/fns", function)
    assert (made.status, made.json["memory"], made.json["config"]) == (200, 256, {})
    assert (
        agent.send("POST", f"/invoke/{made.json['id']}", b"by the image's last name").body
        == b"by the image's last name"
    )
    again = agent.api("POST", "/v2/fns", function)
    assert (again.status, again.message) == (409, "Fn with specified name already exists")


def test_update_merges(agent: Running) -> None:
    """`fn config` and `fn update` send objects that are merged: absent and zero stay, an empty value goes."""
    (fn,) = agent.api("GET", f"/v2/fns?app_id={APP_ID}&name=echo").json["items"]
    first = agent.api("PUT", f"/v2/fns/{FN_ID}", {**fn, "config": {"A": "1", "B": "2"}})
    assert (first.status, first.json["config"]) == (200, {"A": "1", "B": "2"})
    second = agent.api("PUT", f"/v2/fns/{FN_ID}", {"config": {"B": "", "C": "3"}, "timeout": 60, "memory": 0}).json
    assert (second["config"], second["timeout"], second["memory"]) == ({"A": "1", "C": "3"}, 60, 128)
    assert second["annotations"] == fn["annotations"]
    deployed = agent.api("PUT", f"/v2/fns/{FN_ID}", {"id": FN_ID, "image": "local/echo:0.0.2", "memory": 512}).json
    assert (deployed["image"], deployed["memory"], deployed["timeout"]) == ("local/echo:0.0.2", 512, 60)
    app = agent.api("PUT", f"/v2/apps/{APP_ID}", {"config": {"FROM_APP": "", "K": "V"}}).json
    assert app["config"] == {"K": "V"}


def test_triggers(agent: Running) -> None:
    """Triggers are created, listed, inspected, used and deleted as the CLI does it."""
    sent = {"app_id": APP_ID, "fn_id": FN_ID, "name": "mine", "type": "http", "source": "/x/y"}
    made = agent.api("POST", "/v2/triggers", sent)
    assert (made.status, {key: made.json[key] for key in sent}) == (200, sent)
    endpoint = made.json["annotations"]["fnproject.io/trigger/httpEndpoint"]
    assert endpoint == f"{agent.agent.url}/t/{APP}/x/y"
    assert agent.send("POST", f"/t/{APP}/x/y", b"hello").body == b"hello"
    names = [trigger["name"] for trigger in agent.api("GET", f"/v2/triggers?app_id={APP_ID}").json["items"]]
    assert names == ["echoed", "mine", "stated"]
    (found,) = agent.api("GET", f"/v2/triggers?app_id={APP_ID}&fn_id={FN_ID}&name=mine").json["items"]
    assert found == made.json == agent.api("GET", f"/v2/triggers/{made.json['id']}").json
    assert agent.api("PUT", f"/v2/triggers/{found['id']}", {"source": "/z"}).json["source"] == "/z"
    assert agent.send("POST", f"/t/{APP}/z", b"hello").body == b"hello"
    deleted = agent.api("DELETE", f"/v2/triggers/{found['id']}")
    assert (deleted.status, deleted.body) == (204, b"")
    assert agent.api("GET", f"/v2/triggers/{found['id']}").message == "Trigger not found"


def test_delete_app_takes_its_functions_along(agent: Running) -> None:
    """`fn delete app` leaves neither functions nor triggers of the app."""
    assert agent.api("DELETE", f"/v2/apps/{APP_ID}").status == 204
    assert agent.api("GET", "/v2/apps").json == {"items": []}
    assert agent.api("GET", f"/v2/fns/{FN_ID}").message == "Fn not found"
    assert agent.api("GET", f"/v2/triggers?app_id={APP_ID}").json == {"items": []}


def test_pages(agent: Running) -> None:
    """A long list comes in pages; the cursor of each leads to the next, and the last has none."""
    for number in range(65):
        agent.api("POST", "/v2/apps", {"name": f"many-{number:02}"})
    names: list[str] = []
    sizes = []
    cursor = ""
    while True:
        page = agent.api("GET", f"/v2/apps?cursor={cursor}").json
        names += [app["name"] for app in page["items"]]
        sizes.append(len(page["items"]))
        if "next_cursor" not in page:
            break
        cursor = page["next_cursor"]
    assert sizes == [30, 30, 6]
    assert names == sorted([APP, *(f"many-{number:02}" for number in range(65))])
    assert len(agent.api("GET", "/v2/apps?per_page=7").json["items"]) == 7
    assert len(agent.api("GET", "/v2/apps?per_page=1000").json["items"]) == 66


FN = {"name": "f", "app_id": APP_ID, "image": "a/b:1"}
TRIGGER = {"name": "t", "app_id": APP_ID, "fn_id": FN_ID, "type": "http", "source": "/t"}


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "message"),
    [
        ("POST", "/v2/apps", {}, 400, "Missing Name"),
        ("POST", "/v2/apps", {"name": "a b"}, 400, "Invalid app name"),
        ("POST", "/v2/apps", {"name": "ä"}, 400, "Invalid app name"),
        ("POST", "/v2/apps", {"name": "a" * 256}, 400, "App name must be 255 characters or less"),
        ("POST", "/v2/apps", {"name": 1}, 400, "Invalid JSON"),
        ("POST", "/v2/apps", {"name": "a", "id": "x"}, 400, "App ID cannot be supplied on create"),
        ("POST", "/v2/apps", ["a"], 400, "Invalid JSON"),
        ("POST", "/v2/apps", {"name": "a", "config": {"K": 1}}, 400, "Invalid JSON"),
        ("POST", "/v2/apps", {"name": "a", "config": [1]}, 400, "Invalid JSON"),
        ("POST", "/v2/apps", {"name": "a", "annotations": 1}, 400, "Invalid JSON"),
        ("PUT", f"/v2/apps/{APP_ID}", {"name": "other"}, 409, "Could not update - name is immutable"),
        ("PUT", f"/v2/apps/{APP_ID}", {"id": "other"}, 400, "App ID in path does not match ID in body"),
        ("GET", "/v2/apps/none", None, 404, "App not found"),
        ("PUT", "/v2/apps/none", {}, 404, "App not found"),
        ("DELETE", "/v2/apps/none", None, 404, "App not found"),
        ("GET", "/v2/fns", None, 400, "Missing AppID on Fn"),
        ("GET", "/v2/fns/none", None, 404, "Fn not found"),
        ("PUT", "/v2/fns/none", {}, 404, "Fn not found"),
        ("DELETE", "/v2/fns/none", None, 404, "Fn not found"),
        ("PUT", f"/v2/fns/{FN_ID}", {"id": "other"}, 400, "Fn ID in path does not match that in body"),
        ("POST", "/v2/fns", {**FN, "app_id": ""}, 400, "Missing AppID on Fn"),
        ("POST", "/v2/fns", {**FN, "app_id": "none"}, 404, "App not found"),
        ("POST", "/v2/fns", {**FN, "name": ""}, 400, "Missing Fn name"),
        ("POST", "/v2/fns", {**FN, "name": "a/b"}, 400, "name must be a valid string"),
        ("POST", "/v2/fns", {**FN, "image": ""}, 400, "Missing image on Fn"),
        ("POST", "/v2/fns", {**FN, "id": "x"}, 400, "ID cannot be provided for Fn creation"),
        ("POST", "/v2/fns", {**FN, "memory": 8193}, 400,
         "memory value is out of range. It should be between 0 and 8192"),
        ("POST", "/v2/fns", {**FN, "memory": "128"}, 400, "Invalid JSON"),
        ("POST", "/v2/fns", {**FN, "timeout": 301}, 400, "timeout value is out of range, must be between 0 and 300"),
        ("PUT", f"/v2/fns/{FN_ID}", {"timeout": -1}, 400, "timeout value is out of range, must be between 0 and 300"),
        ("PUT", f"/v2/fns/{FN_ID}", {"idle_timeout": 3601}, 400,
         "idle_timeout value is out of range, must be between 0 and 3600"),
        ("GET", "/v2/triggers", None, 400, "Missing App ID on Trigger"),
        ("GET", "/v2/triggers/none", None, 404, "Trigger not found"),
        ("POST", "/v2/triggers", {**TRIGGER, "type": "timer"}, 400, "Trigger Type Not Supported"),
        ("POST", "/v2/triggers", {**TRIGGER, "source": "t"}, 400, "Missing Trigger Source Prefix '/'"),
        ("POST", "/v2/triggers", {**TRIGGER, "source": ""}, 400, "Missing Trigger Source"),
        ("POST", "/v2/triggers", {**TRIGGER, "name": ""}, 400, "Missing name on Trigger"),
        ("POST", "/v2/triggers", {**TRIGGER, "fn_id": ""}, 400, "Missing Fn ID on Trigger"),
        ("POST", "/v2/triggers", {**TRIGGER, "fn_id": "none"}, 404, "Fn not found"),
        ("POST", "/v2/triggers", {**TRIGGER, "name": "echoed"}, 409, "Trigger already exists"),
        ("POST", "/v2/triggers", {**TRIGGER, "source": "/echo"}, 409,
         "Trigger with the same type and source exists on this app"),
        ("GET", "/v3/apps", None, 404, "Path not found"),
        ("PATCH", "/v2/apps", {}, 405, "Method not allowed"),
        ("GET", f"/invoke/{FN_ID}", None, 405, "Method not allowed"),
    ],
)  # fmt: skip
def test_refusals(agent: Running, method: str, path: str, data: object, status: int, message: str) -> None:
    """What can't be done is refused with the real server's status and words, and changes nothing."""
    before = [agent.api("GET", listed).json for listed in ("/v2/apps", f"/v2/fns?app_id={APP_ID}")]
    answer = agent.api(method, path, data)
    assert (answer.status, answer.message) == (status, message)
    assert [agent.api("GET", listed).json for listed in ("/v2/apps", f"/v2/fns?app_id={APP_ID}")] == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * 2_000_000 + b'"'])
def test_a_body_that_is_no_json_is_refused(agent: Running, body: bytes) -> None:
    """Rubbish, however deep or long, is refused as such."""
    answer = agent.send("POST", "/v2/apps", body)
    assert (answer.status, answer.message) == (400, "Invalid JSON")


def test_ids_follow_from_names() -> None:
    """The same names give the same id at every start; different names, however split, give different ones."""
    assert make_id("a", "b") == make_id("a", "b")
    ids = {make_id("a", "b"), make_id("ab"), make_id("a"), make_id("b", "a"), make_id("a", "b", "c")}
    assert len(ids) == 5
    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", identifier) for identifier in ids)
    calls = [make_call_id() for _ in range(100)]
    assert len(set(calls)) == 100
    assert [call[:10] for call in calls] == sorted(call[:10] for call in calls)


@pytest.mark.skipif("CLASSY_FN_BIN" not in os.environ, reason="CLASSY_FN_BIN names no fn CLI")
def test_the_unmodified_cli(agent: Running, tmp_path: Path) -> None:
    """The real CLI lists, invokes, configures, creates and deletes, and sees what it sees on a real server."""
    environ = {"HOME": str(tmp_path / "home"), "PATH": os.defpath, "FN_API_URL": agent.agent.url}
    (tmp_path / "home").mkdir()

    def fn(*arguments: str, stdin: str = "", status: int = 0) -> str:
        done = subprocess.run(
            [os.environ["CLASSY_FN_BIN"], *arguments],
            input=stdin, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout

    assert "0.3.753" in fn("version")
    assert APP in fn("list", "apps")
    listed = fn("list", "functions", APP)
    assert all(name in listed for name in ("echo", "status", "work", "local/echo:0.0.1", FN_ID))
    assert fn("invoke", APP, "echo", stdin='{"name": "x"}') == '{"name": "x"}\n'
    fn("config", "function", APP, "echo", "OWN", "1")
    assert '"OWN":"1"' in fn("inspect", "function", APP, "echo").replace(" ", "")
    fn("create", "app", "mine")
    fn("create", "function", "mine", "mine-fn", "local/echo:0.0.1")
    assert fn("invoke", "mine", "mine-fn", stdin="hello") == "hello\n"
    fn("create", "trigger", "mine", "mine-fn", "mine-t", "--type", "http", "--source", "/mine")
    assert "/t/mine/mine" in fn("list", "triggers", "mine")
    fn("delete", "trigger", "mine", "mine-fn", "mine-t")
    fn("delete", "function", "mine", "mine-fn")
    fn("delete", "app", "-f", "mine")
    assert "mine" not in fn("list", "apps")
