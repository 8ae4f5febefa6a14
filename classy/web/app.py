"""
The Flask application: the table of operations, the guards around them, and the page.

It is WSGI: waitress serves it on one machine, serverless-wsgi on Lambda, and an Fn trigger hands its requests over.
Everything is relative to where it is mounted.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import flask
from werkzeug.formparser import FormDataParser

from classy.errors import BadRequest
from classy.front import Classy
from classy.settings import Settings
from classy.web import page
from classy.web.guards import Guards, call
from classy.web.openapi import document
from classy.web.operations import Operation, Service
from classy.web.replies import error_reply
from classy.web.table import operations

MARGIN_BYTES = 1 << 20  # of a body, for what stands around the pictures
FIELDS = 16  # of a form, beside its files


class Request(flask.Request):
    """A request whose form is whole or refused: half a form would be half the pictures."""

    def make_form_data_parser(self) -> FormDataParser:
        """Return a parser that says what is wrong, and keeps files in memory, where they go next anyway."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO()

    def _load_form_data(self) -> None:
        try:
            super()._load_form_data()
        except ValueError as exc:
            raise BadRequest(f"the form can't be read ({exc}); send each picture as a file") from exc


class Application(flask.Flask):
    """Flask, with our request class."""

    request_class = Request


def body_limit(settings: Settings) -> int:
    """Return the largest body in bytes: one picture of the greatest size in base64, or two as they are."""
    return 2 * settings.limit_bytes + MARGIN_BYTES


def create_app(
    classy: Classy, settings: Settings, *, hosts: frozenset[str] = frozenset(), web_assets: Path | None = None
) -> flask.Flask:
    """
    Return the application.

    Args:
        classy: The front, made of the same settings.
        settings: The key, limits and origins of the API.
        hosts: The names by which this server may be asked; empty for all. See guards.
        web_assets: Where classy.web.assets keeps what runs models in a browser; None where that is not offered.
    """
    app = Application(__name__, static_folder=None, template_folder=None)
    table, service = operations(), Service(classy, settings)
    prometheus = classy.telemetry.prometheus
    if prometheus:
        from classy.web import metrics  # whose package is not where nobody asks for /metrics: on Lambda, on Fn

        table += (metrics.operation(prometheus),)
    app.config.update(
        MAX_CONTENT_LENGTH=body_limit(settings),
        MAX_FORM_PARTS=settings.limit_rows + FIELDS,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        CLASSY_OPENAPI=document(table, settings),
        CLASSY_HOSTS=hosts,
        CLASSY_WEB_ASSETS=web_assets,
    )
    app.url_map.merge_slashes = False
    if prometheus:
        metrics.add(app, prometheus)  # before the guards, to count what they refuse
    Guards(app, settings, table, limit_bytes=body_limit(settings))
    for operation in table:
        app.add_url_rule(
            operation.rule, operation.name, _view(operation, service), methods=[operation.method],
            provide_automatic_options=False,
        )  # fmt: skip
    for rule, endpoint, view in (("/", "page", page.index), ("/static/<path:path>", "static", page.static)):
        app.add_url_rule(
            rule, endpoint, view, methods=["GET"], provide_automatic_options=False,
            strict_slashes=False,  # a mount's bare name comes to us, whose redirection names no host
        )  # fmt: skip
    app.register_error_handler(Exception, lambda exc: error_reply(exc, call_id=call().id))
    return app


def _view(operation: Operation, service: Service) -> Any:
    def view(**path: str) -> flask.Response:
        return operation.view(service, operation.read(flask.request.args, path))

    return view
