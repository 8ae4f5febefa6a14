"""
The roads to a model, for the contract test: each is a context manager that serves contract_model and yields a
Transport to it. A new road joins by one line in ROADS.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from contract_model import ContractModel
from lambda_runtime.road import lambda_road

from graphpipe_fn.adapters import wsgi
from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen
from graphpipe_fn.adapters.http_connection import HttpLimits
from graphpipe_fn.headers import reply_of
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply, Transport
from graphpipe_fn.server import answerer, reply
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.http import HttpTransport
from graphpipe_fn.transports.local import local

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

NAME = "contract"  # the stage's name on every road
TESTS = Path(__file__).parent

FUNC = """
from contract_model import ContractModel

from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

handler = fn_handler(answerer(ContractModel(), name="contract"), limit_bytes=1_000_000)
"""


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def wsgiref_server(application: WSGIApplication) -> Iterator[str]:
    """Serve with the standard library's HTTP/1.0 server; yield the URL."""
    server = make_server("127.0.0.1", 0, application, WSGIServer, _Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def waitress_server(application: WSGIApplication, **settings: object) -> Iterator[str]:
    """Serve with waitress: HTTP/1.1, kept connections, chunked bodies; yield the URL."""
    from waitress.server import create_server

    server = create_server(application, host="127.0.0.1", port=0, threads=4, _start=True, **settings)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            server.asyncore.loop(timeout=0.02, count=1, map=server._map)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/"
    finally:
        stop.set()
        thread.join()
        server.close()
        for channel in list(server._map.values()):
            channel.close()


@dataclass
class FnProcess:
    """A function as Fn starts it."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def call(self, body: bytes, headers: dict[str, str], *, piece: int = 65_536) -> tuple[int, dict[str, str], bytes]:
        """POST /call as Fn's agent does: chunked, over the unix socket; return status, headers and body."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(30)
            connection.sock.connect(str(self.socket))
            pieces = (body[place : place + piece] for place in range(0, len(body), piece))
            connection.request("POST", "/call", pieces, headers, encode_chunked=True)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()


def fn_deadline(seconds: float) -> str:
    """Return the time in so many seconds as Fn writes it: RFC 3339, whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def fn_process(source: str, *, handler: str = "handler") -> Iterator[FnProcess]:
    """Start `fdk func.py handler` on a socket of its own, with Fn's environment and no more."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # short: a socket's path has 107 bytes at most
    try:
        (folder / "func.py").write_text(source)
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "HOME": "/home/fn",
            "FN_FN_ID": "01FN",
            "FN_APP_ID": "01APP",
            "FN_MEMORY": "256",
            "FN_TYPE": "sync",
            "FN_FORMAT": "http-stream",
            "FN_LISTENER": f"unix:{folder}/lsnr.sock",
        }
        log = folder / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "fdk"), str(folder / "func.py"), handler],
                cwd=folder,
                env=environment,
                stdout=stream,
                stderr=stream,
            )
        try:
            give_up = time.monotonic() + 20
            while not (folder / "lsnr.sock").is_symlink():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < give_up, "the function made no socket"
                time.sleep(0.01)
            yield FnProcess(process, folder / "lsnr.sock", log)
        finally:
            process.terminate()
            process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_process() -> Iterator[Transport]:
    model = ContractModel()

    def carry(buffers: Sequence[Buffer], call: Call) -> Reply:
        return reply(model, b"".join(buffers), call)

    yield carry


@contextmanager
def _local() -> Iterator[Transport]:
    yield local(answerer(ContractModel(), name=NAME))


def _wsgi_road(server: Callable[[WSGIApplication], AbstractContextManager[str]]) -> Callable[..., object]:
    @contextmanager
    def road() -> Iterator[Transport]:
        with ExitStack() as stack:
            url = stack.enter_context(server(wsgi.app(answerer(ContractModel(), name=NAME), limit_bytes=1_000_000)))
            transport = HttpTransport(url)
            stack.callback(transport.close)
            yield transport

    return road


def fn_agent(function: FnProcess, *, app: str, name: str, fn_id: str = "01FN") -> WSGIApplication:
    """
    Return what Fn's API and agent answer about one function, as a real server 0.3.753 was seen to.

    It is no Fn: it knows the two look-ups and the direct invoke, which squashes the status.
    """
    endpoint = "fnproject.io/fn/invokeEndpoint"

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        path, host = environ["PATH_INFO"], environ["HTTP_HOST"]
        status, headers = 200, {"content-type": "application/json; charset=utf-8"}
        if path == "/v2/apps":
            items = [{"id": "01APP", "name": app}] if query.get("name") == app else []
            body = json.dumps({"items": items}).encode()
        elif path == "/v2/fns":
            known = query == {"app_id": "01APP", "name": name}
            annotations = {endpoint: f"http://{host}/invoke/{fn_id}"}
            items = [{"id": fn_id, "name": name, "app_id": "01APP", "annotations": annotations}] if known else []
            body = json.dumps({"items": items}).encode()
        elif path == f"/invoke/{fn_id}":
            sent = {
                key[5:].replace("_", "-").title(): value
                for key, value in environ.items()
                if key.startswith("HTTP_") and key not in ("HTTP_HOST", "HTTP_FN_DEADLINE")
            }
            sent |= {"Fn-Call-Id": "01CALL", "Fn-Deadline": fn_deadline(30)}
            length = int(environ.get("CONTENT_LENGTH") or 0)
            status, headers, body = function.call(environ["wsgi.input"].read(length), sent)
            headers = {key: value for key, value in headers.items() if key not in ("connection", "keep-alive")}
        else:
            status, body = 404, b'{"message":"Fn not found"}'
        headers["content-length"] = str(len(body))
        start_response(f"{status} Any", list(headers.items()))
        return [body]

    return application


@contextmanager
def _fn() -> Iterator[Transport]:
    with fn_process(FUNC) as function:

        def carry(buffers: Sequence[Buffer], call: Call) -> Reply:
            left_s = 30.0 if call.deadline_s is None else call.deadline_s - time.monotonic()
            headers = {"Fn-Call-Id": "01CALL", "Fn-Deadline": fn_deadline(left_s), "X-Request-Id": call.id}
            status, answered, body = function.call(b"".join(buffers), headers)
            return reply_of(status, answered, body)

        yield carry


@contextmanager
def _fn_by_http_transport() -> Iterator[Transport]:
    with fn_process(FUNC) as function:
        transport = HttpTransport("http+unix://" + str(function.socket).replace("/", "%2F") + "/call")
        try:
            yield transport
        finally:
            transport.close()


@contextmanager
def _fn_by_name() -> Iterator[Transport]:
    with (
        fn_process(FUNC) as function,
        waitress_server(fn_agent(function, app="tests", name="contract")) as url,
        connect("fn:tests/contract", fn_api_url=url) as client,
    ):
        yield client.transport


@contextmanager
def _http_server() -> Iterator[Transport]:
    model = ContractModel()
    site = Endpoints(answerer(model, name=NAME), model.metadata)
    limits = HttpLimits(body_bytes=1_000_000)
    with HttpServer(site, Listen(port=0), limits=limits) as server, connect(server.uri) as client:
        yield client.transport


ROADS: dict[str, Callable[[], AbstractContextManager[Transport]]] = {
    "reply": _in_process,
    "local": _local,
    "http": _http_server,
    "http-wsgiref": _wsgi_road(wsgiref_server),
    "http-waitress": _wsgi_road(waitress_server),
    "fn-agent": _fn,
    "fn-socket": _fn_by_http_transport,
    "fn-name": _fn_by_name,
    "lambda": lambda_road,
}
