"""
Fn's API over HTTP: /version and /v2/{apps,fns,triggers}, as the `fn` CLI and Terraform use it.

It turns requests into registry calls and objects into JSON; the endpoints that it tells are built from the request's
Host header, as the real server does.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from aiohttp import web

from classy.local.fn_errors import FnError
from classy.local.registry import App, Fn, Registry, Trigger

FN_VERSION = "0.3.753"  # the server whose answers these are
PER_PAGE = 30
MOST_PER_PAGE = 100
BODY_BYTES = 1 << 20
CALL_ID = web.RequestKey("call_id", str)

logger = logging.getLogger(__name__)

Thing = TypeVar("Thing", App, Fn, Trigger)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """
    Serve the API of a registry.

    Args:
        registry: What is read and changed.
        changed: Called after every change, before the answer is sent.
    """

    def __init__(self, registry: Registry, changed: Callable[[], None]) -> None:
        self._registry = registry
        self._changed = changed

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of all resources."""
        have = self._registry
        return [
            web.get("/", self._hello),
            web.get("/version", self._version),
            web.get("/v2/apps", self._list_apps),
            web.post("/v2/apps", self._creator(have.create_app)),
            web.get("/v2/apps/{id}", self._getter(have.app)),
            web.put("/v2/apps/{id}", self._updater(have.update_app)),
            web.delete("/v2/apps/{id}", self._deleter(have.delete_app)),
            web.get("/v2/fns", self._list_fns),
            web.post("/v2/fns", self._creator(have.create_fn)),
            web.get("/v2/fns/{id}", self._getter(have.fn)),
            web.put("/v2/fns/{id}", self._updater(have.update_fn)),
            web.delete("/v2/fns/{id}", self._deleter(have.delete_fn)),
            web.get("/v2/triggers", self._list_triggers),
            web.post("/v2/triggers", self._creator(have.create_trigger)),
            web.get("/v2/triggers/{id}", self._getter(have.trigger)),
            web.put("/v2/triggers/{id}", self._updater(have.update_trigger)),
            web.delete("/v2/triggers/{id}", self._deleter(have.delete_trigger)),
        ]

    async def _hello(self, request: web.Request) -> web.Response:
        return answer({"hello": "This is Classy's local Fn endpoint, for one machine; at scale run Fn itself."})

    async def _version(self, request: web.Request) -> web.Response:
        return answer({"version": FN_VERSION})

    async def _list_apps(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        return self._page(request, [app for app in self._registry.apps.values() if name in ("", app.name)])

    async def _list_fns(self, request: web.Request) -> web.Response:
        app_id, name = _wanted(request, "app_id", "Missing AppID on Fn"), request.query.get("name", "")
        fns = self._registry.fns.values()
        return self._page(request, [fn for fn in fns if fn.app_id == app_id and name in ("", fn.name)])

    async def _list_triggers(self, request: web.Request) -> web.Response:
        app_id = _wanted(request, "app_id", "Missing App ID on Trigger")
        fn_id, name = request.query.get("fn_id", ""), request.query.get("name", "")
        hits = [
            trigger
            for trigger in self._registry.triggers.values()
            if trigger.app_id == app_id and fn_id in ("", trigger.fn_id) and name in ("", trigger.name)
        ]
        return self._page(request, hits)

    def _getter(self, get: Callable[[str], Thing]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            return answer(self._shown(get(request.match_info["id"]), request))

        return handle

    def _creator(self, create: Callable[[dict[str, Any]], Thing]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            thing = create(await _fields(request))
            self._changed()
            return answer(self._shown(thing, request))

        return handle

    def _updater(self, update: Callable[[str, dict[str, Any]], Thing]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            thing = update(request.match_info["id"], await _fields(request))
            self._changed()
            return answer(self._shown(thing, request))

        return handle

    def _deleter(self, delete: Callable[[str], None]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            delete(request.match_info["id"])
            self._changed()
            return web.Response(status=204)

        return handle

    def _page(self, request: web.Request, things: Sequence[App | Fn | Trigger]) -> web.Response:
        after = _cursor(request.query.get("cursor", ""))
        try:
            per_page = int(request.query.get("per_page", ""))
        except ValueError:
            per_page = 0
        per_page = min(per_page, MOST_PER_PAGE) if per_page > 0 else PER_PAGE
        rest = sorted((thing for thing in things if thing.name > after), key=lambda thing: thing.name)
        page: dict[str, Any] = {}
        if len(rest) > per_page:
            page["next_cursor"] = base64.urlsafe_b64encode(rest[per_page - 1].name.encode()).decode()
        return answer({**page, "items": [self._shown(thing, request) for thing in rest[:per_page]]})

    def _shown(self, thing: App | Fn | Trigger, request: web.Request) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": thing.id, "name": thing.name}
        annotations = dict(thing.annotations)
        if isinstance(thing, App):
            shown.update(_present(config=thing.config, annotations=annotations, syslog_url=thing.syslog_url))
        elif isinstance(thing, Fn):
            annotations["fnproject.io/fn/invokeEndpoint"] = f"http://{request.host}/invoke/{thing.id}"
            shown.update(
                app_id=thing.app_id,
                image=thing.image,
                memory=thing.memory,
                timeout=thing.timeout,
                idle_timeout=thing.idle_timeout,
                config=thing.config,
                annotations=annotations,
            )
        else:
            app = self._registry.app(thing.app_id)
            annotations["fnproject.io/trigger/httpEndpoint"] = f"http://{request.host}/t/{app.name}{thing.source}"
            shown.update(
                app_id=thing.app_id, fn_id=thing.fn_id, type=thing.type, source=thing.source, annotations=annotations
            )
        return {**shown, "created_at": thing.created_at, "updated_at": thing.updated_at}


def answer(data: object, *, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> web.Response:
    """Return JSON as Fn's server sends it."""
    return web.Response(
        body=json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(),
        status=status,
        headers=[*headers, ("Content-Type", "application/json; charset=utf-8")],
    )


@web.middleware
async def fn_errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in Fn's own form; a bug's detail goes to the log only."""
    try:
        return await handler(request)
    except FnError as exc:
        error = exc
    except web.HTTPNotFound:
        error = FnError(404, "Path not found")
    except web.HTTPMethodNotAllowed:
        error = FnError(405, "Method not allowed")
    except (ConnectionError, web.HTTPException):
        raise
    except Exception:
        logger.exception("%s %s (call %s)", request.method, request.path, request.get(CALL_ID, "-"))
        error = FnError(500, "internal server error")
    headers = [("Fn-Call-Id", request[CALL_ID])] if CALL_ID in request else []
    return answer({"message": error.message}, status=error.status, headers=headers)


async def _fields(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.content.read(BODY_BYTES + 1)
        while len(body) <= BODY_BYTES and (more := await request.content.read(BODY_BYTES)):
            body += more
        data = json.loads(body) if len(body) <= BODY_BYTES else None
        # Half a character, which JSON can name and UTF-8 can't hold: kept, it would spoil every later answer. As Go.
        whole = json.dumps(data, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        data = json.loads(whole)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise FnError(400, "Invalid JSON")
    return data


def _wanted(request: web.Request, key: str, message: str) -> str:
    if not (value := request.query.get(key, "")):
        raise FnError(400, message)
    return value


def _cursor(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text).decode()
    except (binascii.Error, ValueError):
        return ""


def _present(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
