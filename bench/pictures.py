"""
Measure how a JPEG becomes a classifier input beside what a newcomer writes with Pillow.

    python bench/pictures.py [--rounds 15] [--costs]

The plain way is Pillow's full decode, EXIF turn, bicubic resize, centre crop and normalisation in floats. Both take
turns on the same made-up photos of 2 and 12 Mpx; printed are the medians of the rounds' CPU times, their ratio, what
each adds to the memory of a fresh process, and how far the results are apart. Ends with 1 where a goal is missed:
half of the plain way's CPU time at 2 Mpx, 0.35 of it at 12 Mpx.

With --costs it prints instead what decoding costs per byte, per pixel and per visited block, the numbers from which
classy.picture_* estimates a picture's time.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from classy.images import PictureLimits, classifier_input
from classy.models.manifest import InputSpec

SPEC = InputSpec("images", 224, 224, 256, mean=(127.0,) * 3, deviation=(128.0,) * 3)
GOALS = {"2 Mpx": (1632, 1224, 0.5), "12 Mpx": (4000, 3000, 0.35)}
SEED = 7


def photo(width: int, height: int) -> Image.Image:
    """Return a picture whose detail falls off as a photo's does."""
    rng = np.random.default_rng(SEED)
    total = np.full((height, width, 3), 128.0, np.float32)
    for step, share in ((1, 0.05), (4, 0.12), (16, 0.35), (64, 0.8)):
        noise = Image.fromarray(rng.integers(0, 256, (height // step, width // step, 3), dtype=np.uint8))
        total += (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128) * share
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    """Return a JPEG as phones write it: quality 88, chroma halved."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88, **options)
    return file.getvalue()


def plain(file: bytes) -> np.ndarray:
    """Decode, turn, resize, crop and normalise, the way it is usually written."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224))) / 255.0
    normal = (pixels - np.array([127 / 255] * 3)) / np.array([128 / 255] * 3)
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def ours(file: bytes) -> np.ndarray:
    """Decode as the preprocessor does."""
    return classifier_input(file, SPEC)


WAYS: dict[str, Callable[[bytes], np.ndarray]] = {"plain": plain, "ours": ours}


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _status(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


def grown_mb(way: str, path: Path) -> float:
    """Return what one picture adds to the peak memory of a process that has done a small one before."""
    run = subprocess.run([sys.executable, __file__, "--grow", way, path], capture_output=True, check=True, text=True)
    return float(run.stdout)


def grow(way: str, path: Path) -> None:
    """Be that process."""
    WAYS[way](jpeg(Image.new("RGB", (64, 64))))
    file, before = path.read_bytes(), _status("VmHWM")
    WAYS[way](file)
    print((_status("VmHWM") - before) / 1024)


def compare(rounds: int) -> int:
    """Print the comparison; return 1 where a goal is missed."""
    missed = False
    print("picture    plain      ours       ratio  goal   memory plain / ours   apart, mean / most")
    for name, (width, height, goal) in GOALS.items():
        file = jpeg(photo(width, height))
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, work in WAYS.items():
                times[way].append(cpu_s(partial(work, file)))
        middle = {way: statistics.median(values) for way, values in times.items()}
        ratio = middle["ours"] / middle["plain"]
        apart = np.abs(ours(file) - plain(file)) * 128
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photo.jpg"
            path.write_bytes(file)
            memory = {way: grown_mb(way, path) for way in WAYS}
        print(
            f"{name:7}  {middle['plain'] * 1e3:6.1f} ms  {middle['ours'] * 1e3:6.1f} ms  {ratio:9.2f}  ≤ {goal:4}"
            f"   {memory['plain']:6.1f} / {memory['ours']:.1f} MB"
            f"        {apart.mean():.2f} / {apart.max():.0f} grey levels" + ("" if ratio <= goal else "   MISSED")
        )
        missed |= ratio > goal
    return int(missed)


def costs() -> None:
    """Print what decoding costs, least of five, for the constants of the estimates."""
    from classy.pictures.guard import inspect

    image = photo(4000, 3000)
    limits = PictureLimits(bytes=10**9)
    clear = image.copy()
    clear.putalpha(image.getchannel(0))
    kinds: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", image, {}), ("JPEG", image, {"progressive": True, "subsampling": 0}), ("PNG", image, {}),
        ("PNG", clear, {}), ("GIF", image.quantize(), {}), ("BMP", image, {}), ("WEBP", image, {"quality": 80}),
    ]  # fmt: skip
    print("format   px          bytes      measured   estimated")
    for name, picture, options in kinds:
        file = io.BytesIO()
        picture.save(file, name, **options)  # type: ignore[arg-type]
        data = file.getvalue()
        plan = inspect(data, limits)
        work = partial(classifier_input, data, SPEC, limits=limits, exact=True)
        took = min(cpu_s(work) for _ in range(5))
        print(f"{name:6} {plan.px:11,} {len(data):11,}  {took * 1e3:7.0f} ms  {plan.cost_s * 1e3:7.0f} ms  {options}")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--costs", action="store_true", help="print the costs behind the estimates instead")
    parser.add_argument("--grow", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.grow:
        grow(args.grow[0], Path(args.grow[1]))
        return 0
    if args.costs:
        costs()
        return 0
    return compare(args.rounds)


if __name__ == "__main__":
    sys.exit(main())
