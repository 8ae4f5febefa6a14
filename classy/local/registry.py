"""
Apps, functions and triggers as Fn's API keeps them: pure values and rules, in memory.

Ids follow from names, because the `fn` CLI remembers invoke endpoints for 15 minutes, across our restarts. What the
API changes lasts until the agent stops; the folders say what it starts with.
Source for rules, statuses and words: the real server's answers, and its published data model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from classy.local.fn_errors import FnError
from classy.local.functions import (
    DEFAULT_IDLE_TIMEOUT_S,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIMEOUT_S,
    MAX_IDLE_TIMEOUT_S,
    MAX_MEMORY_MB,
    MAX_TIMEOUT_S,
)
from classy.local.ids import make_id, timestamp

NAME_CHARACTERS = 255

Fields = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class App:
    """An app; its config is every function's."""

    id: str
    name: str
    config: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    syslog_url: str = ""
    created_at: str = field(default_factory=timestamp)
    updated_at: str = field(default_factory=timestamp)


@dataclass(slots=True, kw_only=True)
class Fn:
    """A function: the image that it runs, its limits and its config."""

    id: str
    name: str
    app_id: str
    image: str
    memory: int = DEFAULT_MEMORY_MB
    timeout: int = DEFAULT_TIMEOUT_S
    idle_timeout: int = DEFAULT_IDLE_TIMEOUT_S
    config: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    created_at: str = field(default_factory=timestamp)
    updated_at: str = field(default_factory=timestamp)


@dataclass(slots=True, kw_only=True)
class Trigger:
    """An HTTP path that leads to a function."""

    id: str
    name: str
    app_id: str
    fn_id: str
    type: str
    source: str
    annotations: dict[str, Any] = field(default_factory=dict)
    created_at: str = field(default_factory=timestamp)
    updated_at: str = field(default_factory=timestamp)


Thing = TypeVar("Thing", App, Fn, Trigger)


