"""
Measure what a thumbnail adds to the Preprocessor's stage.

    python bench/thumbnails.py [--rounds 31]

The stage as Classy asks it where records are kept (pixels, SHA-256, EXIF), with a thumbnail and without, taking turns
on made-up photos; printed are the medians of the CPU times, what the thumbnail adds, and its bytes. Ends with 1 where
it adds over 0.2 at 2 Mpx or 0.1 at 12 Mpx; at 0.3 Mpx it is shown only, for there decoding costs little itself.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
from functools import partial

from pictures import SPEC, cpu_s, jpeg, photo

from classy.exif import about_line
from classy.images import prepared_all
from classy.stages import Preprocessor
from graphpipe_fn.messages import InferRequest, InferResponse, StringTensor, strings
from graphpipe_fn.routed import encode_config
from graphpipe_fn.rows import ABOUT, ERRORS

SIZES = {"0.3 Mpx": (640, 480, None), "2 Mpx": (1632, 1224, 0.2), "12 Mpx": (4000, 3000, 0.1)}
STAGE = Preprocessor(lambda ref: SPEC, prepared_all, about=about_line)


def ask(file: bytes, thumbnail_px: int) -> InferResponse:
    """Prepare one picture as Classy has it prepared."""
    config = encode_config((), model="m@1", **({"thumbnail_px": thumbnail_px} if thumbnail_px else {}))
    return STAGE.infer(InferRequest((strings([file]),), output_names=("", ERRORS, ABOUT), config=config))


def main() -> int:
    """Print the comparison; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    rounds, missed = parser.parse_args().rounds, False
    print("picture    without       with        adds   goal   thumbnail")
    for name, (width, height, goal) in SIZES.items():
        file = jpeg(photo(width, height))
        times: dict[int, list[float]] = {0: [], 160: []}
        for _ in range(rounds):
            for thumbnail_px, taken in times.items():
                taken.append(cpu_s(partial(ask, file, thumbnail_px)))
        without, with_ = (statistics.median(taken) for taken in times.values())
        told = ask(file, 160).outputs[2]
        assert isinstance(told, StringTensor)
        size = len(base64.b64decode(json.loads(told[0])["thumbnail"]))
        added = with_ / without - 1
        miss = goal is not None and added > goal
        print(
            f"{name:7}  {without * 1e3:6.1f} ms  {with_ * 1e3:6.1f} ms  {added:9.2f}  {f'≤ {goal}' if goal else '':6}"
            f"   {size:6,} bytes" + ("   MISSED" if miss else "")
        )
        missed |= miss
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
