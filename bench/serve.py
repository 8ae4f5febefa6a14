"""
Measure the stand-alone server beside its peers: what does it add to calling onnxruntime directly?

    python bench/serve.py [--rounds 24] [--peers fastapi,flask,…] [--models tiny,cnn]

Requests are 602 KB (1×3×224×224 float32), one after the other over one kept connection, each peer in its own best
protocol; every answer is checked against onnxruntime. All peers and the direct call take turns in every round.
Printed are medians over the rounds: the median request (p50), and the CPU time of the server's whole process tree
per request; and its peak memory. Two models: tiny (the mean of each channel: the server is nearly all of the work)
and cnn (MobileNetV2 with random weights).

Ends with 1 where a goal is missed: the lowest p50 and CPU of all; cnn within 1.04 × (p50) and 1.06 × (CPU) of the
direct call; tiny at most 0.45 ms p50 and 0.40 ms CPU on a machine whose direct call takes 0.030 and 0.036 ms (on
others in proportion); under 160 MB. The second row is the floor that no server in a process of its own gets below:
the direct call after a pause of half a millisecond, which is enough for the processor's caches to go cold.

The peers are installed into build/bench-serve-* on the first run (2 GB); those that pip can't install are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from serve_models import mobilenet, tiny
from serve_roads import (
    BOUNDARY,
    GrpcRoad,
    HttpRoad,
    Road,
    cpu_seconds,
    end,
    free_port,
    multipart,
    peak_bytes,
)
from wire import BENCH, BUILD, environment

OWN = "graphpipe-fn serve"
START_S = 120.0
PAUSE_S = 0.0005  # what a server waits between two requests of this size, about
REQUESTS = {"tiny": 100, "cnn": 10}  # in each peer's turn: short, so that a neighbour's load hits all alike
WARM_UP = {"tiny": 10, "cnn": 2}

GOAL_P50_MS, GOAL_CPU_MS = 0.45, 0.40  # tiny, where the direct call takes …
DIRECT_P50_MS, DIRECT_CPU_MS = 0.030, 0.036  # … this
GOAL_CNN_P50, GOAL_CNN_CPU = 1.04, 1.06  # of the direct call
GOAL_BYTES = 160_000_000


@dataclass
class Peer:
    """
    A server to be measured.

    Args:
        name: As it is printed.
        start: Makes the command from the model's path, the port, and a second port for those that need one.
        road: Connects.
    """

    name: str
    start: Callable[[str, int, int], list[str]]
    road: Callable[[int], Road]
    p50_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    peak: int = 0


def floats(body: bytes) -> np.ndarray:
    """Read raw float32."""
    return np.frombuffer(body, np.float32)


def peers(wanted: list[str], x: np.ndarray, tensor: Path) -> list[Peer]:
    """Return the servers that can be had, this library's own first."""
    from graphpipe_fn.codec import decode_response, encode_request
    from graphpipe_fn.messages import InferRequest

    request = b"".join(encode_request(InferRequest((x,))))
    raw = x.tobytes()
    form = f"multipart/form-data; boundary={BOUNDARY.decode()}"

    def own(body: bytes) -> np.ndarray:
        return np.asarray(decode_response(body).outputs[0])

    def numbers(key: str) -> Callable[[bytes], np.ndarray]:
        def read(body: bytes) -> np.ndarray:
            answer = json.loads(body)
            return np.array(answer[key] if key else answer, np.float32)

        return read

    binary = "application/octet-stream"
    roads: dict[str, Callable[[Path], Callable[[int], Road]]] = {
        "fastapi": lambda _: lambda port: HttpRoad(port, "/", [raw], binary, floats),
        "flask": lambda _: lambda port: HttpRoad(port, "/", [raw], binary, floats),
        "litserve": lambda _: lambda port: HttpRoad(port, "/predict", multipart(raw), form, numbers("output")),
        "mosec": lambda _: lambda port: HttpRoad(port, "/inference", [raw], binary, floats),
        "bentoml": lambda _: lambda port: HttpRoad(port, "/infer", multipart(raw), form, numbers("")),
        "mlserver": lambda python: lambda port: GrpcRoad(python, "mlserver", port, tensor),
        "kserve": lambda python: lambda port: GrpcRoad(python, "kserve", port, tensor),
    }
    labels = {
        "fastapi": "fastapi + uvicorn, raw",
        "flask": "flask + gunicorn, raw",
        "litserve": "litserve, multipart",
        "mosec": "mosec, raw",
        "bentoml": "bentoml, multipart",
        "mlserver": "mlserver, gRPC",
        "kserve": "kserve, gRPC",
    }
    command = [sys.executable, "-m", "graphpipe_fn.cli", "serve"]
    found = [
        Peer(
            OWN,
            lambda model, port, _: [*command, model, "--listen", f"127.0.0.1:{port}"],
            lambda port: HttpRoad(port, "/", [request], binary, own),
        )
    ]
    for name in wanted:
        try:
            python = environment(f"bench-serve-{name}")
        except subprocess.CalledProcessError:
            print(f"{name} is left out: pip can't install it here")
            continue
        script = str(BENCH / "serve_peers" / f"{name}_peer.py")
        found.append(
            Peer(
                labels[name],
                lambda model, port, other, python=python, script=script: [  # type: ignore[misc]
                    *(str(python), script, model, str(port), str(other))
                ],
                roads[name](python),
            )
        )
    return found


