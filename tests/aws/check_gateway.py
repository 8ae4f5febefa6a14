"""
What no emulator keeps of API Gateway and function URLs: sizes, times, header cases, cookies, binary answers.

One function at a time, run by AWS's own runtime client behind the Runtime API, with a gateway before it that keeps
AWS's numbers. The functions are ours: Classy's front as it is deployed, a model that hands bytes back, and Flask.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_model import SECRET
from default_model import default_model
from lambda_runtime.road import FUNC as CONTRACT
from lambda_runtime.runtime import LambdaRuntime
from packages import CHECKOUT

from aws.gateway import BODY_MAX, WAIT_S, Gateway, Kind, serve
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage
from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.messages import InferRequest

KINDS: tuple[Kind, ...] = ("HTTP API", "REST API", "function URL")
FLASK = """
import flask
from classy.aws.web import Web
from graphpipe_fn.adapters.aws_lambda import call_at, http_request

app = flask.Flask("probe")

@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def answer(path):
    asked = flask.request
    told = {"path": asked.path, "cookies": asked.cookies, "args": asked.args.to_dict(False)}
    told |= {"key": asked.headers.get("X-Api-Key"), "length": len(asked.get_data())}
    told |= {"url": flask.url_for("answer", path="x")}
    made = flask.make_response(bytes(range(256)) if path == "bytes" else told)
    made.set_cookie("one", "1", httponly=True)
    made.set_cookie("two", "2", path="/elsewhere")
    if path == "bytes":
        made.content_type = "image/png"
    return made

web = Web(lambda: app)

def handler(event, context):
    request = http_request(event)
    return web.answer(event, request, call_at(context, request.headers), context)
"""
SLOW = """
import time

def handler(event, context):
    time.sleep(5)
    return {"statusCode": 200, "body": "late"}

def bare(event, context):
    return "text"

def raises(event, context):
    raise ValueError("the password is swordfish")
"""


@dataclass
class Answered:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
    """Ask over a real connection; names of headers are sent as they are written."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return Answered(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


@contextmanager
def function(folder: Path, handler: str, **options: Any) -> Iterator[LambdaRuntime]:
    with LambdaRuntime(folder, handler, **options) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """Return the HOST:PORT of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def classy(tmp_path_factory: pytest.TempPathFactory, silent: str) -> Iterator[LambdaRuntime]:
    """Run Classy's front, all stages in its process."""
    folder = tmp_path_factory.mktemp("classy")
    store = tmp_path_factory.mktemp("models").as_uri()
    publish(default_model()[0], ModelStore(ObjectStorage(Storage()), store))
    for name in ("lambda_function.py", "sample.jpg"):
        shutil.copy(CHECKOUT / "functions" / "classy" / name, folder)
    environ = {"CLASSY_MODEL_STORE": store, "CLASSY_DOWNLOAD_ALLOW": silent, "CLASSY_DOWNLOAD_TIMEOUT": "60"}
    with function(folder, "lambda_function.handler", timeout_s=60.0, environ=environ) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    for name, source in {"contract": CONTRACT, "web": FLASK, "slow": SLOW}.items():
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def front(request: pytest.FixtureRequest, classy: LambdaRuntime) -> Iterator[tuple[str, Gateway]]:
    """Put each kind of gateway before Classy; yield its URL without a stage, and the gateway."""
    gateway = Gateway(classy, request.param)
    with serve(gateway) as url:
        yield url, gateway


@pytest.fixture
def sample() -> bytes:
    return (CHECKOUT / "functions" / "classy" / "sample.jpg").read_bytes()


def stage(gateway: Gateway) -> str:
    return f"/{gateway.stage}" if gateway.kind == "REST API" else ""


def test_a_picture_as_the_body(front: tuple[str, Gateway], sample: bytes) -> None:
    """A JPEG's bytes come through each gateway's base64, and the answer is JSON that is not."""
    url, gateway = front
    told = ask(url, "POST", stage(gateway) + "/classify", sample, {"content-TYPE": "image/jpeg"})
    assert (told.status, told.json["class_index"]) == (200, 967)


def test_the_request_limits_are_known_beforehand(front: tuple[str, Gateway], sample: bytes) -> None:
    """4.6 MB of a picture pass within an invocation's 6 MB; more is refused by AWS and never gets there."""
    url, gateway = front
    starts = gateway.runtime.starts
    padded = sample + bytes(4_600_000 - len(sample))
    told = ask(url, "POST", stage(gateway) + "/classify", padded, {"Content-Type": "image/jpeg"})
    assert (told.status, told.json["class_index"]) == (200, 967)
    for size in (4_800_000, BODY_MAX + 1):
        told = ask(url, "POST", stage(gateway) + "/classify", bytes(size), {"Content-Type": "image/jpeg"})
        assert told.status == 413
    assert gateway.runtime.starts in (1, starts)


def test_a_slow_source_ends_before_the_gateway_does(classy: LambdaRuntime, silent: str) -> None:
    """Where a download would outlast the gateway, the caller gets our own error in time, and the process lives on."""
    with serve(Gateway(classy, "REST API")) as url:
        began, starts = time.monotonic(), classy.starts
        told = ask(url, "GET", f"/dev/?url=http://{silent}/x.jpg")
        assert time.monotonic() - began < WAIT_S["REST API"]
        assert told.status in (408, 424, 504), told.body
        assert "error" in told.json
        assert told.json["error"]["retryable"] is True
        assert ask(url, "GET", "/dev/api/health").json == {"health": "ok"}
        assert classy.starts == max(starts, 1)


