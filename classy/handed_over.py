"""
Where messages wait that are too large for AWS Lambda: objects that nobody deletes but the bucket's lifecycle rule.

Source: AWS, Lambda quotas: 6 MB for a call that is waited for, 1 MB for one that is not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from graphpipe_fn.model import Buffer

if TYPE_CHECKING:
    from classy.objects import ObjectStorage

TIMEOUT_S = 30.0  # for one message, at most some 40 MB


class ObjectHandover:
    """
    Be a graphpipe_fn.handover.Handover in object storage.

    Args:
        storage: Opens the storage, at the first message that needs it: most fit their road.
        place: `s3://BUCKET[/PREFIX]`, the same for every function.
    """

    def __init__(self, storage: Callable[[], ObjectStorage], place: str) -> None:
        self._open = storage
        self._place = place.rstrip("/")

    @cached_property
    def _storage(self) -> ObjectStorage:
        return self._open()

    def put(self, buffers: Sequence[Buffer]) -> str:
        """
        Keep a message; return its name.

        Raises:
            StorageFailed: the storage can't be reached, or refuses.
        """
        name = os.urandom(16).hex()
        self._storage.put(f"{self._place}/{name}", b"".join(buffers))
        return name

    def take(self, name: str, *, limit_bytes: int) -> Buffer:
        """
        Return the message of a name; it stays, for a platform may deliver the same event twice.

        Raises:
            SourceNotFound: there is none; the lifecycle rule may have been faster than the queue.
            TooLarge: it has more than `limit_bytes`.
            StorageFailed, SourceTimedOut: the storage can't be reached, refuses, or is slow.
        """
        uri = f"{self._place}/{name}"
        return self._storage.get(uri, limit_bytes=limit_bytes, deadline_s=time.monotonic() + TIMEOUT_S)
