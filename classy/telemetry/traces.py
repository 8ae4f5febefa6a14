"""
A span for each call, in the caller's trace, sent by OTLP over HTTP.

Functions are frozen when they have answered, so a span is sent before the answer, and nothing is left for later.
Where spans go is told by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, …).

Source: W3C Trace Context; OpenTelemetry semantic conventions for function spans.
"""

from __future__ import annotations

import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests import Session

from classy.telemetry import Sink, Watched, with_traceparent

SERVICE = "classy"
TIMEOUT_S = 2.0  # for a span; a collector that is away must not hold up answers for longer


class Traces:
    """
    Make spans.

    Args:
        name: Of the function: the span's name, and its service's.
    """

    def __init__(self, name: str) -> None:
        resource = Resource.create({"service.name": f"{SERVICE}-{name}", "service.namespace": SERVICE})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._session = Session()
        exporter = OTLPSpanExporter(timeout=TIMEOUT_S, session=self._session)
        self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Close the connection to the collector; the next span opens a new one."""
        self._session.close()

    def begin(self, watched: Watched) -> Sink:
        """Begin a call's span, and let its further hops be below it; return what ends it."""
        parent = self._propagator.extract({"traceparent": watched.call.traceparent})
        span = self._tracer.start_span(watched.name, context=parent, kind=SpanKind.SERVER)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=set_span_in_context(span))
        watched.call = with_traceparent(watched.call, carrier.get("traceparent", watched.call.traceparent))

        def end(watched: Watched) -> None:
            span.set_attributes(
                {
                    "faas.coldstart": watched.cold,
                    "faas.invocation_id": watched.call.id,
                    "classy.code": watched.code,
                    "classy.pictures": watched.pictures,
                    "classy.refused": watched.refused,
                    **{
                        f"classy.hop.{place}.{hop.name}_ms": hop.seconds * 1000
                        for place, hop in enumerate(watched.hops)
                    },
                }
            )
            if watched.code >= 50_000:
                span.set_status(Status(StatusCode.ERROR, str(watched.code)))
            span.end(time.time_ns())

        return end
