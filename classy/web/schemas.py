"""The JSON that the API takes and answers, as JSON Schema 2020-12 for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from classy.asks import TOP_K_MAX
from classy.labels import LANGUAGES
from classy.records.columns import ABOUT, RESULT

Schema = dict[str, Any]
STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
CODE: Schema = {"type": "integer", "minimum": 40000, "maximum": 59999}


def ref(name: str) -> Schema:
    """Return a reference to one of COMPONENTS."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Mapping[str, Any], **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": dict(items), **more}


def record_of(properties: Mapping[str, Any], *, optional: Sequence[str] = ()) -> Schema:
    """Return the schema of an object whose properties are always there, but for some."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


LABELS: Schema = {
    "type": "object",
    "additionalProperties": STRING,
    "description": "The class's name per language.",
}
_MODEL = record_of({"name": STRING, "version": STRING, "sha256": STRING})
_CLASS = {"class_index": INTEGER, "class_id": STRING, "label": LABELS, "probability": PROBABILITY}
_ERROR = record_of({"code": CODE, "message": STRING, "retryable": BOOLEAN}, optional=("retryable",))
_TIMING = record_of({"name": STRING, "ms": NUMBER, "cold": BOOLEAN}, optional=("cold",))
_RECORDED = {
    "recorded": BOOLEAN,
    "recorded_error": ref("Error"),
    "record_id": SHA256,
    "picture_id": SHA256,
    "picture_sha256": SHA256,
    "kept": BOOLEAN,
    "kept_error": ref("Error"),
}
_RESULT = {
    "Id": {"type": "integer", "minimum": 0, "description": "The picture's number in the request, from 0."},
    "Message": {"type": "string", "description": "The likeliest class in the language asked for."},
    **_CLASS,
    "top_k": array(ref("Class"), minItems=1),
    "model": ref("ModelVersion"),
    **_RECORDED,
}
_COST = {"timings": array(ref("Timing")), "call_id": STRING}
_MAYBE = ("picture_sha256", "taken_at", "place", "country", "disputed_area")  # of a picture
_RECORD = {
    "id": SHA256,
    "picture": SHA256,
    "classified_at": TIME,
    "source": {
        "type": "object",
        "properties": {
            "kind": {"enum": ["url", "bucket", "upload"]},
            "uri": STRING,
            "bucket": STRING,
            "key": STRING,
            "version": STRING,
        },
        "required": ["kind"],
    },
    "picture_sha256": SHA256,
    "taken_at": {"type": "string", "description": "ISO 8601; without an offset where the camera did not say any."},
    "place": record_of(
        {
            "latitude_deg": {"type": "number", "minimum": -90, "maximum": 90},
            "longitude_deg": {"type": "number", "minimum": -180, "maximum": 180},
            "altitude_m": NUMBER,
        },
        optional=("altitude_m",),
    ),
    "country": {"type": "string", "description": "ISO 3166-1 alpha-2."},
    "disputed_area": {
        **LABELS,
        "description": "In place of a country: what an area is called that two states claim.",
    },
    "model": ref("ModelVersion"),
    **_CLASS,
    "top_k": array(ref("Class")),
    "error": ref("Error"),
    "timings": array(ref("Timing")),
    "call_id": STRING,
}
_CHANGE = record_of({"from": LABELS, "to": LABELS, "count": INTEGER})
_FAILED = record_of({"picture": STRING, "code": CODE, "message": STRING})

COMPONENTS: dict[str, Schema] = {
    "Problem": record_of(
        {
            "type": STRING,
            "title": STRING,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "Names the culprit and the remedy."},
            "code": CODE,
            "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
            "request_id": STRING,
        }
    ),
    "Error": _ERROR,
    "Timing": _TIMING,
    "ModelVersion": _MODEL,
    "Class": record_of(_CLASS, optional=("class_id",)),
    "Result": record_of({**_RESULT, **_COST}, optional=("class_id", *_RECORDED)),
    "Results": record_of(
        {
            "results": array(
                {
                    "anyOf": [
                        record_of(_RESULT, optional=("class_id", *_RECORDED)),
                        record_of({"Id": INTEGER, "error": ref("Error"), **_RECORDED}, optional=tuple(_RECORDED)),
                    ]
                },
                minItems=1,
            ),
            **_COST,
        }
    ),
    "Prediction": record_of(
        {"result": array(PROBABILITY, minItems=1), **_RESULT, **_COST}, optional=("class_id", *_RECORDED)
    ),
    "Record": record_of(
        _RECORD,
        optional=(*_MAYBE, *_CLASS, "top_k", "error"),
    ),
    "SideBySide": record_of(
        {
            "models": array(STRING),
            "pictures": array(
                record_of(
                    {
                        **{name: _RECORD[name] for name in ABOUT},
                        "results": {
                            "type": "object",
                            "description": "By NAME@VERSION.",
                            "additionalProperties": record_of(
                                {name: _RECORD[name] for name in RESULT}, optional=(*_CLASS, "error")
                            ),
                        },
                    },
                    optional=_MAYBE,
                )
            ),
            "next": STRING,
        }
    ),
    "Records": record_of({"records": array(ref("Record")), "next": STRING}),
    "History": record_of(
        {
            "history": array(
                record_of(
                    {
                        "imageId": SHA256,
                        "modelTag": STRING,
                        "originalFilename": STRING,
                        "resizedFilename": STRING,
                        "result": {"type": "string", "description": "A JSON list of probabilities by class index."},
                    }
                )
            ),
            "next": STRING,
        }
    ),
    "Deleted": record_of({"deleted": {"type": "integer", "minimum": 1}}),
    "Model": record_of(
        {
            "id": STRING,
            "tag": STRING,
            "ref": {"type": "string", "description": "NAME@VERSION."},
            "name": STRING,
            "version": STRING,
            "sha256": SHA256,
            "current": {"type": "boolean", "description": "Whether NAME alone means this version."},
            "createdAt": {**TIME, "description": "When it was published; the MNIST application's name for it."},
            "description": STRING,
            "licence": STRING,
            "source": STRING,
            "classes": {"type": "integer", "minimum": 1},
            "drawn": {"type": "boolean", "description": "Whether it was trained on drawings."},
            "languages": array(STRING),
            "browser": {
                "anyOf": [record_of({"url": STRING, "bytes": INTEGER}), {"type": "null"}],
                "description": "Where a page finds its files; null where they are too large for one.",
            },
        }
    ),
    "Models": record_of(
        {
            "default": STRING,
            "models": array(ref("Model")),
            "runtime": {
                "anyOf": [record_of({"url": STRING, "bytes": INTEGER, "command": STRING}), {"type": "null"}],
                "description": "Where a page finds what runs models in a browser; without a URL until the command "
                "has fetched it, null on servers that have no place for it.",
            },
        }
    ),
    "Current": record_of({"tag": STRING}),
    "Reclassified": record_of(
        {
            "model": STRING,
            "done": INTEGER,
            "failed": array(_FAILED),
            "agreed": INTEGER,
            "changed": INTEGER,
            "changes": array(_CHANGE),
            "next": {"type": "string", "description": 'The next slice\'s "after"; empty where there is none.'},
            "left": INTEGER,
        }
    ),
    "Health": record_of({"health": {"const": "ok"}}),
}

_OPTIONS = {
    "top_k": {"type": "integer", "minimum": 1, "maximum": TOP_K_MAX},
    "language": {"type": "string", "enum": list(LANGUAGES)},
    "model": STRING,
}
_URL: Schema = {"type": "string", "format": "uri", "minLength": 1}
_BASE64: Schema = {"type": "string", "contentEncoding": "base64", "minLength": 4}


def _ask(name: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {name: schema, **_OPTIONS},
        "required": [name],
        "additionalProperties": False,
    }


ASK: Schema = {
    "oneOf": [
        _ask("name", _URL),
        _ask("imagelink", _URL),
        _ask("image", _BASE64),
        _ask("images", array({"description": "A URL, or as above; each has its own result or error."}, minItems=1)),
    ]
}
FORM: Schema = {
    "type": "object",
    "properties": {"picture": array({"type": "string", "format": "binary"}, minItems=1), **_OPTIONS},
    "required": ["picture"],
    "additionalProperties": {"type": "string", "format": "binary"},
    "description": "Files by any name: each is a picture.",
}
IMAGE_FORM: Schema = {
    "type": "object",
    "properties": {"image": {"type": "string", "format": "binary"}},
    "required": ["image"],
    "additionalProperties": False,
}
RECLASSIFY: Schema = {
    "type": "object",
    "properties": {"model": STRING, "after": STRING, "limit": {"type": "integer", "minimum": 1, "maximum": 200}},
    "additionalProperties": False,
}
BINARY: Schema = {"type": "string", "format": "binary"}
