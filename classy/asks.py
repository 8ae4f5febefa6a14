"""
What a caller asks Classy for: JSON or a picture in, sources and options out.

    {"name": URL}                       as in the talk
    {"imagelink": URL}                  as in the Lambda article
    {"image": BASE64}                   a picture inside JSON
    {"images": [URL or {"image": …}]}   several; each gets its own answer
    GET ?url=URL or ?imagelink=URL      where HTTP leads here: a trigger, a gateway
    a picture as the body               by its Content-Type image/*, or by its first bytes

with the options top_k, language and model beside any of the JSON forms.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from classy.errors import BadRequest
from classy.labels import LANGUAGES
from graphpipe_fn.errors import GraphPipeError, MethodNotAllowed
from graphpipe_fn.model import Buffer
from graphpipe_fn.values import dataclass

SOURCE_KEYS = ("name", "imagelink", "image", "images")
OPTION_KEYS = ("top_k", "language", "model")
TOP_K_MAX = 1000
HOW = 'send {"name": "https://…/dog.jpg"}, or a picture as the body with Content-Type: image/jpeg'


@dataclass(frozen=True, slots=True)
class Options:
    """
    How to answer.

    Args:
        top_k: Labels per picture.
        language: Of the Message.
        model: NAME or NAME@VERSION, "" for the setting's.
    """

    top_k: int
    language: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One caller's question.

    Args:
        sources: URLs or object URIs (str), pictures (bytes), and what can be neither (its error), in the caller's
            order.
        options: How to answer.
        batch: Whether the caller sent a list, and so gets one.
    """

    sources: tuple[str | bytes | GraphPipeError, ...]
    options: Options
    batch: bool = False


def parse_ask(body: Buffer, content_type: str, *, defaults: Options, limit_rows: int) -> Ask:
    """
    Read a request body.

    Args:
        body: JSON or a picture.
        content_type: As the caller gave it; `fn invoke` says text/plain whatever it sends, so JSON is known by
            its brace.
        defaults: For the options that the caller leaves out.
        limit_rows: Pictures in one request, at most.

    Raises:
        BadRequest: neither, or JSON that asks for nothing, for too much, or in wrong types.
    """
    data = bytes(body)
    if not data.strip():
        raise BadRequest(f"the body is empty; {HOW}")
    if content_type.lower().startswith("image/") or not data.lstrip().startswith((b"{", b"[", b'"')):
        return Ask((data,), defaults)
    return ask_of(parse_json(data), defaults=defaults, limit_rows=limit_rows)


