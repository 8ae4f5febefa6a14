"""Classifying: POST and GET api/classify, and the MNIST application's POST api/predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import flask

from classy import answers
from classy.asks import HOW, OPTION_KEYS, Ask, Options, ask_of, parse_json
from classy.errors import BadRequest, ModelMissing, UnknownModel, UnsupportedMedia
from classy.models.manifest import Manifest
from classy.web.guards import call
from classy.web.operations import Service
from classy.web.replies import json_reply, problem_reply
from graphpipe_fn.errors import TooLarge
from graphpipe_fn.messages import Timing

MULTIPART = "multipart/form-data"
# Of a picture, of whatever says nothing (curl's own type for --data-binary among them), and of JSON.
RAW_TYPES = ("image/", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain")
JSON_TYPES = ("application/json", "text/json")


def classify_body(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Classify what a body holds: JSON, a form's files, or a picture."""
    options = _options(service, given)
    request, limit = flask.request, service.settings.limit_rows
    kind = request.mimetype
    if kind == MULTIPART:
        ask = _form_ask(request, options, limit_rows=limit)
    elif not kind or kind.startswith(RAW_TYPES + JSON_TYPES):
        data = request.get_data()
        if kind.startswith(JSON_TYPES) or (not kind.startswith("image/") and data.lstrip().startswith(b"{")):
            ask = ask_of(parse_json(data), defaults=options, limit_rows=limit)
        elif not data:
            raise BadRequest(f"the body is empty; {HOW}")
        else:
            ask = Ask((data,), options)
    else:
        raise UnsupportedMedia(f"a body of type {kind[:80]!r} is not read; {HOW}")
    return _answered(service, ask)


def classify_url(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Classify the picture at a URL."""
    named = {key: given[key] for key in ("url", "imagelink") if given[key]}
    if len(named) != 1:
        raise BadRequest("give one picture: ?url=https://… or ?imagelink=https://…")
    options = _options(service, given)
    ask = ask_of({"name": next(iter(named.values()))}, defaults=options, limit_rows=1)
    return _answered(service, ask)


def predict(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Classify a form's picture, and answer the probability of every class in the classes' order."""
    if flask.request.mimetype != MULTIPART:
        raise UnsupportedMedia(f'send {MULTIPART} with the picture in the field "image"')
    pictures = _files(flask.request)
    if len(pictures) != 1 or "image" not in flask.request.files or flask.request.form:
        raise BadRequest('send one picture, in the field "image", and nothing else')
    manifest = service.classy.manifests.get()
    options = Options(manifest.output.classes, service.settings.language, manifest.ref)
    value, status = classified(service, Ask(pictures, options))
    if status != 200:
        return _problem(value)
    ordered = sorted(value["top_k"], key=lambda entry: int(entry["class_index"]))
    value = {
        "result": [entry["probability"] for entry in ordered],
        **value,
        "top_k": value["top_k"][: service.settings.top_k],
    }
    return json_reply(value)


def classified(service: Service, ask: Ask) -> tuple[dict[str, Any], int]:
    """Return the front's answer to a question, with what it cost, and its status."""
    started_s = time.perf_counter()
    if ask.options.model:
        published(service, ask.options.model)
    results, hops = service.classy.classify(ask, call())
    own_s = max(0.0, time.perf_counter() - started_s - sum(hop.seconds for hop in hops))
    flask.g.timings = (Timing("classy", own_s), *hops)
    value: dict[str, Any] = {"results": results} if ask.batch else results[0]
    value = {**value, "timings": answers.timings(flask.g.timings), "call_id": call().id}
    return value, int(value["error"]["code"]) // 100 if "error" in value else 200


def published(service: Service, ref: str) -> Manifest:
    """
    Return the manifest of a model that the caller named; "" is the default one.

    Raises:
        UnknownModel: it is not published.
    """
    try:
        return service.classy.manifests.get(ref)
    except ModelMissing as exc:
        if not ref:
            raise
        raise UnknownModel(f"no model {ref[:140]!r} is published; GET api/models lists those that are") from exc


def _answered(service: Service, ask: Ask) -> flask.Response:
    value, status = classified(service, ask)
    return json_reply(value) if status == 200 else _problem(value)


def _problem(value: Mapping[str, Any]) -> flask.Response:
    error = value["error"]
    return problem_reply(error["code"], error["message"], call_id=call().id, retryable=error["retryable"])


def _options(service: Service, given: Mapping[str, Any]) -> Options:
    settings = service.settings
    return Options(given["top_k"] or settings.top_k, given["language"] or settings.language, given["model"])


def _form_ask(request: flask.Request, options: Options, *, limit_rows: int) -> Ask:
    pictures = _files(request)
    if not pictures:
        raise BadRequest("the form has no file; send each picture as a file")
    if len(pictures) > limit_rows:
        raise TooLarge(f"the form has {len(pictures)} files; the limit is {limit_rows}, send them in parts")
    values: dict[str, Any] = {}
    for name, text in request.form.items(multi=True):
        if name not in OPTION_KEYS or name in values:
            raise BadRequest(f"the form's field {name[:80]!r} is unknown, or there twice; known are {OPTION_KEYS}")
        values[name] = int(text) if name == "top_k" and text.isascii() and text.isdigit() and len(text) < 10 else text
    if values:
        options = ask_of({"name": "-", **values}, defaults=options, limit_rows=1).options
    return Ask(pictures, options, batch=len(pictures) > 1)


def _files(request: flask.Request) -> tuple[bytes, ...]:
    """Return a form's files in their order."""
    return tuple(file.read() for _, file in request.files.items(multi=True))
