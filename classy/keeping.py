"""
What is done beside an answer: its picture kept, its record written, and both forgotten again.

None of it may cost a caller the answer, so whatever goes wrong here is said in the answer and raised to nobody, and a
store that hangs is waited for as long as a gateway's patience allows. A picture is kept before its record is written,
and deleted after it: no record ever tells of a picture that is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

from classy import answers
from classy.errors import RecordsFailed
from classy.exif import About
from classy.kept import KeptPictures
from classy.records.store import RecordStore
from classy.records.values import Classification
from graphpipe_fn.errors import GraphPipeError, InternalError
from graphpipe_fn.messages import Call

log = logging.getLogger(__name__)
WRITE_S = 10.0  # for all records of one call: what a gateway of 29 s leaves beside a slow picture
_writing = threading.BoundedSemaphore(32)  # writes at a time, with those that nobody waits for any more


def keep(kept: KeptPictures | None, told: About, picture: bytes | None, call: Call) -> dict[str, Any]:
    """
    Keep a picture and its thumbnail; return what the answer says of that, nothing where there was nothing to keep.

    Args:
        kept: None where no pictures are kept.
        told: What the stages said of the picture.
        picture: That a caller sent; None for one that can be fetched again.
    """
    if kept is None or not told.sha256 or not (told.thumbnail or picture is not None):
        return {}
    try:
        if picture is not None:
            kept.put(told.sha256, picture)
        if told.thumbnail:
            kept.put_thumbnail(told.sha256, told.thumbnail)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the answer is not lost
        return {"kept": False, "kept_error": _failure(exc, call, "picture not kept")}
    return {"kept": True}


class Writing:
    """
    Write the records of one call, as long as there is time.

    A server that accepts connections and then says nothing holds a write up for half a minute, a migration for
    longer, and a batch would wait for each of its pictures.

    Args:
        call: Whose deadline counts too.
        write_s: For all records together.
    """

    def __init__(self, call: Call, *, write_s: float = WRITE_S) -> None:
        self._call = call
        self._write_s = write_s
        self._spent_s = 0.0

    def recorded(self, record: Callable[[], Classification]) -> dict[str, Any]:
        """Write a record; return what the answer says of that."""
        began_s = time.monotonic()
        left_s = self._write_s - self._spent_s
        if self._call.deadline_s is not None:
            left_s = min(left_s, self._call.deadline_s - began_s)
        try:
            return answers.recorded(_in_time(record, left_s))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the answer is not lost
            return {"recorded": False, "recorded_error": _failure(exc, self._call, "not recorded")}
        finally:
            self._spent_s += time.monotonic() - began_s


def forget(store: RecordStore, kept: KeptPictures | None, record_id: str) -> int:
    """
    Delete a picture: every record of it, its kept bytes and its thumbnail.

    What is about to be done is noted where pictures are kept; then the records go, then the picture. Where this is
    cut short, a second call finishes it.

    Args:
        record_id: Of any of its records; see Classification.identity.

    Returns:
        How many records were deleted.

    Raises:
        RecordsFailed, StorageFailed: a store can't be reached; ask again.
    """
    record = store.get(record_id)
    if kept is None:
        return store.delete_picture(record.picture) if record else 0
    if record:
        picture, sha256 = record.picture, record.picture_sha256
        kept.mark(record_id, picture=picture, sha256=sha256)
    else:
        marked = kept.marked(record_id)
        if marked is None:
            return 0
        picture, sha256 = marked
    count = store.delete_picture(picture)
    kept.delete(sha256)
    kept.unmark(record_id)
    return count


def _in_time(record: Callable[[], Classification], left_s: float) -> Classification:
    """
    Return what a write returns, or raise what it raises; one that takes too long is left to itself.

    Raises:
        RecordsFailed: it takes too long.
    """
    late = RecordsFailed(
        "the record store did not answer in time; whether it wrote the record after all, GET api/records tells. "
        "See whether it is overloaded, out of reach, or being migrated"
    )
    if left_s <= 0 or not _writing.acquire(timeout=left_s):
        raise late
    outcomes: SimpleQueue[Classification | Exception] = SimpleQueue()

    def write() -> None:
        try:
            outcomes.put(record())
        except Exception as exc:  # noqa: BLE001 - raised where somebody waits for it
            outcomes.put(exc)
        finally:
            _writing.release()

    # A daemon: a process that is told to end does not wait for a store that hangs.
    threading.Thread(target=copy_context().run, args=(write,), name="record", daemon=True).start()
    try:
        outcome = outcomes.get(timeout=left_s)
    except Empty:
        raise late from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _failure(exc: Exception, call: Call, what: str) -> dict[str, Any]:
    """Log why something beside the answer could not be done; return what the caller is told."""
    if isinstance(exc, GraphPipeError):
        log.warning("call %s: %s: %d %s", call.id, what, exc.code, exc.message)
        return {"code": exc.code, "message": exc.message}
    log.error("call %s: %s", call.id, what, exc_info=exc)
    return {"code": InternalError.code, "message": f"internal error, call {call.id}; the log has the detail"}
