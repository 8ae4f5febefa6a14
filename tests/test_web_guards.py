"""What happens to every request: ids, keys, limits, origins, hosts, mounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from web_apps import picture, web_app

from classy.web.rate import CLIENTS_MAX, RateLimit, client_of

OPEN = ("/api/health", "/api/openapi.json", "/api/docs")
KEYED = ("/api/models", "/api/records", "/api/models/current", "/models/small/1/manifest.json", "/graphpipe")
HERE, THERE = "https://here.example", "https://there.example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's applications keep everything."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[FlaskClient]:
    """A client of an application without any setting."""
    with web_app(folder) as app:
        yield app.test_client()


@pytest.mark.parametrize("path", ["/api/health", "/nope", "/api/records?limit=x", "/static/nope.js"])
def test_a_request_keeps_its_id(client: FlaskClient, path: str) -> None:
    """Success or not; and one that brings none gets one of ours."""
    assert (
        client.get(path, headers={"X-Request-Id": "01-of:the.caller"}).headers["X-Request-Id"] == "01-of:the.caller"
    )
    own = [client.get(path).headers["X-Request-Id"] for _ in range(2)]
    assert own[0] != own[1]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in own)


@pytest.mark.parametrize("given", ["a b", "a" * 129, "a\tb", '"><script>', "ü", "a,b"])
def test_an_id_that_could_break_a_line_is_none(client: FlaskClient, given: str) -> None:
    """It is replaced, not cleaned: half an id would be somebody else's."""
    answered = client.get("/api/health", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", answered)


def test_every_answer_says_what_a_browser_may_do_with_it(client: FlaskClient) -> None:
    """Nothing: no script, no frame, no guessing, no referrer, no other origin's page, no cache."""
    for path in ("/api/health", "/api/records", "/nope"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_key_opens_the_api_and_nothing_else_does(folder: Path) -> None:
    """The page, health and the document are open; all that holds somebody's data is not."""
    with web_app(folder, api_key="open-sesame-7") as app:
        client = app.test_client()
        for path in OPEN:
            assert client.get(path).status_code == 200
        assert client.get("/static/nope.js").status_code == 404
        for path in KEYED:
            for given in ("", "open-sesame-", "open-sesame-77", "Open-sesame-7", "x" * 5_000, "ü"):
                answer = client.get(path, headers={"X-Api-Key": given})
                assert (path, answer.status_code, answer.json and answer.json["code"]) == (path, 401, 40111)
            right = client.get(path, headers={"X-Api-Key": "open-sesame-7"})
            assert (path, right.status_code) == (path, 200)
        document = client.get("/api/openapi.json").json
        assert document["components"]["securitySchemes"]["key"]["name"] == "X-Api-Key"
        assert document["paths"]["/api/records"]["get"]["security"] == [{"key": []}]
        assert "security" not in document["paths"]["/api/health"]["get"]


def test_a_route_that_nobody_declared_open_is_closed(folder: Path) -> None:
    """As /metrics, which is of no table."""
    with web_app(folder, api_key="k") as app:
        app.add_url_rule("/metrics", "metrics", lambda: "1")
        client = app.test_client()
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"X-Api-Key": "k"}).status_code == 200


def test_a_wrong_key_is_refused_before_the_body_is_looked_at(folder: Path) -> None:
    """And a right one is not needed for what a browser asks first."""
    with web_app(folder, api_key="k", cors_origins=frozenset({HERE})) as app:
        client = app.test_client()
        assert client.post("/api/classify", data=b"{" * 100).status_code == 401
        asked = {"Origin": HERE, "Access-Control-Request-Method": "POST"}
        answer = client.options("/api/classify", headers=asked)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, HERE)
        assert client.get("/api/models", headers={"Origin": HERE}).headers["Access-Control-Allow-Origin"] == HERE


def test_a_client_that_asks_too_often_is_told_when_to_come_back(folder: Path) -> None:
    """Its own requests only, and not those of the page and of health."""
    with web_app(folder, rate_limit=3) as app:
        client = app.test_client()
        statuses = [client.get("/api/models/current").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = client.get("/api/models/current")
        assert (refused.json["code"], refused.json["retryable"]) == (42911, True)
        assert 1 <= int(refused.headers["Retry-After"]) <= 20
        assert client.get("/api/health").status_code == 200
        other = client.get("/api/models/current", environ_base={"REMOTE_ADDR": "192.0.2.7"})
        assert other.status_code == 200
        # Nobody told how many proxies there are, so this header is anybody's invention.
        lie = client.get("/api/models/current", headers={"X-Forwarded-For": "192.0.2.8"})
        assert lie.status_code == 429


def test_behind_a_proxy_a_client_is_who_the_proxy_says(folder: Path) -> None:
    """The last entry, which the proxy wrote itself, and none of those that the client put before it."""
    with web_app(folder, rate_limit=1, trusted_proxies=1) as app:
        client = app.test_client()

        def asked(forwarded: str) -> int:
            return client.get("/api/models/current", headers={"X-Forwarded-For": forwarded}).status_code

        assert [asked("192.0.2.1"), asked("192.0.2.2"), asked("192.0.2.1")] == [200, 200, 429]
        assert asked("203.0.113.9, 192.0.2.1") == 429


CLIENTS: list[Any] = [
    ("peer", "", 0, "peer"),
    ("peer", "a, b", 0, "peer"),
    ("peer", "", 1, "peer"),
    ("peer", "a", 1, "a"),
    ("peer", "a, b", 1, "b"),
    ("peer", "a, b", 2, "a"),
    ("peer", "a, b", 5, "a"),
    ("peer", " , ,", 1, "peer"),
]


@pytest.mark.parametrize(("peer", "forwarded", "proxies", "expected"), CLIENTS)
def test_who_a_client_is(peer: str, forwarded: str, proxies: int, expected: str) -> None:
    """As many steps back as there are proxies."""
    assert client_of(peer, forwarded, proxies=proxies) == expected


def test_tokens_come_back_with_time() -> None:
    """One every so many seconds, and never more than the limit."""
    clock = [0.0]
    rate = RateLimit(60, now=lambda: clock[0])
    assert [rate.wait_s("a") for _ in range(60)] == [0.0] * 60
    assert rate.wait_s("a") == pytest.approx(1.0)
    clock[0] += 0.75
    assert rate.wait_s("a") == pytest.approx(0.25)
    clock[0] += 0.25
    assert rate.wait_s("a") == 0
    clock[0] += 1e6
    assert [rate.wait_s("a") for _ in range(61)][59:] == [0.0, pytest.approx(1.0)]
    assert RateLimit(0).wait_s("a") == 0


def test_a_network_of_ipv6_is_one_client_and_clients_are_forgotten() -> None:
    """Else a client would have as many buckets as addresses, and memory no end."""
    rate = RateLimit(1, now=lambda: 0.0)
    assert rate.wait_s("2001:db8::1") == 0
    assert rate.wait_s("2001:db8::2") > 0
    assert rate.wait_s("2001:db8:0:1::2") == 0
    assert [rate.wait_s("::ffff:192.0.2.1"), rate.wait_s("192.0.2.1") > 0] == [0, True]
    for number in range(CLIENTS_MAX):
        rate.wait_s(f"client {number}")
    assert len(rate._buckets) == CLIENTS_MAX


ORIGINS: list[Any] = [
    pytest.param({}, {}, 200, id="no browser"),
    pytest.param({"Origin": "http://localhost"}, {}, 200, id="our own page, by its host"),
    pytest.param({"Origin": "https://x.example", "Sec-Fetch-Site": "same-origin"}, {}, 200, id="behind a proxy"),
    pytest.param({"Origin": THERE}, {}, 403, id="a foreign page"),
    pytest.param({"Origin": THERE, "Sec-Fetch-Site": "cross-site"}, {}, 403, id="a foreign page that says so"),
    pytest.param({"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"}, {}, 403, id="a neighbour"),
    pytest.param({"Origin": "null"}, {}, 403, id="a sandboxed page"),
    pytest.param(
        {"Origin": HERE, "Sec-Fetch-Site": "cross-site"}, {"cors_origins": frozenset({HERE})}, 200, id="named"
    ),
    pytest.param({"Origin": THERE}, {"cors_origins": frozenset({HERE})}, 403, id="another than the named one"),
    pytest.param({"Origin": THERE}, {"cors_origins": frozenset({"*"})}, 200, id="all are"),
]


@pytest.mark.parametrize(("headers", "settings", "status"), ORIGINS)
def test_a_foreign_page_changes_nothing(
    folder: Path, headers: dict[str, str], settings: dict[str, Any], status: int
) -> None:
    """A browser would send its user's request to any server that the user reaches."""
    with web_app(folder, **settings) as app:
        client = app.test_client()
        answer = client.post("/api/classify", data=picture(), headers=headers)
        assert (answer.status_code, status == 200 or answer.json["code"]) == (status, status == 200 or 40312)
        assert client.get("/api/health", headers=headers).status_code == 200


def test_a_foreign_page_can_not_ask_by_a_picture_of_its_own(folder: Path) -> None:
    """<img src="…/api/classify?url=…"> is a GET that something is kept of; reading what there is stays a reading."""
    with web_app(folder) as app:
        client = app.test_client()
        foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        answer = client.get("/api/classify?url=http://127.0.0.1/", headers=foreign)
        assert (answer.status_code, answer.json["code"]) == (403, 40312)
        typed = client.get("/api/classify?url=http://127.0.0.1/", headers={"Sec-Fetch-Site": "none"})
        assert (typed.status_code, typed.json["code"]) == (403, 40311)
        assert client.get("/api/models", headers=foreign).status_code == 200


def test_other_origins_read_what_they_may(folder: Path) -> None:
    """The named ones, with the headers that they need, and every answer's cache key says so."""
    with web_app(folder, cors_origins=frozenset({HERE})) as app:
        client = app.test_client()
        preflight = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "x-api-key"}
        answer = client.options(f"/api/records/{'0' * 64}", headers={"Origin": HERE, **preflight})
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == HERE
        assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
        assert "X-Api-Key" in answer.headers["Access-Control-Allow-Headers"]
        assert answer.headers["Vary"] == "Origin"
        for path in ("/api/health", "/nope"):
            read = client.get(path, headers={"Origin": HERE})
            assert read.headers["Access-Control-Allow-Origin"] == HERE
            assert "X-Request-Id" in read.headers["Access-Control-Expose-Headers"]
            assert "Origin" in read.headers["Vary"]
        for headers in ({"Origin": THERE}, {"Origin": f"{HERE}.evil.example"}, {}):
            for answer in (client.options("/api/health", headers={**headers, **preflight}),
                           client.get("/api/health", headers=headers)):  # fmt: skip
                assert not any(name.startswith("Access-Control-Allow") for name in dict(answer.headers))
                assert "Origin" in answer.headers["Vary"]
        assert client.options("/nope", headers={"Origin": HERE, **preflight}).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:18100", 200),
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("[::1]:18100", 200),
        ("evil.example", 421),
        ("evil.example:18100", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::2]", 421),
        ("localhost.", 421),
    ],
)
def test_a_server_of_this_machine_answers_to_its_own_names(folder: Path, host: str, status: int) -> None:
    """A page could have its own name point to 127.0.0.1, and would be of our origin then."""
    with web_app(folder, hosts=frozenset({"127.0.0.1", "localhost", "[::1]"})) as app:
        answer = app.test_client().get("/api/records", headers={"Host": host})
        assert answer.status_code == status, answer.json


@pytest.mark.parametrize("mount", ["/dev", "/a/b/c"])
def test_everything_is_relative_to_where_it_is_mounted(client: FlaskClient, mount: str) -> None:
    """Behind a stage's name too: nothing in an answer leads out of it."""
    environ = {"SCRIPT_NAME": mount}
    for path in ("/api/health", "/api/models", "/graphpipe"):
        assert client.get(path, environ_overrides={**environ, "PATH_INFO": path}).status_code == 200
    bare = client.get("/", environ_overrides={**environ, "PATH_INFO": ""})
    assert (bare.status_code, bare.headers["Location"]) == (308, f"{mount}/")
    document = client.get("/api/openapi.json").json
    assert document["servers"] == [{"url": ".."}]
    assert 'href="openapi.json"' in client.get("/api/docs").text
