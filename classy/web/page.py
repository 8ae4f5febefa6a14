"""
The page: whatever lies in static/, with what a browser may do with it.

Files are few and small but for onnxruntime's, so text is kept in memory, compressed. A file that changed gets another
ETag; every file is asked for again with its ETag, which costs an empty answer.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import flask

from classy.web import assets
from classy.web.replies import IMMUTABLE, conditional
from graphpipe_fn.errors import NotFound

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "script-src 'self'",
        "worker-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
# Lets onnxruntime-web compile WebAssembly, and no JavaScript; only where there is an onnxruntime-web.
POLICY_WITH_RUNTIME = POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")
RUNTIME = "runtime"  # below static/: the state folder's onnxruntime-web, in a folder that is named by its version
HEADERS = {
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",  # with the line above, a page may use threads in WebAssembly
    "Cache-Control": "no-cache",
}
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
COMPRESSED = frozenset((".js", ".mjs", ".css", ".html", ".json", ".svg", ".webmanifest", ".txt", ".wasm"))
COMPRESS_MAX = 4 << 20  # larger ones would take a second of the first visitor's time
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # no parent folder, no hidden file, no other system's separator
READ_BYTES = 1 << 18


def index() -> flask.Response:
    """Return the page; at a mount's bare name, the way to its slash, without which relative URLs lead elsewhere."""
    if not flask.request.environ.get("PATH_INFO"):
        return flask.Response(status=308, headers={"Location": f"{flask.request.environ.get('SCRIPT_NAME', '')}/"})
    return static(INDEX)


def runtime() -> Path | None:
    """Return the folder of what runs models in a browser; None where this server has none."""
    root: Path | None = flask.current_app.config["CLASSY_WEB_ASSETS"]
    return assets.installed(root) if root else None


def static(path: str, *, folder: Path = STATIC) -> flask.Response:
    """Return one of the page's files."""
    found, extra = folder.joinpath(path), runtime()
    prefix = f"{RUNTIME}/{extra.name}/" if extra else ""
    if extra and path.startswith(prefix):
        found = extra.joinpath(path.removeprefix(prefix))
    hidden = found.parent == extra and found.name not in assets.NAMES
    if hidden or not all(map(PART.fullmatch, path.split("/"))) or not found.is_file():
        raise NotFound("the page has no such file")
    status = found.stat()
    etag = _etag(found, status.st_mtime_ns, status.st_size)
    reply = flask.Response(content_type=TYPES.get(found.suffix) or mimetypes.guess_type(found.name)[0]
                           or "application/octet-stream")  # fmt: skip
    reply.headers.update(HEADERS)
    reply.headers["Content-Security-Policy"] = POLICY_WITH_RUNTIME if extra else POLICY
    if extra:
        etag += "-wasm"  # browsers keep a file's old policy where its ETag says that nothing has changed
    if found.parent == extra:
        reply.headers["Cache-Control"] = IMMUTABLE
    compressible = found.suffix in COMPRESSED and status.st_size <= COMPRESS_MAX
    if compressible:
        reply.vary.add("Accept-Encoding")
    if compressible and flask.request.accept_encodings.quality("gzip") > 0:
        reply.set_data(_compressed(found, status.st_mtime_ns, status.st_size))
        reply.headers["Content-Encoding"] = "gzip"
        etag += "-gz"
    else:
        reply.headers["Content-Length"] = str(status.st_size)
        reply.response = _pieces(found)
    reply.set_etag(etag)
    return conditional(reply)


@lru_cache(maxsize=512)
def _etag(path: Path, changed_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@lru_cache(maxsize=128)
def _compressed(path: Path, changed_ns: int, size: int) -> bytes:
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece
