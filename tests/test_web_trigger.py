"""The HTTP API behind Fn's triggers: in the real FDK's process, by what the function's func.yaml names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from roads import FnProcess, fn_deadline, fn_process
from web_apps import picture, settings_of

from classy.local.gateway import gateway_answer
from classy.web.table import operations
from classy.web.trigger import OURS, mount_of
from graphpipe_fn.adapters.wsgi_ask import CALL, GatewayRequest, ask
from graphpipe_fn.messages import Call

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "functions" / "classy"
TRIGGERS = [trigger["source"] for trigger in yaml.safe_load((FOLDER / "func.yaml").read_text())["triggers"]]
RED = picture()


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FnProcess]:
    """The function's own func.py, started by fdk, with a small model and records."""
    settings = settings_of(tmp_path_factory.mktemp("trigger"))
    source = (FOLDER / "func.py").read_text()
    told = {
        "CLASSY_MODEL": settings.model,
        "CLASSY_MODEL_STORE": settings.model_store,
        "CLASSY_MODEL_CACHE": "memory",
        "CLASSY_RECORDS": settings.records,
        "CLASSY_PICTURES": settings.pictures,
        "CLASSY_CORS_ORIGINS": "https://here.example",
    }
    before, docstring, rest = source.partition('"""\n\n')
    with ExitStack() as stack:
        yield stack.enter_context(fn_process(f"{before}{docstring}import os\n\nos.environ |= {told!r}\n{rest}"))


