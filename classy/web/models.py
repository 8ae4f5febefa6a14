"""The published models: api/models, and the files of those that are small enough to run in a browser."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import flask

from classy import answers
from classy.labels import LANGUAGES, class_ids, label_set
from classy.models.manifest import FORMAT, MANIFEST_NAME, FileSpec, Manifest
from classy.web import assets
from classy.web.classify import published
from classy.web.operations import Service
from classy.web.page import RUNTIME, runtime
from classy.web.replies import IMMUTABLE, JSON, conditional, json_reply
from graphpipe_fn.errors import GraphPipeError, NotFound

BROWSER_BYTES = 60_000_000  # what a page may load: a minute on a slow line
READ_BYTES = 1 << 20


class Models:
    """The list of models, made anew after a while: it takes one read per version of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[float, bytes] | None = None

    def listed(self, service: Service, given: Mapping[str, Any]) -> flask.Response:
        """Return every published version."""
        data = self._fresh(service)
        reply = flask.Response(data, content_type=JSON)
        reply.headers["Cache-Control"] = "no-cache"
        reply.set_etag(hashlib.sha256(data).hexdigest()[:32])
        return conditional(reply)

    def _fresh(self, service: Service) -> bytes:
        """Return the list; an older one while somebody else makes it, or where the storage fails."""
        known, age_s = self._made, service.settings.model_alias_age_s
        if known is not None and time.monotonic() - known[0] < age_s:
            return known[1]
        if not self._lock.acquire(blocking=known is None):
            assert known is not None  # else it would have waited
            return known[1]
        try:
            if self._made is not known and self._made is not None:  # made while this one waited
                return self._made[1]
            data = answers.encode(_listed(service))
            self._made = (time.monotonic(), data)
            return data
        except GraphPipeError:
            if known is None:
                raise
            return known[1]
        finally:
            self._lock.release()


def current(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return the model that answers where a request names none."""
    return json_reply({"tag": service.classy.manifests.get().ref})


def file(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return one file of a model, or its manifest with the labels in it."""
    manifest = published(service, f"{given['name']}@{given['version']}")
    name = given["file"]
    if name == MANIFEST_NAME:
        data = resolved_manifest(manifest)
        return _cached(flask.Response(data, content_type=JSON), hashlib.sha256(data).hexdigest())
    found = next((spec for spec in manifest.files if spec.name == name), None)
    if found is None or browser(manifest) is None:
        raise NotFound("this model has no such file, or is too large for browsers; its manifest.json names its files")
    reply = _cached(flask.Response(content_type="application/octet-stream"), found.sha256)
    if reply.status_code == 200 and flask.request.method != "HEAD":
        reply.response = _pieces(service, manifest, found)
    reply.headers["Content-Length"] = str(found.bytes)
    if reply.status_code == 304:
        del reply.headers["Content-Length"]
    return reply


def resolved_manifest(manifest: Manifest) -> bytes:
    """Return a manifest whose labels are lists: what a page needs, which has no label sets."""
    value = {"format": FORMAT, **asdict(manifest)}
    if manifest.labels.set:
        names = {language: label_set(manifest.labels.set, language) for language in LANGUAGES}
        value["labels"] = {"set": "", "names": names, "ids": class_ids(manifest.labels.set)}
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def browser(manifest: Manifest) -> dict[str, Any] | None:
    """Return where a page finds a model that it can run itself, None where that is too large."""
    total = sum(spec.bytes for spec in manifest.files)
    return {"url": f"models/{manifest.name}/{manifest.version}/", "bytes": total} if total <= BROWSER_BYTES else None


def _listed(service: Service) -> dict[str, Any]:
    manifests = service.classy.manifests
    try:
        default = manifests.get().ref
    except GraphPipeError:
        default = ""  # none is published yet, or not this one
    found = manifests.store.list()
    newest = {}
    for name in {manifest.name for manifest in found}:
        try:
            newest[name] = manifests.get(name).ref
        except GraphPipeError:
            continue  # it has versions, and none that is current
    return {
        "default": default,
        "models": [
            _entry(manifest, newest.get(manifest.name) == manifest.ref, manifests.store.published_at(manifest))
            for manifest in found
        ],
        "runtime": _runtime(),
    }


def _runtime() -> dict[str, Any] | None:
    """Return where a page finds what runs models in it, or how it comes there; None where it never does."""
    if flask.current_app.config["CLASSY_WEB_ASSETS"] is None:
        return None
    folder = runtime()
    if folder is None:
        return {"url": "", "bytes": 0, "command": assets.COMMAND}
    return {"url": f"static/{RUNTIME}/{folder.name}/", "bytes": assets.size(folder), "command": assets.COMMAND}


def _entry(manifest: Manifest, is_current: bool, published_at_s: float) -> dict[str, Any]:
    labels = manifest.labels
    return {
        "id": manifest.ref,
        "tag": manifest.ref,
        "ref": manifest.ref,
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "current": is_current,
        "createdAt": datetime.fromtimestamp(published_at_s, UTC).isoformat(timespec="seconds"),
        "description": manifest.description,
        "licence": manifest.licence,
        "source": manifest.source,
        "classes": manifest.output.classes,
        "drawn": manifest.drawn,
        "languages": list(LANGUAGES if labels.set else (labels.names or {})),
        "browser": browser(manifest),
    }


def _cached(reply: flask.Response, sha256: str) -> flask.Response:
    reply.headers["Cache-Control"] = IMMUTABLE
    reply.set_etag(sha256)
    return conditional(reply)


def _pieces(service: Service, manifest: Manifest, spec: FileSpec) -> Iterator[bytes]:
    """Yield a file's bytes; of many readers each has one piece in memory."""
    store = service.classy.manifests.store
    uri, start = store.file_uri(manifest, spec.name), 0
    while start < spec.bytes:
        piece = store.objects.get_range(uri, start, min(READ_BYTES, spec.bytes - start))
        if not piece:
            return  # the file was cut short; so is the answer, and its reader knows by the length
        yield bytes(piece)
        start += len(piece)
