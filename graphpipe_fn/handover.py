"""
Handover: how a message that is too large for its road waits elsewhere, and only its name travels.

Both ends of the road are told the same place (object storage, a shared folder), so a name can't lead anywhere else.
Nothing is deleted when it is taken: a platform may deliver the same event twice. Whoever keeps the place lets it
forget after a day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from graphpipe_fn.model import Buffer

HEADER = "graphpipe-handover"  # the name under which a body waits; the body that travels is empty
TAKES = "graphpipe-takes-handover"  # "1" where the caller can fetch an answer in the same way
HANDED_ON = "graphpipe-handed-on"  # "1" where nobody waits for an answer: a failure is the platform's to try again
NAME_PATTERN = re.compile(r"[0-9a-f]{32}")


class Handover(Protocol):
    """A place where messages wait for the other end; used from several threads at once."""

    def put(self, buffers: Sequence[Buffer]) -> str:
        """
        Keep a message.

        Returns:
            Its name: 32 hex digits that nobody can guess.

        Raises:
            GraphPipeError: the place can't be reached, or refuses.
        """
        ...

    def take(self, name: str, *, limit_bytes: int) -> Buffer:
        """
        Return the message of a name.

        Raises:
            TooLarge: it has more than `limit_bytes`.
            GraphPipeError: there is none, or the place can't be reached.
        """
        ...
