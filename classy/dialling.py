"""
A connection to a server that nobody vouches for: the number that was checked is the number that is dialled.

A name is looked up once and every address it has must pass, so a name that answers differently the next time
gains nothing. Every wait ends at one deadline, and every received byte is counted, those of the encryption too.
It reads no HTTP.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeAlias, TypeVar

from classy.errors import ForbiddenAddress, PictureTooLarge, SourceFailed, SourceTimedOut
from classy.networks import Opened
from classy.urls import URL

ADDRESSES_DIALLED = 4  # of a name's addresses; all of them are checked
ADDRESSES_MAX = 256
LOOKUPS_MAX = 64  # getaddrinfo can't be cancelled, so look-ups that nobody waits for any more are bounded
RECV_BYTES = 64 * 1024

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""Look a name up: host and port to addresses as text. It may block and may raise OSError."""

Address: TypeAlias = IPv4Address | IPv6Address
_T = TypeVar("_T")

_lookups = threading.BoundedSemaphore(LOOKUPS_MAX)


def system_resolve(host: str, port: int) -> list[str]:
    """Return what the system's resolver says, scopes of IPv6 included."""
    addresses: list[str] = []
    for *_, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        scoped = any(sockaddr[3:])  # by an interface's number, in link-local IPv6 only
        addresses.append(f"{sockaddr[0]!s}%{sockaddr[-1]!s}" if scoped else str(sockaddr[0]))
    return addresses


@functools.cache
def default_tls() -> ssl.SSLContext:
    """
    Return a context that trusts the system's authorities, or certifi's where the system has none.

    A folder of them is used in place of the bundle beside it: reading all 140 costs 40 ms of CPU, looking one up
    nothing. A bundle that the operator names (SSL_CERT_FILE) is read as it is.
    """
    paths = ssl.get_default_verify_paths()
    named = bool(paths.cafile) and paths.cafile != paths.openssl_cafile
    folder = bool(paths.capath) and any(name.endswith(".0") for name in os.listdir(paths.capath))
    if folder and not named:
        context = ssl.create_default_context(capath=paths.capath)
    elif paths.cafile:
        context = ssl.create_default_context()
    else:
        import certifi  # minimal images come without any

        context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(slots=True)
class Allowance:
    """
    What one fetch may cost in all, over every redirect.

    Args:
        deadline_s: On `time.monotonic()`'s scale.
        wire_bytes: How many bytes may be received.
        shown: The URL that was asked for, as messages show it.
    """

    deadline_s: float
    wire_bytes: int
    shown: str
    received: int = field(default=0, init=False)
    started_s: float = field(default_factory=time.monotonic, init=False)

    def left_s(self, doing: str) -> float:
        """
        Return the seconds left.

        Raises:
            SourceTimedOut: none is.
        """
        left = self.deadline_s - time.monotonic()
        if left <= 0:
            raise self.timed_out(doing)
        return left

    def timed_out(self, doing: str) -> SourceTimedOut:
        """Return the error for a deadline that passed while `doing` something."""
        total = max(0.0, self.deadline_s - self.started_s)
        return SourceTimedOut(
            f"{self.shown} was too slow: the {round(total, 2):g} s for fetching it were over while {doing}; "
            "try again, or give the address of a faster server or a smaller picture"
        )

    def count(self, size: int) -> None:
        """
        Count received bytes.

        Raises:
            PictureTooLarge: there are more than allowed, headers, framing and encryption included.
        """
        self.received += size
        if self.received > self.wire_bytes:
            raise PictureTooLarge(
                f"{self.shown} sent over {self.wire_bytes:,} bytes in all and was stopped; give a smaller picture"
            )


class Stream(Protocol):
    """Bytes to and from a server, under an Allowance."""

    def send(self, data: bytes) -> None: ...

    def recv(self, doing: str) -> bytes: ...


class Wire:
    """Be a socket whose every wait ends at the deadline and whose every byte is counted."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        self._sock = sock
        self._allowance = allowance

    def send(self, data: bytes) -> None:
        """Send all of it; a server that stops reading is met by the deadline."""
        doing = "sending the request"
        self._sock.settimeout(self._allowance.left_s(doing))  # sendall's timeout is of the whole call
        try:
            self._sock.sendall(data)
        except TimeoutError:
            raise self._allowance.timed_out(doing) from None

    def recv(self, doing: str) -> bytes:
        """Return some bytes, none at the end."""
        self._sock.settimeout(self._allowance.left_s(doing))
        try:
            data = self._sock.recv(RECV_BYTES)
        except TimeoutError:
            raise self._allowance.timed_out(doing) from None
        self._allowance.count(len(data))
        return data


class TLS:
    """
    Be an encrypted stream over a Wire.

    The socket's own wrapper would hide handshake, padding and session tickets from the count.
    """

    def __init__(self, wire: Wire, context: ssl.SSLContext, host: str) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._until(self._object.do_handshake, "the encryption was negotiated")

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._object.write(data)  # a memory BIO takes everything
        self._flush()

    def recv(self, doing: str) -> bytes:
        """Return some bytes, none at a proper end."""
        try:
            return self._until(lambda: self._object.read(RECV_BYTES), doing)
        except ssl.SSLZeroReturnError:
            return b""

    def _until(self, step: Callable[[], _T], doing: str) -> _T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._wire.recv(doing)
                self._incoming.write(data) if data else self._incoming.write_eof()
                continue
            self._flush()
            return result

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._wire.send(self._outgoing.read())


def checked_addresses(url: URL, opened: Opened, resolve: Resolve, allowance: Allowance) -> list[Address]:
    """
    Look the URL's host up and refuse it if any of its addresses may not be dialled.

    Raises:
        ForbiddenAddress, UnusableURL: the address or port is closed.
        SourceFailed: no such host.
        SourceTimedOut: the look-up outlasts the deadline; it goes on unheard.
    """
    opened.check_port(url.port, shown=allowance.shown)
    try:
        addresses: list[Address] = [ipaddress.ip_address(url.host)]
    except ValueError:
        addresses = _looked_up(url, resolve, allowance)
    for address in addresses:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise ForbiddenAddress(
                f"{allowance.shown} leads to {address}, an address of one interface only; use a public one"
            )
        opened.check(url.host, address, url.port, shown=allowance.shown)
    return addresses


def _looked_up(url: URL, resolve: Resolve, allowance: Allowance) -> list[Address]:
    doing = f"{url.host} was looked up"
    if not _lookups.acquire(timeout=allowance.left_s(doing)):
        raise allowance.timed_out(doing)
    found: list[Sequence[str]] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(resolve(url.host, url.port))
        except BaseException as exc:  # noqa: BLE001 - whatever a resolver raises, the name was not found
            errors.append(exc)
        finally:
            _lookups.release()
            done.set()

    try:
        threading.Thread(target=look_up, name="look-up", daemon=True).start()
    except RuntimeError:  # no thread can be had: the place it would have given back is given back here
        _lookups.release()
        raise
    if not done.wait(allowance.left_s(doing)):
        raise allowance.timed_out(doing)
    shown = allowance.shown
    if errors and getattr(errors[0], "errno", None) == socket.EAI_AGAIN:
        raise SourceFailed(
            f"{shown} can't be fetched: looking {url.host} up failed for the moment; try again"
        ) from errors[0]
    if errors or not found[0]:
        raise SourceFailed(f"{shown} can't be fetched: there is no host named {url.host}; check its spelling") from (
            errors[0] if errors else None
        )
    if len(found[0]) > ADDRESSES_MAX:
        raise SourceFailed(f"{shown} can't be fetched: {url.host} has {len(found[0])} addresses; no honest name has")
    try:
        return [ipaddress.ip_address(text) for text in dict.fromkeys(found[0])]
    except ValueError as exc:
        raise SourceFailed(f"{shown} can't be fetched: {url.host} leads to no IP address") from exc


def dialled(addresses: Sequence[Address], port: int, allowance: Allowance) -> socket.socket:
    """
    Connect to the first of some checked addresses that answers.

    Raises:
        SourceFailed: none does.
        SourceTimedOut: the deadline passed.
    """
    # IPv6 and IPv4 by turns, the system's favourite first: where one of them has no route, the other is tried soon.
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    turns = [a for pair in itertools.zip_longest(first, second) for a in pair if a is not None][:ADDRESSES_DIALLED]
    failure: OSError | None = None
    for place, address in enumerate(turns):
        timeout = allowance.left_s("connecting") / (len(turns) - place)
        sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect((str(address), port))
            return sock
        except OSError as exc:
            sock.close()
            failure = exc
    allowance.left_s("connecting")
    where = f"{turns[-1]} port {port}"
    if isinstance(failure, ConnectionRefusedError):
        raise SourceFailed(
            f"{allowance.shown} can't be fetched: nothing answers at {where}; check the address"
        ) from failure
    raise SourceFailed(f"{allowance.shown} can't be fetched: {where} can't be reached from here") from failure
