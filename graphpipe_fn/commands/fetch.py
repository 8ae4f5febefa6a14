"""Models from elsewhere: an address becomes a local file. And what tells one model from another."""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from graphpipe_fn.errors import BadModel, NotFound, TooLarge, TransportFailed
from graphpipe_fn.onnx_file import external_files

PIECE_BYTES = 1 << 20
TIMEOUT_S = 30.0  # without a byte
TOTAL_S = 3600.0
LIMIT_BYTES = 16 << 30


def fetch(address: str, folder: Path) -> Path:
    """
    Return the path of a model, downloading it where it is not on this machine.

    Args:
        address: A path, `http://…`, `https://…` or `s3://BUCKET/KEY`; the latter with the credentials that AWS's own
            tools would use.
        folder: Where a download goes.

    Raises:
        NotFound: there is no such file.
        TransportFailed: the server can't be reached, or does not answer with a file.
        TooLarge: the file is over 16 GiB.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if not scheme:
        path = Path(address)
        if not path.is_file():
            raise NotFound(f"there is no model file {address!r}")
        return path
    if scheme in ("http", "https"):
        return _stored(_http_pieces(address), address, folder)
    if scheme == "s3":
        return _stored(_s3_pieces(address), address, folder)
    raise NotFound(f"{address!r} is no address of a model; use a path, http://, https:// or s3://")


def fingerprint(path: Path) -> str:
    """
    Return the SHA-256 over a model's file and its files of weights, in hex.

    Raises:
        BadModel: the file is no ONNX file, or lacks one of its files of weights.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            # Not closed: an exception may hold views of it, which would make closing fail.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        digest.update(view)
        others = sorted(external_files(view))
        for name in others:
            with (path.parent / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except (OSError, ValueError) as exc:  # ValueError: an empty file can't be mapped
        raise BadModel(f"the model {path.name} can't be read ({exc})") from exc
    return digest.hexdigest()


def _stored(pieces: Iterator[bytes], address: str, folder: Path) -> Path:
    name = os.path.basename(address.partition("?")[0]) or "model"
    path = folder / (name if name.endswith(".onnx") else f"{name}.onnx")
    size = 0
    deadline_s = time.monotonic() + TOTAL_S
    with path.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > LIMIT_BYTES:
                raise TooLarge(f"the model at {address!r} has over {LIMIT_BYTES:,} bytes")
            if time.monotonic() > deadline_s:
                raise TransportFailed(f"the model at {address!r} did not arrive within {TOTAL_S:g} s")
            file.write(piece)
    return path


def _http_pieces(address: str) -> Iterator[bytes]:
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            declared, received = answer.headers.get("Content-Length"), 0
            while piece := answer.read(PIECE_BYTES):
                received += len(piece)
                yield piece
            if declared is not None and received != int(declared):
                raise TransportFailed(f"{address!r} ended after {received:,} of {int(declared):,} bytes")
    except urllib.error.HTTPError as exc:
        exc.close()
        kind = NotFound if exc.code in (404, 410) else TransportFailed
        raise kind(f"{address!r} answered {exc.code} {exc.reason}; is the address right?") from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise TransportFailed(f"{address!r} can't be fetched ({getattr(exc, 'reason', None) or exc})") from exc


def _s3_pieces(address: str) -> Iterator[bytes]:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    bucket, _, key = address.partition("://")[2].partition("/")
    if not bucket or not key:
        raise NotFound(f"{address!r} is no s3://BUCKET/KEY")
    try:
        for piece in obstore.get(S3Store(bucket), key).stream(PIECE_BYTES):
            yield bytes(piece)
    except FileNotFoundError as exc:
        raise NotFound(f"there is no {address!r}") from exc
    except (BaseError, OSError) as exc:
        raise TransportFailed(f"{address!r} can't be fetched: {str(exc).splitlines()[0][:300]}") from exc
