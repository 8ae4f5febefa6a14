"""
A stand-in for S3 with S3's speed: 25 ms to the first byte, 85 MB/s for a connection, 400 MB/s for all together.

It serves a folder, path-style, as far as a fetch needs it (HEAD, GET, ranges), and asks nobody for a signature.

Source: AWS, "Performance guidelines for Amazon S3": 85 to 90 MB/s per request, ranges of 8 to 16 MB.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.server
import re
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

FIRST_BYTE_S = 0.025
CONNECTION_BYTES_S = 85e6
ALL_BYTES_S = 400e6
CHUNK = 256 << 10


class Pace:
    """Tell senders how long to wait so that together they stay below a rate."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._lock = threading.Lock()
        self._free_s = 0.0

    def wait_s(self, count: int) -> float:
        """Return how long a sender of so many bytes waits."""
        with self._lock:
            now_s = time.monotonic()
            self._free_s = max(self._free_s, now_s) + count / self._bytes_s
            return self._free_s - now_s


class Server(http.server.ThreadingHTTPServer):
    """Serve a folder on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pace = Pace(ALL_BYTES_S)
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer HEAD and GET."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Say how large an object is."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Send an object, or a range of it."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        time.sleep(FIRST_BYTE_S)
        path = self.server.root / unquote(urlsplit(self.path).path).lstrip("/")
        if ".." in path.parts or not path.is_file():
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            self.send_response(404)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, size) if wanted and wanted[2] else size
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", email.utils.formatdate(path.stat().st_mtime, usegmt=True))
        self.end_headers()
        if with_body:
            with contextlib.suppress(ConnectionError):
                self._send(path, start, stop)

    def _send(self, path: Path, start: int, stop: int) -> None:
        began_s, sent = time.monotonic(), 0
        with path.open("rb") as file:
            while start + sent < stop:
                count = min(CHUNK, stop - start - sent)
                self.connection.sendfile(file, start + sent, count)  # type: ignore[union-attr]
                sent += count
                own_s = began_s + sent / CONNECTION_BYTES_S - time.monotonic()
                time.sleep(max(0.0, own_s, self.server.pace.wait_s(count)))


def main() -> None:
    """Serve the folder that the command line names; print the port."""
    server = Server(Path(sys.argv[1]))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
