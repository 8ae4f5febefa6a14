"""
The model store: where published models lie, and which version of a name is the current one.

    <store>/<name>/current.json                 {"version": "…"}, the one object that ever changes
    <store>/<name>/<version>/manifest.json      written last: a version without it is not published
    <store>/<name>/<version>/graph.onnx, …      the files that the manifest names

It reads; `publish` writes and `fetch` fetches.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from classy.errors import ModelMissing, ModelSpoilt, SourceNotFound, SourceTimedOut, StorageFailed
from classy.models.manifest import (
    ALIAS_NAME,
    MANIFEST_LIMIT_BYTES,
    MANIFEST_NAME,
    NAME_PATTERN,
    Manifest,
    parse_manifest,
)
from graphpipe_fn.errors import GraphPipeError, TooLarge

if TYPE_CHECKING:
    from classy.objects import ObjectStorage

ALIAS_LIMIT_BYTES = 1_000


class ModelStore:
    """
    Know the published models.

    Args:
        objects: The object storage.
        uri: The folder in it: `s3://BUCKET[/PREFIX]` or `file:///FOLDER`.
    """

    def __init__(self, objects: ObjectStorage, uri: str) -> None:
        self.objects = objects
        self.uri = uri.rstrip("/")

    def resolve(self, ref: str, *, deadline_s: float | None = None) -> Manifest:
        """
        Return the manifest of NAME (its current version) or NAME@VERSION.

        Args:
            deadline_s: On `time.monotonic()`'s scale.

        Raises:
            ModelMissing: no such model is published, or the ref can't name one.
            ModelSpoilt: its manifest or alias can't be used.
            StorageFailed: the storage can't be reached.
        """
        name, at, version = ref.partition("@")
        if not NAME_PATTERN.fullmatch(name) or (at and not NAME_PATTERN.fullmatch(version)):
            raise ModelMissing(f"{ref!r:.140} names no model; send NAME or NAME@VERSION of a published one")
        if not at:
            version = self._current(name, deadline_s)
        where = self.manifest_uri(name, version)
        text = self._read(where, ref, limit_bytes=MANIFEST_LIMIT_BYTES, deadline_s=deadline_s)
        manifest = parse_manifest(text, where=where)
        if (manifest.name, manifest.version) != (name, version):
            raise ModelSpoilt(f"the manifest {where} is that of {manifest.ref}; publish {name}@{version} again")
        return manifest

    def list(self, spoilt: Callable[[GraphPipeError], None] | None = None) -> list[Manifest]:
        """
        Return the manifests of all published versions, by name and version.

        Args:
            spoilt: Told why a version can't be used, and the others are returned; without it that is raised.

        Raises:
            ModelSpoilt: one of them can't be used, and nobody is there to be told.
            StorageFailed: the storage can't be reached.
        """
        depth = len(self.uri.split("/"))
        paths = [uri.split("/")[depth:] for uri in self.objects.list(self.uri + "/")]
        refs = [f"{path[0]}@{path[1]}" for path in paths if len(path) == 3 and path[2] == MANIFEST_NAME]
        found = []
        for ref in sorted(refs):
            try:
                found.append(self.resolve(ref))
            except (ModelSpoilt, ModelMissing) as exc:
                if spoilt is None:
                    raise
                spoilt(exc)
        return found

    def published_at(self, manifest: Manifest) -> float:
        """
        Return when a version was published, in seconds since 1970: its manifest is written once, and last.

        Raises:
            SourceNotFound, StorageFailed: it is not there any more, or the storage can't be reached.
        """
        return self.objects.modified(self.manifest_uri(manifest.name, manifest.version))

    def manifest_uri(self, name: str, version: str) -> str:
        """Return where a version's manifest lies."""
        return f"{self.uri}/{name}/{version}/{MANIFEST_NAME}"

    def file_uri(self, manifest: Manifest, file_name: str) -> str:
        """Return where one of a model's files lies."""
        return f"{self.uri}/{manifest.name}/{manifest.version}/{file_name}"

    def alias_uri(self, name: str) -> str:
        """Return where the current version's name lies."""
        return f"{self.uri}/{name}/{ALIAS_NAME}"

    def _current(self, name: str, deadline_s: float | None) -> str:
        where = self.alias_uri(name)
        try:
            text = self._read(where, name, limit_bytes=ALIAS_LIMIT_BYTES, deadline_s=deadline_s)
            version = json.loads(text)["version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None
        if not isinstance(version, str) or not NAME_PATTERN.fullmatch(version):
            raise ModelSpoilt(f"the alias {where} names no version; publish {name} again")
        return version

    def _read(self, where: str, ref: str, *, limit_bytes: int, deadline_s: float | None) -> bytes:
        try:
            return self.objects.get(where, limit_bytes=limit_bytes, deadline_s=deadline_s)
        except SourceTimedOut as exc:
            raise StorageFailed(f"the model store does not answer in time: {exc.message}") from exc
        except SourceNotFound as exc:
            raise ModelMissing(
                f'no model "{ref}" is published in {self.uri}; publish it with: classy model publish FOLDER'
            ) from exc
        except TooLarge as exc:
            raise ModelSpoilt(f"{where} is no manifest: {exc.message}; publish {ref} again") from exc
