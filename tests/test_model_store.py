"""The model store: refs to manifests, and nothing that leaves its folder."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hostile.servers import Case, Peer, Server, head
from small_models import GRAPH_NAME, small_graph, small_manifest, small_store, stored, write_folder

from classy.errors import ModelMissing, ModelSpoilt, StorageFailed
from classy.models.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.pipeline import Manifests
from classy.settings import Settings
from graphpipe_fn.errors import GraphPipeError


def test_a_name_means_its_current_version(tmp_path: Path) -> None:
    """NAME follows the alias, NAME@VERSION does not, and all versions are listed."""
    store, first = small_store(tmp_path)
    files = {GRAPH_NAME: small_graph(seed=2)}
    second = replace(small_manifest(files), version="2")
    publish(write_folder(tmp_path / "second", files, second), store, make_current=False)
    assert [store.resolve(ref) for ref in ("small", "small@1", "small@2")] == [first, first, second]
    publish(tmp_path / "second", store)
    assert store.resolve("small") == second
    assert store.list() == [first, second]


def test_one_spoilt_manifest_hides_no_other(tmp_path: Path) -> None:
    """Who asks to be told gets the good ones and the reason; who does not is refused."""
    store, first = small_store(tmp_path)
    second = stored(store).parent / "2"
    second.mkdir()
    (second / MANIFEST_NAME).write_text("{")
    told: list[GraphPipeError] = []
    assert store.list(told.append) == [first]
    assert [type(exc) for exc in told] == [ModelSpoilt]
    assert "small/2/manifest.json" in told[0].message
    with pytest.raises(ModelSpoilt):
        store.list()


def test_a_store_that_hangs_costs_no_more_than_the_deadline_and_no_model_that_is_known(tmp_path: Path) -> None:
    """Who knows a model goes on with it; who does not is told in time that the store does not answer."""
    store, manifest = small_store(tmp_path)
    folder, up = stored(store).parent, threading.Event()
    up.set()

    def behave(peer: Peer) -> None:
        path = peer.request().split()[1].decode().removeprefix("/models/small/")
        if up.is_set():
            body = (folder / path).read_bytes()
            date = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"
            peer.send(head('ETag: "x"', date, f"Content-Length: {len(body)}") + body)
        else:
            peer.hang()

    server = Server(Case("store", behave, ()))
    try:
        environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "CLASSY_MODEL": "small",
            "CLASSY_MODEL_STORE": "s3://models",
            "CLASSY_MODEL_ALIAS_AGE": "0",
        }
        known = Manifests(Settings.from_env(environ))
        assert known.get() == manifest
        up.clear()
        for manifests in (known, Manifests(Settings.from_env(environ))):
            begun_s = time.monotonic()
            if manifests is known:
                assert manifests.get(deadline_s=begun_s + 1.0) == manifest
            else:
                with pytest.raises(StorageFailed, match="the model store does not answer in time"):
                    manifests.get(deadline_s=begun_s + 1.0)
            assert time.monotonic() - begun_s < 1.0
    finally:
        server.close()


def test_a_store_may_lie_in_a_folder_with_odd_letters(tmp_path: Path) -> None:
    """Names are found below a URI that is percent-encoded, and with a slash at its end."""
    store, manifest = small_store(tmp_path / "größer & besser")
    assert ModelStore(ObjectStorage(), store.uri + "/").list() == [manifest]


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    """A store in which nothing was published is no error."""
    assert ModelStore(ObjectStorage(), (tmp_path / "nothing").as_uri()).list() == []


@pytest.mark.parametrize(
    "ref",
    ["large", "large@1", "small@9", "", "@", "small@", "@1", "small@1@2", "../small", "small/1", "small@../1",
     "Small", "small@1/manifest.json", "small ", "small\n", "s\0", "a" * 65, "ｓｍａｌｌ", "small@current.json"],
    ids=repr,
)  # fmt: skip
def test_what_is_not_published_is_missing(ref: str, tmp_path: Path) -> None:
    """An unknown or impossible ref is our own error, in one line, and nothing outside the store is read."""
    store, _ = small_store(tmp_path)
    with pytest.raises(ModelMissing) as missing:
        store.resolve(ref)
    assert "\n" not in missing.value.message
    assert "\0" not in missing.value.message


def test_a_missing_model_tells_how_to_publish_one(tmp_path: Path) -> None:
    """The error names the ref, the store and the command."""
    store, _ = small_store(tmp_path)
    with pytest.raises(ModelMissing) as missing:
        store.resolve("large@1")
    want = f'no model "large@1" is published in {store.uri}; publish it with: classy model publish FOLDER'
    assert missing.value.message == want
    assert missing.value.status == 503


@pytest.mark.parametrize(
    "alias",
    [b"", b"1", b"[]", b'"1"', b"{}", b'{"version": 1}', b'{"version": "../1"}', b'{"version": ""}', b"[" * 900,
     b'{"version": null}', b"\xff", b" " * 2000],
    ids=repr,
)  # fmt: skip
def test_a_spoilt_alias_is_refused(alias: bytes, tmp_path: Path) -> None:
    """An alias that names no version is our own error; the version itself is still there."""
    store, manifest = small_store(tmp_path)
    (stored(store).parent / "current.json").write_bytes(alias)
    with pytest.raises(ModelSpoilt):
        store.resolve("small")
    assert store.resolve("small@1") == manifest


def test_the_manifest_of_another_model_is_refused(tmp_path: Path) -> None:
    """A manifest that was copied from elsewhere in the store does not speak for its new place."""
    store, manifest = small_store(tmp_path)
    other = stored(store).parent / "2"
    other.mkdir()
    (other / "manifest.json").write_bytes(manifest.to_json())
    with pytest.raises(ModelSpoilt, match="is that of small@1"):
        store.resolve("small@2")


def test_an_endless_manifest_is_refused_unread(tmp_path: Path) -> None:
    """A manifest over the limit is the store's fault, not the caller's."""
    store, manifest = small_store(tmp_path)
    data = json.loads(manifest.to_json()) | {"description": "x" * MANIFEST_LIMIT_BYTES}
    (stored(store) / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ModelSpoilt, match="the limit is"):
        store.resolve("small")
