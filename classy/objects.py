"""
Objects of a storage by URI: `s3://bucket/key` of anything that speaks S3, and `file:///folder/file`.

What it is asked to open is trusted: it guards nobody's buckets and no folder (download does). Keys are taken as
they are, without percent-encoding; the paths of file URIs are percent-encoded.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from classy import files
from classy.errors import SourceReplaced, SourceTimedOut
from classy.ranges import Ranges, has_proxy
from classy.s3 import (
    S3,
    SEND_S,
    STALL_S,
    BehindTheEnd,
    Storage,
    bucket_and_key,
    is_another,
    open_bucket,
    translated,
)
from classy.urls import shown_url
from graphpipe_fn.errors import TooLarge

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import S3Store

__all__ = ["ObjectStorage", "Storage"]

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 256 << 10  # sent within STALL_S at 0.4 Mbit/s
SIGNED_FOR = timedelta(minutes=10)  # clocks differ by some
PART_BYTES = 8 << 20  # of a multipart upload; AWS's guideline is 8 to 16 MB
_T = TypeVar("_T")


class ObjectStorage:
    """
    Read and write objects; safe to call from several threads at once.

    Args:
        storage: Used by s3:// URIs; file:// URIs need none.
    """

    def __init__(self, storage: Storage = Storage()) -> None:
        self._storage = storage
        self._stores: dict[tuple[str, float], S3Store] = {}

    def get(
        self,
        uri: str,
        *,
        limit_bytes: int,
        deadline_s: float | None = None,
        admit: Callable[[int], None] = lambda size: None,
        version: str = "",
        etag: str = "",
    ) -> bytes:
        """
        Return an object.

        Args:
            limit_bytes: A larger one is refused, by its declared size unread.
            deadline_s: On `time.monotonic()`'s scale.
            admit: Told the size before the object is read; what it raises, get() raises. file:// asks it nothing.
            version: Which one of the key's; the newest unless given. file:// has none.
            etag: What the object must be, see classy.s3.is_another; anything unless given. file:// has none.

        Raises:
            SourceNotFound: no such object, version or bucket.
            SourceReplaced: its etag is another one.
            TooLarge: over the limit.
            StorageFailed: unreachable, or it refuses us.
            SourceTimedOut: the deadline passed.
            UnusableURL: no URI of an object.
        """
        if _is_file(uri):
            return files.read(uri, limit_bytes=limit_bytes)
        bucket, key = bucket_and_key(uri)
        stopped = threading.Event()

        def read() -> bytes:
            import obstore

            answer = obstore.get(self._store(bucket), key, options={"version": version} if version else {})
            if is_another(etag, answer.meta["e_tag"]):
                raise SourceReplaced(
                    f"{shown_url(uri)} was overwritten since it was announced, so what it was can't be had; "
                    "what it is now is announced by itself"
                )
            return _received(answer, uri, limit_bytes, admit, stopped)

        return self._ask(uri, read, deadline_s, stopped)

    def get_range(self, uri: str, start: int, length: int, *, deadline_s: float | None = None) -> memoryview:
        """
        Return a piece of an object: fewer bytes than `length` where the object ends sooner, none behind its end.

        Raises:
            SourceNotFound, StorageFailed, SourceTimedOut, UnusableURL: as get() does.
        """
        if start < 0 or length < 0:
            raise ValueError(f"a range starts at 0 or later and is not shorter than 0; got {start}, {length}")
        if _is_file(uri):
            return memoryview(files.read_range(uri, start, length))
        bucket, key = bucket_and_key(uri)
        if length == 0:
            return memoryview(b"")

        def read() -> memoryview:
            import obstore

            return memoryview(obstore.get_range(self._store(bucket), key, start=start, length=length))

        try:
            return self._ask(uri, read, deadline_s)
        except BehindTheEnd:
            return memoryview(b"")

    def ranges(self, uri: str) -> Ranges | None:
        """
        Return what receives an object's ranges in place; None where only get_range() reads.

        Raises:
            UnusableURL: no URI of an object.
        """
        if _is_file(uri) or has_proxy():
            return None
        bucket, key = bucket_and_key(uri)

        def sign() -> str:
            import obstore

            return obstore.sign(self._store(bucket), "GET", key, SIGNED_FOR)

        return Ranges(sign)

    def size(self, uri: str, *, deadline_s: float | None = None) -> int:
        """
        Return an object's size in bytes.

        Raises:
            SourceNotFound, StorageFailed, SourceTimedOut, UnusableURL: as get() does.
        """
        if _is_file(uri):
            return files.size(uri)
        return self._head(uri, deadline_s)["size"]

    def modified(self, uri: str, *, deadline_s: float | None = None) -> float:
        """
        Return when an object was last written, in seconds since 1970; S3 counts whole ones.

        Raises:
            SourceNotFound, StorageFailed, SourceTimedOut, UnusableURL: as get() does.
        """
        if _is_file(uri):
            return files.modified(uri)
        return self._head(uri, deadline_s)["last_modified"].timestamp()

    def put(self, uri: str, data: bytes, *, if_absent: bool = False, content_type: str = "") -> bool:
        """
        Write an object, all of it or nothing.

        Args:
            if_absent: Leave an object alone that is there already; of several writers at once, one wins.
            content_type: The media type that the object is served with; file:// keeps none.

        Returns:
            Whether it was written: False only for `if_absent`.

        Raises:
            SourceNotFound, StorageFailed, UnusableURL: as get() does.
        """
        if _is_file(uri):
            return files.write(uri, data, if_absent=if_absent)
        bucket, key = bucket_and_key(uri)

        def write() -> bool:
            import obstore
            from obstore.exceptions import AlreadyExistsError

            try:
                obstore.put(
                    self._store(bucket, SEND_S if len(data) > SMALL_BYTES else STALL_S),
                    key,
                    data,
                    attributes={"Content-Type": content_type} if content_type else None,
                    mode="create" if if_absent else "overwrite",
                    use_multipart=len(data) > 4 * PART_BYTES and not if_absent,
                    chunk_size=PART_BYTES,
                )
            except AlreadyExistsError:
                return False
            return True

        return self._ask(uri, write, None)

    def delete(self, uri: str) -> None:
        """
        Delete an object, if it is there.

        Raises:
            StorageFailed, UnusableURL: as get() does.
        """
        if _is_file(uri):
            files.delete(uri)
            return
        bucket, key = bucket_and_key(uri)

        def remove() -> None:
            import obstore

            with suppress(FileNotFoundError):  # S3 itself never says so; others may
                obstore.delete(self._store(bucket), key)

        self._ask(uri, remove, None)

    def list(self, prefix: str) -> list[str]:
        """
        Return the URIs of all objects in a folder and the folders below it, sorted; none where there is no folder.

        Args:
            prefix: The folder's URI; `s3://bucket/a` means `a/…`, not `ab`.

        Raises:
            SourceNotFound, StorageFailed, UnusableURL: as get() does.
        """
        if _is_file(prefix):
            return files.listed(prefix)
        bucket, _, folder = prefix.removeprefix(S3).partition("/")
        bucket_and_key(f"{S3}{bucket}/{folder.strip('/') or 'any'}")

        def collect() -> list[str]:
            import obstore

            found = obstore.list(self._store(bucket), folder.strip("/") or None)
            return sorted(f"{S3}{bucket}/{entry['path']}" for page in found for entry in page)

        return self._ask(prefix, collect, None)

    def _head(self, uri: str, deadline_s: float | None) -> ObjectMeta:
        bucket, key = bucket_and_key(uri)

        def head() -> ObjectMeta:
            import obstore

            return obstore.head(self._store(bucket), key)

        return self._ask(uri, head, deadline_s)

    def _store(self, bucket: str, stall_s: float = STALL_S) -> S3Store:
        store = self._stores.get((bucket, stall_s))
        if store is None:
            opened = open_bucket(self._storage, bucket, stall_s=stall_s)
            store = self._stores.setdefault((bucket, stall_s), opened)
        return store

    def _ask(
        self, uri: str, call: Callable[[], _T], deadline_s: float | None, stopped: threading.Event | None = None
    ) -> _T:
        """Run a call of obstore's, in a thread where there is a deadline, and translate what it raises."""
        if deadline_s is None:
            return translated(self._storage, uri, call)
        results: list[_T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(translated(self._storage, uri, call))
            except BaseException as exc:  # noqa: BLE001 - handed to the thread that waits
                errors.append(exc)
            finally:
                done.set()

        left_s = deadline_s - time.monotonic()
        if left_s > 0:
            threading.Thread(target=run, name="object", daemon=True).start()
        if left_s <= 0 or not done.wait(left_s):
            if stopped is not None:
                stopped.set()  # obstore can't be cancelled; what it has begun ends at the next chunk
            raise SourceTimedOut(
                f"{shown_url(uri)} was too slow: the {max(round(left_s, 2), 0):g} s for it were over; try again"
            )
        if errors:
            raise errors[0]
        return results[0]


def _received(
    answer: GetResult, uri: str, limit_bytes: int, admit: Callable[[int], None], stopped: threading.Event
) -> bytes:
    size = answer.meta["size"]
    if size > limit_bytes:
        raise TooLarge(f"{shown_url(uri)} has {size:,} bytes; the limit is {limit_bytes:,}")
    admit(size)
    data = io.BytesIO()  # its value is no copy
    for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
        data.write(chunk)
        if stopped.is_set():
            break  # nobody waits for it any more
        if data.tell() > size:
            raise TooLarge(f"{shown_url(uri)} has over {size:,} bytes, which it was said to have; try again")
    return data.getvalue()


def _is_file(uri: str) -> bool:
    return uri.startswith(files.SCHEME)