def send(
    function: FnProcess, method: str, url: str, body: bytes = b"", content_type: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send what Fn's server makes of a trigger's request; return what it makes of the answer."""
    told = {
        "Fn-Call-Id": "01CALLID",
        "Fn-Deadline": fn_deadline(30),
        "Fn-Intent": "httprequest",
        "Fn-Http-Method": method,
        "Fn-Http-Request-Url": url,
        "Content-Type": content_type,
        **{f"Fn-Http-H-{name.replace('_', '-')}": value for name, value in headers.items()},
    }
    status, answered, data = function.call(body, told)
    assert status in (200, 502, 504)  # what the FDK may say itself
    found, passed = gateway_answer(list(answered.items()))
    return found, {name.lower(): value for name, value in passed}, data


def test_what_has_a_trigger_is_in_the_table_and_the_other_way_round() -> None:
    """Every path of the API without a parameter; the others no exact match can lead to."""
    plain = {operation.path for operation in operations() if "{" not in operation.path}
    assert set(TRIGGERS) == plain | {"/classify"}
    assert {operation.path.split("/")[1] for operation in operations()} | {"static"} == OURS


def test_a_trigger_answers_as_the_server_does(function: FnProcess) -> None:
    """With true statuses, problems and headers, by whichever host the trigger has."""
    base = "http://fn.example:8080/t/classy-fn"
    status, headers, body = send(function, "GET", f"{base}/api/health", X_Request_Id="mine")
    assert (status, json.loads(body), headers["x-request-id"]) == (200, {"health": "ok"}, "mine")
    assert send(function, "GET", f"{base}/api/health")[1]["x-request-id"] == "01CALLID"
    status, headers, body = send(function, "PUT", f"{base}/api/models")
    assert (status, headers["allow"], json.loads(body)["code"]) == (405, "GET, HEAD, OPTIONS", 40500)
    assert headers["content-type"] == "application/problem+json"
    assert send(function, "GET", f"{base}/api/nope")[0] == 404
    assert send(function, "HEAD", f"{base}/api/models")[2] == b""
    status, headers, _ = send(function, "GET", f"{base}/api/models", Origin="https://here.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://here.example")


def test_a_triggers_caller_can_not_choose_another_path(function: FnProcess) -> None:
    """Only what has a trigger can be reached: headers that look like the platform's are the caller's, and nothing."""
    url = "http://fn.example/t/classy-fn/api/health"
    forged = {"Fn_Http_Request_Url": "http://x/t/classy-fn/api/records", "Fn_Http_Method": "DELETE"}
    status, _, body = send(function, "GET", url, **forged)
    assert (status, json.loads(body)) == (200, {"health": "ok"})


def test_pictures_are_classified_recorded_and_found_through_triggers(function: FnProcess) -> None:
    """As a body, as a form, by the old trigger and the new one: one picture, one record."""
    base = "http://fn.example/t/classy-fn"
    direct = function.call(RED, {"Fn-Call-Id": "01", "Fn-Deadline": fn_deadline(30), "Content-Type": "image/png"})
    record = json.loads(direct[2])["record_id"]
    assert json.loads(send(function, "POST", f"{base}/classify", RED, "image/png")[2])["record_id"] == record
    status, _, body = send(function, "POST", f"{base}/api/classify?top_k=1", RED, "image/png")
    assert (status, json.loads(body)["record_id"], len(json.loads(body)["top_k"])) == (200, record, 1)
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + RED + b"\r\n--x--\r\n"
    for path in ("classify", "predictions"):
        status, _, body = send(function, "POST", f"{base}/api/{path}", form, "multipart/form-data; boundary=x")
        assert (status, json.loads(body)["record_id"]) == (200, record)
    found = json.loads(send(function, "GET", f"{base}/api/records?limit=9")[2])["records"]
    assert [each["id"] for each in found] == [record]
    status, _, body = send(function, "POST", f"{base}/api/classify", b"nonsense", "image/png")
    assert (status, json.loads(body)["code"]) == (422, 42211)


def test_a_gateways_route_may_be_a_pattern(function: FnProcess) -> None:
    """Then records and pictures by their names are there too; Oracle's gateway sends a path and no host."""
    record = json.loads(send(function, "POST", "/v1/api/classify", RED, "image/png", Host="gw.example")[2])
    assert send(function, "GET", f"/v1/api/records/{record['record_id']}")[0] == 200
    status, headers, body = send(function, "GET", f"/v1/api/pictures/{record['picture_sha256']}")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", RED)
    status, headers, _ = send(function, "GET", "/v1/models/small/1/manifest.json")
    assert (status, "immutable" in headers["cache-control"]) == (200, True)
    again = send(function, "GET", "/v1/models/small/1/manifest.json", If_None_Match=headers["etag"])
    assert (again[0], again[2]) == (304, b"")


MOUNTS: list[Any] = [
    ("POST", "/t/classy-fn/classify", None),
    ("GET", "/t/classy-fn/classify", None),
    ("POST", "/t/classy-fn/", None),
    ("GET", "/t/classy-fn/", "/t/classy-fn"),
    ("GET", "/t/classy-fn/api/models", "/t/classy-fn"),
    ("GET", "/t/api/classify", None),
    ("GET", "/t/api/api/classify", "/t/api"),
    ("GET", "/api/models", ""),
    ("GET", "/v1/a/api/records/x/api", "/v1/a"),
    ("GET", "/graphpipe", ""),
    ("GET", "/v1/static/main.js", "/v1"),
    ("GET", "/", ""),
    ("GET", "/apis/x", None),
]


@pytest.mark.parametrize(("method", "path", "mount"), MOUNTS)
def test_where_the_application_begins(method: str, path: str, mount: str | None) -> None:
    """Behind whatever a gateway puts in front; what is not the application's is the front's, as ever."""
    assert mount_of(GatewayRequest(method, path, "", {}, b"")) == mount


def test_a_wsgi_application_sees_the_request_and_is_closed() -> None:
    """Its bytes, its headers but for the hop's own, the mount and the platform's call; what it writes is joined."""
    seen: dict[str, Any] = {}
    closed: list[bool] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            yield from (b"b", b"c")

        def close(self) -> None:
            closed.append(True)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        seen.update(environ, body=environ["wsgi.input"].read())
        headers = [("Content-Type", "text/x"), ("Content-Length", "3"), ("X-A", "1"), ("X-A", "2")]
        start_response("418 Teapot", headers)(b"a")
        return Pieces()

    call = Call(id="7")
    headers = {"x-key": "k", "content-type": "text/y", "transfer-encoding": "chunked", "x_key": "forged"}
    request = GatewayRequest("POST", "/v1/a%20%C3%BC", "q=%20", headers, b"body", host="h.example:81", scheme="https")
    reply = ask(application, request, call, mount="/v1")
    assert (reply.status, reply.content_type, reply.body(), closed) == (418, "text/x", b"abc", [True])
    assert reply.headers == (("x-a", "1"), ("x-a", "2"))
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/v1",
        "PATH_INFO": "/a ü".encode().decode("latin-1"),
        "QUERY_STRING": "q=%20",
        "CONTENT_TYPE": "text/y",
        "CONTENT_LENGTH": "4",
        "SERVER_NAME": "h.example",
        "SERVER_PORT": "81",
        "HTTP_X_KEY": "k",
        "wsgi.url_scheme": "https",
        "body": b"body",
        CALL: call,
    }
    assert {name: seen[name] for name in expected} == expected
    assert "HTTP_TRANSFER_ENCODING" not in seen
    assert ask(application, GatewayRequest("HEAD", "/", "", {}, b""), call).body() == b""


BUDGET = """
import asyncio, importlib.util, io, json, sys
spec = importlib.util.spec_from_file_location("func", "func.py")
func = importlib.util.module_from_spec(spec)
spec.loader.exec_module(func)
class Context:
    def __init__(self, url): self.url = url
    def Headers(self): return {}
    def HTTPHeaders(self): return {}
    def RequestURL(self): return self.url
    def Method(self): return "GET"
    def CallID(self): return "x"
    def Deadline(self): return None
    def SetResponseHeaders(self, headers, status): pass
def call(body, url):
    asyncio.run(func.handler(Context(url), io.BytesIO(body)))
    return sorted(name for name in ("flask", "werkzeug", "waitress", "jinja2") if name in sys.modules)
print(json.dumps([
    call(b'{"name": 7}', None),
    call(b"", "http://x/t/a/classify?url=7"),
    call(b"", "http://x/t/a/api/health"),
]))
"""


def test_flask_is_loaded_by_the_first_request_that_needs_it(model_store: str) -> None:
    """Neither a direct invoke nor the old trigger pays for it; a web server is never loaded."""
    done = subprocess.run(
        [sys.executable, "-c", BUDGET],
        cwd=FOLDER,
        env={"CLASSY_MODEL_STORE": model_store, "PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], ["flask", "jinja2", "werkzeug"]]
