"""
The three stages as Models: Downloader, Preprocessor, and the classifier by the name that a request gives.

Each works row by row and offers the output `errors`, so that one bad picture does not spoil its neighbours. What a
stage does is in a module of its own (download, images, classifier); here it only meets GraphPipe.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from classy.errors import batch_too_large
from graphpipe_fn.binding import bind
from graphpipe_fn.errors import BadConfig, BadTensor, GraphPipeError, TooLarge, Unavailable
from graphpipe_fn.loading import Loading
from graphpipe_fn.messages import (
    Call,
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Timing,
    strings,
)
from graphpipe_fn.model import Model
from graphpipe_fn.routed import parse_config
from graphpipe_fn.rows import ABOUT, ERRORS, rows_response

if TYPE_CHECKING:
    from classy.images import Prepared
    from classy.models.manifest import InputSpec

SERVER = "classy"
THUMBNAIL_PX_MAX = 256  # of the longer side; what Classy asks for is 160
_ERRORS_OUT = IOMetadata(ERRORS, "why a row failed, empty where it did not", (-1,), DType.STRING)
_ABOUT_OUT = IOMetadata(ABOUT, "what this stage knows of a row beside its result, as JSON", (-1,), DType.STRING)

# Without the batch's shape, which is the model's: infer() must not ask for a model that the request doesn't name.
_PREPROCESSOR = Metadata(
    name="preprocessor",
    version="1",
    server=SERVER,
    description="Decodes pictures into the float batch that the model's manifest asks for.",
    inputs=(IOMetadata("pictures", "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF files", (-1,), DType.STRING),),
    outputs=(IOMetadata("batch", "normalised pixels", (), DType.FLOAT32), _ERRORS_OUT, _ABOUT_OUT),
)


class _Fetch(Protocol):
    def fetch_all(
        self, uris: Sequence[str], *, deadline_s: float | None = None
    ) -> Sequence[bytes | GraphPipeError]: ...


class Downloader:
    """
    URLs to pictures' bytes, side by side.

    Args:
        fetcher: What opens the URLs (classy.download.Fetcher).
        limit_rows: URLs in one request, at most.
    """

    def __init__(self, fetcher: _Fetch, *, limit_rows: int = 64) -> None:
        self._fetcher = fetcher
        self._limit_rows = limit_rows

    def metadata(self) -> Metadata:
        """Return: String (N,) of URLs in, String (N,) of bytes out."""
        return Metadata(
            name="downloader",
            version="1",
            server=SERVER,
            description="Fetches pictures from http(s) URLs and from allowed buckets.",
            inputs=(IOMetadata("urls", "http(s):// URLs or s3://bucket/key", (-1,), DType.STRING),),
            outputs=(IOMetadata("pictures", "the files' bytes", (-1,), DType.STRING), _ERRORS_OUT, _ABOUT_OUT),
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Fetch every URL.

        Raises:
            TooLarge: more URLs than the limit.
            GraphPipeError: the first URL's error, where the row errors were not asked for.
        """
        started_s = time.perf_counter()
        wanted, urls = _string_rows(self.metadata(), request, limit_rows=self._limit_rows)
        texts = [url.decode("utf-8", "surrogateescape") for url in urls]
        outcomes = self._fetcher.fetch_all(texts, deadline_s=request.call.deadline_s)
        return rows_response(
            outcomes,
            wanted=wanted,
            name="pictures",
            pack=strings,
            what="picture",
            others={ABOUT: strings([""] * len(urls))} if ABOUT in wanted else None,
            timings=_timing("downloader", started_s),
        )


