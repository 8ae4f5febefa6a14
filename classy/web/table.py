"""Every operation of the API, in one table: Flask's routes and the OpenAPI document are both made of it."""

from __future__ import annotations

from dataclasses import replace

from classy.asks import TOP_K_MAX
from classy.labels import LANGUAGES
from classy.models.manifest import FILE_PATTERN, NAME_PATTERN
from classy.records.values import LIMIT_MAX, PICTURES_MAX
from classy.web import classify, graphpipe, history, redo, service
from classy.web.models import Models, current, file
from classy.web.operations import TEXT, Body, Operation, Parameter
from classy.web.replies import JSON
from classy.web.schemas import (
    ASK,
    BINARY,
    FORM,
    IMAGE_FORM,
    RECLASSIFY,
    SHA256,
    STRING,
    TIME,
    array,
    ref,
)

BYTES = "application/octet-stream"
FORM_TYPE = classify.MULTIPART
_TEXT = {**STRING, "pattern": TEXT, "maxLength": 2_000}
_REF = {**STRING, "pattern": "^[a-z0-9][a-z0-9._-]{0,63}(@[a-z0-9][a-z0-9._-]{0,63})?$"}
_NAME = {**STRING, "pattern": f"^{NAME_PATTERN.pattern}$"}
_DIGITS = "64 digits 0-9 and a-f"
_CURSOR = Parameter(name="after", schema=_TEXT, description="the `next` of the page before")
_LIMIT = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": 50},
    description="records of one page",
)
_FILTERS = (
    Parameter(name="since", schema=TIME, description="classified then or later"),
    Parameter(name="until", schema=TIME, description="classified before then"),
    Parameter(name="box", schema={**STRING, "pattern": r"^-?[0-9.]+(,-?[0-9.]+){3}$", "maxLength": 200},
              description="where pictures were taken: WEST,SOUTH,EAST,NORTH in degrees", example="139,35,140,36"),
    Parameter(name="label", schema=_TEXT, description="the likeliest class, by a name or its id"),
    Parameter(name="model", schema=_REF, description="NAME or NAME@VERSION"),
    Parameter(name="source", schema=_TEXT, description="url, bucket or upload; s3://BUCKET; a whole URI"),
    Parameter(name="country", schema={**STRING, "pattern": "^[A-Z]{2}$"},
              description="ISO 3166-1 alpha-2, in capitals", example="JP"),
    Parameter(name="picture", schema=array(SHA256, maxItems=PICTURES_MAX),
              description=f"these pictures only, by a record's \"picture\": {_DIGITS}"),
)  # fmt: skip
_OPTIONS = (
    Parameter(name="top_k", schema={"type": "integer", "minimum": 1, "maximum": TOP_K_MAX},
              description="labels per picture"),
    Parameter(name="language", schema={**STRING, "enum": list(LANGUAGES)}, description="of the Message"),
    Parameter(name="model", schema=_REF, description="NAME or NAME@VERSION of a published model"),
)  # fmt: skip
_EXAMPLES = {JSON: {"name": "https://example.org/dog.jpg", "top_k": 3, "language": "en"}}
_PICTURE = "the picture can't be used, or its server doesn't answer"


