"""
An identity server of the original package's kind: run with the Python of its own environment.

It answers as the package's example does, with http.server's defaults: HTTP/1.0, no Content-Length, no Content-Type;
the end of the connection is the end of the answer, and an error is a dropped connection. It writes its port to
stdout. Beside the inputs it answers with the names and the config that came, where there are any.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from graphpipe import convert

METADATA = {
    "name": "identity",
    "version": "1.0",
    "server": "the original's",
    "description": "Gives back what it gets.",
    "inputs": [
        {"name": "x", "description": "pixels", "shape": [-1, 3], "type": np.dtype("float32")},
        {"name": "urls", "shape": [-1], "type": np.dtype("O")},
    ],
    "outputs": [{"name": "y", "shape": [-1, 3, 2], "type": np.dtype("int64")}],
}


class Identity(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        """Answer with the inputs."""
        request = convert.deserialize_request(bytearray(self.rfile.read(int(self.headers["Content-Length"]))))
        if request is None:
            body = convert.serialize_metadata_response(METADATA)
        elif request.config == b"fail":
            raise RuntimeError("asked to")
        else:
            told = [*request.input_names, *request.output_names, *([request.config] if request.config else [])]
            told_tensors = [np.array(told, object)] if told else []
            body = convert.serialize_infer_response([*request.input_tensors, *told_tensors])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


def main() -> None:
    """Serve until killed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Identity) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
