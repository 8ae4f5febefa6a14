"""
Measure the wire format beside its peers, on the work of GraphPipe's announcement.

    python bench/wire.py [--rounds 7]

X is the announcement's request (128×224×224×3 float32, 77 MB), Y its answer (128×7×7×512, 13 MB), small is a
request of 1×4. All formats take turns in every round; printed is the median of the rounds' CPU time, for X and Y as a
multiple of a warm memcpy of the same bytes in the same round. Formats that print numbers get 2 rows of X and 16 of Y,
and their time is multiplied. Ends with 1 where a goal is missed: X and Y each below 0.05 memcpy, small below 30 µs.

What it needs beside this library is installed into build/bench-wire on the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
BUILD = BENCH.parent / "build"

GOAL_MEMCPY = 0.05  # of a warm copy of the same bytes
GOAL_SMALL_S = 30e-6
ROWS = {"X": 2, "Y": 16, "small": 1}  # what formats that print numbers get


def environment(name: str, *options: str) -> Path:
    """Return a virtual environment's Python, made and filled where it is not there."""
    home = BUILD / name
    python = home / "bin" / "python"
    requirements = BENCH / f"requirements-{name.removeprefix('bench-')}.txt"
    done = home / "done"
    if not done.exists() or done.read_text() != requirements.read_text():
        print(f"Installing {requirements.name} into build/{name} (a minute or two, once) …", flush=True)
        venv.create(home, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        subprocess.run([*pip, "--requirement", requirements], check=True)
        done.write_text(requirements.read_text())
    return python


@contextmanager
def original(python: Path) -> Iterator[Any]:
    """Run the original client beside us; yields a function from a tensor's name to its CPU seconds."""
    worker = subprocess.Popen(
        [python, BENCH / "wire_graphpipe.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    stdin, stdout = worker.stdin, worker.stdout

    def round_of(name: str) -> tuple[float, float]:
        stdin.write(name + "\n")
        stdin.flush()
        serialise, deserialise = json.loads(stdout.readline())
        return serialise, deserialise

    try:
        if stdout.readline() != "ready\n":
            raise RuntimeError("the original client did not start; its own words are above")
        yield round_of
    finally:
        stdin.close()
        worker.wait(60)


def measure(name: str, rounds: int, round_of: Any) -> dict[str, tuple[float, float]]:
    """Return each format's (serialise, deserialise): multiples of a warm memcpy, for `small` seconds."""
    import numpy as np
    from wire_peers import PEERS, graphpipe_fn, joined
    from wire_rounds import cpu_seconds, tensor

    response = name == "Y"
    value = tensor(name)
    target = value.copy()  # touched, so that copying into it is the cost of copying and not of fresh pages
    slice_ = np.ascontiguousarray(value[: ROWS[name]])
    peers = [graphpipe_fn(response=response), joined(response=response), *PEERS]
    bodies, factors = {}, {}
    for peer in peers:
        given = slice_ if peer.scaled else value
        factors[peer.name] = len(value) / len(given)
        bodies[peer.name] = peer.join(peer.encode(given))
        if not np.array_equal(peer.decode(bodies[peer.name]), given):
            raise RuntimeError(f"{peer.name} does not bring {name} back")

    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        unit = 1.0 if name == "small" else cpu_seconds(lambda: np.copyto(target, value))
        serialise, deserialise = round_of(name)
        found.setdefault("PyPI graphpipe 1.0.4", []).append((serialise / unit, deserialise / unit))
        for peer in peers:
            given, body, factor = slice_ if peer.scaled else value, bodies[peer.name], factors[peer.name] / unit
            serialise = cpu_seconds(lambda peer=peer, given=given: peer.encode(given))
            deserialise = cpu_seconds(lambda peer=peer, body=body: peer.decode(body))
            found.setdefault(peer.name, []).append((serialise * factor, deserialise * factor))
    return {
        peer: (statistics.median(row[0] for row in rows), statistics.median(row[1] for row in rows))
        for peer, rows in found.items()
    }


def main() -> int:
    """Measure, print, and return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which all formats take turns (7)")
    rounds = parser.parse_args().rounds

    python = environment("bench-wire")
    if Path(sys.prefix) != python.parent.parent:
        # The peers live in an environment of their own, and this library is read from its source.
        paths = os.pathsep.join([str(BENCH.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run([python, *sys.argv], env={**os.environ, "PYTHONPATH": paths}, check=False).returncode
    worker = environment("bench-wire-graphpipe", "--no-deps")

    with original(worker) as round_of:
        tables = {name: measure(name, rounds, round_of) for name in ("X", "Y", "small")}

    print(f"\nCPU time, median of {rounds} interleaved rounds; X and Y × a warm memcpy of the same bytes, 1×4 in µs")
    print(f"{'':28}{'ser X':>10}{'de X':>10}{'ser Y':>10}{'de Y':>10}{'ser 1×4':>10}{'de 1×4':>10}")
    for peer in tables["X"]:
        cells = [f"{value:10.3f}" for name in ("X", "Y") for value in tables[name][peer]]
        cells += [f"{value * 1e6:10.1f}" for value in tables["small"][peer]]
        print(f"{peer:28}{''.join(cells)}")

    missed = [
        f"{kind} {name}: {value:.3f} × memcpy, the goal is {GOAL_MEMCPY}"
        for name in ("X", "Y")
        for kind, value in zip(("serialise", "deserialise"), tables[name]["graphpipe_fn"], strict=True)
        if value >= GOAL_MEMCPY
    ] + [
        f"{kind} 1×4: {value * 1e6:.1f} µs, the goal is {GOAL_SMALL_S * 1e6:.0f}"
        for kind, value in zip(("serialise", "deserialise"), tables["small"]["graphpipe_fn"], strict=True)
        if value >= GOAL_SMALL_S
    ]
    print("\n".join(["", *(f"MISSED {miss}" for miss in missed)]) if missed else "\nAll goals are met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