def operations() -> tuple[Operation, ...]:
    """Return the table; the list of models is kept in it."""
    return (
        Operation(
            method="POST", path="/api/classify", name="classify", view=classify.classify_body,
            summary="Classify the pictures in the body.",
            description="JSON that names a URL, or holds the picture in base64; a form with one or more files; or "
            "the picture itself. One picture that can't be classified is a problem with its own status; of several "
            "each has its result or its error.",
            parameters=_OPTIONS,
            body=Body(
                schemas={JSON: ASK, FORM_TYPE: FORM, "image/*": BINARY, BYTES: BINARY},
                examples=_EXAMPLES,
            ),
            answers={JSON: {"anyOf": [ref("Result"), ref("Results")]}}, links=_links("$response.body#"),
            refuses=(403, 404, 413, 415, 422, 424, 502, 503, 504),
        ),
        Operation(
            method="GET", path="/api/classify", name="classify_url", view=classify.classify_url, changes=True,
            summary="Classify the picture at a URL.",
            description="Give `url`, or `imagelink` as in the Lambda article.",
            parameters=(
                Parameter(name="url", schema=_TEXT, description="of the picture: http, https, or an allowed s3",
                          example="https://example.org/dog.jpg"),
                Parameter(name="imagelink", schema=_TEXT, description="the same by another name"),
                *_OPTIONS,
            ),
            answers={JSON: ref("Result")}, links=_links("$response.body#"),
            refuses=(403, 404, 413, 422, 424, 502, 503, 504),
        ),
        Operation(
            method="GET", path="/api/records", name="records", view=history.records,
            summary="Find what was classified, newest first.",
            parameters=(
                *_FILTERS,
                _LIMIT,
                _CURSOR,
                Parameter(name="format", schema={**STRING, "enum": ["json", "csv"], "default": "json"},
                          description="of the answer"),
            ),
            answers={JSON: ref("Records"), "text/csv": STRING}, links=_links("$response.body#/records/0", "id"),
            refuses=(404, 502),
        ),
        Operation(
            method="GET", path="/api/history", name="history", view=history.side_by_side,
            summary="Compare models: pictures, newest first, each with the newest record of every model.",
            description="A picture stands where its newest record is that the filters find. A page may hold fewer "
            "pictures than `limit`, even none, and go on: `next` is empty after the last one.",
            parameters=(*_FILTERS, _LIMIT, _CURSOR),
            answers={JSON: ref("SideBySide")}, refuses=(404, 502),
        ),
        Operation(
            method="GET", path="/api/records/{id}", name="record", view=history.record,
            summary="Get one record.", parameters=(_path("id", SHA256, f"the id of a record: {_DIGITS}"),),
            answers={JSON: ref("Record")}, refuses=(404, 502),
        ),
        Operation(
            method="DELETE", path="/api/records/{id}", name="forget", view=history.forget,
            summary="Delete a picture: all its records, what is kept of it, its thumbnail.",
            parameters=(_path("id", SHA256, f"the id of any record of the picture: {_DIGITS}"),),
            answers={JSON: ref("Deleted")}, refuses=(403, 404, 502),
        ),
        Operation(
            method="GET", path="/api/thumbnails/{sha256}", name="thumbnail", view=history.thumbnail,
            summary="Get a picture's thumbnail.", parameters=(_FILE,),
            answers={"image/webp": BINARY}, refuses=(404, 502),
        ),
        Operation(
            method="GET", path="/api/pictures/{sha256}", name="picture", view=history.picture,
            summary="Save a picture that a caller sent.",
            parameters=(_FILE,),
            answers={BYTES: BINARY}, refuses=(404, 502),
        ),
        Operation(
            method="GET", path="/api/models", name="models", view=Models().listed,
            summary="List the published models.", answers={JSON: ref("Models")}, refuses=(502, 503),
            links={
                "model_file": {
                    "name": "$response.body#/models/0/name",
                    "version": "$response.body#/models/0/version",
                    "file": "manifest.json",
                }
            },
        ),
        Operation(
            method="GET", path="/api/models/current", name="current_model", view=current,
            summary="Say which model answers where a request names none.",
            answers={JSON: ref("Current")}, refuses=(502, 503),
        ),
        Operation(
            method="GET", path="/models/{name}/{version}/{file}", name="model_file", view=file,
            summary="Get a file of a model that a page can run itself, or its manifest.json.",
            parameters=(
                _path("name", _NAME, "of the model"),
                _path("version", _NAME, "of the model"),
                _path("file", {**STRING, "pattern": f"^{FILE_PATTERN.pattern}$"}, "manifest.json, or one it names"),
            ),
            answers={JSON: {"type": "object"}, BYTES: BINARY}, refuses=(404, 502, 503),
        ),
        Operation(
            method="POST", path="/api/reclassify", name="reclassify", view=redo.reclassify,
            summary="Classify pictures again that a model has not seen, a slice a time.",
            description="Call it with `after` set to `next` until `next` is empty.",
            body=Body(schemas={JSON: RECLASSIFY}, examples={JSON: {"model": "", "after": "", "limit": 20}},
                      required=False),
            answers={JSON: ref("Reclassified")}, refuses=(403, 404, 502, 503, 504),
        ),
        Operation(
            method="POST", path="/api/predictions", name="predict", view=classify.predict,
            summary="Classify a form's picture; every class's probability, as in the MNIST application.",
            body=Body(schemas={FORM_TYPE: IMAGE_FORM}),
            answers={JSON: ref("Prediction")}, links=_links("$response.body#"),
            refuses=(403, 413, 415, 422, 502, 503, 504),
        ),
        Operation(
            method="POST", path="/api/predictions/repredict-all", name="repredict_all", view=redo.repredict_all,
            summary="Classify again with the default model, as in the MNIST application.",
            description="As far as the time of one call goes; `left` says how many are still to do.",
            answers={JSON: ref("Reclassified")}, refuses=(403, 404, 502, 503, 504),
        ),
        Operation(
            method="GET", path="/api/prediction-history", name="prediction_history", view=history.prediction_history,
            summary="List the newest records as the MNIST application does.",
            parameters=(
                replace(_LIMIT, schema={**_LIMIT.schema, "default": 100}),
                _CURSOR,
            ),
            answers={JSON: ref("History")}, refuses=(404, 502),
        ),
        Operation(
            method="GET", path="/graphpipe", name="graphpipe_metadata", view=graphpipe.endpoint,
            summary="Say what POST graphpipe takes and answers.", answers={JSON: {"type": "object"}},
            refuses=(502, 503),
        ),
        Operation(
            method="POST", path="/graphpipe", name="graphpipe", view=graphpipe.endpoint,
            summary="Answer a GraphPipe request: URLs in, probabilities out.",
            description="FlatBuffers, as docs/protocol.md says; errors of the model are GraphPipe's own.",
            body=Body(schemas={BYTES: BINARY}),
            answers={BYTES: BINARY}, refuses=(403, 404, 413, 422, 424, 502, 503, 504),
        ),
        Operation(
            method="GET", path="/api/health", name="health", view=service.health, open=True,
            summary="Say that this server answers.", answers={JSON: ref("Health")},
        ),
        Operation(
            method="GET", path="/api/openapi.json", name="openapi", view=service.openapi, open=True,
            summary="Get this document.", answers={JSON: {"type": "object"}},
        ),
        Operation(
            method="GET", path="/api/docs", name="docs", view=service.docs, open=True,
            summary="Read this document.", answers={"text/html": STRING},
        ),
    )  # fmt: skip


def _links(answer: str, record_id: str = "record_id") -> dict[str, dict[str, str]]:
    """Return what can be asked of a picture that an answer tells of."""
    record, picture = {"id": f"{answer}/{record_id}"}, {"sha256": f"{answer}/picture_sha256"}
    return {"record": record, "forget": record, "thumbnail": picture, "picture": picture}


def _path(name: str, schema: dict[str, object], description: str) -> Parameter:
    return Parameter(name=name, schema=schema, description=description, where="path")


_FILE = _path("sha256", SHA256, f"the SHA-256 of the picture's file: {_DIGITS}")
