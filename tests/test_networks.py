"""Which addresses are public, and what a setting opens."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classy.errors import ForbiddenAddress, UnusableURL
from classy.networks import Opened, embedded_ipv4, forbidden_kind

# First and last of each of IANA's special-purpose blocks, and what the block is called in messages.
BLOCKS = [
    ("0.0.0.0", "0.255.255.255", "this network"),
    ("10.0.0.0", "10.255.255.255", "private"),
    ("100.64.0.0", "100.127.255.255", "shared by a carrier"),
    ("127.0.0.0", "127.255.255.255", "loopback"),
    ("168.63.129.16", "168.63.129.16", "a cloud's own service"),
    ("169.254.0.0", "169.254.255.255", "link-local"),
    ("172.16.0.0", "172.31.255.255", "private"),
    ("192.0.0.0", "192.0.0.255", "reserved for protocols"),
    ("192.0.2.0", "192.0.2.255", "for documentation"),
    ("192.31.196.0", "192.31.196.255", "reserved for AS112"),
    ("192.52.193.0", "192.52.193.255", "reserved for AMT"),
    ("192.88.99.0", "192.88.99.255", "a 6to4 relay"),
    ("192.168.0.0", "192.168.255.255", "private"),
    ("192.175.48.0", "192.175.48.255", "reserved for AS112"),
    ("198.18.0.0", "198.19.255.255", "for benchmarks"),
    ("198.51.100.0", "198.51.100.255", "for documentation"),
    ("203.0.113.0", "203.0.113.255", "for documentation"),
    ("224.0.0.0", "239.255.255.255", "multicast"),
    ("240.0.0.0", "255.255.255.255", "reserved"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "a Teredo tunnel"),
    ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved for protocols"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "for documentation"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a 6to4 tunnel"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "reserved for AS112"),
    ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "the former 6bone"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "for documentation"),
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("::2", "::ffff:ffff", "IPv4 inside IPv6"),
    ("::ffff:0:0", "::ffff:ffff:ffff", "IPv4 inside IPv6"),
    ("64:ff9b::", "64:ff9b::ffff:ffff", "a NAT64 translation"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "a NAT64 translation"),
    ("100::", "100::ffff:ffff:ffff:ffff", "discarded"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "for segment routing"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
    ("4000::", "4000::1", "outside the public range of IPv6"),
]
# The public neighbours of the blocks above, and some that are known to be public.
PUBLIC = [
    "1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
    "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.112.255",
    "203.0.114.0", "223.255.255.255", "2000::", "2001:200::", "2001:db7::", "2001:db9::", "2003::1",
    "2606:2800:220:1:248:1893:25c8:1946", "2a00::1", "2620:4f:7fff::", "3ffd::", "3fff:1000::",
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "kind"), BLOCKS, ids=[block[0] for block in BLOCKS])
def test_special_blocks_are_forbidden_from_end_to_end(first: str, last: str, kind: str) -> None:
    """Both ends of every special block are forbidden by that block's name."""
    assert (kind, kind) == (forbidden_kind(ip_address(first)), forbidden_kind(ip_address(last)))


@pytest.mark.parametrize("address", PUBLIC)
def test_their_neighbours_are_public(address: str) -> None:
    """The addresses just beside the special blocks are not forbidden with them."""
    assert forbidden_kind(ip_address(address)) == ""


EMBEDDED = [
    ("::ffff:10.1.2.3", ["10.1.2.3"]),
    ("::ffff:0:10.1.2.3", ["10.1.2.3"]),
    ("::10.1.2.3", ["10.1.2.3"]),
    ("::", []),
    ("::1", []),
    ("2002:0a01:0203::7", ["10.1.2.3"]),
    ("2001:0:0a01:0203:0:0:f5fe:fdfc", ["10.1.2.3", "10.1.2.3"]),
    ("64:ff9b::10.1.2.3", ["10.1.2.3"]),
    ("64:ff9b:1:0:0:0:10.1.2.3", ["10.1.2.3"]),
    ("64:ff9b:1:a01:2:300::", ["10.1.2.3", "1.2.3.0", "2.3.0.0"]),  # the same bits by three prefix lengths
    ("64:ff9b:1:ff0a:1:203::", ["10.1.2.3", "1.2.3.0"]),
    ("64:ff9b:1:2:a:102:300:0", ["10.1.2.3"]),
    ("2a00::5efe:10.1.2.3", ["10.1.2.3"]),
    ("2a00::200:5efe:10.1.2.3", ["10.1.2.3"]),
    ("2a00::10.1.2.3", []),
]


@pytest.mark.parametrize(("address", "inner"), EMBEDDED, ids=[case[0] for case in EMBEDDED])
def test_ipv4_is_found_inside_ipv6(address: str, inner: list[str]) -> None:
    """Every address that some translator would read out of this one is found, and no other."""
    assert inner == [str(found) for found in embedded_ipv4(IPv6Address(address))]


