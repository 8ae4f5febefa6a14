"""The original Python package (PyPI graphpipe), unmodified, in an environment of its own: client and server."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import environment

SCRIPTS = Path(__file__).parent / "original"
# With all dependencies named here, since the package's own pins are for a flatbuffers and a requests that today's
# Python can't import. With a newer flatbuffers than 1.12 it can't write a response, or writes a corrupt one.
PACKAGES = ("graphpipe==1.0.4", "flatbuffers==1.12", "numpy==2.4.6")
REQUESTS = ("requests>=2.32", "urllib3", "idna", "certifi", "charset-normalizer")
# flatbuffers 1.12 asks the module `imp` whether there is a numpy; Python has none since 3.12.
IMP = "def find_module(name):\n    return __import__(name)\n"


class OriginalRaised(Exception):
    """The original client raised: the name of the class, and the exception's arguments."""

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        super().__init__(kind, arguments)
        self.kind, self.arguments = kind, arguments


@dataclass(frozen=True)
class Original:
    """The original `graphpipe.remote`, in a process of its own."""

    process: subprocess.Popen[bytes]

    def call(self, function: str, *arguments: object) -> Any:
        """
        Call one of its functions.

        Raises:
            OriginalRaised: it raised.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((function, arguments), self.process.stdin)
        self.process.stdin.flush()
        what, *told = pickle.load(self.process.stdout)
        if what == "raised":
            raise OriginalRaised(*told)
        return told[0]


def original_python() -> Path:
    """Return the Python of the environment that has the package."""
    python = environment("original-client", ["--no-deps", *PACKAGES, *REQUESTS])
    if sys.version_info >= (3, 12):
        (site,) = python.parents[1].glob("lib/python*/site-packages")
        (site / "imp.py").write_text(IMP)
    return python


@contextmanager
def original_client() -> Iterator[Original]:
    """Start the client's process."""
    process = subprocess.Popen(
        [original_python(), SCRIPTS / "worker.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
    )
    try:
        yield Original(process)
    finally:
        process.communicate(timeout=10)


@contextmanager
def original_identity_server() -> Iterator[str]:
    """Start the package's identity server; yield its URL. What it says of dropped connections is swallowed."""
    process = subprocess.Popen(
        [original_python(), SCRIPTS / "identity_server.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={},
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate(timeout=10)
