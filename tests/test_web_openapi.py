"""The OpenAPI document: whole, valid, and true of a running server, which schemathesis asks a thousand things."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from environments import environment
from web_apps import picture, publish_second, web_app, web_server

from classy.web.openapi import REASONS
from classy.web.table import operations

SCHEMATHESIS = "schemathesis==4.32.5"  # beside ours it would pin pytest and hypothesis
CONFIG = Path(__file__).with_name("schemathesis.toml")
PAGE = {"page", "static"}  # not of the API
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The document of an application without any setting."""
    with web_app(tmp_path_factory.mktemp("web")) as app:
        return app.test_client().get("/api/openapi.json").json


def test_every_route_is_in_the_document_and_every_path_a_route(tmp_path: Path) -> None:
    """By method and path; but for the page's files."""
    with web_app(tmp_path) as app:
        routes = {
            (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
            for rule in app.url_map.iter_rules()
            if rule.endpoint not in PAGE
            for method in rule.methods or ()
            if method != "HEAD"
        }
        paths = app.test_client().get("/api/openapi.json").json["paths"]
    documented = {(method, path) for path, methods in paths.items() for method in methods}
    assert documented == routes
    assert len(routes) == len(operations())


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def test_the_document_refers_to_what_it_has_and_has_what_it_refers_to(document: Any) -> None:
    """Schemas, and the operations that links lead to."""
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert _references(document) == schemas
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert set(operation["responses"]["200"].get("links", {})) <= set(ids)
            assert {int(status) for status in operation["responses"]} <= set(REASONS)


def test_each_paths_parameters_are_declared(document: Any) -> None:
    """With a schema and a description each."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
            assert all(each["schema"] and each["description"] for each in operation.get("parameters", ()))


def test_the_document_can_be_read_by_people(tmp_path: Path) -> None:
    """As a page of its own, whose texts are escaped."""
    with web_app(tmp_path) as app:
        page = app.test_client().get("/api/docs")
        assert page.content_type == "text/html; charset=utf-8"
        for operation in operations():
            assert f"<code>{operation.method} {operation.path}</code>" in page.text
        assert "<script" not in page.text


def test_the_document_is_true(tmp_path: Path) -> None:
    """All of schemathesis's checks, in all its phases, against a server with a key, records and two models."""
    python = environment("schemathesis", [SCHEMATHESIS])
    with web_server(tmp_path, CLASSY_API_KEY="key", CLASSY_DOWNLOAD_TIMEOUT="1") as server:
        publish_second(tmp_path)
        for red in range(0, 250, 50):
            assert server.send("POST", "/api/classify", picture(red), {"X-Api-Key": "key"}).status == 200
        command = [
            *(python.with_name("st"), "--config-file", CONFIG, "run", f"{server.url}/api/openapi.json"),
            *("--header", "X-Api-Key: key", "--checks", "all", "--max-examples", "12", "--no-shrink"),
            *("--generation-deterministic", "--suppress-health-check", "all"),
            *("--continue-on-failure", "--output-truncate", "false", "--request-timeout", "30", "--warnings", "off"),
        ]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        log = server.log.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(operations()) + 1  # /metrics
    assert (f"Selected: {count}/{count}" in done.stdout, f"Tested: {count}" in done.stdout) == (True, True), (
        done.stdout
    )
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅ {phase}", done.stdout), done.stdout
    assert "Traceback" not in log, log
