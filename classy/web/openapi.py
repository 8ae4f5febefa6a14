"""The OpenAPI 3.1 document, made of the table of operations."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Any

from classy.settings import Settings
from classy.web.operations import Body, Operation, Parameter
from classy.web.replies import PROBLEM
from classy.web.schemas import COMPONENTS, ref

KEY = "key"
REASONS = {
    200: "Done.",
    400: "The request can't be read, or asks for what there is not.",
    401: "The key is missing or wrong.",
    403: "A page of another origin asks, or a URL leads to an address that is not public.",
    404: "There is no such thing, or nothing of that kind is kept here.",
    405: "This path knows other methods.",
    413: "Too many bytes, pixels or pictures.",
    415: "A body of a type that is not read.",
    422: "A picture that can't be decoded, or a tensor of the wrong shape.",
    424: "The picture's own server failed.",
    429: "This client asks too often.",
    500: "A bug; the log has the detail, by the request's id.",
    502: "A store or a stage can't be reached.",
    503: "The model is still loading; ask again.",
    504: "There was not enough time.",
}


def document(operations: Iterable[Operation], settings: Settings) -> dict[str, Any]:
    """Return the document; paths are relative to where the application is mounted."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Classy",
            "summary": "Image classification.",
            "version": metadata.version("classy-fn"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".."}],  # relative to this document, which is at api/openapi.json
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            **(
                {"securitySchemes": {KEY: {"type": "apiKey", "in": "header", "name": "X-Api-Key"}}}
                if settings.api_key
                else {}
            ),
        },
    }


def _operation(operation: Operation, settings: Settings) -> dict[str, Any]:
    refuses = {400, 405, 500, *operation.refuses}
    value: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.description:
        value["description"] = operation.description
    if operation.parameters:
        value["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        value["requestBody"] = _body(operation.body)
    if operation.method != "GET":
        refuses |= {403, 413, 415}
    if not operation.open:
        refuses |= {401} if settings.api_key else set()
        refuses |= {429} if settings.rate_limit else set()
        value["security"] = [{KEY: []}] if settings.api_key else []
    problems: dict[str, Any] = {PROBLEM: {"schema": ref("Problem")}}
    if operation.path == "/graphpipe" and operation.method == "POST":
        problems["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    done = _answer(200, {kind: {"schema": schema} for kind, schema in operation.answers.items()})
    if operation.links:
        done["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)}
            for name, parameters in operation.links.items()
        }
    value["responses"] = {
        "200": done,
        **{str(status): _answer(status, problems) for status in sorted(refuses)},
    }
    return value


def _answer(status: int, content: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}, "required": True}}
    if status == 429:
        headers["Retry-After"] = {"schema": {"type": "string", "pattern": "^[0-9]+$"}, "required": True}
    return {"description": REASONS[status], "headers": headers, "content": content}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.where == "path",
        "schema": parameter.schema,
    }
    if parameter.example != "":
        value["example"] = parameter.example
    return value


def _body(body: Body) -> dict[str, Any]:
    return {
        "required": body.required,
        "content": {
            kind: {"schema": schema, **({"example": body.examples[kind]} if kind in body.examples else {})}
            for kind, schema in body.schemas.items()
        },
    }
