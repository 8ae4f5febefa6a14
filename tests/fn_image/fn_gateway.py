"""What stands between the containers: `/invoke/NAME` on 127.0.0.1, as Fn's server has it, with their headers kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fn_container import FnContainer

HOP_HEADERS = {"connection", "content-length", "host", "transfer-encoding"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    containers: Mapping[str, FnContainer]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
        reply = self.server.containers[self.path.removeprefix("/invoke/")].call(body, headers)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            if name not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def gateway(containers: Mapping[str, FnContainer]) -> Iterator[str]:
    """Serve some containers, also such as are added later; yield the URL to which a name is appended."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.containers = containers
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/invoke/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
