"""
Deployable folders: what func.yaml and app.yaml say, as values.

It knows Fn's file format (schema 20180708) and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe_fn.errors import GraphPipeError

SCHEMA = 20180708
DEFAULT_MEMORY_MB = 128  # Fn's own defaults and limits. Source: the real server's answers
DEFAULT_TIMEOUT_S = 30
DEFAULT_IDLE_TIMEOUT_S = 30
MAX_MEMORY_MB = 8192
MAX_TIMEOUT_S = 300
MAX_IDLE_TIMEOUT_S = 3600


class UnusableFolder(GraphPipeError):
    """A function folder, func.yaml or app.yaml can't be used; the message names the file and the field."""

    code = 40013


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """
    One function as it is to be deployed.

    Args:
        name: Its name in the app.
        folder: Holds func.py; the process's working directory.
        config: Environment variables, besides the app's.
        memory_mb, timeout_s, idle_timeout_s: Fn's limits, enforced.
        triggers: HTTP triggers, name → source (`/classify`).
        version: Becomes the image's tag.
        file, handler: What `fdk` is started with.
        annotations: Passed through the API; the function does not see them.
    """

    name: str
    folder: Path
    config: Mapping[str, str] = field(default_factory=dict)
    memory_mb: int = DEFAULT_MEMORY_MB
    timeout_s: int = DEFAULT_TIMEOUT_S
    idle_timeout_s: int = DEFAULT_IDLE_TIMEOUT_S
    triggers: Mapping[str, str] = field(default_factory=dict)
    version: str = "0.0.1"
    file: str = "func.py"
    handler: str = "handler"
    annotations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """Return the name under which the API knows the folder: `local/NAME:VERSION`."""
        return f"local/{self.name}:{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """An app: its name and the configuration that all its functions get."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)


def read_function(folder: Path) -> FunctionSpec:
    """
    Read a function folder.

    Raises:
        UnusableFolder: there is no func.yaml, or a field of it can't be used.
    """
    path = folder / "func.yaml"
    data = _load(path)
    if data.get("schema_version") != SCHEMA:
        raise UnusableFolder(f"{path}: schema_version is {data.get('schema_version')!r}; only {SCHEMA} is read")
    file, handler = _entrypoint(path, data.get("entrypoint", ""))
    return FunctionSpec(
        name=_text(path, data, "name"),
        folder=folder.resolve(),
        config=_config(path, data),
        memory_mb=_whole(path, data, "memory", DEFAULT_MEMORY_MB, MAX_MEMORY_MB),
        timeout_s=_whole(path, data, "timeout", DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S),
        idle_timeout_s=_whole(path, data, "idle_timeout", DEFAULT_IDLE_TIMEOUT_S, MAX_IDLE_TIMEOUT_S),
        triggers=_triggers(path, data),
        version=str(data.get("version", "0.0.1")),
        file=file,
        handler=handler,
        annotations=data.get("annotations") or {},
    )


def read_app(path: Path) -> AppSpec:
    """
    Read an app.yaml.

    Raises:
        UnusableFolder: it is missing, or a field of it can't be used.
    """
    data = _load(path)
    return AppSpec(name=_text(path, data, "name"), config=_config(path, data))


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableFolder(f"{path}: no such file; a function folder needs one") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise UnusableFolder(f"{path}: can't be read: {exc}") from exc
    if not isinstance(data, dict):
        raise UnusableFolder(f"{path}: not a YAML mapping")
    return data


def _text(path: Path, data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise UnusableFolder(f"{path}: {key} is {value!r}; give a name")
    return value


def _whole(path: Path, data: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = data.get(key, default)
    if type(value) is not int or not 0 < value <= most:
        raise UnusableFolder(f"{path}: {key} is {value!r}; give a whole number of 1 to {most}")
    return value


def _config(path: Path, data: Mapping[str, Any]) -> dict[str, str]:
    config = data.get("config") or {}
    if not isinstance(config, dict) or any(isinstance(value, dict | list) for value in config.values()):
        raise UnusableFolder(f"{path}: config must map names to single values")
    return {str(key): str(value) for key, value in config.items()}


def _triggers(path: Path, data: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for entry in data.get("triggers") or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UnusableFolder(f"{path}: each trigger needs a name, type: http and a source")
        source = entry.get("source", "/" + entry["name"])
        if entry.get("type", "http") != "http" or not isinstance(source, str) or not source.startswith("/"):
            raise UnusableFolder(f"{path}: trigger {entry['name']!r} must be of type http, its source start with /")
        found[entry["name"]] = source
    return found


def _entrypoint(path: Path, text: object) -> tuple[str, str]:
    if not text:
        return "func.py", "handler"
    words = str(text).split()
    if len(words) != 3 or Path(words[0]).name != "fdk":
        raise UnusableFolder(f"{path}: entrypoint is {text!r}; only `fdk FILE HANDLER` is run without a container")
    return Path(words[1]).name, words[2]
