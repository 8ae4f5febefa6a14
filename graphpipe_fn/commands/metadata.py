"""graphpipe-fn metadata: what a server says of its model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from graphpipe_fn.messages import DType, IOMetadata
from graphpipe_fn.server import metadata_json
from graphpipe_fn.transports import connect


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add this command's flags."""
    parser.add_argument("uri", metavar="URI", help="http://…, https://…, http+unix://…, fn:APP/FUNCTION, lambda:NAME")
    parser.add_argument("--json", action="store_true", help="as JSON, as a GET answers it")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="(%(default)g)")


def run(options: argparse.Namespace) -> None:
    """Ask, and print."""
    with connect(options.uri, timeout_s=options.timeout) as client:
        about = client.metadata()
    if options.json:
        sys.stdout.buffer.write(metadata_json(about) + b"\n")
        return
    for label, text in (
        ("name", about.name),
        ("version", about.version),
        ("server", about.server),
        ("description", about.description),
    ):
        if text:
            print(f"{label:12}{_plain(text)}")
    _print_table("input", about.inputs)
    _print_table("output", about.outputs)


def _print_table(kind: str, table: Sequence[IOMetadata]) -> None:
    for io in table:
        dtype = "any type" if io.dtype is DType.NULL else io.dtype.name.lower()
        shape = " × ".join("any" if dim < 0 else str(dim) for dim in io.shape) or "any shape"
        print(
            f"{kind:12}{_plain(io.name)}: {dtype}, {shape}" + (f"  ({_plain(io.description)})" * bool(io.description))
        )


def _plain(text: str) -> str:
    """Return a server's text without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