def started(peer: Peer, model: Path, log: Any) -> tuple[subprocess.Popen[bytes], Road]:
    """Start a server and wait until it answers."""
    port = free_port()
    process = subprocess.Popen(peer.start(str(model), port, free_port()), stdout=log, stderr=log)
    give_up = time.monotonic() + START_S
    while True:
        road: Road | None = None
        try:
            road = peer.road(port)
            road.ask(1)
            return process, road
        except (OSError, RuntimeError, ValueError) as exc:
            if road is not None:
                road.close()
            if process.poll() is not None or time.monotonic() > give_up:
                end(process)
                raise RuntimeError(f"it does not answer: {exc}") from exc
            time.sleep(0.2)


def measure(model: str, found: list[Peer], path: Path, x: np.ndarray, rounds: int) -> list[Peer]:
    """Let all peers take turns; return those that worked, the direct call first."""
    sys.path.insert(0, str(BENCH / "serve_peers"))
    from session import session

    direct = session(str(path))
    expected = direct.run(None, {"x": x})[0]
    running: list[tuple[Peer, subprocess.Popen[bytes], Road]] = []
    base, paused = (
        Peer(name, lambda *_: [], lambda _: None)  # type: ignore[arg-type, return-value]
        for name in ("direct session.run", "direct, after a pause")
    )

    def run() -> None:
        direct.run(None, {"x": x})

    log_path = BUILD / f"bench-serve-{model}.log"
    try:
        with log_path.open("wb") as log:
            for peer in found:
                try:
                    process, road = started(peer, path, log)
                    running.append((peer, process, road))
                    _, output = road.ask(WARM_UP[model])
                    if not np.allclose(output.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6):
                        raise RuntimeError("it answers with other numbers than onnxruntime")
                except (OSError, RuntimeError, ValueError) as exc:
                    if peer.name == OWN:
                        raise
                    print(f"{peer.name} is left out ({exc}); see {log_path.name}")
                    if running and running[-1][0] is peer:
                        _, process, road = running.pop()
                        road.close()
                        end(process)
            for _ in range(rounds):
                turn(base, lambda count: [timed(run) for _ in range(count)], model)
                turn_with_pauses(paused, run, model)
                for peer, process, road in running:
                    turn(peer, lambda count, road=road: road.ask(count)[0], model, process.pid)  # type: ignore[misc]
            for peer, process, _ in running:
                peer.peak = peak_bytes(process.pid)
    finally:
        for _, process, road in running:
            road.close()
            end(process)
    return [base, paused, *(peer for peer, _, _ in running)]


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def turn(peer: Peer, ask: Callable[[int], list[float]], model: str, pid: int = 0) -> None:
    """Measure one peer once."""
    ask(WARM_UP[model])
    before = cpu_seconds(pid) if pid else time.process_time()
    seconds = ask(REQUESTS[model])
    spent = (cpu_seconds(pid) if pid else time.process_time()) - before
    peer.p50_ms.append(statistics.median(seconds) * 1e3)
    peer.cpu_ms.append(spent / REQUESTS[model] * 1e3)


