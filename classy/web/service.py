"""What the API says of itself: health, its OpenAPI document, and that document for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask
from markupsafe import Markup

from classy.web.operations import Service
from classy.web.replies import json_reply

PAGE = Markup("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Classy's HTTP API</title>
<h1>Classy's HTTP API</h1>
<p>All of it as a machine reads it: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
{operations}
</html>
""")
ENTRY = Markup("<h2><code>{method} {path}</code></h2>\n<p>{summary} {description}</p>\n<ul>{parameters}</ul>\n")
PARAMETER = Markup("<li><code>{name}</code>: {description}</li>\n")
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def health(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Say that requests are answered; no stage is asked."""
    return json_reply({"health": "ok"})


def openapi(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return the OpenAPI document."""
    reply = json_reply(flask.current_app.config["CLASSY_OPENAPI"])
    reply.headers["Cache-Control"] = "no-cache"
    return reply


def docs(service: Service, given: Mapping[str, Any]) -> flask.Response:
    """Return the OpenAPI document as a page of headings."""
    entries = [
        ENTRY.format(
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            description=operation.get("description", ""),
            parameters=Markup("").join(
                PARAMETER.format(name=parameter["name"], description=parameter["description"])
                for parameter in operation.get("parameters", ())
            ),
        )
        for path, methods in flask.current_app.config["CLASSY_OPENAPI"]["paths"].items()
        for method, operation in methods.items()
    ]
    page = PAGE.format(operations=Markup("").join(entries))
    reply = flask.Response(str(page), content_type="text/html; charset=utf-8")
    reply.headers["Content-Security-Policy"] = POLICY
    return reply
