"""The page's files: what is served, how it is cached, and what a browser may do with it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from web_apps import web_app

from classy.web.page import STATIC, static

FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of an application with a key, which the page's files don't need."""
    with web_app(tmp_path_factory.mktemp("web"), api_key="key") as app:
        yield app.test_client()


def test_the_page_is_at_the_mount_itself(client: FlaskClient) -> None:
    """As HTML, asked for again each time."""
    page = client.get("/")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.data == (STATIC / "index.html").read_bytes()
    assert page.headers["Cache-Control"] == "no-cache"
    assert client.get("/static/index.html").data == page.data


@pytest.mark.parametrize("name", FILES)
def test_each_of_its_files_is_served_as_it_is(client: FlaskClient, name: str) -> None:
    """By its own type; with an ETag by which it is asked for again; compressed where that is understood."""
    plain = client.get(f"/static/{name}")
    assert (plain.status_code, plain.data) == (200, (STATIC / name).read_bytes())
    assert not plain.content_type.startswith("application/octet-stream"), "give its suffix a type"
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    assert plain.content_length == len(plain.data)
    again = client.get(f"/static/{name}", headers={"If-None-Match": plain.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", plain.headers["ETag"])
    packed = client.get(f"/static/{name}", headers={"Accept-Encoding": "br, gzip;q=0.8"})
    if "Content-Encoding" in packed.headers:
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["ETag"] != plain.headers["ETag"]
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip;q=0"}).data == plain.data
    assert client.head(f"/static/{name}").content_length == plain.content_length


def test_the_policy_lets_nothing_in_but_our_own(client: FlaskClient) -> None:
    """No inline script or style, no other origin, no frame around it; pictures may be made on the page."""
    headers = client.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:"
    assert policy["script-src"] == "'self'"
    assert [policy[name] for name in ("object-src", "base-uri", "frame-ancestors")] == ["'none'"] * 3
    assert not re.search("unsafe-inline|'unsafe-eval'|http|[*]", headers["Content-Security-Policy"])
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=(self)" in headers["Permissions-Policy"]


def test_a_changed_file_has_another_etag(tmp_path: Path, client: FlaskClient) -> None:
    """By its bytes: the same bytes again are the same file."""
    file = tmp_path / "a.js"
    tags = []
    for text in ("1", "22", "1"):
        file.write_text(text)
        with client.application.test_request_context():
            answer = static("a.js", folder=tmp_path)
        assert answer.get_data(as_text=True) == text
        tags.append(answer.headers["ETag"])
    assert tags[0] == tags[2] != tags[1]


def test_a_link_does_not_lead_out_of_the_folder_by_its_name(client: FlaskClient) -> None:
    """Names are letters, digits, dots, hyphens and underscores, and none begins with a dot."""
    for path in (
        "..",
        "../app.py",
        "a/../../app.py",
        "%2e%2e/app.py",
        ".git",
        "a\\b",
        "a//b",
        "/etc/passwd",
        "a%00b",
    ):
        assert client.get(f"/static/{path}").status_code == 404