def turn_with_pauses(peer: Peer, run: Callable[[], None], model: str) -> None:
    """Measure a call in this thread, each time after a pause that is not counted."""
    seconds, spent = [], 0.0
    for _ in range(REQUESTS[model]):
        time.sleep(PAUSE_S)
        before = time.thread_time()
        seconds.append(timed(run))
        spent += time.thread_time() - before
    peer.p50_ms.append(statistics.median(seconds) * 1e3)
    peer.cpu_ms.append(spent / REQUESTS[model] * 1e3)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median over the rounds of one's value by the other's: neighbours' noise hits both in a round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def report(model: str, measured: list[Peer], rounds: int) -> list[str]:
    """Print a table; return the goals that were missed."""
    base = measured[0]
    print(f"\n{model}: median of {rounds} interleaved rounds of {REQUESTS[model]} requests of 602 KB")
    print(f"{'':26}{'p50 ms':>9}{'best':>9}{'× direct':>10}{'CPU ms':>9}{'best':>9}{'× direct':>10}{'peak MB':>9}")
    for peer in measured:
        p50, cpu = statistics.median(peer.p50_ms), statistics.median(peer.cpu_ms)
        print(
            f"{peer.name:26}{p50:9.3f}{min(peer.p50_ms):9.3f}{ratio(peer.p50_ms, base.p50_ms):10.2f}"
            f"{cpu:9.3f}{min(peer.cpu_ms):9.3f}{ratio(peer.cpu_ms, base.cpu_ms):10.2f}"
            + (f"{peer.peak / 1e6:9.0f}" if peer.peak else "")
        )
    own = next(peer for peer in measured if peer.name == OWN)
    missed = [
        f"{model}: {peer.name} has the lower {what}"
        for peer in measured[2:]
        for what, ours, theirs in (("p50", own.p50_ms, peer.p50_ms), ("CPU", own.cpu_ms, peer.cpu_ms))
        if ratio(ours, theirs) > 1
    ]
    if model == "cnn":
        goals = [("p50", own.p50_ms, base.p50_ms, GOAL_CNN_P50), ("CPU", own.cpu_ms, base.cpu_ms, GOAL_CNN_CPU)]
    else:
        goals = [
            ("p50", own.p50_ms, base.p50_ms, GOAL_P50_MS / DIRECT_P50_MS),
            ("CPU", own.cpu_ms, base.cpu_ms, GOAL_CPU_MS / DIRECT_CPU_MS),
        ]
        if own.peak > GOAL_BYTES:
            missed.append(f"tiny: {own.peak / 1e6:.0f} MB, the goal is {GOAL_BYTES / 1e6:.0f}")
    for what, ours, theirs, goal in goals:
        have = ratio(ours, theirs)
        if have > goal:
            missed.append(f"{model}: {what} is {have:.2f} × the direct call's, the goal is {goal:.2f}")
    return missed


def main() -> int:
    """Measure, print, and return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=24, help="rounds in which all take turns (24)")
    parser.add_argument("--peers", default="fastapi,flask,litserve,mosec,bentoml,mlserver,kserve", metavar="A,B")
    parser.add_argument("--models", default="tiny,cnn", metavar="A,B")
    options = parser.parse_args()

    BUILD.mkdir(exist_ok=True)
    x = np.random.default_rng(3).random((1, 3, 224, 224), np.float32)
    tensor = BUILD / "bench-serve-x.npy"
    np.save(tensor, x)
    missed = []
    for model in options.models.split(","):
        path = BUILD / f"bench-serve-{model}.onnx"
        {"tiny": tiny, "cnn": mobilenet}[model](path)
        found = peers([name for name in options.peers.split(",") if name], x, tensor)
        missed += report(model, measure(model, found, path, x, options.rounds), options.rounds)
    print("\n".join(["", *(f"MISSED {miss}" for miss in missed)]) if missed else "\nAll goals are met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
