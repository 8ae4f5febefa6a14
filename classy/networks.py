"""
Which addresses a caller's URL may lead to: public ones, and those that a setting opens.

The list is our own. Python's `ipaddress` calls several translated, embedded and special-purpose addresses global,
and which ones depends on its version. It knows no name and opens no socket: see guarded_http for both.

Source: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890 and what updates it), and its
registry of IPv6 global unicast, of which only 2000::/3 is given out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

from classy.errors import ForbiddenAddress, UnusableURL
from graphpipe_fn.values import dataclass

SETTING = "CLASSY_DOWNLOAD_ALLOW"
PORTS = frozenset({80, 443})  # what is fetched without a setting

_FORBIDDEN_IPV4 = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "this network"),  # Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),  # also Alibaba's metadata, 100.100.100.200
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own service"),  # Azure's host agent: in no registry, as it is theirs
        ("169.254.0.0/16", "link-local"),  # the metadata service of every cloud
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "reserved for AS112"),
        ("192.52.193.0/24", "reserved for AMT"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved for AS112"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("255.255.255.255/32", "broadcast"),
    )
)

_PUBLIC_IPV6 = IPv6Network("2000::/3")
_FORBIDDEN_IPV6 = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("2001::/32", "a Teredo tunnel"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a 6to4 tunnel"),
        ("2620:4f:8000::/48", "reserved for AS112"),
        ("3ffe::/16", "the former 6bone"),
        ("3fff::/20", "for documentation"),
        # The rest lies outside 2000::/3; it is here to be called by its name.
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4 inside IPv6"),
        ("::ffff:0:0:0/96", "IPv4 inside IPv6"),
        ("::/96", "IPv4 inside IPv6"),
        ("64:ff9b::/96", "a NAT64 translation"),
        ("64:ff9b:1::/48", "a NAT64 translation"),
        ("100::/64", "discarded"),
        ("5f00::/16", "for segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)


def forbidden_kind(address: IPv4Address | IPv6Address) -> str:
    """Return what keeps an address from being public, as "loopback" or "private"; "" for a public one."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _FORBIDDEN_IPV4 if address in network), "")
    if address.scope_id is not None:
        return "bound to one interface"
    for network, kind in _FORBIDDEN_IPV6:
        if address in network:
            return kind
    if address not in _PUBLIC_IPV6:
        return "outside the public range of IPv6"
    return _embedded_kind(address)


def embedded_ipv4(address: IPv6Address) -> Iterator[IPv4Address]:
    """
    Yield every IPv4 address that a tunnel, translator or stack may read out of an IPv6 address.

    Source: RFC 4291 (mapped, compatible), RFC 2765 (translated), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 5214
    (ISATAP), RFC 6052 and 8215 (NAT64, well-known and local).
    """
    number = int(address)
    low = number & 0xFFFFFFFF
    if number >> 32 in (0, 0xFFFF, 0xFFFF0000) and number > 1:  # compatible but :: and ::1, mapped, translated
        yield IPv4Address(low)
    if number >> 112 == 0x2002:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    if number >> 96 == 0x20010000:  # Teredo: the server's address, and the client's with every bit turned over
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(low ^ 0xFFFFFFFF)
    if number >> 32 & 0xFDFFFFFF == 0x00005EFE:  # ISATAP; the masked bit says "globally unique"
        yield IPv4Address(low)
    if number >> 32 == 0x0064FF9B_00000000_00000000:
        yield IPv4Address(low)
    if number >> 80 == 0x0064FF9B_0001:
        yield from _local_nat64(number)


def _local_nat64(number: int) -> Iterator[IPv4Address]:
    # Where the IPv4 address lies depends on the prefix's length, which an address does not tell. RFC 6052 wants
    # zeros behind it, so what can't be zeros rules a place out; the octet at bits 64 to 71 is skipped.
    if number & (1 << 40) - 1 == 0:
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
    if number & (1 << 32) - 1 == 0:
        yield IPv4Address((number >> 64 & 0xFF) << 24 | number >> 32 & 0xFFFFFF)
    if number & (1 << 24) - 1 == 0:
        yield IPv4Address(number >> 24 & 0xFFFFFFFF)
    else:
        yield IPv4Address(number & 0xFFFFFFFF)


