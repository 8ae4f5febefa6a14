"""
Publishing: a model's folder into the store, files first, manifest after them, alias last.

A version never changes its bytes: records name it for years, and caches hold it. Whoever is stopped half way leaves
files that no manifest names; publishing again finishes the work, and also repairs files that the store has spoilt.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from classy.errors import ModelExists, ModelSpoilt, SourceNotFound
from classy.models.describe import manifest_for, write_model_folder
from classy.models.files import described
from classy.models.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, FileSpec, Manifest, parse_manifest
from classy.models.presets import PRESETS
from classy.models.store import ModelStore

__all__ = ["PRESETS", "manifest_for", "publish", "write_model_folder"]

READ_BYTES = 8 << 20
CONTENT_TYPE = "application/octet-stream"


def publish(folder: Path, store: ModelStore, *, make_current: bool = True) -> Manifest:
    """
    Publish a model; publishing the same bytes again changes nothing.

    Args:
        folder: Holds manifest.json and the files that it names.
        make_current: Let NAME without a version mean this one from now on.

    Raises:
        ModelSpoilt: the folder has no manifest, or its files are not what it says.
        ModelExists: the version is published already, with other bytes.
        StorageFailed: the storage can't be reached or refuses us.
    """
    manifest = _read_folder(folder)
    published = _is_published(manifest, store)
    for file in manifest.files:
        _upload(folder / file.name, file, manifest, store, published=published)
    where = store.manifest_uri(manifest.name, manifest.version)
    if not published and not store.objects.put(
        where, manifest.to_json(), if_absent=True, content_type="application/json"
    ):
        _is_published(manifest, store)  # somebody else was first, with the same model or with another
    if make_current:
        alias = json.dumps({"version": manifest.version}).encode()
        store.objects.put(store.alias_uri(manifest.name), alias, content_type="application/json")
    return manifest


def _read_folder(folder: Path) -> Manifest:
    where = folder / MANIFEST_NAME
    try:
        manifest = parse_manifest(where.read_bytes(), where=str(where))
        found = [described(folder / file.name) for file in manifest.files]
    except OSError as exc:
        raise ModelSpoilt(
            f"{exc.filename} can't be read ({exc.strerror}); make a model folder with: classy model manifest"
        ) from exc
    for file, have in zip(manifest.files, found, strict=True):
        if have != file:
            raise ModelSpoilt(
                f"{folder / file.name} has {have.bytes:,} bytes and sha256 {have.sha256}, not the manifest's "
                f"{file.bytes:,} and {file.sha256}; make the folder again"
            )
    return manifest


def _is_published(manifest: Manifest, store: ModelStore) -> bool:
    where = store.manifest_uri(manifest.name, manifest.version)
    try:
        text = store.objects.get(where, limit_bytes=MANIFEST_LIMIT_BYTES)
    except SourceNotFound:
        return False
    # As values: a manifest that an older release wrote in another order says the same.
    try:
        same = parse_manifest(text, where=where) == manifest
    except ModelSpoilt:
        same = False
    if not same:
        raise ModelExists(
            f"{manifest.ref} is published in {store.uri} with another manifest; a version never changes, so publish "
            "this one under a new version"
        )
    return True


def _upload(path: Path, file: FileSpec, manifest: Manifest, store: ModelStore, *, published: bool) -> None:
    uri = store.file_uri(manifest, file.name)
    found = _stored(uri, file, store)
    if found is None:
        data = path.read_bytes()
        if store.objects.put(uri, data, if_absent=True, content_type=CONTENT_TYPE):
            return
        found = _stored(uri, file, store)  # another publisher's, a moment ago
    if found == file.sha256:
        return
    if not published:
        raise ModelExists(
            f"{uri} is there already with other bytes and without a manifest: somebody is publishing it, or was "
            f"stopped; publish {manifest.ref} under a new version"
        )
    store.objects.put(uri, path.read_bytes(), content_type=CONTENT_TYPE)  # the store has spoilt it


def _stored(uri: str, file: FileSpec, store: ModelStore) -> str | None:
    """Return the SHA-256 of what lies there, "" for another size, None for nothing."""
    digest = hashlib.sha256()
    try:
        if store.objects.size(uri) != file.bytes:
            return ""
        for start in range(0, file.bytes, READ_BYTES):
            digest.update(store.objects.get_range(uri, start, min(READ_BYTES, file.bytes - start)))
    except SourceNotFound:
        return None
    return digest.hexdigest()
