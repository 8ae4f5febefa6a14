"""
The composition root: Settings in, stages out, local or remote.

Everything platform-bound is imported inside the function that builds it: the downloader's process never sees Pillow,
the classifier's never h11, and each function's package holds only its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classy.errors import StorageFailed
from classy.peers import Queue, peer, served
from classy.settings import BadSetting, Settings
from graphpipe_fn.chain import Chain
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import Call, Error, InferRequest, StringTensor, Tensor, Timing, strings
from graphpipe_fn.model import Model
from graphpipe_fn.routed import encode_config
from graphpipe_fn.rows import ABOUT, ERRORS, decode_about, decode_row_errors, raised
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from classy.images import Prepared
    from classy.models.manifest import InputSpec, Manifest
    from classy.models.store import ModelStore
    from classy.objects import ObjectStorage
    from classy.records.values import Source
    from graphpipe_fn.client import Client
    from graphpipe_fn.split import Split

__all__ = ["served"]


def object_storage(settings: Settings) -> ObjectStorage:
    """Return the object storage that the settings name."""
    from classy.objects import ObjectStorage, Storage

    return ObjectStorage(
        Storage(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key,
            session_token=settings.s3_session_token,
        )
    )


SAY_SO_S = 0.5  # of a caller's time, kept for telling what went wrong


class Manifests:
    """
    Look up manifests; a NAME's current version is asked for again after a while, a NAME@VERSION never.

    Args:
        settings: `model` is what "" means.
    """

    def __init__(self, settings: Settings) -> None:
        settings.require("model_store")
        self._settings = settings
        self._store: ModelStore | None = None
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Manifest]] = {}

    @property
    def store(self) -> ModelStore:
        """Return the model store, opened at the first use."""
        if self._store is None:
            from classy.models.store import ModelStore

            self._store = ModelStore(object_storage(self._settings), self._settings.model_store)
        return self._store

    def get(self, ref: str = "", *, deadline_s: float | None = None) -> Manifest:
        """
        Return the manifest of NAME, NAME@VERSION, or the default model for "".

        Args:
            deadline_s: When the caller stops waiting, on `time.monotonic()`'s scale.

        Raises:
            ModelMissing: no such model is published.
            GraphPipeError: the storage fails, and no older answer is known.
        """
        ref = ref or self._settings.model
        with self._lock:
            fetched_s, known = self._known.get(ref, (0.0, None))
        if known and ("@" in ref or time.monotonic() - fetched_s < self._settings.model_alias_age_s):
            return known
        try:
            manifest = self.store.resolve(ref, deadline_s=None if deadline_s is None else deadline_s - SAY_SO_S)
        except StorageFailed as exc:
            if known is None:
                raise
            import logging  # 10 ms of a cold start

            logging.getLogger(__name__).warning("%s stays as it was: %s", known.ref, exc.message)
            manifest = known
        with self._lock:
            for name in (ref, manifest.ref):
                self._known[name] = (time.monotonic(), manifest)
        return manifest

    def spec(self, ref: str = "") -> InputSpec:
        """Return the input spec of a model."""
        return self.get(ref).input


def downloader(settings: Settings) -> Model:
    """Return the Downloader stage."""
    from classy.download import DownloadLimits, Fetcher
    from classy.networks import Opened
    from classy.stages import Downloader

    try:
        opened = Opened.parse(settings.download_allow)
    except ValueError as exc:
        raise BadSetting(f"CLASSY_DOWNLOAD_ALLOW is {settings.download_allow!r}: {exc}") from exc
    fetcher = Fetcher(
        limits=DownloadLimits(
            timeout_s=settings.download_timeout_s,
            limit_bytes=settings.limit_bytes,
            batch_bytes=settings.limit_request_bytes,
        ),
        opened=opened,
        storage=object_storage(settings) if settings.buckets else None,
        buckets=settings.buckets,
    )
    return Downloader(fetcher, limit_rows=settings.limit_rows)


def preprocessor(settings: Settings, manifests: Manifests | None = None) -> Model:
    """Return the Preprocessor stage."""
    from classy.exif import about_line
    from classy.images import PictureLimits, prepared_all
    from classy.stages import Preprocessor

    limits = PictureLimits(bytes=settings.limit_bytes, px=settings.limit_px, time_s=settings.picture_time_s)

    def decode(
        pictures: Sequence[bytes], spec: InputSpec, *, thumbnail_px: int, deadline_s: float | None
    ) -> Sequence[Prepared | GraphPipeError]:
        return prepared_all(
            pictures,
            spec,
            limits=limits,
            exact=settings.exact_jpeg,
            thumbnail_px=thumbnail_px,
            deadline_s=deadline_s,
        )

    return Preprocessor(
        (manifests or Manifests(settings)).spec,
        decode,
        about=about_line,
        limit_rows=settings.limit_rows,
        limit_bytes=settings.limit_request_bytes,
    )


def vgg(settings: Settings, manifests: Manifests | None = None) -> Model:
    """Return the classifier stage; the default model's fetch starts at once, in a thread."""
    from classy.stages import Classifiers

    source = manifests or Manifests(settings)
    cache_dir = None if settings.model_cache == "memory" else Path(settings.model_cache)

    def load(ref: str) -> Model:
        from classy.classifier import Classifier
        from classy.models.fetch import fetch_model

        fetched = fetch_model(source.store, ref, cache_dir=cache_dir)
        return Classifier(fetched, threads=settings.threads, limit_rows=settings.limit_rows)

    return Classifiers(load, default=settings.model)