class Registry:
    """Hold apps, functions and triggers by id; every method raises FnError with the real server's words."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.fns: dict[str, Fn] = {}
        self.triggers: dict[str, Trigger] = {}

    def app(self, app_id: str) -> App:
        """Return an app by its id."""
        return _found(self.apps.get(app_id), "App not found")

    def fn(self, fn_id: str) -> Fn:
        """Return a function by its id."""
        return _found(self.fns.get(fn_id), "Fn not found")

    def trigger(self, trigger_id: str) -> Trigger:
        """Return a trigger by its id."""
        return _found(self.triggers.get(trigger_id), "Trigger not found")

    def route(self, app_name: str, source: str) -> Trigger:
        """Return the trigger of an app and path."""
        app = _found(next((app for app in self.apps.values() if app.name == app_name), None), "App not found")
        hits = (trigger for trigger in self.triggers.values() if (trigger.app_id, trigger.source) == (app.id, source))
        return _found(next(hits, None), "Trigger not found")

    def create_app(self, data: Fields) -> App:
        """Create an app."""
        if data.get("id"):
            raise FnError(400, "App ID cannot be supplied on create")
        name = _text(data, "name")
        _check_name(name, missing="Missing Name", long="App name", invalid="Invalid app name")
        app = App(
            id=make_id(name), name=name, annotations=_annotations({}, data), syslog_url=_text(data, "syslog_url")
        )
        app.config = _config({}, data)
        if app.id in self.apps:
            raise FnError(409, "App already exists")
        return self.apps.setdefault(app.id, app)

    def update_app(self, app_id: str, data: Fields) -> App:
        """Merge a partial object into an app."""
        _same_id(app_id, data, "App ID in path does not match ID in body")
        app = self.app(app_id)
        if _text(data, "name") not in ("", app.name):
            raise FnError(409, "Could not update - name is immutable")
        config, annotations = _config(app.config, data), _annotations(app.annotations, data)
        app.syslog_url = _text(data, "syslog_url") if "syslog_url" in data else app.syslog_url
        app.config, app.annotations, app.updated_at = config, annotations, timestamp()
        return app

    def delete_app(self, app_id: str) -> None:
        """Delete an app with its functions and triggers."""
        self.app(app_id)
        for fn in [fn for fn in self.fns.values() if fn.app_id == app_id]:
            self.delete_fn(fn.id)
        del self.apps[app_id]

    def create_fn(self, data: Fields) -> Fn:
        """Create a function in an app."""
        if data.get("id"):
            raise FnError(400, "ID cannot be provided for Fn creation")
        name, app_id, image = (_text(data, key) for key in ("name", "app_id", "image"))
        if not app_id:
            raise FnError(400, "Missing AppID on Fn")
        _check_name(name, missing="Missing Fn name", long="Fn name", invalid="name must be a valid string")
        if not image:
            raise FnError(400, "Missing image on Fn")
        fn = Fn(id=make_id(self.app(app_id).name, name), name=name, app_id=app_id, image=image)
        _merge_fn(fn, data)
        if fn.id in self.fns:
            raise FnError(409, "Fn with specified name already exists")
        return self.fns.setdefault(fn.id, fn)

    def update_fn(self, fn_id: str, data: Fields) -> Fn:
        """Merge a partial object into a function: what is absent, 0 or empty stays; an empty config value goes."""
        _same_id(fn_id, data, "Fn ID in path does not match that in body")
        fn = self.fn(fn_id)
        _merge_fn(fn, data)
        fn.updated_at = timestamp()
        return fn

    def delete_fn(self, fn_id: str) -> None:
        """Delete a function with its triggers."""
        self.fn(fn_id)
        for trigger in [trigger for trigger in self.triggers.values() if trigger.fn_id == fn_id]:
            del self.triggers[trigger.id]
        del self.fns[fn_id]

    def create_trigger(self, data: Fields) -> Trigger:
        """Create a trigger of a function."""
        if data.get("id"):
            raise FnError(400, "ID cannot be provided for Trigger creation")
        name, app_id, fn_id, kind, source = (
            _text(data, key) for key in ("name", "app_id", "fn_id", "type", "source")
        )
        if not app_id:
            raise FnError(400, "Missing App ID on Trigger")
        _check_name(name, missing="Missing name on Trigger", long="Trigger name", invalid="Invalid name for Trigger")
        if not fn_id:
            raise FnError(400, "Missing Fn ID on Trigger")
        if kind != "http":
            raise FnError(400, "Trigger Type Not Supported")
        app, fn = self.app(app_id), self.fn(fn_id)
        if fn.app_id != app.id:
            raise FnError(400, "Invalid Fn ID - not owned by specified app")
        trigger = Trigger(
            id=make_id(app.name, fn.name, name), name=name, app_id=app_id, fn_id=fn_id, type=kind, source=source
        )
        trigger.annotations = _annotations({}, data)
        if trigger.id in self.triggers:
            raise FnError(409, "Trigger already exists")
        self._check_source(trigger, source)
        return self.triggers.setdefault(trigger.id, trigger)

    def update_trigger(self, trigger_id: str, data: Fields) -> Trigger:
        """Merge a partial object into a trigger."""
        _same_id(trigger_id, data, "ID in path does not match ID in body")
        trigger = self.trigger(trigger_id)
        source, annotations = _text(data, "source") or trigger.source, _annotations(trigger.annotations, data)
        self._check_source(trigger, source)
        trigger.source, trigger.annotations, trigger.updated_at = source, annotations, timestamp()
        return trigger

    def delete_trigger(self, trigger_id: str) -> None:
        """Delete a trigger."""
        self.trigger(trigger_id)
        del self.triggers[trigger_id]

    def _check_source(self, trigger: Trigger, source: str) -> None:
        if not source:
            raise FnError(400, "Missing Trigger Source")
        if not source.startswith("/"):
            raise FnError(400, "Missing Trigger Source Prefix '/'")
        for other in self.triggers.values():
            if other.id != trigger.id and (other.app_id, other.source) == (trigger.app_id, source):
                raise FnError(409, "Trigger with the same type and source exists on this app")


def _found(thing: Thing | None, message: str) -> Thing:
    if thing is None:
        raise FnError(404, message)
    return thing


def _text(data: Fields, key: str) -> str:
    value = data.get(key) or ""
    if not isinstance(value, str):
        raise FnError(400, "Invalid JSON")
    return value


def _same_id(wanted: str, data: Fields, message: str) -> None:
    if _text(data, "id") not in ("", wanted):
        raise FnError(400, message)


def _check_name(name: str, *, missing: str, long: str, invalid: str) -> None:
    if not name:
        raise FnError(400, missing)
    if len(name.encode()) > NAME_CHARACTERS:
        raise FnError(400, f"{long} must be {NAME_CHARACTERS} characters or less")
    if not all(character.isalnum() or character in "_-" for character in name) or quote(name) != name:
        raise FnError(400, invalid)


def _config(old: Mapping[str, str], data: Fields) -> dict[str, str]:
    changes = data.get("config") or {}
    if not isinstance(changes, dict) or not all(isinstance(value, str) for value in changes.values()):
        raise FnError(400, "Invalid JSON")
    return _without_empty({**old, **changes}.items())


def _annotations(old: Mapping[str, Any], data: Fields) -> dict[str, Any]:
    changes = data.get("annotations") or {}
    if not isinstance(changes, dict):
        raise FnError(400, "Invalid JSON")
    # The CLI sends back what it was given; the endpoints are ours to say.
    theirs = {key: value for key, value in changes.items() if not key.startswith("fnproject.io/")}
    return _without_empty({**old, **theirs}.items())


def _without_empty(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if value != ""}


def _merge_fn(fn: Fn, data: Fields) -> None:
    limits = (
        ("timeout", MAX_TIMEOUT_S, f"timeout value is out of range, must be between 0 and {MAX_TIMEOUT_S}"),
        ("idle_timeout", MAX_IDLE_TIMEOUT_S,
         f"idle_timeout value is out of range, must be between 0 and {MAX_IDLE_TIMEOUT_S}"),
        ("memory", MAX_MEMORY_MB, f"memory value is out of range. It should be between 0 and {MAX_MEMORY_MB}"),
    )  # fmt: skip
    changes: dict[str, Any] = {
        "image": _text(data, "image") or fn.image,
        "config": _config(fn.config, data),
        "annotations": _annotations(fn.annotations, data),
    }
    for key, most, message in limits:
        value = data.get(key) or getattr(fn, key)
        if type(value) is not int:
            raise FnError(400, "Invalid JSON")
        if not 0 < value <= most:
            raise FnError(400, message)
        changes[key] = value
    for key, value in changes.items():
        setattr(fn, key, value)
