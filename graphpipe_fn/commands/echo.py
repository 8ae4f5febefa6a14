"""graphpipe-fn echo: a server to try clients with."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from graphpipe_fn.commands.running import add_server_arguments, serve_until_told
from graphpipe_fn.messages import InferRequest, InferResponse, IOMetadata, Metadata


class Echo:
    """Be the model that gives back its inputs, however many and whatever they are."""

    def metadata(self) -> Metadata:
        """Describe one input and one output of any kind."""
        return Metadata(
            name="echo",
            server="graphpipe-fn",
            description="Gives back what it gets.",
            inputs=(IOMetadata("input"),),
            outputs=(IOMetadata("output"),),
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """Return the inputs, in order."""
        return InferResponse(request.inputs)


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add this command's flags."""
    add_server_arguments(parser, environ)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return serve_until_told(Echo(), options, name="echo")
