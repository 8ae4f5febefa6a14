"""
Compute how many pictures a dollar classifies on AWS Lambda, from times measured here and a file of prices.

    python bench/cost.py [--models default,vgg16] [--calls 15] [--prices deploy/aws/prices.json] [--write]

Measured is the CPU time of each stage on one processor, warm, of a 640 × 480 JPEG: the front with JSON and base64,
the preprocessor, the classifier. What can't be measured here is assumed, and stands in the file of prices: the wait
for a picture's server, for a hop, for a record's write; and arm64 is taken to be as fast. A function with less memory
than one processor's worth takes as much longer for its CPU time, and pays less for its waits. VGG-16's weights are
made up (bench/vgg16.py); its times are the real one's. With --write the table is put into docs/costs.md.

Ends with 1 where a goal is missed: fused, x86, 900,000 pictures a dollar for the default model, 85,000 for VGG-16.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cold import published
from pictures import jpeg, photo

from classy.aws.front import Front
from classy.front import Classy
from classy.models.manifest import Manifest
from classy.pipeline import Manifests, preprocessor, vgg
from classy.settings import Settings
from graphpipe_fn.codec import encode_request
from graphpipe_fn.messages import Call, InferRequest, strings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "costs.md"
MARKS = "<!-- made by `make cost` -->\n", "<!-- until here -->\n"
GOALS = {"default": 900_000, "vgg16": 85_000}
NAMES = {"default": "EfficientNet-Lite0", "vgg16": "VGG-16 float32"}
PICTURE = jpeg(photo(640, 480))


@dataclass(frozen=True)
class Measured:
    """
    One model's CPU times in ms.

    Args:
        fused: All of a request with the picture in its body, by the function that holds every stage.
        front, preprocess, classify: Of the stages; the front's is what is left of `fused`.
        download: Of the downloader: a TLS handshake and some copying; assumed from the front's.
        tensor_bytes: What travels to the classifier, in base64.
    """

    fused: float
    front: float
    preprocess: float
    classify: float
    download: float
    tensor_bytes: int


def cpu_ms(works: list[Callable[[], object]], calls: int) -> list[float]:
    """Return each work's median CPU time, warm; they take turns, so that a neighbour's load hits all alike."""
    taken: list[list[float]] = [[] for _ in works]
    gc.collect()
    for turn in range(calls + 2):
        for work, times in zip(works, taken, strict=True):
            began_s = time.process_time()
            work()
            if turn >= 2:
                times.append(time.process_time() - began_s)
    return [statistics.median(times) * 1e3 for times in taken]


def measured(manifest: Manifest, store: str, calls: int) -> Measured:
    """Measure one model's stages."""
    settings = Settings(
        model_store=store, model=manifest.name, model_cache=str(ROOT / "build" / "bench-cold" / "cache")
    )
    manifests = Manifests(settings)
    prepare, classify = preprocessor(settings, manifests), vgg(settings, manifests)
    front = Front(Classy(settings, manifests=manifests), settings, sample=lambda: PICTURE)
    context = SimpleNamespace(aws_request_id="cost", get_remaining_time_in_millis=lambda: 60_000)
    event = gateway_event(PICTURE)

    def fused() -> None:
        answer = front(event, context)
        if answer["statusCode"] != 200:
            raise SystemExit(f"the front answered {answer}")

    (batch,) = prepare.infer(InferRequest((strings([PICTURE]),))).outputs
    sent = sum(memoryview(buffer).nbytes for buffer in encode_request(InferRequest((batch,))))
    all_ms, prepare_ms, classify_ms = cpu_ms(
        [
            fused,
            lambda: prepare.infer(InferRequest((strings([PICTURE]),))),
            lambda: classify.infer(InferRequest((batch,), call=Call())),
        ],
        calls,
    )
    front_ms = max(0.5, all_ms - prepare_ms - classify_ms)
    return Measured(all_ms, front_ms, prepare_ms, classify_ms, 5.0 + front_ms, sent * 4 // 3)


def gateway_event(body: bytes) -> dict[str, Any]:
    """Return a function URL's event with a picture."""
    return {
        "version": "2.0",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {"content-type": "image/jpeg"},
        "requestContext": {"http": {"method": "POST", "path": "/"}, "apiId": "cost", "stage": "$default"},
        "isBase64Encoded": True,
        "body": base64.b64encode(body).decode(),
    }


class Bill:
    """
    What a request costs.

    Args:
        prices: See deploy/aws/prices.json.
        machine: x86_64 or arm64.
    """

    def __init__(self, prices: dict[str, Any], machine: str) -> None:
        self._prices = prices
        self._gb_s = prices["lambda"][f"{machine}_gb_second"]

    def call(
        self, function: str, cpu_ms: float, wait_ms: float = 0.0, *, event_bytes: int = 0
    ) -> tuple[float, float]:
        """Return the dollars for one call of a function, and how long it takes in ms."""
        memory = self._prices["memory_mb"][function]
        took_ms = cpu_ms * max(1.0, self._prices["mb_of_one_processor"] / memory) + wait_ms
        sizes = self._prices["lambda"]
        more = math.ceil(max(0, event_bytes - sizes["event_first_bytes"]) / sizes["event_further_bytes"])
        return math.ceil(took_ms) / 1e3 * memory / 1024 * self._gb_s + sizes["request"] * (1 + more), took_ms

    def topologies(self, times: Measured) -> dict[str, float]:
        """Return the dollars for one picture, by topology."""
        picture, hop, record = (self._prices["assumed_ms"][name] for name in ("picture", "hop", "record"))
        fused = times.fused
        fetched, fetched_ms = self.call("downloader", times.download, picture)
        prepared, prepared_ms = self.call("preprocessor", times.preprocess)
        classified, classified_ms = self.call("vgg", times.classify)
        stages = fetched + prepared + classified
        led, _ = self.call("classy", times.front, fetched_ms + prepared_ms + classified_ms + 3 * hop)
        waits, waits_ms = self.call("preprocessor", times.preprocess, hop + classified_ms)
        chain, chain_ms = self.call("downloader", times.download, picture + hop + waits_ms)
        asks, _ = self.call("classy", times.front, hop + chain_ms)
        begins, _ = self.call("classy", times.front, hop)
        fetches, _ = self.call("downloader", times.download, picture + hop)
        prepares, _ = self.call("preprocessor", times.preprocess, hop, event_bytes=len(PICTURE) * 4 // 3)
        classifies, _ = self.call("vgg", times.classify, hop, event_bytes=times.tensor_bytes)
        ends, _ = self.call("classy", times.front)
        recorded = self._prices["dynamodb"]["write_unit"] * self._prices["dynamodb"]["units_of_a_record"]
        return {
            "fused, picture in the body": self.call("fused", fused)[0],
            "the same, recorded in DynamoDB": self.call("fused", fused, record)[0] + recorded,
            "fused, picture from a URL": self.call("fused", fused + times.download, picture)[0],
            "caller-led": stages + led,
            "server-led": waits + chain + classified + asks,
            "continued (uploads)": begins + fetches + prepares + classifies + ends,
        }


def table(found: dict[str, Measured], prices: dict[str, Any]) -> list[str]:
    """Return the page's table."""
    rows = {
        machine: {model: Bill(prices, machine).topologies(times) for model, times in found.items()}
        for machine in ("x86_64", "arm64")
    }
    heads = [f"{NAMES[model]}, {machine}" for model in found for machine in rows]
    low, high = prices["article"]["requests_per_usd"]
    lines = ["| topology | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for topology in next(iter(rows["x86_64"].values())):
        cells = [f"{per_dollar(rows[machine][model][topology]):,}" for model in found for machine in rows]
        lines.append(f"| {topology} | " + " | ".join(cells) + " |")
    lines.append("| the 2018 article |" + f" {low:,}–{high:,} |" * len(heads))
    return lines


def per_dollar(cost: float) -> int:
    """Return how many a dollar pays, to three digits."""
    count = 1 / cost
    return int(round(count, 2 - math.floor(math.log10(count))))


def main() -> int:
    """Measure and print; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--models", default=",".join(GOALS))
    parser.add_argument("--calls", type=int, default=15)
    parser.add_argument("--prices", type=Path, default=ROOT / "deploy" / "aws" / "prices.json")
    parser.add_argument("--write", action="store_true", help="put the table into docs/costs.md")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # as a function of 1,769 MB
    prices = json.loads(args.prices.read_text(encoding="utf-8"))
    found, missed, said = {}, False, []
    for name in args.models.split(","):
        manifest, single = published(name)
        times = found[name] = measured(manifest, (single.parents[1]).as_uri(), args.calls)
        said.append(
            f"{NAMES[name]}: {times.fused:.1f} ms of CPU time a picture: front {times.front:.1f}, "
            f"preprocessor {times.preprocess:.1f}, classifier {times.classify:.1f}"
        )
        count = per_dollar(Bill(prices, "x86_64").topologies(times)["fused, picture in the body"])
        missed |= count < GOALS[name]
        print(f"{said[-1]}\n  {count:,} a dollar, goal {GOALS[name]:,}{'  MISSED' if count < GOALS[name] else ''}")
    lines = table(found, prices)
    print("\n".join(lines))
    if args.write:
        _write([*said, f"({platform.processor() or platform.machine()}, one processor)", "", *lines])
    return int(missed)


def _write(lines: list[str]) -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    made = "\n".join(line + ("  " if line and not line.startswith("|") else "") for line in lines)
    PAGE.write_text(f"{before}{MARKS[0]}{made}\n{MARKS[1]}{rest.split(MARKS[1])[1]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
