"""
URIs to bytes: the only module that opens what a caller names.

http(s) URLs go through guarded_http, once per redirect; s3:// URIs through objects, and only for the buckets that a
setting names. It decodes no picture. What is fetched must be a success, of a bounded size, before a deadline, and
no web page; whether it is a picture, images finds out.
"""

from __future__ import annotations

import io
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from classy.dialling import Allowance, Resolve, default_tls, system_resolve
from classy.errors import (
    PictureTooLarge,
    SourceFailed,
    SourceNotFound,
    UnreadablePicture,
    UnusableURL,
    batch_too_large,
)
from classy.guarded_http import Answer, exchange
from classy.networks import Opened
from classy.urls import URL, parse_url, shown_url
from graphpipe_fn.errors import GraphPipeError, InternalError, TooLarge
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from classy.objects import ObjectStorage

BUCKETS_SETTING = "CLASSY_BUCKETS"
HEADERS = (
    ("User-Agent", "classy/0.1.0"),
    ("Accept", "image/*,*/*;q=0.5"),
    ("Accept-Encoding", "identity"),
)
WIRE_SLACK_BYTES = 1_000_000  # headers of every hop, framing and encryption
WEB_PAGES = frozenset({"text/html", "application/xhtml+xml"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REASONS = {
    401: "it wants a password",
    402: "it wants a payment",
    403: "it does not give this file to everyone",
    405: "it does not let this file be fetched",
    429: "it has had too many requests",
    451: "it may not give this file out",
    500: "it is broken",
    502: "it is broken",
    503: "it is overloaded or down",
    504: "it is overloaded or down",
}


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """
    What fetching may cost.

    Args:
        timeout_s: For one URI with all its redirects.
        limit_bytes: Of one file, on the wire and unpacked.
        redirects: Followed at most; those from https to http too, as long as the address is public.
        parallel: URIs fetched at the same time.
        batch_bytes: Of all files of one fetch_all() together, but one file of `limit_bytes` always fits. A function
            holds up to four times as much: the files, the answer made of them, and what its FDK makes of that.
    """

    timeout_s: float = 20.0
    limit_bytes: int = 20_000_000
    redirects: int = 5
    parallel: int = 8
    batch_bytes: int = 48_000_000


class Fetcher:
    """
    Fetch what callers name.

    Args:
        limits: What one fetch, and all of a batch, may cost.
        opened: Addresses and ports beside the public ones.
        storage: Where s3:// URIs are read; None where no bucket is allowed.
        buckets: Those that callers may read, and no others: a function's own credentials open more than its callers
            should see.
        resolve: Looks names up.
        tls: Makes the context for https.
    """

    def __init__(
        self,
        *,
        limits: DownloadLimits = DownloadLimits(),
        opened: Opened = Opened(),
        storage: ObjectStorage | None = None,
        buckets: Collection[str] = frozenset(),
        resolve: Resolve = system_resolve,
        tls: Callable[[], ssl.SSLContext] = default_tls,
    ) -> None:
        self._limits = limits
        self._opened = opened
        self._storage = storage
        self._buckets = frozenset(buckets)
        self._resolve = resolve
        self._tls = tls

    def fetch(self, uri: str, *, deadline_s: float | None = None) -> bytes:
        """
        Return the file at a URI.

        Args:
            uri: `http(s)://…`, or `s3://bucket/key` of an allowed bucket, pinned or not (see classy.s3.pinned).
            deadline_s: On `time.monotonic()`'s scale; `limits.timeout_s` applies as well.

        Raises:
            UnusableURL, ForbiddenAddress: it is not fetched at all.
            SourceFailed, SourceNotFound, SourceTimedOut, PictureTooLarge: its server's doing.
            SourceReplaced: it is not the object any more that its URI is pinned to.
            StorageFailed: the object storage's.
        """
        return self._fetch(uri, deadline_s, self._budget())

    def fetch_all(self, uris: Sequence[str], *, deadline_s: float | None = None) -> list[bytes | GraphPipeError]:
        """
        Fetch URIs side by side, each of them once.

        Returns:
            In the order of `uris`: the file, or why there is none. One failure does not touch the others.
        """
        budget = self._budget()
        outcomes: dict[str, bytes | GraphPipeError] = {}
        waiting = iter(dict.fromkeys(uris))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    uri = next(waiting, None)
                if uri is None:
                    return
                outcomes[uri] = self._outcome(uri, deadline_s, budget)

        workers = [
            threading.Thread(target=work, name=f"fetch-{place}", daemon=True)
            for place in range(min(self._limits.parallel, len(set(uris))))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return [outcomes[uri] for uri in uris]

    def _budget(self) -> _Budget:
        return _Budget(max(self._limits.batch_bytes, self._limits.limit_bytes))

    def _outcome(self, uri: str, deadline_s: float | None, budget: _Budget) -> bytes | GraphPipeError:
        try:
            return self._fetch(uri, deadline_s, budget)
        except GraphPipeError as exc:
            return exc
        except Exception as exc:  # a bug; it must not take the other rows with it
            import logging  # 10 ms of a cold start

            logging.getLogger(__name__).exception("fetching %s failed", shown_url(uri))
            error = InternalError(f"fetching {shown_url(uri)} failed on our side; try again, or report it")
            error.__cause__ = exc
            return error

    def _fetch(self, uri: str, deadline_s: float | None, budget: _Budget) -> bytes:
        own_s = time.monotonic() + self._limits.timeout_s
        deadline_s = own_s if deadline_s is None else min(own_s, deadline_s)
        if uri[:5].lower() == "s3://":
            return self._object(uri, deadline_s, budget)
        url = parse_url(uri)
        wire_bytes = self._limits.limit_bytes + self._limits.limit_bytes // 64 + WIRE_SLACK_BYTES
        allowance = Allowance(deadline_s, wire_bytes, url.shown)
        first = url.shown
        for _ in range(self._limits.redirects + 1):
            with exchange(
                url, HEADERS, opened=self._opened, resolve=self._resolve, tls=self._tls, allowance=allowance
            ) as answer:
                if answer.status not in REDIRECTS:
                    return self._body(answer, allowance.shown, budget)
                url = _redirected(url, answer, allowance.shown)
                allowance.shown = f"{first}, redirected to {url.shown},"
        raise SourceFailed(
            f"{first} was redirected over {self._limits.redirects} times, last to {url.shown}; "
            "give the picture's own address"
        )

    def _object(self, uri: str, deadline_s: float, budget: _Budget) -> bytes:
        from classy.s3 import unpinned

        shown = shown_url(uri)
        uri, version, etag = unpinned(uri)
        bucket = uri[5:].partition("/")[0]
        if self._storage is None or bucket not in self._buckets:
            raise UnusableURL(f"{shown} is in a bucket that callers may not read; {BUCKETS_SETTING} opens buckets")
        share = _Share(budget, shown)
        try:
            data = self._storage.get(
                uri,
                limit_bytes=self._limits.limit_bytes,
                deadline_s=deadline_s,
                admit=share.reach,
                version=version,
                etag=etag,
            )
            if not data:  # the object itself, and no server's bad moment: an upload's event need not come again
                raise UnreadablePicture(f"{shown} is empty; upload the picture again")
        except TooLarge as exc:
            raise _too_large(shown, self._limits.limit_bytes) from exc
        except BaseException:
            share.give_back()
            raise
        return data

    def _body(self, answer: Answer, shown: str, budget: _Budget) -> bytes:
        limit = self._limits.limit_bytes
        _check_status(answer.status, shown)
        kind = answer.header("content-type").partition(";")[0].strip().lower()
        if kind in WEB_PAGES:
            raise SourceFailed(
                f"{shown} answered with a web page ({kind}), not a picture; give the picture's own address"
            )
        declared = answer.header("content-length")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(shown, limit, int(declared))
        share = _Share(budget, shown)
        body = io.BytesIO()  # unlike a list of pieces it stays small where these are; its value is no copy
        try:
            if declared.isdigit():  # before a byte is read: of many large files some come whole, not all in part
                share.reach(int(declared))
            for piece in _unpacked(answer.pieces, answer.header("content-encoding"), shown, limit):
                if body.tell() + len(piece) > limit:
                    raise _too_large(shown, limit)
                share.reach(body.tell() + len(piece))
                body.write(piece)
            if not body.tell():
                raise _empty(shown)
        except BaseException:
            share.give_back()
            raise
        return body.getvalue()


class _Budget:
    """What a batch's files may weigh together."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Return whether there is room for so much more, and take it."""
        with self._lock:
            fits = self._taken + size <= self.limit_bytes
            self._taken += size if fits else 0
            return fits


class _Share:
    """One file's part of a budget, which only grows until it is given back."""

    def __init__(self, budget: _Budget, shown: str) -> None:
        self._budget = budget
        self._shown = shown
        self._size = 0

    def reach(self, size: int) -> None:
        """Let the file have this size in all, or refuse it."""
        if size > self._size:
            if not self._budget.take(size - self._size):
                raise batch_too_large(self._shown, self._budget.limit_bytes)
            self._size = size

    def give_back(self) -> None:
        """Leave the room to others."""
        self._budget.take(-self._size)
        self._size = 0


def _redirected(url: URL, answer: Answer, shown: str) -> URL:
    location = answer.header("location")
    if not location:
        raise SourceFailed(
            f"{shown} answered {answer.status} without saying where to; give the picture's own address"
        )
    try:
        return url.join(location)
    except UnusableURL as exc:
        raise UnusableURL(f"{shown} redirects to what is not fetched: {exc.message}") from exc


def _check_status(status: int, shown: str) -> None:
    if status in (200, 203):  # 203 is 200 by way of a proxy; 206 would be a part only
        return
    if status in (404, 410):
        raise SourceNotFound(f"{shown} does not exist: its server answered {status}; check the address")
    if status in (204, 205):
        raise _empty(shown)
    reason = _REASONS.get(status, "which brings no picture")
    remedy = "try again later" if status in (429, 500, 502, 503, 504) else "give an address that is open to all"
    raise SourceFailed(f"{shown} can't be fetched: its server answered {status}, {reason}; {remedy}")


def _unpacked(pieces: Iterable[bytes], encoding: str, shown: str, limit_bytes: int) -> Iterator[bytes]:
    """Yield a body's bytes, through one layer of gzip at most, a little over the limit at most."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from pieces
        return
    if encoding not in ("gzip", "x-gzip"):
        raise SourceFailed(
            f'{shown} was sent packed as "{shown_url(encoding)}", which was not asked for; give another address'
        )
    unpacker = zlib.decompressobj(wbits=31)
    left = limit_bytes + 1
    for piece in pieces:
        while not unpacker.eof and left > 0:
            most = min(left, 1 << 20)
            try:
                unpacked = unpacker.decompress(piece, max_length=most)
            except zlib.error as exc:
                raise SourceFailed(f"{shown} was sent as gzip that can't be unpacked; give another address") from exc
            left -= len(unpacked)
            yield unpacked
            piece = unpacker.unconsumed_tail
            if not piece and len(unpacked) < most:
                break
        if unpacker.unused_data:
            raise SourceFailed(f"{shown} was sent as gzip with more behind its end; give another address")
    if not unpacker.eof:
        raise SourceFailed(f"{shown} was sent as gzip that ends too early; try again")


def _too_large(shown: str, limit_bytes: int, size: int | None = None) -> PictureTooLarge:
    has = f"over {limit_bytes:,} bytes" if size is None else f"{size:,} bytes, over the limit of {limit_bytes:,}"
    return PictureTooLarge(f"{shown} has {has}; give a smaller picture, or raise CLASSY_LIMIT_BYTES")


def _empty(shown: str) -> SourceFailed:
    return SourceFailed(f"{shown} is empty: its server sent no bytes; check the address")