@given(st.integers(0, 2**128 - 1))
def test_outside_2000_nothing_is_public(number: int) -> None:
    """An IPv6 address outside 2000::/3 is forbidden, whatever it is."""
    address = IPv6Address(number)
    if number >> 125 != 1:
        assert forbidden_kind(address) != ""


@given(st.sampled_from(["10.0.0.0", "127.0.0.0", "169.254.0.0", "192.168.0.0"]), st.integers(0, 0xFFFF), st.data())
def test_isatap_does_not_hide_private_addresses(network: str, host: int, data: st.DataObject) -> None:
    """A public prefix before a private ISATAP address makes it no public address."""
    prefix = data.draw(st.integers(0x2A00 << 48, (0x2B00 << 48) - 1))
    middle = data.draw(st.sampled_from([0x00005EFE, 0x02005EFE]))
    address = IPv6Address(prefix << 64 | middle << 32 | int(IPv4Address(network)) + host)
    assert forbidden_kind(address).endswith("inside IPv6")


# The setting, host, address, port, and the error's class or None.
OPENED = [
    ("", "a.test", "8.8.8.8", 80, None),
    ("", "a.test", "8.8.8.8", 443, None),
    ("", "a.test", "8.8.8.8", 8080, UnusableURL),
    ("", "a.test", "10.0.0.1", 80, ForbiddenAddress),
    ("", "a.test", "10.0.0.1", 8080, ForbiddenAddress),
    ("a.test", "a.test", "10.0.0.1", 80, None),
    ("A.Test.", "a.test", "10.0.0.1", 443, None),
    ("a.test", "a.test", "10.0.0.1", 8080, ForbiddenAddress),
    ("a.test", "b.a.test", "10.0.0.1", 80, ForbiddenAddress),
    ("a.test:8080", "a.test", "10.0.0.1", 8080, None),
    ("a.test:8080", "a.test", "10.0.0.1", 80, ForbiddenAddress),
    ("a.test:8080", "b.test", "8.8.8.8", 8080, UnusableURL),
    ("10.0.0.1", "10.0.0.1", "10.0.0.1", 80, None),
    ("10.0.0.1", "a.test", "10.0.0.1", 80, None),
    ("10.0.0.1", "10.0.0.2", "10.0.0.2", 80, ForbiddenAddress),
    ("10.0.0.0/8", "a.test", "10.200.0.1", 80, None),
    ("10.0.0.0/8:9000", "a.test", "10.200.0.1", 9000, None),
    ("10.0.0.0/8:9000", "a.test", "10.200.0.1", 80, ForbiddenAddress),
    (":8080", "a.test", "8.8.8.8", 8080, None),
    (":8080", "a.test", "10.0.0.1", 8080, ForbiddenAddress),
    ("x.test,10.0.0.0/8\n [::1]:81", "a.test", "::1", 81, None),
    ("::1", "a.test", "::1", 80, None),
    ("fd00::/8", "a.test", "fd12::1", 80, None),
    ("[fd00::/8]:81", "a.test", "fd12::1", 81, None),
    ("64:ff9b::/96", "a.test", "64:ff9b::8.8.8.8", 80, None),
    ("64:ff9b::/96", "a.test", "64:ff9b::10.0.0.1", 80, ForbiddenAddress),
    ("::ffff:0:0/96", "a.test", "::ffff:127.0.0.1", 80, ForbiddenAddress),
    ("0.0.0.0/0", "a.test", "127.0.0.1", 80, None),
]


@pytest.mark.parametrize(("setting", "host", "address", "port", "refused"), OPENED)
def test_a_setting_opens_what_it_names(
    setting: str, host: str, address: str, port: int, refused: type[Exception] | None
) -> None:
    """An entry opens its host or network at its port, or at 80 and 443, and nothing beside it."""
    opened = Opened.parse(setting)
    found = None
    try:
        opened.check(host, ip_address(address), port, shown="URL")
    except (ForbiddenAddress, UnusableURL) as exc:
        found = type(exc)
    assert refused is found


def test_a_refusal_says_how_to_open_it() -> None:
    """The error names the URL, the address, why it is closed, and the setting's own spelling that would open it."""
    with pytest.raises(ForbiddenAddress) as caught:
        Opened().check("localtest.me", IPv4Address("127.0.0.1"), 8080, shown="http://localtest.me:8080/")
    expected = (
        "http://localtest.me:8080/ leads to 127.0.0.1 (loopback), which is not a public address; "
        "use a public one, or open localtest.me or 127.0.0.1 at port 8080 with CLASSY_DOWNLOAD_ALLOW"
    )
    assert expected == caught.value.message


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.1/8", "http://a.test", "a.test:", "a.test:0", "a.test:65536", ":", "b/c", "[a.test]", "[::1", "*",
     "a..test", "a.test:80:81", "10.0.0.0/33"],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_refused(entry: str) -> None:
    """An entry that is no host, network or port is refused instead of ignored."""
    with pytest.raises(ValueError):
        Opened.parse(entry)
