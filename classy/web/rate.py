"""
How often one client may ask: a bucket of tokens per client that fills itself again, all in this process.

It knows no HTTP; who a client is, is told.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

CLIENTS_MAX = 10_000  # 2 MB; whoever asked least recently is forgotten first


class RateLimit:
    """
    Let each client ask so many times a minute, all of them at once if it likes.

    Args:
        per_minute: 0 for no limit.
        now: A clock in seconds that never goes back.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were so many

    def wait_s(self, client: str) -> float:
        """Take one token of a client's; return 0, or how long it has to wait for the next one."""
        if not self._most:
            return 0.0
        key, now = _network(client), self._now()
        with self._lock:
            tokens, at = self._buckets.pop(key, (self._most, now))
            tokens = min(self._most, tokens + (now - at) * self._most / 60)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) * 60 / self._most
            self._buckets[key] = (tokens if wait_s else tokens - 1, now)
            if len(self._buckets) > CLIENTS_MAX:
                self._buckets.popitem(last=False)
        return wait_s


def client_of(peer: str, forwarded_for: str, *, proxies: int) -> str:
    """
    Return whose request it is.

    Args:
        peer: Who opened the connection.
        forwarded_for: The request's X-Forwarded-For: each proxy adds its own peer at the end, and whatever stands
            before those of ours may be anybody's invention.
        proxies: How many proxies of ours stand in front.
    """
    if proxies < 1:
        return peer
    chain = [part.strip() for part in forwarded_for.split(",") if part.strip()]
    return chain[-min(proxies, len(chain))] if chain else peer


def _network(client: str) -> str:
    """Return a client's address; of IPv6 the network, of which one client has as many addresses as it likes."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    if address.version == 6:
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
