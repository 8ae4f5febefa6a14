"""GET /metrics, and what it counts of HTTP: each operation by its name, never by its path."""

from __future__ import annotations

import time

import flask

from classy.telemetry.prometheus import CONTENT_TYPE, Prometheus
from classy.web.operations import Operation
from classy.web.schemas import STRING

UNKNOWN = "none"  # of a request that no operation takes


def add(app: flask.Flask, prometheus: Prometheus) -> None:
    """Let an application count its requests."""

    @app.before_request
    def begin() -> None:
        flask.g.began_s = time.perf_counter()

    @app.after_request
    def count(response: flask.Response) -> flask.Response:
        began_s = flask.g.get("began_s")  # a guard may have refused the request before anything else
        if began_s is not None:
            prometheus.tell_http(
                operation=flask.request.endpoint or UNKNOWN,
                method=flask.request.method if flask.request.endpoint else UNKNOWN,
                status=response.status_code,
                seconds=time.perf_counter() - began_s,
            )
        return response


def operation(prometheus: Prometheus) -> Operation:
    """Return the operation that shows what was counted."""
    return Operation(
        method="GET", path="/metrics", name="metrics",
        view=lambda service, given: flask.Response(prometheus.text(), content_type=CONTENT_TYPE),
        summary="Get the metrics of this process, as Prometheus reads them.",
        answers={"text/plain": STRING},
    )  # fmt: skip