class Preprocessor:
    """
    Pictures' bytes to the batch that the model takes.

    Args:
        spec_of: Looks up the input spec of a model ("" for the default one).
        decode: classy.images.prepared_all, its limits already given.
        about: Says of a picture what its file tells, and its thumbnail, as one line of JSON (classy.exif); called
            where that is asked.
        limit_rows: Pictures in one request, at most.
        limit_bytes: Of all pictures of a request together; those beyond are refused, but one alone never is.
    """

    def __init__(
        self,
        spec_of: Callable[[str], InputSpec],
        decode: Callable[..., Sequence[Prepared | GraphPipeError]],
        *,
        about: Callable[[bytes, bytes], str] = lambda picture, thumbnail: "",
        limit_rows: int = 64,
        limit_bytes: int = 48_000_000,
    ) -> None:
        self._spec_of = spec_of
        self._decode = decode
        self._about = about
        self._limit_rows = limit_rows
        self._limit_bytes = limit_bytes

    def metadata(self) -> Metadata:
        """Return: String (N,) of files in, float32 (N, …) out, as the default model's manifest says."""
        batch = IOMetadata("batch", "normalised pixels", (-1, *self._spec_of("").row_shape), DType.FLOAT32)
        return replace(_PREPROCESSOR, outputs=(batch, _ERRORS_OUT, _ABOUT_OUT))

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Decode every picture, with a thumbnail where the config wants one and `about`, which holds it, is asked for.

        Raises:
            BadConfig: a size of thumbnails that is none.
            TooLarge: more pictures than the limit.
            GraphPipeError: the first picture's error, where the row errors were not asked for.
        """
        started_s = time.perf_counter()
        wanted, pictures = _string_rows(_PREPROCESSOR, request, limit_rows=self._limit_rows)
        spec = self._spec_of(model_of(request.config))
        thumbnail_px = _thumbnail_px(request.config) if ABOUT in wanted else 0
        rows = self._decoded(pictures, spec, thumbnail_px=thumbnail_px, deadline_s=request.call.deadline_s)
        import numpy as np

        return rows_response(
            [row if isinstance(row, GraphPipeError) else row.values for row in rows],
            wanted=wanted,
            name="batch",
            pack=np.stack,
            what="picture",
            others={ABOUT: strings(list(map(self._told, pictures.values, rows)))} if ABOUT in wanted else None,
            timings=_timing("preprocessor", started_s),
        )

    def _told(self, picture: bytes, row: Prepared | GraphPipeError) -> str:
        return self._about(picture, b"" if isinstance(row, GraphPipeError) else row.thumbnail)

    def _decoded(
        self, pictures: StringTensor, spec: InputSpec, *, thumbnail_px: int, deadline_s: float | None
    ) -> list[Prepared | GraphPipeError]:
        fitting, left_bytes = [], max(self._limit_bytes, len(pictures[0]))
        rows: list[Prepared | GraphPipeError]
        rows = [batch_too_large("this picture", self._limit_bytes)] * len(pictures)
        for place, picture in enumerate(pictures):
            if len(picture) <= left_bytes:
                left_bytes -= len(picture)
                fitting.append(place)
        decoded = self._decode(
            [pictures[place] for place in fitting], spec, thumbnail_px=thumbnail_px, deadline_s=deadline_s
        )
        for place, row in zip(fitting, decoded, strict=True):
            rows[place] = row
        return rows


class Classifiers:
    """
    The classifier that a request's config names, or the default one.

    Models load in threads (see Loading) and the last few stay, so a comparison of two does not load one each time.

    Args:
        load: Fetches and loads NAME or NAME@VERSION.
        default: The model that is loaded at once and serves requests that name none.
        keep: Models in memory, at most.
    """

    def __init__(self, load: Callable[[str], Model], *, default: str, keep: int = 2) -> None:
        self._load = load
        self._default = default
        self._keep = keep
        self._lock = threading.Lock()
        self._models: OrderedDict[str, Loading] = OrderedDict()
        self._loading(default)

    @property
    def ready(self) -> bool:
        """Return whether the default model is loaded."""
        return self._loading(self._default).ready

    def metadata(self) -> Metadata:
        """Return the default model's metadata, waiting for it."""
        return self._loading(self._default).metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Classify with the model that the config names.

        Raises:
            Unavailable: it is still loading.
            GraphPipeError: the model's own.
        """
        started_s = time.perf_counter()
        response = self._model(model_of(request.config), request.call).infer(request.replace(config=""))
        return InferResponse(
            response.outputs, response.errors, (*response.timings, Timing("vgg", time.perf_counter() - started_s))
        )

    def _model(self, ref: str, call: Call) -> Model:
        """Return NAME@VERSION from where it is: NAME, which loads at the start, is often just that version."""
        name = ref.partition("@")[0]
        with self._lock:
            alias = self._models.get(name) if name != ref and ref not in self._models else None
        if alias is not None:
            try:
                about = alias.loaded(call).metadata()
            except Unavailable:
                raise
            except GraphPipeError:
                about = Metadata()  # the alias can't be had; the version may be
            if f"{about.name}@{about.version}" == ref:
                return alias
        return self._loading(ref or self._default)

    def _loading(self, ref: str) -> Loading:
        with self._lock:
            if ref not in self._models:
                self._models[ref] = Loading(lambda: self._load(ref))
            self._models.move_to_end(ref)
            while len(self._models) > self._keep:
                self._models.popitem(last=False)
            return self._models[ref]


def model_of(config: str) -> str:
    """
    Return the model that a request's config names, "" for none.

    Raises:
        BadConfig: its "model" is no text.
    """
    ref = parse_config(config).rest.get("model", "")
    if not isinstance(ref, str):
        raise BadConfig('the config\'s "model" must be a text, NAME or NAME@VERSION')
    return ref


def _thumbnail_px(config: str) -> int:
    longest_px = parse_config(config).rest.get("thumbnail_px", 0)
    if type(longest_px) is not int or not 0 <= longest_px <= THUMBNAIL_PX_MAX:
        raise BadConfig(f'the config\'s "thumbnail_px" must be a whole number from 0 to {THUMBNAIL_PX_MAX}')
    return longest_px


def _string_rows(
    metadata: Metadata, request: InferRequest, *, limit_rows: int
) -> tuple[tuple[str, ...], StringTensor]:
    bound = bind(request, metadata, default_outputs=[metadata.outputs[0].name])
    (rows,) = bound.inputs.values()
    if not isinstance(rows, StringTensor) or len(rows) == 0:
        raise BadTensor("an empty batch; send at least one")
    if len(rows) > limit_rows:
        raise TooLarge(f"{len(rows)} in one request; the limit is {limit_rows}, send them in parts")
    return bound.outputs, rows


def _timing(name: str, started_s: float) -> Callable[[], tuple[Timing, ...]]:
    return lambda: (Timing(name, time.perf_counter() - started_s),)
