"""
The adapter the other way round: a request that a platform's gateway took apart is put to a WSGI application.

It knows WSGI's environment and nothing of the platform or the application.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

CALL = "graphpipe.call"  # in the environment: the Call, whose id and deadline are the platform's
_OWN = frozenset(("content-type", "content-length", "transfer-encoding"))


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """
    An HTTP request as a gateway hands it over.

    Args:
        path, query: As in the URL, percent-encoded.
        headers: Names in lower case.
        host: With its port.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    host: str = ""
    scheme: str = "http"


def ask(app: WSGIApplication, request: GatewayRequest, call: Call, *, mount: str = "") -> Reply:
    """
    Put a request to an application.

    Args:
        mount: The beginning of the path that is not the application's.

    Returns:
        Its answer; without a body for HEAD. Content-Length is left to whoever sends it.

    Raises:
        Exception: the application's own.
    """
    told: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        told[:] = [(status, headers)]
        return written.append

    answer = app(_environ(request, call, mount), start_response)
    try:
        written += list(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    status, headers = told[0]
    kept = tuple((name.lower(), value) for name, value in headers if name.lower() not in _OWN)
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    return Reply([] if request.method == "HEAD" else written, int(status[:3]), content_type, headers=kept)


def _environ(request: GatewayRequest, call: Call, mount: str) -> dict[str, Any]:
    name, _, port = request.host.rpartition(":") if request.host[-1:].isdigit() else (request.host, "", "")
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()
               if name not in _OWN and "_" not in name}  # fmt: skip
    return {
        **headers,
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": _text(mount),
        "PATH_INFO": _text(request.path[len(mount) :]),
        "QUERY_STRING": request.query,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_HOST": request.host,
        "SERVER_NAME": name or request.host or "localhost",
        "SERVER_PORT": port or ("443" if request.scheme == "https" else "80"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        CALL: call,
    }


def _text(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1")  # as WSGI has bytes
