from __future__ import annotations

from pathlib import Path

import pytest

import classy.errors
import classy.local.functions
import classy.local.ports
import classy.local.state
import graphpipe_fn.errors
from graphpipe_fn.errors import GraphPipeError, RemoteError, status_of

PAGE = (Path(__file__).parent.parent / "docs" / "errors.md").read_text()
KINDS = [
    kind
    for module in (graphpipe_fn.errors, classy.errors, classy.local.functions, classy.local.ports, classy.local.state)
    for kind in vars(module).values()
    if isinstance(kind, type)
    and issubclass(kind, GraphPipeError)
    and kind.__module__ == module.__name__
    and kind not in (GraphPipeError, RemoteError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_on_the_page_with_its_code(kind: type[GraphPipeError]) -> None:
    """Who meets a code finds what to do about it."""
    assert f"| {kind.code} | {kind.__name__} |" in PAGE


def test_no_two_errors_share_a_code() -> None:
    """A code is enough to know the error."""
    codes = [kind.code for kind in KINDS if "code" in vars(kind)]  # the others are their parent's special cases
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize(
    ("code", "status"), [(40001, 400), (42211, 422), (50711, 507), (0, 502), (7, 502), (200, 502), (99999, 502)]
)
def test_the_status_follows_from_the_code(code: int, status: int) -> None:
    """A foreign server's code, of whatever scheme, is a bad gateway."""
    assert status_of(code) == status
