"""
Fuzz the codec, guided by coverage: any bytes are refused with our own error, or survive being written again.

    python fuzz/fuzz_codec.py -max_total_time=60
    python fuzz/fuzz_codec.py build/fuzz/crash-…        # one input again

Needs atheris (PyPI; Linux and macOS). All arguments are libFuzzer's. The corpus grows in build/fuzz/corpus from the
captures in tests/golden; an input that breaks a rule is left in build/fuzz.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
WORK = ROOT / "build" / "fuzz"
SECONDS_PER_MB = 0.05

try:
    import atheris
except ImportError:
    sys.exit("fuzzing needs atheris, which is not installed here; run: pip install atheris")

sys.path.insert(0, str(ROOT / "tests"))
with atheris.instrument_imports(include=["graphpipe_fn"]):
    from codec_invariants import CODECS, survives

KINDS = list(CODECS)


def fuzz_one(data: bytes) -> None:
    """Try one input: its first byte says what it is read as, the rest is the message."""
    if not data:
        return
    begin = time.thread_time()
    survives(KINDS[data[0] % len(KINDS)], data[1:])
    seconds = time.thread_time() - begin
    # Instrumented code runs several times slower; what is looked for here is not a factor but a power.
    limit = 10 * SECONDS_PER_MB * max(1.0, len(data) / 1e6)
    assert seconds < limit, f"{len(data)} bytes took {seconds * 1e3:.0f} ms"


def seed(corpus: Path) -> None:
    """Write the captures as first inputs."""
    corpus.mkdir(parents=True, exist_ok=True)
    for entry in json.loads((GOLDEN / "manifest.json").read_text()):
        if entry["kind"] in CODECS:
            body = (GOLDEN / entry["file"]).read_bytes()
            (corpus / entry["file"]).write_bytes(bytes([KINDS.index(entry["kind"])]) + body)
    for file in (GOLDEN / "corrupt").iterdir():
        (corpus / file.name).write_bytes(bytes([KINDS.index("infer_request")]) + file.read_bytes())


def main() -> None:
    """Run until an input breaks a rule, or as long as the arguments say."""
    arguments = sys.argv[1:]
    if all(argument.startswith("-") for argument in arguments):
        seed(WORK / "corpus")
        arguments.append(str(WORK / "corpus"))
    atheris.Setup([sys.argv[0], f"-artifact_prefix={WORK}/", "-timeout=10", *arguments], fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
