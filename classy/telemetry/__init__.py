"""
What is told of each call: a line of JSON, metrics, a span of a trace. Where nobody asks for any, it costs nothing.

    log          one line of JSON on standard error: call id, status, each hop's time, cold or warm
    emf          the same line, in CloudWatch's embedded metric format: on Lambda it is log and metrics at once
    prometheus   counters and histograms of this process, for a server's /metrics
    traces       an OpenTelemetry span, sent by OTLP to where the OTEL_EXPORTER_OTLP_… variables say

The trace goes on from function to function in the `traceparent` header of GraphPipe's hops (W3C Trace Context).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphpipe_fn.errors import GraphPipeError, InternalError
from graphpipe_fn.messages import Call, Timing
from graphpipe_fn.model import Answer, Buffer, Reply

if TYPE_CHECKING:
    from classy.telemetry.prometheus import Prometheus
    from classy.telemetry.traces import Traces


class Watched:
    """
    One call, while it is answered and after it.

    Args:
        name: Of the function.
        call: What to hand on to further hops: it carries this call's span.
        code: Of the error; 0 where there was none.
        seconds: From begin to end.
        pictures, refused: How many there were, and how many of them got an error.
        hops: What each hop cost; the function's own among them.
        cold: Whether this was the process's first call.
    """

    # Written out, as Telemetry is: the standard library's @dataclass takes 1 ms of a cold start.
    def __init__(
        self,
        name: str,
        call: Call,
        *,
        code: int = 0,
        seconds: float = 0.0,
        pictures: int = 0,
        refused: int = 0,
        hops: tuple[Timing, ...] = (),
        cold: bool = False,
    ) -> None:
        self.name = name
        self.call = call
        self.code = code
        self.seconds = seconds
        self.pictures = pictures
        self.refused = refused
        self.hops = hops
        self.cold = cold

    def as_json(self) -> dict[str, Any]:
        """Return it as a log line has it; what there is none of is left out."""
        counted = {"pictures": self.pictures, "refused": self.refused} if self.pictures else {}
        return {
            "function": self.name,
            "call_id": self.call.id,
            "code": self.code,
            "ms": round(self.seconds * 1000, 3),
            "cold": self.cold,
            **counted,
            "hops": [{"name": hop.name, "ms": round(hop.seconds * 1000, 3), **_cold(hop)} for hop in self.hops],
            **({"traceparent": self.call.traceparent} if self.call.traceparent else {}),
        }


Sink = Callable[[Watched], None]


class Telemetry:
    """
    Watch a function's calls.

    Args:
        name: Of the function.
        sinks: Told of each call when it ends.
        prometheus: What /metrics shows, one of the sinks; None for nothing.
        traces: Makes a span of each call; None for none.
    """

    def __init__(
        self,
        name: str = "",
        sinks: tuple[Sink, ...] = (),
        prometheus: Prometheus | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.name = name
        self.sinks = sinks
        self.prometheus = prometheus
        self.traces = traces
        self._calls = 0

    @contextmanager
    def watch(self, call: Call) -> Iterator[Watched]:
        """
        Watch one call; its user writes down what it finds out, and hands on `call`.

        A GraphPipeError that passes sets the code; it is raised on.
        """
        self._calls += 1
        watched = Watched(self.name, call, cold=self._calls == 1)
        if not self.sinks and self.traces is None:
            yield watched
            return
        span = self.traces.begin(watched) if self.traces else None
        began_s = time.perf_counter()
        try:
            yield watched
        except GraphPipeError as exc:
            watched.code = exc.code
            raise
        except Exception:
            watched.code = InternalError.code
            raise
        finally:
            watched.seconds = time.perf_counter() - began_s
            for sink in (*self.sinks, *([span] if span else [])):
                try:
                    sink(watched)
                except Exception:  # what is told of a call must not cost the call
                    import logging  # 5 ms of a cold start

                    logging.getLogger(__name__).exception("call %s: not told", call.id)

    def close(self) -> None:
        """Close what is open; the next call opens it again."""
        if self.traces:
            self.traces.close()

    def watched(self, answer: Answer) -> Answer:
        """Return an answerer whose calls are watched."""
        if not self.sinks and self.traces is None:
            return answer

        def answered(body: Buffer, call: Call) -> Reply:
            with self.watch(call) as watched:
                reply = answer(body, watched.call)
                watched.hops = reply.timings
                watched.code = 0 if reply.status < 400 else reply.status * 100
            return reply

        return answered


def telemetry(name: str, kinds: Collection[str]) -> Telemetry:
    """
    Return what watches a function's calls.

    Args:
        kinds: As CLASSY_TELEMETRY has them; see this module's text.

    Raises:
        BadSetting: the package that a kind needs is not installed.
    """
    sinks: list[Sink] = []
    prometheus, traces = None, None
    try:
        if "emf" in kinds:
            from classy.telemetry.lines import emf_line

            sinks.append(lambda watched: _print(emf_line(watched)))
        elif "log" in kinds:
            from classy.telemetry.lines import log_line

            sinks.append(lambda watched: _print(log_line(watched)))
        if "prometheus" in kinds:
            from classy.telemetry.prometheus import Prometheus

            prometheus = Prometheus()
            sinks.append(prometheus.tell)
        if "traces" in kinds:
            from classy.telemetry.traces import Traces

            traces = Traces(name)
    except ModuleNotFoundError as missing:
        from classy.settings import BadSetting

        raise BadSetting(
            f"CLASSY_TELEMETRY asks for {', '.join(sorted(kinds))}, and the package {missing.name} is not installed; "
            "install classy-fn[telemetry]"
        ) from missing
    return Telemetry(name, tuple(sinks), prometheus, traces)


def _print(line: str) -> None:
    # In one write, so that lines of several threads don't mix.
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _cold(hop: Timing) -> dict[str, bool]:
    return {} if hop.cold is None else {"cold": hop.cold}


def with_traceparent(call: Call, traceparent: str) -> Call:
    """Return the call as a further hop of a trace."""
    return replace(call, traceparent=traceparent)
