"""
A process that decodes pictures and says what each one cost: run as a program, or driven by `Measurer`.

It holds nothing but classy.images, so that its memory is the decoders', and its CPU time counts with that of the
processes that it starts.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

import numpy as np

from classy.models.manifest import InputSpec


@dataclass(frozen=True)
class Measured:
    """
    What came of one picture.

    Args:
        error: The error's class, "" where the picture was read.
        message: The error's.
        cpu_s: Of the process and its children, in seconds.
        grown_bytes: What the process's peak was over what it held before.
        child_bytes: The peak of its largest child so far.
        values: The classifier input.
    """

    error: str
    message: str
    cpu_s: float
    grown_bytes: int
    child_bytes: int
    values: np.ndarray | None


class Measurer:
    """Drive the process."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", "from pictures.measure import main; main()"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        assert self._process.returncode == 0 or error is not None

    def measure(self, picture: bytes, spec: InputSpec) -> Measured:
        """Have one picture decoded."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asdict(spec), "bytes": len(picture)}).encode() + b"\n" + picture)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the measuring process has died"
        said = json.loads(line)
        count = 4 * spec.height_px * spec.width_px * spec.channels
        values = None
        if not said["error"]:
            values = np.frombuffer(self._process.stdout.read(count), np.float32).reshape(spec.row_shape)
        return Measured(**said, values=values)


def _memory(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Read specs and pictures from standard input; write measurements and classifier inputs to standard output."""
    from classy.images import classifier_input
    from graphpipe_fn.errors import GraphPipeError

    warnings.simplefilter("error")  # a warning would be lost in a function's log; none may come
    while line := sys.stdin.buffer.readline():
        task = json.loads(line)
        picture = sys.stdin.buffer.read(task.pop("bytes"))
        spec = InputSpec(**{**task, "mean": tuple(task["mean"]), "deviation": tuple(task["deviation"])})
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak so far
        before, started_s = _memory("VmRSS"), _cpu_s()
        said, values = {"error": "", "message": ""}, b""
        try:
            values = classifier_input(picture, spec).tobytes()
        except GraphPipeError as error:
            said = {"error": type(error).__name__, "message": error.message}
        cost = {
            "cpu_s": _cpu_s() - started_s,
            "grown_bytes": _memory("VmHWM") - before,
            "child_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        }
        sys.stdout.buffer.write(json.dumps({**said, **cost}).encode() + b"\n" + values)
        sys.stdout.buffer.flush()
