"""
URLs that try to reach what is not public, and honest ones that must get through, generated from a seed.

Whatever a case does, only the addresses in HONEST may be connected to. The lists are the tests' own, written
without a look at classy.networks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

HONEST_V4 = ("93.184.216.34", "151.101.65.140", "8.8.8.8")
HONEST_V6 = ("2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001:81b::200e")
ISATAP = "2606:2800::5efe:5db8:d822"  # public, and so is 93.184.216.34 inside it
DETECTOR = "the-detector-sees-what-is-opened"  # the one case that does connect to a forbidden address
HONEST = frozenset((*HONEST_V4, *HONEST_V6, ISATAP))

VICTIMS_V4 = (
    "127.0.0.1", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.254", "172.16.5.4",
    "172.31.255.254", "192.168.1.1", "192.168.255.254", "169.254.169.254", "169.254.170.2", "169.254.0.1",
    "100.64.0.1", "100.100.100.200", "100.127.255.254", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1",
    "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.7",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
)  # fmt: skip
VICTIMS_V6 = (
    "::1", "::", "0:0:0:0:0:0:0:1", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fc00::1", "fd00:ec2::254",
    "fd20:ce::254", "fdff::1", "fec0::1", "ff02::1", "ff0e::1", "100::1", "2001::1", "2001:1::1", "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:30::1", "2001:db8::1", "2001:1ff::1", "2002::1", "2620:4f:8000::1", "3ffe::1",
    "3fff::1", "5f00::1", "4000::1", "8000::1", "1000::1", "::2", "::ffff:0:0", "64:ff9b::1", "64:ff9b:1::1",
    "0064:ff9b:0001:ffff::1",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """
    One URL.

    Args:
        served: Whether it must be fetched, or else refused; None where either will do. Whatever it is, there must be
            no forbidden connection on the way.
        answers: What names lead to: per name the answers to the first question, the second and so on; the last
            one is repeated.
        opened: The setting.
        redirects: Whether it takes a server that answers.
    """

    name: str
    url: str
    served: bool | None = False
    answers: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    opened: str = ""
    redirects: bool = False


def redirecting(target: str, *, status: int = 302, host: str = HONEST_V4[0]) -> str:
    """Return the URL of an honest server that redirects to `target`."""
    return f"http://{host}/to/{status}/{target.encode('utf-8', 'surrogatepass').hex()}"


def cases(seed: int) -> list[Case]:
    """Return the corpus of a seed."""
    rng = random.Random(seed)
    made: list[Case] = []
    for family in (_spelled, _embedded, _literals, _tricks, _ports, _names, _redirects, _honest):
        made += family(rng)
    return made


def spellings(address: str) -> dict[str, str]:
    """Return an IPv4 address in the ways that some parser or other reads."""
    a, b, c, d = (int(part) for part in address.split("."))
    number = int(IPv4Address(address))
    wide = address.translate({ord("0") + i: ord("０") + i for i in range(10)})
    return {
        "dotted": address,
        "decimal": str(number),
        "hex": f"0x{number:08x}",
        "hex-capitals": f"0X{number:08X}",
        "octal": f"0{number:o}",
        "hex-parts": f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        "octal-parts": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "padded-octal": f"{a:05o}.{b:05o}.{c:05o}.{d:05o}",
        "padded-decimal": f"{a:03d}.{b:03d}.{c:03d}.{d:03d}",
        "mixed": f"{a}.0x{b:x}.0{c:o}.{d}",
        "two-parts": f"{a}.{number & 0xFFFFFF}",
        "three-parts": f"{a}.{b}.{number & 0xFFFF}",
        "hex-two-parts": f"0x{a:x}.0x{number & 0xFFFFFF:x}",
        "dot-at-the-end": f"{address}.",
        "decimal-dot-at-the-end": f"{number}.",
        "overflowing": str(number + 2**32),
        "overflowing-part": f"{a + 256}.{b}.{c}.{d}",
        "fullwidth": wide,
        "circled": "".join("⓪①②③④⑤⑥⑦⑧⑨"[int(char)] if char.isdigit() else char for char in address),
        "ideographic-dots": address.replace(".", "。"),
        "percent-encoded": "".join(f"%{ord(char):02x}" for char in address),
        "percent-dots": address.replace(".", "%2e"),
        "port-80": f"{address}:80",
        "empty-port": f"{address}:",
    }


def embeddings(address: str) -> dict[str, str]:
    """Return an IPv4 address inside IPv6 in the ways that some stack, tunnel or translator reads."""
    number = int(IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    turned = number ^ 0xFFFFFFFF
    return {
        "mapped": f"::ffff:{address}",
        "mapped-hex": f"::ffff:{high}:{low}",
        "mapped-long": f"0:0:0:0:0:ffff:{high}:{low}",
        "mapped-capitals": f"::FFFF:{high}:{low}",
        "compatible": f"::{address}",
        "translated": f"::ffff:0:{address}",
        "6to4": f"2002:{high}:{low}::",
        "6to4-host": f"2002:{high}:{low}::1",
        "teredo-client": f"2001::5db8:d822:0:0:{turned >> 16:x}:{turned & 0xFFFF:x}",
        "teredo-server": f"2001:0:{high}:{low}:0:0:a247:27dd",
        "nat64": f"64:ff9b::{address}",
        "nat64-hex": f"64:ff9b::{high}:{low}",
        "nat64-local-96": f"64:ff9b:1:2:3:4:{high}:{low}",
        "nat64-local-48": str(IPv6Address(0x64FF9B0001 << 80 | (number >> 16) << 64 | (number & 0xFFFF) << 40)),
        "nat64-local-56": str(IPv6Address(0x64FF9B0001 << 80 | (number >> 24) << 64 | (number & 0xFFFFFF) << 32)),
        "nat64-local-64": str(IPv6Address(0x64FF9B0001 << 80 | number << 24)),
        "isatap": f"2606:2800::5efe:{high}:{low}",
        "isatap-global": f"2606:2800::200:5efe:{high}:{low}",
        "isatap-link-local": f"fe80::5efe:{high}:{low}",
    }


def _spelled(rng: random.Random) -> Iterator[Case]:
    for victim in VICTIMS_V4:
        for kind, spelling in rng.sample(sorted(spellings(victim).items()), 9):
            path = rng.choice(("/", "/a.png", "/latest/meta-data/", "/2018-06-01/runtime/invocation/next", ""))
            yield Case(f"spelled-{kind}-{victim}", f"{rng.choice(('http', 'https', 'HTTP'))}://{spelling}{path}")
    for kind, spelling in spellings("169.254.169.254").items():
        yield Case(f"spelled-{kind}-metadata", f"http://{spelling}/latest/meta-data/")


def _embedded(rng: random.Random) -> Iterator[Case]:
    for victim in VICTIMS_V4:
        for kind, literal in rng.sample(sorted(embeddings(victim).items()), 5):
            yield Case(f"embedded-{kind}-{victim}", f"http://[{literal}]/")
    for kind, literal in embeddings("169.254.169.254").items():
        yield Case(f"embedded-{kind}-metadata", f"http://[{literal}]/latest/meta-data/")
    for kind, literal in embeddings(HONEST_V4[0]).items():
        # A public address behind a tunnel or translator is none that is ours to dial, but for ISATAP's.
        if kind not in ("isatap", "isatap-global"):
            yield Case(f"embedded-{kind}-public", f"http://[{literal}]/")


def _literals(rng: random.Random) -> Iterator[Case]:
    for victim in VICTIMS_V6:
        long = IPv6Address(victim).exploded
        yield Case(f"literal-{victim}", f"http://[{rng.choice((victim, long, victim.upper()))}]/")
        yield Case(f"literal-{victim}-port", f"http://[{victim}]:80/")
        zone = rng.choice(("%25lo", "%lo", "%251", "%25eth0", "%0"))
        yield Case(f"literal-{victim}-zone", f"http://[{victim}{zone}]/")
    for public in HONEST_V6:
        yield Case(f"literal-{public}-zone", f"http://[{public}%25lo]/")


def _tricks(rng: random.Random) -> Iterator[Case]:
    honest = HONEST_V4[0]
    for victim in ("127.0.0.1", "169.254.169.254", "[::1]", "localhost"):
        for number, url in enumerate((
            f"http://{honest}@{victim}/", f"http://{honest}:80@{victim}/", f"http://{victim}@{honest}/",
            f"http://{victim}#@{honest}/", f"http://{victim}?@{honest}/",
            f"http://{honest}\\@{victim}/", f"http://{victim}\\@{honest}/", f"http://{victim}\\.{honest}/",
            f"http:\\\\{victim}\\", f"http:/{victim}/", f"http:{victim}/", f"http:///{victim}/", f"//{victim}/",
            f"http:////{victim}/", f"http://@{victim}/", f"http://:@{victim}/", f"http://:80@{victim}:80/",
            f"http://{victim}%00.{honest}/", f"http://{victim}\x00.{honest}/", f"http://{victim}%2f@{honest}/",
            f"http://{honest}%2f@{victim}/", f"http://{victim}%20{honest}/", f"http://{victim} {honest}/",
            f"http://{honest}\t@{victim}/", f"http://{victim}\n/", f"http://\n{victim}/", f"ht\ntp://{victim}/",
            f" http://{victim}/", f"http://{victim}/\r\nHost: {honest}\r\n\r\n", f"http://{victim}:80:443/",
            f"http://{victim}:/", f"http://{victim}:0/", f"http://{victim}:65616/", f"http://{victim}:-80/",
            f"http://{victim}:８０/", f"http://{victim}:80a/", f"http://{victim}./", f"http://{victim}../",
            f"http://.{victim}/", f"http://{victim}。/", f"http://{victim}\u200b/", f"http://{victim}\u00ad/",
            f"http://{victim}\ufeff/", f"http://[{victim}]/", f"http://[{victim}/", f"http://{victim}]/",
            f"ftp://{victim}/", f"gopher://{victim}:6379/_SET", f"dict://{victim}:11211/", f"ws://{victim}/",
            f"jar:http://{victim}/!/", f"url:http://{victim}/", f"http+unix://{victim}/", f"feed://{victim}/",
            f"view-source:http://{victim}/", f"s3://{victim}/key", f"S3://secrets/{victim}",
        )):  # fmt: skip
            yield Case(f"trick-{number}-{victim}", url)
    for number, url in enumerate((
        "file:///etc/passwd", "file://localhost/proc/self/environ", "data:image/png;base64,iVBORw0KGgo=",
        "s3://secrets/k",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/info", "unix:/var/run/docker.sock", "about:blank",
        "javascript:alert(1)",
        "", " ", "http", "http:", "http:/", "http://", "http:///", "://", "http://[", "http://[]", "http://[::", "/x",
        "http://.", "http://..", "http://-", "http://%", "http://\x7f", "http://" + "a" * 70_000,
        "http://" + "a." * 200, "http://" + "é" * 3000, "http://\ud800/", "http://a\udcff.test/", "http://[v1.x]/",
        "http://[::1%25" + "a" * 9000 + "]/", "http://①②③/", "http://0/", "http://0x/", "http://00000000000000/",
        "http://[::ffff:999.1.1.1]/", "http://127.0.0.1/" + "a" * 9000, "http://xn--/", "http://xn--a/",
        "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://ｌｏｃａｌｈｏｓｔ/", "http://ip6-localhost/",
    )):  # fmt: skip
        yield Case(f"odd-{number}", url)
    rng.random()


def _ports(rng: random.Random) -> Iterator[Case]:
    for port in (1, 21, 22, 23, 25, 53, 81, 111, 2375, 3306, 5432, 6379, 8080, 9001, 9200, 11211, 65535):
        honest = rng.choice(HONEST_V4)
        yield Case(f"port-{port}", f"http://{honest}:{port}/")
        yield Case(f"port-{port}-opened-elsewhere", f"http://{honest}:{port}/", opened=f"127.0.0.1:{port} 10.0.0.0/8")
    yield Case("opened-port-is-not-its-address", "http://127.0.0.1:8080/", opened=":8080")
    yield Case("opened-address-is-not-its-neighbour", "http://10.0.0.2/", opened="10.0.0.1")
    yield Case("opened-port-of-an-address-is-no-other", "http://10.0.0.1:80/", opened="10.0.0.1:8080")
    yield Case("opened-network-is-not-what-it-embeds", "http://[64:ff9b::a9fe:a9fe]/", opened="64:ff9b::/96")
    yield Case(
        "opened-name-is-not-its-address", "http://10.0.0.1/", answers={"in.test": [["10.0.0.1"]]}, opened="in.test"
    )
    yield Case("opened-name-is-no-part-of-another", "http://x.in.test/", answers={"x.in.test": [["10.0.0.1"]]},
               opened="in.test")  # fmt: skip


def _names(rng: random.Random) -> Iterator[Case]:
    everything = [*VICTIMS_V4, *VICTIMS_V6, *(embeddings(rng.choice(VICTIMS_V4)).values())]
    for number, victim in enumerate(everything):
        four, six = rng.choice(HONEST_V4), rng.choice(HONEST_V6)
        name = f"n{number}.test"
        url = f"http://{name}/"
        for kind, answers in rng.sample(sorted({
            "only": [[victim]],
            "last": [[four, victim]],
            "first": [[victim, four]],
            "between": [[four, victim, six]],
            "beside-ipv6": [[six, victim]],
            "often": [[victim] * 50],
            "among-many": [[four] * 99 + [victim]],
        }.items()), 3):  # fmt: skip
            yield Case(f"name-{kind}-{victim}", url, answers={name: answers})
        # It is public when it is checked and something else the next time: what was checked must be dialled.
        rebinding = {name: [[four], [victim], [victim]]}
        yield Case(f"rebinding-{victim}", url, served=True, answers=rebinding)
        yield Case(f"rebinding-back-{victim}", url, answers={name: [[victim], [four]]})
        yield Case(f"rebinding-by-redirect-{victim}", redirecting(url, host=name), answers=rebinding, redirects=True)
    for kind, answers in {
        "nothing": [[]],
        "no-address": [["cat.test"]],
        "an-empty-text": [[""]],
        "a-name-again": [["localhost"]],
        "a-spelling": [["0x7f.1"]],
        "an-address-with-a-port": [["127.0.0.1:80"]],
        "a-scoped-address": [["fe80::1%1"]],
        "a-scoped-public-address": [[HONEST_V6[0] + "%1"]],
        "a-thousand-addresses": [[f"93.184.{i // 250}.{i % 250}" for i in range(1000)]],
    }.items():
        yield Case(f"name-leads-to-{kind}", "http://n.test/", answers={"n.test": answers})


def _redirects(rng: random.Random) -> Iterator[Case]:
    targets = [case.url for family in (_spelled, _embedded, _literals, _tricks) for case in family(rng)]
    for number, target in enumerate(rng.sample(targets, 250)):
        # A Location that is no absolute URL is a path of the honest server's, so these may well be served.
        status = rng.choice((301, 302, 303, 307, 308))
        yield Case(f"redirect-{number}", redirecting(target, status=status), served=None, redirects=True)
    for number, target in enumerate(rng.sample(targets, 20)):
        for _ in range(rng.randrange(1, 4)):
            target = redirecting(target, host=rng.choice(HONEST_V4))
        yield Case(f"redirect-far-{number}", target, served=None, redirects=True)
    for number, victim in enumerate(VICTIMS_V4):
        answers = {"in.test": [[victim]]}
        yield Case(f"redirect-to-a-name-{victim}", redirecting("http://in.test/"), answers=answers, redirects=True)
        relative = rng.choice((f"//{victim}/", f"//{victim}:80", f"\\\\{victim}\\", f"///{victim}/"))
        yield Case(f"redirect-relative-{number}", redirecting(relative), served=None, redirects=True)


def _honest(rng: random.Random) -> Iterator[Case]:
    four, six = HONEST_V4[0], HONEST_V6[0]
    both = {"pictures.test": [[six, four]]}
    yield Case("honest-ipv4", f"http://{four}/cat.png", served=True)
    yield Case("honest-ipv6", f"http://[{six}]/cat.png", served=True)
    yield Case("honest-ipv6-in-full", f"http://[{IPv6Address(six).exploded}]:80/", served=True)
    yield Case("honest-name", "http://pictures.test/cat.png", served=True, answers=both)
    yield Case("honest-name-in-capitals", "HTTP://Pictures.TEST:80/", served=True, answers=both)
    yield Case("honest-name-with-a-dot", "http://pictures.test./", served=True, answers=both)
    yield Case("honest-https", "https://pictures.test/cat.png", served=True, answers=both)
    yield Case(
        "honest-idna", "http://bücher.test/日本.png?q=é#x", served=True, answers={"xn--bcher-kva.test": [[four]]}
    )
    for kind in ("dot-at-the-end", "fullwidth", "circled", "ideographic-dots", "port-80", "empty-port"):
        yield Case(f"honest-{kind}", f"http://{spellings(four)[kind]}/", served=True)
    for status in (301, 302, 303, 307, 308):
        yield Case(f"honest-redirect-{status}", redirecting(f"http://{HONEST_V4[1]}/", status=status), served=True,
                   redirects=True)  # fmt: skip
    yield Case("honest-redirect-to-a-path", redirecting("/cat.png"), served=True, redirects=True)
    yield Case(
        "honest-redirect-to-https", redirecting("https://pictures.test/"), served=True, answers=both, redirects=True
    )
    yield Case("honest-redirect-to-unicode", redirecting("/猫.png"), served=True, redirects=True)
    yield Case("honest-redirect-four-times", redirecting(redirecting(redirecting(redirecting("/")))),
               served=True, redirects=True)  # fmt: skip
    yield Case(DETECTOR, "http://127.0.0.1/", served=True, opened="127.0.0.1")
    yield Case("honest-opened-port", f"http://{four}:8080/", served=True, opened=":8080")
    yield Case("honest-isatap", f"http://[{ISATAP}]/", served=True)
    rng.random()
