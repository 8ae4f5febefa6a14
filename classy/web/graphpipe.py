"""GET and POST graphpipe: the whole pipeline as one GraphPipe model, URLs in, probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask

from classy.errors import ModelMissing, UnknownModel
from classy.front import Classy
from classy.models.manifest import Manifest
from classy.stages import SERVER, model_of
from classy.web.guards import call
from classy.web.operations import Service
from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.binding import bind
from graphpipe_fn.errors import BadTensor, TooLarge
from graphpipe_fn.headers import reply_headers
from graphpipe_fn.messages import (
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    strings,
)
from graphpipe_fn.rows import ERRORS, rows_response
from graphpipe_fn.server import answerer


class WholePipeline:
    """
    Be the model that Classy's pipeline is.

    Args:
        classy: Has the stages and the manifests.
        limit_rows: URLs in one request, at most.
    """

    def __init__(self, classy: Classy, *, limit_rows: int) -> None:
        self._classy = classy
        self._limit_rows = limit_rows

    def metadata(self) -> Metadata:
        """Return: String (N,) of URLs in, float32 (N, classes) out."""
        return _metadata(self._classy.manifests.get())

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Classify every URL with the model that the config names.

        Raises:
            UnknownModel: it is not published.
            GraphPipeError: the first row's error, where `errors` is not asked for.
        """
        ref = model_of(request.config)
        try:
            manifest = self._classy.manifests.get(ref)
        except ModelMissing as exc:
            raise UnknownModel(f"no model {ref[:140]!r} is published") from exc
        bound = bind(request, _metadata(manifest), default_outputs=["probabilities"])
        urls = bound.inputs["urls"]
        if not isinstance(urls, StringTensor) or not urls.values:
            raise BadTensor("send at least one URL")
        if len(urls.values) > self._limit_rows:
            raise TooLarge(f"{len(urls.values)} URLs; the limit is {self._limit_rows}, send them in parts")
        texts = [url.decode("utf-8", "surrogateescape") for url in urls.values]
        done = self._classy.pipeline.classify(texts, model=manifest.ref, call=request.call)
        import numpy as np

        return rows_response(
            done.rows,
            wanted=bound.outputs,
            name="probabilities",
            pack=np.stack,
            what="picture",
            others={"model": strings([manifest.ref] * len(texts))} if "model" in bound.outputs else None,
            timings=lambda: done.timings,
        )


def endpoint(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Answer a GraphPipe request, or say on GET what this model is; errors are GraphPipe's own."""
    model = WholePipeline(service.classy, limit_rows=service.settings.limit_rows)
    endpoints = Endpoints(answerer(model), model.metadata)
    body = flask.request.get_data()  # here, where too large a one becomes a problem
    reply = endpoints.reply(flask.request.method, "/", lambda: body, call())
    answer = flask.Response(reply.body(), reply.status)
    for name, value in reply_headers(reply):
        answer.headers[name] = value
    return answer


def _metadata(manifest: Manifest) -> Metadata:
    classes = manifest.output.classes
    return Metadata(
        name="classy",
        version=manifest.ref,
        server=SERVER,
        description="Fetches pictures and classifies them.",
        inputs=(IOMetadata("urls", "http(s):// URLs or s3://bucket/key", (-1,), DType.STRING),),
        outputs=(
            IOMetadata("probabilities", "one per class", (-1, classes), DType.FLOAT32),
            IOMetadata(ERRORS, "why a row failed, empty where it did not", (-1,), DType.STRING),
            IOMetadata("model", "NAME@VERSION that answered", (-1,), DType.STRING),
        ),
    )
