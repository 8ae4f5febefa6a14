"""
The road to a function of Fn: its name becomes its invoke endpoint, which is called over HTTP.

It knows the two questions that Fn's API answers, and nothing of signed requests (Oracle's own endpoints need them).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from graphpipe_fn.errors import BadConfig, NotFound, TransportFailed
from graphpipe_fn.messages import Call
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.transports.http import IDLE_CONNECTIONS, LIMIT_BYTES, HttpTransport

if TYPE_CHECKING:
    import ssl

ENDPOINT = "fnproject.io/fn/invokeEndpoint"  # the annotation; its host is the one that the API was asked under


class FnTransport:
    """
    Carry messages to `fn:APP/FUNCTION`; usable from several threads at once.

    The endpoint is asked for at the first call and kept; it is asked for again when it answers 404, as it does
    after the function was deleted and created anew.

    Args:
        uri: `fn:APP/FUNCTION`.
        api_url: Fn's API, as in `FN_API_URL`: `http://host:8080`.
        tls, limit_bytes, idle_connections: See HttpTransport.

    Raises:
        BadConfig: not such a URI, or no API.
    """

    def __init__(
        self,
        uri: str,
        *,
        api_url: str,
        tls: ssl.SSLContext | None = None,
        limit_bytes: int = LIMIT_BYTES,
        idle_connections: int = IDLE_CONNECTIONS,
    ) -> None:
        self._app, _, self._function = uri.removeprefix("fn:").partition("/")
        if not uri.startswith("fn:") or not self._app or not self._function or "/" in self._function:
            raise BadConfig(f"{uri[:200]!r} is no Fn function; write fn:APP/FUNCTION")
        if not api_url:
            raise BadConfig(f"{uri!r} needs the address of Fn's API; give fn_api_url, as in FN_API_URL")
        self._prefix = api_url.rstrip("/")
        self._options: dict[str, Any] = {
            "tls": tls,
            "limit_bytes": limit_bytes,
            "idle_connections": idle_connections,
        }
        self._api = HttpTransport(self._prefix, tls=tls)
        self._lock = threading.Lock()
        self._endpoint = ""
        self._function_road: HttpTransport | None = None

    def __call__(self, buffers: Sequence[Buffer], call: Call) -> Reply:
        """
        Invoke the function.

        Raises:
            NotFound: Fn has no such application or function.
            GraphPipeError: as HttpTransport.
        """
        known = self._function_road
        road = known or self._resolved(call)
        reply = road(buffers, call)
        if reply.status == 404 and known is not None:
            road = self._resolved(call)
            if road is not known:
                return road(buffers, call)
        return reply

    def close(self) -> None:
        """Close the kept connections."""
        self._api.close()
        if self._function_road is not None:
            self._function_road.close()

    def _resolved(self, call: Call) -> HttpTransport:
        app = self._only("apps", {"name": self._app}, call, f"application {self._app!r}")
        named = {"app_id": str(app.get("id")), "name": self._function}
        function = self._only("fns", named, call, f"function {self._function!r} in the application {self._app!r}")
        annotations = function.get("annotations")
        endpoint = annotations.get(ENDPOINT) if isinstance(annotations, dict) else None
        if not isinstance(endpoint, str):
            raise TransportFailed(f"{self._prefix} names no invoke endpoint for {self._app}/{self._function}")
        with self._lock:
            if self._function_road is None or endpoint != self._endpoint:
                if self._function_road is not None:
                    self._function_road.close()
                self._function_road = HttpTransport(endpoint, **self._options)
                self._endpoint = endpoint
            return self._function_road

    def _only(self, kind: str, query: dict[str, str], call: Call, what: str) -> dict[str, Any]:
        """Ask the API for the one object of that name."""
        target = f"{self._api.path.rstrip('/')}/v2/{kind}?{urlencode(query, quote_via=quote)}"
        reply = self._api.request("GET", target, (), call)
        try:
            answer = json.loads(reply.body())
            items = answer.get("items") or [] if reply.status == 200 else []
            found = [item for item in items if item.get("name") == query["name"]]
        except (ValueError, AttributeError, TypeError) as exc:
            raise TransportFailed(f"{self._prefix} does not answer as Fn's API does (status {reply.status})") from exc
        if reply.status not in (200, 404):
            raise TransportFailed(f"{self._prefix} answered {reply.status} when asked for the {what}")
        if not found:
            raise NotFound(f"Fn has no {what}; see `fn list apps` and `fn list functions {self._app}`")
        return dict(found[0])
