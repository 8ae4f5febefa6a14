"""
graphpipe-fn: serve a model, put requests together in front of one, and ask one, from the command line.

Only this module reads the environment; each command is a module of its own, imported when it is called.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from graphpipe_fn.errors import GraphPipeError

_COMMANDS = {
    "serve": "serve an ONNX model",
    "echo": "serve a model that gives back what it gets, to try clients with",
    "batch": "put requests together in front of a server",
    "query": "ask a server with files",
    "metadata": "show what a server says of its model",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """
    Run one command.

    Returns:
        0; 1 after an error, which is one line on stderr; 2 where the command line is wrong.
    """
    parser = _Parser(prog="graphpipe-fn", description="Serve and ask models that speak GraphPipe.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    given = list(sys.argv[1:] if argv is None else argv)
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", allow_abbrev=False
        )
        if name in given:  # the other commands' imports are not needed
            import_module(f"graphpipe_fn.commands.{name}").add_arguments(command, environ)
    options = parser.parse_args(given)
    return reported(lambda: import_module(f"graphpipe_fn.commands.{options.command}").run(options))


def reported(run: Callable[[], int | None]) -> int:
    """
    Run a command; tell errors in one line.

    Returns:
        The exit status.
    """
    try:
        return run() or 0
    except GraphPipeError as exc:
        print(f"graphpipe-fn: {' '.join(exc.message.split())}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as exc:
        extra = _EXTRAS.get((exc.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"graphpipe-fn: {exc.name} is not installed; pip install 'classy-fn[{extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


_EXTRAS = {
    "onnxruntime": "onnx",
    "numpy": "tensors",
    "lmdb": "cache",
    "obstore": "storage",
    "PIL": "preprocessor",
}

if __name__ == "__main__":
    sys.exit(main())
