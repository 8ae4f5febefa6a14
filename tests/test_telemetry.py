"""Telemetry: a line, metrics and a span for each call, and none of them at a call's expense."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from clouds import running_cloud
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from small_models import small_store
from web_apps import picture, settings_of

from classy.asks import Ask, Options
from classy.front import Classy
from classy.pipeline import preprocessor, served, vgg
from classy.settings import BadSetting, Settings
from classy.telemetry import Telemetry, Watched, telemetry
from classy.telemetry.lines import emf_line
from classy.web.app import create_app
from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen
from graphpipe_fn.errors import GraphPipeError, Unavailable
from graphpipe_fn.messages import Call, Timing
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.routed import Routed
from graphpipe_fn.server import answerer

OPTIONS = Options(top_k=3, language="en")


def lines(captured: str) -> list[dict[str, Any]]:
    """Return the JSON lines that were printed."""
    return [json.loads(line) for line in captured.splitlines() if line.startswith("{")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Everything in one process, with a small model."""
    return settings_of(tmp_path)


@pytest.mark.parametrize("kind", ["log", "emf"])
def test_each_call_is_one_line_of_json(kind: str, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """It names the call, says what each hop cost, counts the pictures, and knows the first call as the cold one."""
    classy = Classy(settings, telemetry=telemetry("classy", {kind}))
    for name in ("a", "b"):
        classy.classify(Ask((picture(), b"rubbish"), OPTIONS, batch=True), Call(id=name))
    classy.close()
    first, second = lines(capfd.readouterr().err)
    assert [first["call_id"], second["call_id"]] == ["a", "b"]
    assert [first["cold"], second["cold"]] == [True, False]
    assert (first["function"], first["code"], first["pictures"], first["refused"]) == ("classy", 0, 2, 1)
    assert [hop["name"] for hop in first["hops"]] == ["preprocessor", "vgg"]
    assert sum(hop["ms"] for hop in first["hops"]) <= first["ms"]


def test_a_call_that_fails_is_told_with_its_code(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """The error reaches the caller as it is."""
    classy = Classy(settings, telemetry=telemetry("classy", {"log"}))
    with pytest.raises(GraphPipeError) as caught:
        classy.classify(Ask((picture(),), replace(OPTIONS, model="nothing")), Call(id="a"))
    (line,) = lines(capfd.readouterr().err)
    assert line["code"] == caught.value.code


def test_the_embedded_metrics_are_cloudwatchs() -> None:
    """Every metric that is announced is a number of the line, and so is each dimension a text."""
    watched = Watched("vgg", Call(id="a"), code=50001, seconds=0.25, pictures=3, refused=1, cold=True)
    line = json.loads(emf_line(watched))
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]} == {
        "Calls": 1, "Errors": 1, "ColdStarts": 1, "Pictures": 3, "Refused": 1, "Duration": 250.0,
    }  # fmt: skip
    assert [line[name] for name in directive["Dimensions"][0]] == ["vgg"]


def test_a_stages_answers_are_watched(capfd: pytest.CaptureFixture[str]) -> None:
    """The reply goes through as it is."""
    reply = Reply([b"x"], 422, timings=(Timing("vgg", 0.1, True),))

    def answer(body: Buffer, call: Call) -> Reply:
        return reply

    assert telemetry("vgg", {"log"}).watched(answer)(b"", Call(id="a")) is reply
    (line,) = lines(capfd.readouterr().err)
    assert (line["function"], line["code"], line["hops"]) == (
        "vgg", 42200, [{"name": "vgg", "ms": 100.0, "cold": True}],
    )  # fmt: skip


def test_without_telemetry_nothing_stands_in_between() -> None:
    """An answerer that nobody watches is the same object."""

    def answer(body: Buffer, call: Call) -> Reply:
        return Reply([b""])

    assert Telemetry().watched(answer) is answer


def test_a_sink_that_fails_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told nevertheless, and the log says why one was not."""
    told: list[Watched] = []

    def broken(watched: Watched) -> None:
        raise OSError("no room")

    with Telemetry("x", (broken, told.append)).watch(Call(id="a")):
        pass
    assert len(told) == 1
    assert "not told" in caplog.text


def test_metrics_count_calls_pictures_and_requests(settings: Settings) -> None:
    """/metrics is Prometheus's text; no label holds what a stranger wrote."""
    watching = telemetry("page", {"prometheus"})
    classy = Classy(settings, telemetry=watching)
    client = create_app(classy, settings).test_client()
    client.post("/api/classify", data=picture(), content_type="image/png")
    client.post("/api/classify", data=b"rubbish", content_type="image/png")
    client.get("/api/nothing/here-%3Cb%3E")
    shown = client.get("/metrics")
    classy.close()
    assert shown.content_type.startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(shown.text)
        for sample in family.samples
    }
    assert found["classy_calls_total", "0", "page"] == 2
    assert found["classy_cold_calls_total", "page"] == 1
    assert (found["classy_pictures_total", "classified"], found["classy_pictures_total", "refused"]) == (1, 1)
    counted = {key[1:]: value for key, value in found.items() if key[0] == "classy_http_request_seconds_count"}
    assert counted[("200", "POST", "classify")] == 1
    assert counted[("404", "none", "none")] == 1
    assert "/metrics" in client.get("/api/openapi.json").json["paths"]
    assert "here-" not in shown.text
    assert found["process_cpu_seconds_total",] > 0