def _embedded_kind(address: IPv6Address) -> str:
    for inner in embedded_ipv4(address):
        kind = forbidden_kind(inner)
        if kind:
            return f"{inner} ({kind}) inside IPv6"
    return ""


@dataclass(frozen=True, slots=True)
class Opening:
    """
    One entry of the setting: a host or a network, at one port or at 80 and 443.

    Args:
        host: A name in lower case; "" for any. Who opens a name trusts whatever it resolves to.
        network: None for any.
        port: None for 80 and 443.
    """

    host: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def covers(self, host: str, address: IPv4Address | IPv6Address, port: int) -> bool:
        """Return whether this entry opens `address`, which `host` led to, at `port`."""
        if port not in PORTS if self.port is None else port != self.port:
            return False
        if self.host:
            return host == self.host
        if self.network is not None:
            return address in self.network and not (isinstance(address, IPv6Address) and self._hides(address))
        return not forbidden_kind(address)

    def _hides(self, address: IPv6Address) -> bool:
        # Opening a NAT64 or tunnel network opens the public addresses behind it, not the private ones.
        assert self.network is not None  # covers() asks for networks only
        return self.network.num_addresses > 1 and bool(_embedded_kind(address))


@dataclass(frozen=True, slots=True)
class Opened:
    """What a setting opens beside public addresses at ports 80 and 443; nothing by default."""

    openings: tuple[Opening, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read the setting.

        Args:
            text: Entries between commas or blanks: `pictures.lan`, `pictures.lan:8080`, `10.1.0.0/16`,
                `127.0.0.1:4566`, `[fd00::1]:80`, or `:8080` for that port of public addresses.

        Raises:
            ValueError: an entry is none of these.
        """
        return cls(tuple(_parsed(entry) for entry in re.split(r"[,\s]+", text) if entry))

    def check(self, host: str, address: IPv4Address | IPv6Address, port: int, *, shown: str) -> None:
        """
        Refuse an address that may not be dialled.

        Args:
            host: As the URL has it, in lower case.
            address: What is about to be dialled.
            shown: The URL as error messages show it.

        Raises:
            ForbiddenAddress: not public, and not opened.
            UnusableURL: a public address at a port that is not fetched.
        """
        if any(opening.covers(host, address, port) for opening in self.openings):
            return
        kind = forbidden_kind(address)
        if kind:
            names = host if host == str(address) else f"{host} or {address}"
            at_port = "" if port in PORTS else f" at port {port}"
            raise ForbiddenAddress(
                f"{shown} leads to {address} ({kind}), which is not a public address; "
                f"use a public one, or open {names}{at_port} with {SETTING}"
            )
        if port not in PORTS:
            self.check_port(port, shown=shown, opened=frozenset())

    def check_port(self, port: int, *, shown: str, opened: frozenset[int] | None = None) -> None:
        """
        Refuse a port that is closed whatever the address: nothing needs to be looked up for that.

        Args:
            shown: The URL as error messages show it.
            opened: Ports that are open beside 80 and 443; those of the entries unless given.

        Raises:
            UnusableURL: the port is not fetched.
        """
        if opened is None:
            opened = frozenset(opening.port for opening in self.openings if opening.port is not None)
        if port not in PORTS | opened:
            raise UnusableURL(
                f"{shown} asks for port {port}, but only 80 and 443 are fetched; {SETTING} can open others"
            )


def _parsed(entry: str) -> Opening:
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]*))(?::(\d{1,5}))?", entry)
    if match is None:
        bare = _network(entry)  # an IPv6 address without brackets, and so without a port
        if bare is None:
            raise ValueError(f"{entry!r} is no host, network or :port; write host, host:port, network/bits or :port")
        return Opening(network=bare)
    name, port = match[1] or match[2] or "", int(match[3]) if match[3] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{entry!r} names port {port}; ports are 1 to 65535")
    if not name and port is None:
        raise ValueError(f"{entry!r} names nothing; write host, host:port, network/bits or :port")
    network = _network(name)
    if network is None and (match[1] or not re.fullmatch(r"|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", name)):
        raise ValueError(f"{entry!r} is no host or network; a network has no bits set behind its prefix")
    return Opening(host="" if network else name.lower().removesuffix("."), network=network, port=port)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
