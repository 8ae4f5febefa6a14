"""A Classy that keeps records and pictures, two models for it, pictures to tell apart, and a store that breaks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exif_blocks import OFFSET, TAKEN, block, degrees, text
from PIL import Image
from small_models import GRAPH_NAME, small_graph, small_manifest, write_folder

from classy.errors import StorageFailed
from classy.front import Classy
from classy.local.storage import LocalStorage
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.records.store import RecordStore
from classy.records.values import Classification, Query
from classy.s3 import Storage
from classy.settings import Settings
from graphpipe_fn.messages import Call

OLD, NEW = "small@1", "other@1"
NAMES = ("red", "green", "blue")  # of the classes; the other model has them in another order
EXIF = block(
    {TAKEN: text("2026:11:20 18:30:00"), OFFSET: text("+09:00")},
    {1: text("N"), 2: degrees(35, 39, 3096), 3: text("E"), 4: degrees(139, 44, 4354)},
)


def two_models(folder: Path) -> str:
    """Publish small@1 and other@1, which do not always agree, in a store on disk; return its URI."""
    store = ModelStore(ObjectStorage(), (folder / "store").as_uri())
    for name, seed, names in (("small", 0, NAMES), ("other", 2, NAMES[::-1])):
        files = {GRAPH_NAME: small_graph(seed=seed)}
        labels = small_manifest(files).labels.__class__(names={"en": names})
        manifest = small_manifest(files, name=name, labels=labels)
        publish(write_folder(folder / name, files, manifest), store)
    return store.uri


def colour(number: int, *, format_name: str = "PNG", size: tuple[int, int] = (48, 32), exif: bytes = EXIF) -> bytes:
    """Return a picture that no other number has."""
    into = io.BytesIO()
    shade = (number * 97 % 256, number * 57 % 251, (number * 31 + number // 7) % 241)
    Image.new("RGB", size, shade).save(into, format_name, exif=b"Exif\0\0" + exif if format_name == "JPEG" else exif)
    return into.getvalue()


@dataclass
class Scene:
    """A Classy with everything in this process, and what it was made of."""

    front: Classy
    environ: dict[str, str]

    @property
    def store(self) -> RecordStore:
        """Return its records."""
        store = self.front.records
        assert store is not None
        return store

    def ask(self, body: bytes, content_type: str = "image/png") -> dict[str, Any]:
        """Send a body, and read the answer."""
        answer: dict[str, Any] = json.loads(self.front.answer(body, Call("c", content_type=content_type)).body())
        return answer

    def of(self, model: str) -> dict[str, Classification]:
        """Return the records of a model by their pictures."""
        found: list[Classification] = []
        page = self.store.query(Query(model=model, limit=1000))
        found += page.records
        while page.next:
            page = self.store.query(Query(model=model, limit=1000, after=page.next))
            found += page.records
        return {kept.picture: kept for kept in found}

    def close(self) -> None:
        """Close the front."""
        self.front.close()


@contextmanager
def scene(folder: Path, models: str, **environ: str) -> Iterator[Scene]:
    """Make a scene; its records and pictures are in a folder unless told otherwise."""
    settings = {
        "CLASSY_MODEL_STORE": models,
        "CLASSY_MODEL": "small",
        "CLASSY_MODEL_CACHE": "memory",
        "CLASSY_RECORDS": f"sqlite:///{folder}/records.db",
        "CLASSY_PICTURES": (folder / "pictures").as_uri(),
        "CLASSY_LANGUAGE": "en",
        "CLASSY_TOP_K": "3",
        **environ,
    }
    made = Scene(Classy(Settings.from_env(settings)), settings)
    try:
        yield made
    finally:
        made.close()


def objects_of(storage: LocalStorage) -> ObjectStorage:
    """Return a client of the local object storage."""
    env = storage.environment
    keys = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
    return ObjectStorage(Storage(env["AWS_ENDPOINT_URL"], env["AWS_REGION"], *keys))


class Breaking(ObjectStorage):
    """A storage whose writes work so many times, then no more: what a process that is killed there leaves behind."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes = writes

    def put(self, uri: str, data: bytes, *, if_absent: bool = False, content_type: str = "") -> bool:
        self._count()
        return super().put(uri, data, if_absent=if_absent, content_type=content_type)

    def delete(self, uri: str) -> None:
        self._count()
        super().delete(uri)

    def _count(self) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise StorageFailed("the storage is broken")
