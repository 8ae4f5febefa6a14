"""What a server's /metrics shows: this process's calls and HTTP requests, in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from classy.telemetry import Watched

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Prometheus:
    """Count; usable from several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._calls = Counter(
            "classy_calls", "Calls by their code, 0 for none.", ["function", "code"], registry=self._registry
        )
        self._cold = Counter("classy_cold_calls", "First calls of a process.", ["function"], registry=self._registry)
        self._pictures = Counter(
            "classy_pictures", "Pictures by what became of them.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "classy_call_seconds", "Time of a call.", ["function"], buckets=BUCKETS_S, registry=self._registry
        )
        self._hops = Histogram(
            "classy_hop_seconds",
            "Time of a stage, or of the way to it (hop).",
            ["hop", "cold"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._http = Histogram(
            "classy_http_request_seconds",
            "Time of an HTTP request.",
            ["operation", "method", "status"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def tell(self, watched: Watched) -> None:
        """Count a call."""
        self._calls.labels(watched.name, watched.code).inc()
        self._seconds.labels(watched.name).observe(watched.seconds)
        if watched.cold:
            self._cold.labels(watched.name).inc()
        self._pictures.labels("refused").inc(watched.refused)
        self._pictures.labels("classified").inc(watched.pictures - watched.refused)
        for hop in watched.hops:
            self._hops.labels(hop.name, str(bool(hop.cold)).lower()).observe(hop.seconds)

    def tell_http(self, *, operation: str, method: str, status: int, seconds: float) -> None:
        """
        Count an HTTP request.

        Args:
            operation: The route's name; never a path, of which strangers could make any number.
        """
        self._http.labels(operation, method, status).observe(seconds)

    def text(self) -> bytes:
        """Return everything as /metrics shows it."""
        return generate_latest(self._registry)