def test_the_function_knows_its_time(probes: Path) -> None:
    """Lambda's remaining time is the call's deadline; what would outlast it is not begun."""
    with (
        function(probes, "contract.handler", timeout_s=3.0) as runtime,
        serve(Gateway(runtime, "function URL")) as url,
    ):
        (left,) = _infer(url, InferRequest((np.ones(1, "float32"),), config="call")).outputs
        assert 2.0 < float(left.values[2]) < 3.0  # less the margin for sending the answer


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_go_both_ways_unchanged(probes: Path, kind: Kind) -> None:
    """Every byte value, in and out, by GraphPipe and through Flask; a REST API without binary media types says so."""
    tensor = np.arange(256, dtype="uint8").reshape(1, 256)
    with ExitStack() as stack:
        runtime = stack.enter_context(function(probes, "contract.handler"))
        url = stack.enter_context(serve(Gateway(runtime, kind)))
        answered = _infer(url + ("/dev/" if kind == "REST API" else "/"), InferRequest((tensor,)))
        assert np.array_equal(answered.outputs[0], tensor)
        web = stack.enter_context(function(probes, "web.handler"))
        gateway = Gateway(web, kind)
        url = stack.enter_context(serve(gateway))
        assert ask(url, "GET", stage(gateway) + "/bytes").body == bytes(range(256))
        assert ask(url, "POST", stage(gateway) + "/", bytes(range(256)) * 4).json["length"] == 1024


def test_a_rest_api_that_spoils_bytes_is_named(probes: Path) -> None:
    """Without binaryMediaTypes a REST API makes text of a picture; the answer says which setting is missing."""
    with function(probes, "contract.handler") as runtime, serve(Gateway(runtime, "REST API", binary=False)) as url:
        told = ask(url, "POST", "/dev/", encode_bytes(InferRequest((np.full(40, 200, "uint8"),))))
        assert told.status == 400
        assert b"binaryMediaTypes" in told.body


@pytest.mark.parametrize("kind", KINDS)
def test_headers_cookies_and_paths(probes: Path, kind: Kind) -> None:
    """Whatever case a header has and however cookies travel, Flask sees them; its own cookies arrive one by one."""
    with function(probes, "web.handler") as runtime:
        gateway = Gateway(runtime, kind)
        with serve(gateway) as url:
            headers = {"x-API-key": "secret", "cookie": "a=1; b=2"}
            told = ask(url, "GET", stage(gateway) + "/some/path%20x?q=1&q=%C3%BC", b"", headers)
    assert told.json["cookies"] == {"a": "1", "b": "2"}
    assert told.json["key"] == "secret"
    assert told.json["path"] == "/some/path x"
    assert told.json["args"] == {"q": ["1", "ü"]}
    assert told.json["url"] == stage(gateway) + "/x"
    cookies = [value for name, value in told.headers if name.lower() == "set-cookie"]
    assert [cookie.partition(";")[0] for cookie in cookies] == ["one=1", "two=2"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_over_the_limit_is_an_error_that_says_so(probes: Path, kind: Kind) -> None:
    """Six megabytes are the most that comes back; over that the caller is told so, and the process is kept."""
    with function(probes, "contract.handler") as runtime:
        gateway = Gateway(runtime, kind)
        with serve(gateway) as url:
            large = InferRequest((np.zeros(900_000, "uint8"),))
            assert np.array_equal(_infer(url + stage(gateway) + "/", large).outputs[0], large.inputs[0])
            told = ask(url, "POST", stage(gateway) + "/", encode_bytes(InferRequest((np.zeros(1_100_000, "uint8"),))))
            assert told.status == 413
            assert runtime.starts == 1


def test_a_gateway_gives_up_on_what_never_answers(probes: Path) -> None:
    """These gateways fail as AWS's do, or the checks above would prove nothing: 503, 504, 500, 502, no secrets."""
    expected = {"HTTP API": (503, 500), "REST API": (504, 502), "function URL": (504, 502)}
    for kind, (late, failed) in expected.items():
        for handler, status in (("slow.handler", late), ("slow.raises", failed), ("slow.bare", failed)):
            with function(probes, handler, timeout_s=10) as runtime:
                gateway = Gateway(runtime, kind)  # type: ignore[arg-type]
                gateway.wait_s = 1.0 if handler == "slow.handler" else 20.0
                with serve(gateway) as url:
                    told = ask(url, "GET", "/dev/")
                assert told.status == status, (kind, handler)
                assert SECRET.encode() not in told.body


def encode_bytes(request: InferRequest) -> bytes:
    return b"".join(bytes(buffer) for buffer in encode_request(request))


def _infer(url: str, request: InferRequest) -> Any:
    host, _, path = url.removeprefix("http://").partition("/")
    told = ask(f"http://{host}", "POST", f"/{path}", encode_bytes(request))
    assert told.status == 200, told.body
    return decode_response(told.body)


def test_calls_at_once_are_answered_or_refused(classy: LambdaRuntime, sample: bytes) -> None:
    """A function that may run once at a time is throttled for others, who are told to come again: nothing hangs."""
    with serve(Gateway(classy, "REST API")) as url:
        statuses: list[int] = []

        def one() -> None:
            told = ask(url, "POST", "/dev/classify", sample, {"Content-Type": "image/jpeg"})
            statuses.append(told.status)

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 429}
    assert 200 in statuses