def test_metrics_are_there_only_where_they_are_asked_for(settings: Settings) -> None:
    """Without Prometheus there is no such page."""
    classy = Classy(settings)
    client = create_app(classy, settings).test_client()
    assert client.get("/metrics").status_code == 404
    assert "/metrics" not in client.get("/api/openapi.json").json["paths"]
    classy.close()


def test_only_what_is_asked_for_is_imported() -> None:
    """A function that prints lines loads neither Prometheus's nor OpenTelemetry's package."""
    code = (
        "import sys; from classy.telemetry import telemetry; telemetry('a', {'log', 'emf'});"
        "print([name for name in ('prometheus_client', 'opentelemetry', 'requests') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("", {"log"}), ("none", set()), ("emf traces", {"emf", "traces"}), ("log,prometheus", {"log", "prometheus"})],
)
def test_the_setting_lists_kinds(text: str, kinds: set[str]) -> None:
    """Nothing said means one line a call."""
    assert Settings.from_env({"CLASSY_TELEMETRY": text}).telemetry == kinds


def test_an_unknown_kind_is_refused() -> None:
    """A typing mistake is told before anything starts."""
    with pytest.raises(BadSetting, match="CLASSY_TELEMETRY is 'statsd'; it takes any of emf, log"):
        Settings.from_env({"CLASSY_TELEMETRY": "statsd"})


@dataclass
class Collector:
    """An OTLP collector: what it was sent."""

    url: str
    spans: list[Any] = field(default_factory=list)
    services: list[str] = field(default_factory=list)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Listen for spans as protobuf over HTTP, and say so in OpenTelemetry's own variables."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                for scope in resource.scope_spans:
                    found.spans += scope.spans
                    found.services += names * len(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_trace_goes_through_all_functions(collector: Collector, tmp_path: Path) -> None:
    """Each function's span is below the one that called it, over real HTTP hops, in the caller's own trace."""
    store, _ = small_store(tmp_path)
    settings = Settings(model="small", model_store=store.uri, model_cache="memory")
    watching = [telemetry(name, {"traces"}) for name in ("classy", "preprocessor", "vgg")]
    with ExitStack() as stack:
        for one in watching:
            stack.callback(one.close)
        urls = {}
        classifier = served(vgg(settings), settings)
        urls["vgg"] = _serve(stack, classifier, watching[2])
        chained = replace(settings, next_hop=urls["vgg"])
        routed = served(preprocessor(chained), chained)
        assert isinstance(routed, Routed)
        stack.callback(routed.close)
        urls["preprocessor"] = _serve(stack, routed, watching[1])
        front = Classy(
            replace(
                settings, topology="server-led", downloader="http://127.0.0.1:1/", preprocessor=urls["preprocessor"],
                vgg=urls["vgg"],
            ),
            telemetry=watching[0],
        )  # fmt: skip
        stack.callback(front.close)
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        entries, _ = front.classify(Ask((picture(),), OPTIONS), Call(id="a", traceparent=caller))
    assert "error" not in entries[0]
    assert {span.trace_id.hex() for span in collector.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    parents = {span.name: span.parent_span_id.hex() for span in collector.spans}
    own = {span.name: span.span_id.hex() for span in collector.spans}
    assert parents == {"classy": "b7ad6b7169203331", "preprocessor": own["classy"], "vgg": own["preprocessor"]}
    assert sorted(collector.services) == ["classy-classy", "classy-preprocessor", "classy-vgg"]


def test_a_trace_goes_through_the_local_clouds_functions(collector: Collector, tmp_path: Path) -> None:
    """Whoever starts `classy up` with OpenTelemetry's variables finds its functions in the caller's trace."""
    with running_cloud(tmp_path, CLASSY_TELEMETRY="log traces", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as cloud:
        cloud.objects.put("s3://classy-photos/seen.png", picture())
        request = urllib.request.Request(
            cloud.url("classy-func"),
            data=json.dumps({"name": f"{cloud.storage_url}/classy-photos/seen.png"}).encode(),
            headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert "class_index" in json.load(reply)
    assert {span.name for span in collector.spans} == {"classy", "downloader", "preprocessor", "vgg"}
    assert {span.trace_id.hex() for span in collector.spans} == {"0af7651916cd43dd8448eb211c80319c"}


def _serve(stack: ExitStack, model: Any, watching: Telemetry) -> str:
    answer = watching.watched(answerer(model, name=watching.name))
    return stack.enter_context(HttpServer(Endpoints(answer, model.metadata), Listen("127.0.0.1", 0))).uri


def test_a_failure_is_an_error_in_the_trace(collector: Collector) -> None:
    """A caller's mistake is none of ours; what we can't do is."""
    watching = telemetry("vgg", {"traces"})
    for error in (Unavailable("loading"), BadRequestHere("no")):
        with pytest.raises(GraphPipeError), watching.watch(Call(id="a")):
            raise error
    watching.close()
    assert [span.status.code for span in collector.spans] == [2, 0]
    assert [attribute.value.int_value for span in collector.spans for attribute in span.attributes
            if attribute.key == "classy.code"] == [Unavailable.code, BadRequestHere.code]  # fmt: skip


class BadRequestHere(GraphPipeError):
    """A caller's mistake."""

    code = 40010