def parse_json(data: bytes) -> dict[str, Any]:
    """
    Return the JSON object of a body.

    Raises:
        BadRequest: not JSON, or no object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"the body looks like JSON but can't be read ({_unread(exc)}); {HOW}") from exc
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {_shown(value)}; {HOW}")
    return value


def _unread(exc: Exception) -> str:
    """Return why JSON can't be read, in its own words rather than Python's."""
    if isinstance(exc, RecursionError):
        return "it is nested too deep"
    if isinstance(exc, json.JSONDecodeError):
        return str(exc)
    return "it is no UTF-8" if isinstance(exc, UnicodeDecodeError) else "a number has too many digits"


def _shown(value: Any) -> str:
    """Return the beginning of a value as JSON has it, for its sender."""
    return f"{json.dumps(value, ensure_ascii=False):.60}"


def parse_query(method: str, query: str) -> dict[str, Any]:
    """
    Return what a GET asks for, as the JSON would say it: `?url=`, `?imagelink=`, and the options.

    Raises:
        BadRequest: a key that comes twice, or a number that is none.
        MethodNotAllowed: neither GET nor HEAD.
    """
    if method not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"the method {method[:20]!r} is not known here; use GET or POST")
    value: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        name = "name" if key == "url" else key
        if name in value:
            raise BadRequest(f'"{key}" was given twice; give it once')
        if name in ("image", "images"):
            raise BadRequest(f'"{key}" belongs into a POST; a GET takes ?url=https://…')
        value[name] = int(text) if name == "top_k" and text.isascii() and text.isdigit() else text
    return value


def ask_of(value: Mapping[str, Any], *, defaults: Options, limit_rows: int) -> Ask:
    """
    Return what a JSON object asks for.

    Raises:
        BadRequest: see parse_ask.
    """
    unknown = sorted(set(value) - {*SOURCE_KEYS, *OPTION_KEYS})
    if unknown:
        raise BadRequest(
            f"unknown key {', '.join(map(repr, unknown))}; known are {_listed(SOURCE_KEYS, OPTION_KEYS)}"
        )
    given = [key for key in SOURCE_KEYS if key in value]
    if len(given) != 1:
        found = f"has {_listed(given)}" if given else "names no picture"
        raise BadRequest(f"the JSON {found}; give exactly one of {_listed(SOURCE_KEYS)}")
    options = _options(value, defaults)
    key = given[0]
    if key != "images":
        return Ask((_source(key, value[key]),), options)
    images = value["images"]
    if not isinstance(images, list) or not images:
        raise BadRequest('"images" must be a list of at least one URL')
    if len(images) > limit_rows:
        raise BadRequest(f'"images" holds {len(images)}; the limit is {limit_rows}, send them in parts')
    return Ask(tuple(_entry(place, entry) for place, entry in enumerate(images)), options, batch=True)


def _entry(place: int, entry: Any) -> str | bytes | GraphPipeError:
    """Return one of several sources; an unusable one is its own error and does not spoil the others."""
    try:
        if isinstance(entry, dict):
            if len(entry) != 1 or not set(entry) <= {"image", "name"}:
                raise BadRequest('must be a URL, {"name": URL} or {"image": BASE64}')
            ((key, value),) = entry.items()
            return _source(key, value)
        if not isinstance(entry, str):
            raise BadRequest(f'must be a URL, {{"name": URL}} or {{"image": BASE64}}, not {_shown(entry)}')
        return _source("", entry)
    except BadRequest as exc:
        return BadRequest(f'"images"[{place}]: {exc.message}')


def with_query(options: Options, query: str) -> Options:
    """
    Return the options with those that a POST's query names, as `?top_k=3&language=en` beside a picture.

    Raises:
        BadRequest: an unknown key, or a value that can't be used.
    """
    if not query:
        return options
    value = parse_query("GET", query)
    unknown = sorted(set(value) - set(OPTION_KEYS))
    if unknown:
        raise BadRequest(f"unknown key {', '.join(map(repr, unknown))} in the query of a POST; known are "
                         f"{_listed(OPTION_KEYS)}")  # fmt: skip
    return _options(value, options)


def _options(value: Mapping[str, Any], defaults: Options) -> Options:
    return Options(
        top_k=_top_k(value.get("top_k", defaults.top_k)),
        language=_language(value.get("language", defaults.language)),
        model=_text(value.get("model", defaults.model), "model"),
    )


def _source(key: str, value: Any) -> str | bytes:
    if key == "image":
        if not isinstance(value, str):
            raise BadRequest(f'"image" must be a text, a picture in base64, not {_shown(value)}')
        try:
            text = value.partition(",")[2] if value.startswith("data:") else value
            picture = base64.b64decode(text, validate=True)
        except ValueError as exc:  # binascii.Error too
            raise BadRequest(f'"image" must be a picture in base64 ({exc})') from exc
        if not picture:
            raise BadRequest('"image" is empty; send a picture in base64')
        return picture
    return _text(value, key or "images", empty=False)


def _text(value: Any, key: str, *, empty: bool = True) -> str:
    if not isinstance(value, str) or not (value.strip() or empty):
        raise BadRequest(f'"{key}" must be {"a URL" if not empty else "a text"}, not {_shown(value)}')
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise BadRequest(f'"{key}" holds half a character (\\ud800 to \\udfff alone); send whole ones') from exc
    return value.strip()


def _top_k(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= TOP_K_MAX:
        raise BadRequest(f'"top_k" must be a whole number from 1 to {TOP_K_MAX}, not {_shown(value)}')
    return value


def _language(value: Any) -> str:
    if value not in LANGUAGES:
        raise BadRequest(f'"language" must be one of {_listed(LANGUAGES)}, not {_shown(value)}')
    return str(value)


def _listed(*names: Any) -> str:
    return ", ".join(f'"{name}"' for group in names for name in group)
