"""
Fetch the hostile URLs and watch every connection: `python tests/hostile/watch.py SEED live|dry` prints JSON.

The lowest place in Python sees each of them, an audit hook on socket.connect. Where the system allows a network
namespace, every address has a listener behind it besides; where not, connections are noted and then forbidden.
"""

from __future__ import annotations

import json
import pathlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from classy.dialling import system_resolve
from classy.download import DownloadLimits, Fetcher
from classy.networks import Opened
from graphpipe_fn.errors import GraphPipeError
from hostile import namespace, urls
from hostile.servers import CERTS, head, trusting

PORTS = (80, 443, 8080, 22, 9001)


@dataclass
class Watch:
    """What has been connected to since the last reset."""

    live: bool
    dialled: list[str]
    reached: list[str]

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note a connection; forbid it unless the network is our own."""
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            self.dialled.append(str(address[0]) if isinstance(address, tuple) else str(address))
            if not self.live:
                raise PermissionError("there is no network of our own to connect in")


def serve(watch: Watch, family: socket.AddressFamily, port: int) -> None:
    """Answer at every address of a family, redirect where the path says so, and note who was reached."""
    listener = socket.create_server(
        ("::" if family == socket.AF_INET6 else "0.0.0.0", port), family=family, backlog=99
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "honest.pem")

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            watch.reached.append(sock.getsockname()[0])
            threading.Thread(target=answer, args=(sock,), daemon=True).start()

    def answer(sock: socket.socket) -> None:
        try:
            sock = context.wrap_socket(sock, server_side=True) if port == 443 else sock
            request = sock.recv(65536)
            path = request.split(b" ")[1].decode("ascii")
            if path.startswith("/to/"):
                _, _, status, target = path.split("/")
                location = bytes.fromhex(target)
                sock.sendall(b"HTTP/1.1 %s Moved\r\nLocation: %s\r\n\r\n" % (status.encode(), location))
            else:
                sock.sendall(head("Content-Length: 6") + b"public")
        except (OSError, IndexError, ValueError):
            pass  # it hung up, or asked for something that was never meant to be served
        finally:
            sock.close()

    threading.Thread(target=accept, daemon=True).start()


def fetched(case: urls.Case, watch: Watch) -> dict[str, object]:
    """Fetch one URL and return what came of it."""
    asked: dict[str, int] = {}

    def resolve(host: str, port: int) -> Sequence[str]:
        if host in case.answers:
            asked[host] = asked.get(host, -1) + 1
            return case.answers[host][min(asked[host], len(case.answers[host]) - 1)]
        if watch.live or host == "localhost":
            return system_resolve(host, port)
        return [entry[4][0] for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]  # type: ignore[misc]

    fetcher = Fetcher(
        limits=DownloadLimits(timeout_s=3.0, limit_bytes=100_000),
        opened=Opened.parse(case.opened),
        resolve=resolve,
        tls=trusting,
    )
    watch.dialled.clear()
    started_s = time.monotonic()
    message = ""
    try:
        ended = fetcher.fetch(case.url).decode()
    except GraphPipeError as exc:
        ended, message = type(exc).__name__, exc.message
    except Exception as exc:  # noqa: BLE001 - the test tells which one
        ended, message = f"escaped: {type(exc).__name__}", str(exc)
    return {
        "name": case.name,
        "url": ascii(case.url)[:300],
        "served": case.served,
        "ended": ended,
        "message": message,
        "dialled": list(watch.dialled),
        "seconds": time.monotonic() - started_s,
    }


def main(seed: int, *, live: bool) -> dict[str, object]:
    """Fetch the whole corpus, in a network of our own if that is wanted and can be had."""
    if live:
        try:
            namespace.enter()
        except (OSError, AttributeError):
            live = False
    watch = Watch(live, [], [])
    if live:
        for port in PORTS:
            serve(watch, socket.AF_INET, port)
            serve(watch, socket.AF_INET6, port)
    sys.addaudithook(watch.hook)
    results = [fetched(case, watch) for case in urls.cases(seed) if live or not case.redirects]
    return {"seed": seed, "live": live, "honest": sorted(urls.HONEST), "results": results, "reached": watch.reached}


if __name__ == "__main__":
    json.dump(main(int(sys.argv[1]), live=sys.argv[2] == "live"), sys.stdout, indent=1)
