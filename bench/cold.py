"""
Measure whole cold starts of the classifier's function: process start → model fetched from S3 → first answer.

    python bench/cold.py [--rounds 7] [--models default,vgg16]

The peer is the way it is usually written: boto3's download_file onto the disk, a session from that path, Flask and
Pillow imported by the handler's module. Both take turns against the same stand-in, which is as slow as S3; both
have one processor, as a function of 1,769 MB has, and answer the same tensor, and the answers are compared. Printed
are medians over the rounds: CPU time of the process, wall-clock time, peak memory.

Only ours checks what it fetched.

Ends with 1 where a goal is missed: 2.5 × less CPU time for the default model, 3 × for VGG-16 (553 MB; its weights are
made up, in build/bench-cold, on the first run). The default model is fetched as `make demo` does.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from vgg16 import write_vgg16

from classy.models.default import ensure_default_model
from classy.models.manifest import Manifest
from classy.models.publish import publish, write_model_folder
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.messages import Call, InferRequest
from graphpipe_fn.transports.aws_lambda_event import decode_answer, encode_event

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
BUILD = ROOT / "build" / "bench-cold"
GOALS = {"default": 2.5, "vgg16": 3.0}
TIMEOUT_S = 300


@dataclass
class Way:
    """What was measured of one way to start, a value per round."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Return the medians."""
        cpu, wall, peak = (statistics.median(values) for values in (self.cpu_s, self.wall_s, self.peak_mb))
        return f"  {name:6} {cpu * 1e3:8.0f} ms CPU {wall * 1e3:8.0f} ms wall {peak:7.0f} MB"


def published(name: str) -> tuple[Manifest, Path]:
    """Return a model in the served store, and the one file that the usual way fetches."""
    store = ModelStore(ObjectStorage(), (BUILD / "served" / "models").as_uri())
    single = BUILD / "served" / "models" / "single" / f"{name}.onnx"
    single.parent.mkdir(parents=True, exist_ok=True)
    if name == "default":
        manifest = ensure_default_model(BUILD / "default", progress=print)
        onnx.save_model(onnx.load(BUILD / "default" / manifest.files[0].name), single)  # with its weights inside
        return publish(BUILD / "default", store), single
    if not single.exists():
        print("making VGG-16 …")
        part = single.with_suffix(".part")
        write_vgg16(part)
        part.replace(single)
    manifest = write_model_folder(
        single, BUILD / "vgg16", name="vgg16", version="1", preset="vgg", licence="CC0-1.0", source="made up"
    )
    return publish(BUILD / "vgg16", store), single


def run(command: list[str], environ: dict[str, str], way: Way) -> None:
    """Start a process, wait for its end, and note what it took."""
    started_s = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environ, preexec_fn=one_processor)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[2]} ended with {process.returncode}")
    way.wall_s.append(time.perf_counter() - started_s)
    way.cpu_s.append(usage.ru_utime + usage.ru_stime)
    way.peak_mb.append(usage.ru_maxrss / 1000)


def one_processor() -> None:
    """Be a process with one processor."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def compare(name: str, rounds: int, port: int) -> float:
    """Measure one model; return how many times less CPU time ours takes."""
    manifest, single = published(name)
    total_mb = sum(file.bytes for file in manifest.files) / 1e6
    print(f"{manifest.ref} ({total_mb:.0f} MB)", flush=True)
    endpoint = f"http://127.0.0.1:{port}"
    rng = np.random.default_rng(1)
    batch = rng.standard_normal((1, *manifest.input.row_shape), dtype=np.float32)
    environ = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environ["PYTHONPATH"] = os.pathsep.join((str(Path(np.__file__).parents[1]), str(ROOT)))
    ways = {"usual": Way(), "ours": Way()}
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        folder = Path(temporary)
        np.save(folder / "tensor.npy", batch)
        (folder / "event.json").write_bytes(b"".join(encode_event(encode_request(InferRequest((batch,))), Call())))
        # Without `site`: an editable install's import hooks are no part of a deployed function.
        python = [sys.executable, "-S"]
        usual = [*python, "bench/cold_naive.py", endpoint, f"single/{single.name}"]
        usual += [str(folder / part) for part in ("model.onnx", "tensor.npy", "result.npy")]
        ours = [*python, "bench/cold_ours.py", str(folder / "event.json"), str(folder / "answer.json")]
        settings = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "CLASSY_MODEL_STORE": "s3://models",
            "CLASSY_MODEL": manifest.name,
            "CLASSY_MODEL_CACHE": "memory",
            "CLASSY_TELEMETRY": "none",
            # What serverless.yml tells the function's heap.
            **dict(re.findall(r"(MALLOC_\w+): '(\d+)'", (ROOT / "serverless.yml").read_text())),
        }
        for turn in range(rounds + 1):
            kept = ways if turn else {way: Way() for way in ways}  # the first round fills the page cache
            run(usual, environ, kept["usual"])
            run(ours, {**environ, **settings}, kept["ours"])
        answer = decode_response(decode_answer((folder / "answer.json").read_bytes()).body())
        np.testing.assert_allclose(answer.outputs[0], np.load(folder / "result.npy").reshape(1, -1), atol=1e-4)
    for way, found in ways.items():
        print(found.line(way))
    usual_s, ours_s = (statistics.median(found.cpu_s) for found in ways.values())
    return usual_s / ours_s


def main() -> int:
    """Measure what the command line names; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default=",".join(GOALS))
    args = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "served").mkdir(exist_ok=True)
    command = [sys.executable, str(BENCH / "throttled_s3.py"), str(BUILD / "served")]
    missed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for name in args.models.split(","):
                ratio = compare(name, args.rounds, port)
                print(
                    f"  {ratio:.2f} × less CPU time; goal {GOALS[name]} ×{'  MISSED' if ratio < GOALS[name] else ''}"
                )
                missed |= ratio < GOALS[name]
        finally:
            server.kill()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
