"""
What stands before the local AWS: TLS under the names of its URLs, and the faults that a test asks for.

It is an HTTPS proxy too, which leads to itself whatever host is asked for: for tools that know AWS's own hosts only.

The functions' own requests to AWS (S3, SQS, DynamoDB, Lambda) pass here too, so a fault can be one that they meet:
a throttled GetObject, an Invoke that is never answered. Signatures stay good, as the Host header does.
"""

from __future__ import annotations

import http.client
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ECR = "api.ecr."  # Serverless 3.40 asks it for images when it removes
NAMES = (
    "*.execute-api.us-east-1.amazonaws.com",
    "*.lambda-url.us-east-1.on.aws",
    f"{ECR}us-east-1.amazonaws.com",
    *("*.us-east-1.amazonaws.com", "*.s3.us-east-1.amazonaws.com", "*.s3.amazonaws.com", "*.amazonaws.com"),
)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "te", "upgrade", "expect"}
FORWARD_S = 900.0


@dataclass(frozen=True, slots=True)
class Passing:
    """A request on its way in."""

    method: str
    path: str
    host: str
    target: str  # X-Amz-Target, which says what DynamoDB and SQS are asked for
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What is answered instead.

    Args:
        status: 0 closes the connection without a word.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Rule = Callable[[Passing], Fault | None]


class Front:
    """
    Forward HTTP and HTTPS to the emulator.

    Args:
        upstream: The emulator's port.
        folder: Gets the certificate.
    """

    def __init__(self, upstream: int, folder: Path) -> None:
        self.upstream = upstream
        self.certificate = folder / "front.crt"
        self._key = folder / "front.key"
        self._plain = _Server(("127.0.0.1", 0), _Handler)
        self._tls = _Server(("127.0.0.1", 0), _Handler)
        self._plain.front = self._tls.front = self
        self._tls.scheme = "https"
        self._threads: list[threading.Thread] = []
        self.rule: Rule | None = None

    @property
    def port(self) -> int:
        """Return the port that speaks TLS."""
        return self._tls.server_port

    @property
    def endpoint(self) -> str:
        """Return what the functions take for AWS."""
        return f"http://127.0.0.1:{self._plain.server_port}"

    def start(self) -> None:
        """Make the certificate and serve."""
        names = ",".join(f"DNS:{name}" for name in NAMES)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=local AWS", "-addext", f"subjectAltName={names}"]
        command += ["-keyout", str(self._key), "-out", str(self.certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self._key)
        self._tls.tls = context
        for server in (self._plain, self._tls):
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def answer_tls(self, connection: socket.socket, client_address: object) -> None:
        """Answer a connection that will speak TLS."""
        self._tls.finish_request(connection, client_address)

    def close(self) -> None:
        """Stop serving."""
        for server in (self._plain, self._tls):
            if self._threads:
                server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._threads = []


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    front: Front
    scheme = "http"
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands in the connection's own thread."""
        if self.tls is None:
            super().finish_request(request, client_address)  # type: ignore[arg-type]
            return
        with self.tls.wrap_socket(request, server_side=True) as wrapped:  # type: ignore[arg-type]
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of peers that were killed or lost patience: these tests do that to them."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: _Server
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        if self.command == "CONNECT":
            self._tunnel()
            return
        body = self._body()
        host = self.headers.get("Host", "")
        passing = Passing(self.command, self.path, host, self.headers.get("X-Amz-Target", ""), body)
        rule = self.server.front.rule
        fault = rule(passing) if rule is not None else None
        if fault is None:
            self._forward(passing)
        elif fault.status == 0:
            self.close_connection = True
        else:
            self._answer(fault.status, list(fault.headers), fault.body)

    def handle_expect_100(self) -> bool:
        """Say "go on" at once: a client that asked keeps its body until then, and we wait for the body."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def _tunnel(self) -> None:
        """Answer what comes through a tunnel as if it had come to the port that speaks TLS."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self.server.front.answer_tls(self.connection, self.client_address)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _forward(self, passing: Passing) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.front.upstream, timeout=FORWARD_S)
        self._upstream = connection
        connection.putrequest(passing.method, passing.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() == "host" and value.startswith(ECR):
                value = "127.0.0.1"  # or the emulator takes the first part for a bucket's name
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                connection.putheader(name, value)
        if self.server.scheme == "https":  # what a load balancer of AWS adds
            for name, value in (("Proto", "https"), ("Port", "443"), ("For", "127.0.0.1")):
                connection.putheader(f"X-Forwarded-{name}", value)
        connection.putheader("Content-Length", str(len(passing.body)))
        connection.endheaders(passing.body)
        answer = connection.getresponse()
        content = answer.read()
        self._answer(answer.status, answer.getheaders(), content, length=answer.getheader("Content-Length"))
        connection.close()
        self._upstream = None

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        if status not in (204, 304):
            head = self.command == "HEAD" and length is not None
            self.send_header("Content-Length", str(length) if head else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
