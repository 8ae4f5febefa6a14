"""
The original client (PyPI graphpipe), called from another process: run with the Python of its own environment.

Calls come on stdin and answers go to stdout, pickled: ("execute", (uri, array)) → ("returned", value) or
("raised", class name, arguments).
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

from graphpipe import remote


def described(metadata: Any) -> dict[str, Any]:
    """Return a MetadataResponse's fields as the package's own accessors tell them."""
    ios = {
        "inputs": [metadata.Inputs(place) for place in range(metadata.InputsLength())],
        "outputs": [metadata.Outputs(place) for place in range(metadata.OutputsLength())],
    }
    return {
        **{field: getattr(metadata, field.title())() for field in ("name", "version", "server", "description")},
        **{
            field: [(io.Name(), io.Description(), io.ShapeAsNumpy().tolist(), io.Type()) for io in found]
            for field, found in ios.items()
        },
    }


def answer(function: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Call one of the client's functions."""
    try:
        value = getattr(remote, function)(*arguments)
        return "returned", described(value) if function == "metadata" else value
    except Exception as exc:  # noqa: BLE001 - raised again in the test
        return "raised", type(exc).__name__, exc.args


def main() -> None:
    """Answer calls until the input ends."""
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(function, arguments), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
