"""
Kept pictures: what callers sent, and a thumbnail of everything that was classified, by the SHA-256 of the file.

An upload is in a caller's body and nowhere else, so its bytes are kept as they came, to be classified again by the
next model; pictures that have a URL or lie in a bucket are fetched again. Thumbnails are ours: upright, small, and
nothing but pixels. It knows where things lie and when they are whole, and nothing of records but that their store
is emptied by somebody else: a picture that is being forgotten is marked until nothing of it is left.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from classy.errors import SourceNotFound, StorageFailed
from classy.pictures.webp import PLAIN_BYTES, plain_webp

if TYPE_CHECKING:
    from classy.objects import ObjectStorage

THUMBNAIL_PX = 160  # the longer side; what a history shows side by side
_MARK_BYTES = 1_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class KeptPictures:
    """
    Keep pictures; safe to call from several threads, and beside other processes that do the same.

    Args:
        storage: Holds them.
        place: Where: s3://BUCKET[/PREFIX] or file:///FOLDER.
        limit_bytes: Of one picture, when it is read.
    """

    def __init__(self, storage: ObjectStorage, place: str, *, limit_bytes: int = 20_000_000) -> None:
        self.place = place.rstrip("/")
        self._storage = storage
        self._limit_bytes = limit_bytes

    def put(self, sha256: str, picture: bytes) -> None:
        """
        Keep a picture as it is; a second time changes nothing.

        Raises:
            ValueError: another picture's name.
            StorageFailed, SourceNotFound: the storage can't be reached, refuses us, or has no such bucket.
        """
        if hashlib.sha256(picture).hexdigest() != sha256:
            raise ValueError(f"a picture can't be kept as {sha256[:70]!r}, which is not its SHA-256")
        self._storage.put(self._original(sha256), picture, content_type="application/octet-stream")

    def get(self, sha256: str) -> bytes:
        """
        Return a kept picture, the very bytes.

        Raises:
            SourceNotFound: it is not kept.
            StorageFailed: the storage can't be reached, or what lies there is another file by now.
        """
        if not _SHA256.fullmatch(sha256):
            raise SourceNotFound("no picture is kept under what is no SHA-256")
        try:
            picture = self._storage.get(self._original(sha256), limit_bytes=self._limit_bytes)
        except SourceNotFound as exc:
            raise SourceNotFound(f"the picture {sha256[:12]}… is not kept here; CLASSY_PICTURES names where") from exc
        if hashlib.sha256(picture).hexdigest() != sha256:
            raise StorageFailed(f"the picture that was kept as {sha256[:12]}… is another one now; delete it")
        return picture

    def put_thumbnail(self, sha256: str, webp: bytes) -> None:
        """
        Keep a picture's thumbnail, unless there is one: a model that sees grey has a grey one made.

        Raises:
            ValueError: nothing that plain_webp() knows, or no SHA-256.
            StorageFailed, SourceNotFound: as for put().
        """
        if not plain_webp(webp) or not _SHA256.fullmatch(sha256):
            raise ValueError("a thumbnail is a WebP of pixels only, kept by its picture's SHA-256")
        self._storage.put(self._thumbnail(sha256), webp, if_absent=True, content_type="image/webp")

    def thumbnail(self, sha256: str) -> bytes | None:
        """
        Return a picture's thumbnail, None where there is none.

        Raises:
            StorageFailed: the storage can't be reached, or refuses us.
        """
        if not _SHA256.fullmatch(sha256):
            return None
        try:
            return self._storage.get(self._thumbnail(sha256), limit_bytes=PLAIN_BYTES)
        except SourceNotFound:
            return None

    def delete(self, sha256: str) -> None:
        """
        Delete a picture and its thumbnail, if they are there.

        Raises:
            StorageFailed: the storage can't be reached, or refuses us.
        """
        if _SHA256.fullmatch(sha256):
            self._storage.delete(self._original(sha256))
            self._storage.delete(self._thumbnail(sha256))

    def mark(self, record_id: str, *, picture: str, sha256: str) -> None:
        """
        Note that a picture is being forgotten, before its first record is deleted.

        Args:
            record_id: By which somebody will ask again if this is cut short.
            picture, sha256: What is then still to be done.

        Raises:
            StorageFailed, SourceNotFound: as for put().
        """
        value = json.dumps({"picture": picture, "sha256": sha256}).encode()
        self._storage.put(self._mark(record_id), value, content_type="application/json")

    def marked(self, record_id: str) -> tuple[str, str] | None:
        """
        Return the picture and the SHA-256 that mark() noted, None where nothing is.

        Raises:
            StorageFailed: the storage can't be reached, or refuses us.
        """
        if not _SHA256.fullmatch(record_id):
            return None
        try:
            value = json.loads(self._storage.get(self._mark(record_id), limit_bytes=_MARK_BYTES))
            return str(value["picture"]), str(value["sha256"])
        except SourceNotFound:
            return None
        except (ValueError, KeyError, TypeError) as exc:
            raise StorageFailed(f"{self._mark(record_id)} is no mark of ours; delete it") from exc

    def unmark(self, record_id: str) -> None:
        """
        Note that nothing of it is left.

        Raises:
            StorageFailed: the storage can't be reached, or refuses us.
        """
        self._storage.delete(self._mark(record_id))

    def _original(self, sha256: str) -> str:
        return f"{self.place}/originals/{sha256}"

    def _thumbnail(self, sha256: str) -> str:
        return f"{self.place}/thumbnails/{sha256}.webp"

    def _mark(self, record_id: str) -> str:
        return f"{self.place}/forgetting/{record_id}.json"
