"""graphpipe-fn query: ask a server with files, and show or keep what it answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from graphpipe_fn.commands.answers import write_answer
from graphpipe_fn.commands.questions import read_inputs
from graphpipe_fn.messages import InferRequest
from graphpipe_fn.transports import connect


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add this command's flags."""
    parser.add_argument("uri", metavar="URI", help="http://…, https://…, http+unix://…, fn:APP/FUNCTION, lambda:NAME")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="[NAME=]FILE",
        help="one per input: .npy, .npz (several inputs by name), .json, or a picture; - reads JSON from stdin",
    )
    parser.add_argument(
        "-o", "--output", action="append", default=[], metavar="NAME", help="what is wanted (the model's default)"
    )
    parser.add_argument("--config", default="", metavar="TEXT", help="the request's config string")
    parser.add_argument(
        "-f", "--format", choices=("table", "json", "npy"), help="of the answer (table; npy with --to FILE)"
    )
    parser.add_argument("--to", metavar="FILE", help="where the answer goes (stdout)")
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="values shown of each row in a table, the largest (%(default)d)",
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="(%(default)g)")


def run(options: argparse.Namespace) -> None:
    """Ask, and write the answer."""
    with connect(options.uri, timeout_s=options.timeout) as client:
        names, tensors = read_inputs(options.files, client.metadata)
        response = client.infer(InferRequest(tensors, names, tuple(options.output), options.config))
        known = [] if options.output else [io.name for io in client.metadata().outputs]
    labels = options.output or known
    labels = [*labels, *(f"output{place}" for place in range(len(labels), len(response.outputs)))]
    outputs = dict(zip(labels, response.outputs, strict=False))
    write_answer(outputs, options.format or ("npy" if options.to else "table"), options.to, top=options.top)
    if not options.to:
        sys.stdout.flush()
