"""GET /metrics, and what it counts of HTTP: each operation by its name, never by its path."""

from __future__ import annotations

import time

import flask

from classy.telemetry.prometheus import CONTENT_TYPE, Prometheus

UNKNOWN = "none"  # of a request that no operation takes


def add(app: flask.Flask, prometheus: Prometheus) -> None:
    """Let an application count its requests, and show them."""

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

    @app.get("/metrics")
    def metrics() -> flask.Response:
        return flask.Response(prometheus.text(), content_type=CONTENT_TYPE)
