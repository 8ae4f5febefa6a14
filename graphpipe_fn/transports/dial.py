"""
Dialling: an address becomes a connected socket, TLS included, before the deadline. It knows no HTTP.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from graphpipe_fn.errors import ConnectFailed, TimedOut, TransportFailed
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    import ssl

_NUMBER = re.compile(r"[0-9.]+|.*:.*")  # an IPv4 or IPv6 address, which no name server is asked about


@dataclass(frozen=True, slots=True)
class Address:
    """
    Say where a server is.

    Args:
        host, port: For TCP.
        path: Of a unix socket, instead of these.
        tls: For TLS over TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def dial(address: Address, deadline_s: float | None) -> socket.socket:
    """
    Return a connected socket.

    Args:
        deadline_s: On `time.monotonic()`'s scale; for names, connecting and TLS together.

    Raises:
        ConnectFailed: the address can't be reached.
        TransportFailed: TLS failed; trying again would change nothing.
        TimedOut: the deadline passed.
    """
    if address.path:
        return _connected(socket.AF_UNIX, address.path, address, time_left(deadline_s, address))
    found = _resolved(address, deadline_s)
    for place, (family, where) in enumerate(found):
        last = place == len(found) - 1
        left = time_left(deadline_s, address)
        try:  # no address may use up the time of those that follow
            sock = _connected(family, where, address, None if left is None else left / (len(found) - place))
        except (ConnectFailed, TimedOut):
            if last:
                raise
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if address.tls is None else _secured(sock, address.tls, address, deadline_s)
    raise ConnectFailed(f"the name {address.host!r} has no address")


def time_left(deadline_s: float | None, address: Address) -> float | None:
    """
    Return the seconds until the deadline; None for ever.

    Raises:
        TimedOut: it has passed.
    """
    if deadline_s is None:
        return None
    left = deadline_s - time.monotonic()
    if left <= 0:
        raise TimedOut(f"{address} did not answer in time")
    return left


def _resolved(address: Address, deadline_s: float | None) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    failed: list[Exception] = []

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a label of over 63 characters
            failed.append(exc)
        else:
            found.extend((family, where) for family, _, _, _, where in answers)

    if _NUMBER.fullmatch(address.host):
        resolve()
    else:
        # getaddrinfo can't be cancelled and may take half a minute; left behind, it ends by itself.
        thread = threading.Thread(target=resolve, name="resolve", daemon=True)
        thread.start()
        thread.join(time_left(deadline_s, address))
        if thread.is_alive():
            raise TimedOut(f"the name {address.host!r} was not resolved in time")
    if failed:
        why = getattr(failed[0], "strerror", None) or failed[0]
        raise ConnectFailed(f"the name {address.host!r} has no address ({why}); is it spelt right?") from failed[0]
    return found


def _connected(family: int, where: Any, address: Address, timeout_s: float | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(where)
    except TimeoutError as exc:
        sock.close()
        raise TimedOut(f"{address} did not accept a connection in time") from exc
    except OSError as exc:
        sock.close()
        raise ConnectFailed(
            f"{address} can't be reached ({exc.strerror or exc}); is the server running, and the address right?"
        ) from exc
    return sock


def _secured(sock: socket.socket, tls: ssl.SSLContext, address: Address, deadline_s: float | None) -> socket.socket:
    try:
        sock.settimeout(time_left(deadline_s, address))
        return tls.wrap_socket(sock, server_hostname=address.host)
    except TimedOut:
        sock.close()
        raise
    except TimeoutError as exc:
        sock.close()
        raise TimedOut(f"{address} did not finish the TLS handshake in time") from exc
    except (OSError, ValueError) as exc:  # ValueError: a host that no certificate can name
        sock.close()
        raise TransportFailed(f"no TLS connection with {address}: {exc}") from exc
