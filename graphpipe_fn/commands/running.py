"""What all commands that serve share: the flags that say where and how, and running until a signal says stop."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping

from graphpipe_fn.adapters.http import Listen, tls_context
from graphpipe_fn.adapters.http_connection import HttpLimits
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.model import Model
from graphpipe_fn.serving import serve

LISTEN = "127.0.0.1:9000"  # the original's port; its default address, too, was this machine only


def add_server_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add the flags of every command that serves."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "-l",
        "--listen",
        default=environ.get("GP_LISTEN", LISTEN),
        metavar="HOST:PORT",
        help="where to listen: HOST:PORT, :PORT for all addresses, or unix:PATH (GP_LISTEN; %(default)s)",
    )
    group.add_argument("--tls-certificate", metavar="FILE", default="", help="serve https with this PEM file")
    group.add_argument("--tls-key", metavar="FILE", default="", help="its key, if that is another file")
    group.add_argument("--rest", action="store_true", help="answer JSON at /rest, too")
    group.add_argument(
        "--limit-mb", type=positive_float, default=128.0, metavar="MB", help="the largest request (%(default)g)"
    )
    group.add_argument(
        "--connections", type=positive_int, default=512, metavar="N", help="open at the same time (%(default)d)"
    )
    group.add_argument(
        "--grace",
        type=positive_float,
        default=30.0,
        metavar="S",
        help="for requests under way at the end (%(default)g)",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="log every request")


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def positive_float(text: str) -> float:
    """Read a number over 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0")
    return value


def listen_of(text: str, *, reuse_port: bool = False) -> Listen:
    """
    Read what --listen says.

    Raises:
        BadConfig: neither HOST:PORT nor unix:PATH.
    """
    if text.startswith("unix:"):
        return Listen(path=text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise BadConfig(f"{text!r} is no place to listen; write HOST:PORT, :PORT or unix:PATH")
    return Listen(host.strip("[]") or "0.0.0.0", int(port), reuse_port=reuse_port)  # noqa: S104 - it was asked for


def serve_until_told(
    model: Model,
    options: argparse.Namespace,
    *,
    name: str,
    close: Callable[[], None] = lambda: None,
    reuse_port: bool = False,
) -> int:
    """
    Serve a model until SIGTERM or SIGINT.

    Args:
        name: The stage, for the `Server-Timing` header.
        close: Called when all requests are answered.

    Returns:
        0; 1 where requests had to be given up.
    """
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )
    done = serve(
        model,
        listen_of(options.listen, reuse_port=reuse_port),
        name=name,
        rest=options.rest,
        tls=tls_context(options.tls_certificate, options.tls_key) if options.tls_certificate else None,
        limits=HttpLimits(body_bytes=int(options.limit_mb * 1e6)),
        connections=options.connections,
        grace_s=options.grace,
        started=lambda server: print(f"{name} is served at {server.uri}", flush=True),
    )
    close()
    if not done:
        print(f"graphpipe-fn: some requests took longer than {options.grace:g} s and were given up", file=sys.stderr)
    return 0 if done else 1
