"""graphpipe-fn batch: put requests together in front of another server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from graphpipe_fn.batch import Batched
from graphpipe_fn.commands.running import add_server_arguments, positive_float, positive_int, serve_until_told
from graphpipe_fn.transports import connect


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add this command's flags."""
    parser.add_argument(
        "--target",
        "--target-url",
        required="GP_TARGET" not in environ,
        default=environ.get("GP_TARGET"),
        metavar="URI",
        help="the server that is asked: any URI that graphpipe-fn query takes (GP_TARGET)",
    )
    group = parser.add_argument_group("batches")
    group.add_argument(
        "--batch-size", type=positive_int, default=10, metavar="ROWS", help="rows of one (%(default)d)"
    )
    group.add_argument(
        "--timeout",
        type=positive_float,
        default=250.0,
        metavar="MS",
        help="how long the first request of a batch waits for others, in milliseconds (%(default)g)",
    )
    group.add_argument("--workers", type=positive_int, default=1, metavar="N", help="at the same time (%(default)d)")
    group.add_argument(
        "--queue",
        type=positive_int,
        default=1000,
        metavar="ROWS",
        help="rows that may wait; more get 429 (%(default)d)",
    )
    add_server_arguments(parser, environ)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    client = connect(options.target, connections=options.workers)
    client.metadata()  # a wrong address is told now, not at the first request
    batched = Batched(
        client,
        max_rows=options.batch_size,
        max_wait_s=options.timeout / 1000,
        workers=options.workers,
        queue_rows=options.queue,
    )

    def close() -> None:
        batched.close()
        client.close()

    return serve_until_told(batched, options, name="batch", close=close)
