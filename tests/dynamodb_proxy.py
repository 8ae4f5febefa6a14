"""A server between a record store and DynamoDB: it counts what is asked, and does what networks and DynamoDB do."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, Any]]
Ask = Callable[[], Answer]
# Given the operation, its request and what asks DynamoDB itself, return the answer; None closes the connection.
Script = Callable[[str, dict[str, Any], Ask], Answer | None]


def passed_on(operation: str, request: dict[str, Any], ask: Ask) -> Answer:
    """Change nothing."""
    return ask()


def refusal(error: str, message: str = "") -> Answer:
    """Return an error as DynamoDB writes it."""
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{error}", "message": message}


@dataclass
class Proxy:
    """The server's address, what it was asked, and what it does."""

    url: str
    script: Script = passed_on
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        """Return the names of what was asked."""
        return [operation for operation, _ in self.asked]


@contextmanager
def between(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of a DynamoDB, and end it."""
    proxy: Proxy
    address = urlsplit(upstream).netloc

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation, request = self.headers["X-Amz-Target"].partition(".")[2], json.loads(body)

            def ask() -> Answer:
                connection = http.client.HTTPConnection(address, timeout=30)
                connection.request("POST", self.path, body, dict(self.headers.items()))  # signed: the host stays
                response = connection.getresponse()
                answer = response.status, json.loads(response.read())
                connection.close()
                return answer

            proxy.asked.append((operation, request))
            answer = proxy.script(operation, request, ask)
            if answer is None:
                self.close_connection = True
                return
            told = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
