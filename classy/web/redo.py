"""Re-classifying: POST api/reclassify, one slice a time, and the MNIST application's repredict-all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import flask

from classy.asks import parse_json
from classy.errors import BadRequest, NothingKept
from classy.web.classify import published
from classy.web.guards import call
from classy.web.operations import Service, body_field
from classy.web.replies import json_reply

if TYPE_CHECKING:
    from classy.reclassified import Reclassified

LIMIT, LIMIT_MAX = 20, 200
WORKERS = 2
SLICE_S = 20.0  # of one call, so that a page sees progress and a gateway of 29 s gets its answer
KEYS = ("model", "after", "limit")


def reclassify(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Re-classify some of the pictures that a model has not seen, and say where to go on."""
    body = flask.request.get_data()
    value = parse_json(body) if body.strip() else {}
    unknown = sorted(set(value) - set(KEYS))
    if unknown:
        raise BadRequest(f"unknown key {unknown[0][:80]!r}; known are {', '.join(KEYS)}")
    limit = body_field(value, "limit", int, default=LIMIT)
    if not 1 <= limit <= LIMIT_MAX:
        raise BadRequest(f'"limit" must be 1 to {LIMIT_MAX}, not {str(limit)[:30]}')
    model, after = body_field(value, "model", str, default=""), body_field(value, "after", str, default="")
    return json_reply(_json(_slice(service, model, after=after, limit=limit)))


def repredict_all(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Re-classify with the default model as many pictures as the time allows."""
    return json_reply(_json(_slice(service, "", after="", limit=None)))


def _slice(service: Service, model: str, *, after: str, limit: int | None) -> tuple[str, Reclassified]:
    if service.classy.records is None:
        raise NothingKept("no records are kept here, so there is nothing to classify again; set CLASSY_RECORDS")
    ref = published(service, model).ref
    deadline_s = time.monotonic() + SLICE_S
    left_s = call().deadline_s
    done = service.classy.reclassifier().run(
        ref,
        after=after,
        limit=limit,
        workers=WORKERS,
        deadline_s=deadline_s if left_s is None else min(left_s, deadline_s),
        call_id=call().id,
    )
    return ref, done


def _json(found: tuple[str, Reclassified]) -> dict[str, Any]:
    ref, done = found
    return {"model": ref, **asdict(done)}
