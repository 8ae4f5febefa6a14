"""What was classified: records, kept pictures and thumbnails, and the MNIST application's prediction-history."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import flask

from classy.errors import NothingKept
from classy.kept import KeptPictures
from classy.records import columns, report
from classy.records.store import RecordStore
from classy.records.values import Box, Classification, Page, Query
from classy.web.operations import Service
from classy.web.replies import conditional, json_reply
from graphpipe_fn.errors import GraphPipeError, NotFound

PRIVATE = "private, max-age=86400"  # pictures by their SHA-256 never change, but may be deleted
CSV = "text/csv; charset=utf-8"


def records(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Find records, newest first."""
    page = _found(service, given)
    if given["format"] == "csv":
        text = io.StringIO()
        report.print_csv(page.records, text)
        reply = flask.Response(text.getvalue().encode(), content_type=CSV)
        reply.headers["Content-Disposition"] = 'attachment; filename="classy-records.csv"'
    else:
        reply = json_reply({"records": [report.as_json(record) for record in page.records], "next": page.next})
    return _linked(reply, given, page.next)


def side_by_side(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Find pictures, each with the newest record of every model."""
    rows = columns.page(_store(service), _query(given))
    value = {"models": rows.models, "pictures": [columns.as_json(row) for row in rows.rows], "next": rows.next}
    return _linked(json_reply(value), given, rows.next)


def record(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return one record."""
    found = _store(service).get(given["id"])
    if found is None:
        raise NotFound("there is no such record; it may have been deleted")
    return json_reply(report.as_json(found))


def forget(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Delete a picture with all its records."""
    _store(service)
    deleted = service.classy.forget(given["id"])
    if not deleted:
        raise NotFound("there is no such record; it may have been deleted already")
    return json_reply({"deleted": deleted})


def thumbnail(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return a picture's thumbnail."""
    webp = _kept(service).thumbnail(given["sha256"])
    if webp is None:
        raise NotFound("there is no thumbnail of this picture")
    return _bytes(webp, "image/webp", given["sha256"])


def picture(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return a picture as it was sent, for saving: nobody looked at what it may do in a browser."""
    try:
        original = _kept(service).get(given["sha256"])
    except GraphPipeError as exc:
        if exc.status != 424:
            raise
        raise NotFound("this picture is not kept here; only those that callers sent are") from exc
    reply = _bytes(original, "application/octet-stream", given["sha256"])
    reply.headers["Content-Disposition"] = f'attachment; filename="{given["sha256"][:16]}"'
    return reply


def prediction_history(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return the newest records as the MNIST application's page reads them."""
    page = _store(service).query(Query(limit=given["limit"], after=given["after"]))
    return json_reply({"history": [_prediction(record) for record in page.records], "next": page.next})


def _found(service: Service, given: Mapping[str, Any]) -> Page:
    return _store(service).query(_query(given))


def _query(given: Mapping[str, Any]) -> Query:
    return Query(
        since=given["since"],
        until=given["until"],
        box=Box.parse(given["box"]) if given["box"] else None,
        label=given["label"],
        model=given["model"],
        source=given["source"],
        country=given["country"],
        pictures=given["picture"],
        limit=given["limit"],
        after=given["after"],
    )


def _linked(reply: flask.Response, given: Mapping[str, Any], after: str) -> flask.Response:
    if after:
        reply.headers["Link"] = f'<?{_again(given, after)}>; rel="next"'
    return reply


def _again(given: Mapping[str, Any], after: str) -> str:
    """Return the query of the next page: the same, but for its cursor."""
    pairs = [(name, text) for name, text in flask.request.args.items(multi=True) if name != "after"]
    return urlencode([*pairs, ("after", after)])


def _prediction(record: Classification) -> dict[str, Any]:
    """
    Return a record as the MNIST application has it, whose `result` is a text: a JSON list by class index.

    A record keeps the likeliest classes only: the others are null, and those behind the last of them are left out.
    """
    probabilities: list[float | None] = [None] * (1 + max((score.class_index for score in record.top_k), default=-1))
    for score in record.top_k:
        probabilities[score.class_index] = score.probability
    kept = record.picture_sha256
    return {
        "imageId": record.picture,
        "modelTag": record.model.ref,
        "originalFilename": f"api/pictures/{kept}" if kept and record.source.kind == "upload" else record.source.uri,
        "resizedFilename": f"api/thumbnails/{kept}" if kept else "",
        "result": json.dumps(probabilities),
    }


def _bytes(data: bytes, content_type: str, sha256: str) -> flask.Response:
    reply = flask.Response(data, content_type=content_type)
    reply.headers["Cache-Control"] = PRIVATE
    reply.set_etag(sha256)
    return conditional(reply)


def _store(service: Service) -> RecordStore:
    store = service.classy.records
    if store is None:
        raise NothingKept("no records are kept here; CLASSY_RECORDS says where they would be")
    return store


def _kept(service: Service) -> KeptPictures:
    if service.classy.kept is None:
        raise NothingKept("no pictures are kept here; CLASSY_PICTURES says where they would be")
    return service.classy.kept
