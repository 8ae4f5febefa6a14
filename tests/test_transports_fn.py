"""The road to a function by its name in Fn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from roads import FUNC, FnProcess, fn_agent, fn_process, waitress_server

from graphpipe_fn.client import Client
from graphpipe_fn.errors import BadConfig, ConnectFailed, NotFound, RemoteError, TransportFailed
from graphpipe_fn.transports import connect

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@pytest.fixture(scope="module")
def function() -> Iterator[FnProcess]:
    """The contract's function, in fdk's process."""
    with fn_process(FUNC) as process:
        yield process


@contextmanager
def api(application: WSGIApplication) -> Iterator[tuple[str, list[str]]]:
    """Serve Fn's API; yield its URL and the requests that it got."""
    asked: list[str] = []

    def noting(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        query = environ.get("QUERY_STRING", "")
        asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}" + (f"?{query}" if query else ""))
        return application(environ, start_response)

    with waitress_server(noting) as url:
        yield url.rstrip("/"), asked


def test_the_name_is_looked_up_once(function: FnProcess) -> None:
    """Two questions to the API before the first call, none before the next."""
    with (
        api(fn_agent(function, app="my app", name="f&g")) as (url, asked),
        connect("fn:my app/f&g", fn_api_url=url) as client,
    ):
        for _ in range(3):
            assert np.asarray(client.run([1, 2])[0]).tolist() == [1, 2]
    assert asked == [
        "GET /v2/apps?name=my%20app",
        "GET /v2/fns?app_id=01APP&name=f%26g",
        *["POST /invoke/01FN"] * 3,
    ]


def test_a_function_that_was_created_anew_is_found_again(function: FnProcess) -> None:
    """An endpoint that answers 404 is looked up once more, and the request goes to the new one."""
    current = fn_agent(function, app="a", name="f", fn_id="01OLD")

    def agent(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        return current(environ, start_response)

    with api(agent) as (url, asked), connect("fn:a/f", fn_api_url=url) as client:
        client.run(1)
        current = fn_agent(function, app="a", name="f", fn_id="01NEW")
        client.run(2)
    assert [line for line in asked if "invoke" in line] == [
        "POST /invoke/01OLD",
        "POST /invoke/01OLD",
        "POST /invoke/01NEW",
    ]


def test_a_404_of_the_functions_own_is_no_reason_to_ask_twice(function: FnProcess) -> None:
    """Where the look-up names the same endpoint, the answer stands."""
    with api(fn_agent(function, app="a", name="f")) as (url, asked), connect("fn:a/f", fn_api_url=url) as client:
        client.run(1)
        with pytest.raises(RemoteError) as caught:
            client.run(1, config="raise NotFound")
    assert caught.value.code == 40400
    assert len([line for line in asked if "invoke" in line]) == 2


@pytest.mark.parametrize(
    ("uri", "words"),
    [("fn:nope/f", "no application 'nope'"), ("fn:a/nope", "no function 'nope' in the application 'a'")],
)
def test_what_fn_does_not_have_is_named(function: FnProcess, uri: str, words: str) -> None:
    """The error says which of the two names is wrong, and how to list the right ones."""
    with (
        api(fn_agent(function, app="a", name="f")) as (url, _),
        connect(uri, fn_api_url=url) as client,
        pytest.raises(NotFound, match=words),
    ):
        client.run(1)


def answering(status: str, body: bytes) -> Callable[..., list[bytes]]:
    """Return an API that says the same to everything."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, [("Content-Length", str(len(body)))])
        return [body]

    return application


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b"<html>"),
        ("200 OK", b"[]"),
        ("200 OK", b'{"items": [5]}'),
        ("200 OK", b'{"items": 5}'),
        ("200 OK", json.dumps({"items": [{"name": "a", "id": "1"}, {"name": "f"}]}).encode()),
        ("200 OK", json.dumps({"items": [{"name": "a"}, {"name": "f", "annotations": []}]}).encode()),
        ("500 Any", b'{"message": "broken"}'),
        ("401 Any", b'{"message": "who are you"}'),
    ],
)
def test_what_is_no_fn_api_is_told_so(status: str, body: bytes) -> None:
    """Another server at that address leads to our own error, never another."""
    with (
        api(answering(status, body)) as (url, _),
        connect("fn:a/f", fn_api_url=url) as client,
        pytest.raises(TransportFailed) as caught,
    ):
        client.run(1)
    assert url in caught.value.message


def test_an_api_that_is_not_there_is_a_connect_error() -> None:
    """Nothing was sent, so the client may try again."""
    client = connect("fn:a/f", fn_api_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(ConnectFailed):
        client.run(1)


@pytest.mark.parametrize("uri", ["fn:", "fn:a", "fn:a/", "fn:/f", "fn:a/b/c"])
def test_a_function_has_two_names(uri: str) -> None:
    """The URI is checked before anything is asked."""
    with pytest.raises(BadConfig, match="fn:APP/FUNCTION"):
        connect(uri, fn_api_url="http://127.0.0.1:9")
    assert isinstance(connect("fn:a/f", fn_api_url="http://127.0.0.1:9"), Client)