@dataclass(frozen=True, slots=True)
class Classified:
    """
    What became of a batch.

    Args:
        rows: Per picture its probabilities, float32 (classes,), or its error.
        models: Per picture NAME@VERSION of the model that answered, "" where none did.
        about: Per picture what the stages said of it, lines of JSON; "" where nobody was asked.
        timings: Of every hop.
    """

    rows: tuple[Any, ...]
    models: tuple[str, ...]
    about: tuple[str, ...]
    timings: tuple[Timing, ...]


class Pipeline:
    """
    All stages as one, in the topology that the settings ask for.

    The answer is the same whichever it is; only who calls whom differs. Where records are kept, the stages are asked
    what they know about each picture as well, and where pictures are kept, for a thumbnail.
    """

    def __init__(self, settings: Settings, manifests: Manifests) -> None:
        remote = ("downloader", "preprocessor", "vgg")
        self._clients: tuple[Client | Split, ...] = ()
        self._outputs = ("", ERRORS, "model", *((ABOUT,) if settings.records else ()))
        self._wishes: dict[str, int] = {}
        if settings.records and settings.pictures:
            from classy.kept import THUMBNAIL_PX

            self._wishes["thumbnail_px"] = THUMBNAIL_PX
        stages: Sequence[Model]
        if settings.topology == "in-process":
            stages = (downloader(settings), preprocessor(settings, manifests), vgg(settings, manifests))
        else:
            settings.require(*remote)
            stages = self._clients = tuple(peer(getattr(settings, name), settings) for name in remote)
        self._stages = stages
        self._settings = settings
        self._queue = Queue(settings)
        self._hops: tuple[tuple[str, ...] | None, tuple[str, ...] | None]
        if settings.topology in ("in-process", "caller-led", "continued"):
            self._urls, self._pictures = Chain(*stages), Chain(*stages[1:])
            self._hops = ((), ())
        else:
            self._urls, self._pictures = Chain(stages[0]), Chain(stages[1])
            routed = settings.topology == "hybrid"
            self._hops = ((settings.preprocessor, settings.vgg), (settings.vgg,)) if routed else (None, None)

    def close(self) -> None:
        """Close the connections to remote stages; the next request opens new ones."""
        for client in self._clients:
            client.close()

    def prepare(self) -> None:
        """
        Wait for what the first request would wait for: each stage's process, and the default model.

        Raises:
            GraphPipeError: a stage does not answer, or its model can't be loaded.
        """
        for stage in self._stages:
            stage.metadata()

    def hand_on(self, source: Source, uri: str, *, model: str, call: Call) -> None:
        """
        Send a picture on its way through all stages, without waiting for its outcome; see classy.continued.

        Args:
            source: For its record.
            uri: Where the Downloader fetches it.
            model: NAME@VERSION, the same for every stage.

        Raises:
            BadConfig, BadSetting: the stages are no functions on Lambda.
            GraphPipeError: the picture could not be queued.
        """
        from classy.continued import begin

        settings = self._settings
        settings.require("front")
        hops = (settings.preprocessor, settings.vgg, settings.front)
        self._queue.hand_on(settings.downloader, begin(source, uri, hops, call=call, model=model, **self._wishes))

    def classify(self, sources: Sequence[str | bytes | GraphPipeError], *, model: str, call: Call) -> Classified:
        """
        Classify URLs (str) and pictures (bytes); errors among them come back as they are.

        Args:
            model: NAME@VERSION, the same for every stage.

        Raises:
            GraphPipeError: a stage fails as a whole; one picture's error is in its row.
        """
        rows: list[Any] = list(sources)  # those that are errors already stay so
        models = [""] * len(sources)
        about = [""] * len(sources)
        timings: list[Timing] = []
        for kind, stage, hops in ((str, self._urls, self._hops[0]), (bytes, self._pictures, self._hops[1])):
            places = [place for place, source in enumerate(sources) if isinstance(source, kind)]
            if not places:
                continue
            response = stage.infer(
                InferRequest(
                    (strings([rows[place] for place in places]),),
                    output_names=self._outputs,
                    config=encode_config(hops, model=model, **self._wishes),
                    call=call,
                )
            )
            probabilities, errors, refs, *said = response.outputs
            timings += response.timings
            lines = decode_about(said[0]) if said else [""] * len(places)
            for row, (place, error, line) in enumerate(zip(places, decode_row_errors(errors), lines, strict=True)):
                rows[place] = probabilities[row] if error is None else raised(error)
                models[place], about[place] = _text(refs, row), line
        return Classified(tuple(rows), tuple(models), tuple(about), tuple(timings))


def _text(tensor: Tensor, row: int) -> str:
    return tensor[row].decode("utf-8", "replace") if isinstance(tensor, StringTensor) and len(tensor) else ""


def row_error(row: Any) -> Error | None:
    """Return the error of one of Classified's rows, None where it has probabilities."""
    return Error(row.code, row.message) if isinstance(row, GraphPipeError) else None
