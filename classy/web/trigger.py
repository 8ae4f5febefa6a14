"""
Requests that come through an Fn trigger, or through a gateway in front of Oracle Functions.

    …/classify                                  the front itself, as before there was an API
    …/api/…, …/graphpipe, …/models/…, …/static/…  the HTTP API and the page, in Flask
    …/                                          the page, where nothing is asked

Flask is imported with the first request that needs it. An Fn trigger is one exact path (functions/classy/func.yaml
lists them); a gateway's route may be a pattern, and then all of the API is behind it.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from classy.front import Classy
from classy.settings import Settings
from graphpipe_fn.adapters.wsgi_ask import GatewayRequest, ask
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

OURS = frozenset(("api", "graphpipe", "models", "static"))  # the first part of every path of the application but "/"
_TRIGGER = re.compile(r"/t/[^/]+(?=/|$)")  # where an Fn server puts an application's triggers


class Triggered:
    """
    Answer requests by their path.

    Args:
        classy: Answers those of no other path.
        settings: For the application.
    """

    def __init__(self, classy: Classy, settings: Settings) -> None:
        self._classy, self._settings = classy, settings
        self._lock = threading.Lock()
        self._app: WSGIApplication | None = None

    def __call__(self, request: GatewayRequest, call: Call) -> Reply:
        """Answer one request."""
        mount = mount_of(request)
        if mount is None:
            return self._classy.answer(request.body, call)
        with self._lock:
            if self._app is None:
                self._app = _application(self._classy, self._settings)
        return ask(self._app, request, call, mount=mount)


def mount_of(request: GatewayRequest) -> str | None:
    """Return the beginning of a path that is not the application's; None where none of it is."""
    found = _TRIGGER.match(request.path)
    start = found.end() if found else 0
    parts = request.path[start:].split("/")
    for place, part in enumerate(parts):
        if place and part in OURS:
            return request.path[:start] + "/".join(parts[:place])
    if request.path.endswith("/") and request.method in ("GET", "HEAD") and not request.query:
        return request.path[:-1]
    return None


def _application(classy: Classy, settings: Settings) -> WSGIApplication:
    from classy.web.app import create_app

    return create_app(classy, settings)
