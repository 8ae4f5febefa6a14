"""
URLs as callers write them: read strictly, and shown in error messages without what may be a secret.

Where two readers of one URL could disagree about its host (backslashes, user info, control characters, percent
signs), it is refused instead of guessed. It knows no network: whether the host may be dialled is not said here.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, urljoin

from classy.errors import UnusableURL
from graphpipe_fn.values import dataclass

LENGTH_MAX = 8192  # a signed object URL with a session token has about 2,000 characters
SHOWN_MAX = 200
DEFAULT_PORTS = {"http": 80, "https": 443}

# Compiled at their first use: 1.2 ms of a cold start, and most functions only show URLs, in errors.
_PARTS = r"(?s)(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>//)?(?P<rest>.*)"
_REST = r"(?s)(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?"
_AUTHORITY = r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]*))?"
_LABEL = r"[a-z0-9_-]{1,63}"
_NUMBER = r"[0-9]+|0x[0-9a-f]*"  # no top-level domain is one
_KEPT = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"<>^`{|}\\')  # quote() keeps these


@dataclass(frozen=True, slots=True)
class URL:
    """
    A URL that can be fetched.

    Args:
        scheme: "http" or "https".
        host: A name in lower-case ASCII, or an IP address without brackets; no dot at the end.
        port: 1 to 65535.
        target: Path and query, as the request line has them.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """Return the whole URL, its query included."""
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def shown(self) -> str:
        """Return the URL for error messages."""
        return shown_url(self.text)

    def join(self, location: str) -> URL:
        """
        Return where a redirect leads.

        Raises:
            UnusableURL: it leads to nothing that is fetched.
        """
        _check_characters(location)  # before urljoin, which drops some of them in silence
        try:
            joined = urljoin(self.text, location)
        except ValueError:  # brackets around no IPv6 address
            raise UnusableURL(f'"{shown_url(location)}" has no host that can be read') from None
        return parse_url(joined)


def parse_url(text: str) -> URL:
    """
    Read an http or https URL.

    Args:
        text: Non-ASCII characters are taken: they are encoded as browsers do.

    Raises:
        UnusableURL: another scheme, no host, user info, or characters that readers disagree about.
    """
    _check_characters(text)
    shown = shown_url(text)
    match = re.fullmatch(_PARTS, text)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS or not match["slashes"]:
        raise UnusableURL(f'"{shown}" is no URL that is fetched; write it as https://… or http://…')
    scheme = match["scheme"].lower()
    rest = re.fullmatch(_REST, match["rest"])
    assert rest is not None  # every text has these parts, empty or not
    host, port = _host_and_port(rest["authority"], shown, DEFAULT_PORTS[scheme])
    try:
        target = quote((rest["path"] or "/") + (rest["query"] or ""), safe=_KEPT)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise UnusableURL(f"{shown} holds characters that are no text; percent-encode them") from None
    return URL(scheme, host, port, target)


def shown_url(text: str, *, limit: int = SHOWN_MAX) -> str:
    """
    Return a URL as messages may show it: no user info, no query, no control characters, `limit` characters at most.

    Queries are dropped because signed URLs carry their key there. It takes any text, a URL or not.
    """
    text = text[: LENGTH_MAX + 1]
    cut = re.search(r"[?#]", text)
    query = bool(cut and text[cut.start()] == "?")
    bare = text[: cut.start()] if cut else text
    start = re.match(r"[^:/\\@]*:[/\\]+", bare)
    scheme, rest = (start[0], bare[start.end() :]) if start else ("", bare)
    authority = re.match(r"[^/\\]*", rest)
    assert authority is not None  # it matches the empty text too
    if "@" in authority[0]:
        rest = authority[0].rpartition("@")[2] + rest[authority.end() :]
    elif "@" in rest and not _plain(authority[0]):
        # A password with a slash in it: what looks like a host is its first half.
        rest = rest.rpartition("@")[2]
    elif "@" in text[len(bare) :] and not _plain(authority[0]):
        rest = "…"  # a password with a question mark in it
    clean = "".join(char for char in scheme + rest if char.isprintable()) + ("?…" if query else "")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _plain(authority: str) -> bool:
    match = re.fullmatch(_AUTHORITY, authority)
    return match is not None and (match["port"] is None or match["port"].isdigit())


def _check_characters(text: str) -> None:
    if len(text) > LENGTH_MAX:
        raise UnusableURL(f"{shown_url(text)} has {len(text)} characters; the limit is {LENGTH_MAX}")
    if text != text.strip():
        raise UnusableURL(f'"{shown_url(text)}" has blanks around it; remove them')
    if re.search(r"[\x00-\x1f\x7f-\x9f\\]", text):
        raise UnusableURL(f"{shown_url(text)} holds a backslash or control character; percent-encode it")


def _host_and_port(authority: str, shown: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise UnusableURL(f"{shown} was sent with a user name or password in it; remove it, nothing is logged in to")
    match = re.fullmatch(_AUTHORITY, authority)
    if match is None:
        raise UnusableURL(f"{shown} has no host that can be read; write https://host/path")
    port = int(match["port"][:6]) if match["port"] else default_port
    if not 0 < port < 65536:
        raise UnusableURL(f"{shown} asks for port {port}; ports are 1 to 65535")
    if match["literal"] is not None:
        return _literal(match["literal"], shown), port
    return _name(match["name"], shown), port


def _literal(text: str, shown: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise UnusableURL(f"{shown} has no IPv6 address between its brackets") from None
    if address.scope_id is not None:
        raise UnusableURL(f"{shown} names a network interface (%…) of this machine; remove it")
    return str(address)


def _name(text: str, shown: str) -> str:
    name = text.lower()
    if not text.isascii():
        try:
            # 63 letters make at most a few times as many characters; longer ones cost idna time, and fit nowhere.
            name = text[:255].encode("idna").decode("ascii").lower()
        except UnicodeError:
            raise UnusableURL(f"{shown} has a host that no domain name can be; check its spelling") from None
    name = name.removesuffix(".")
    if not name:
        raise UnusableURL(f"{shown} has no host; write https://host/path")
    if len(name) > 253 or not all(re.fullmatch(_LABEL, label) for label in name.split(".")):
        raise UnusableURL(f"{shown} has a host that no domain name can be; check its spelling")
    if re.fullmatch(_NUMBER, name.rpartition(".")[2]):
        # 010.0.0.1 is 10.0.0.1 to some readers and 8.0.0.1 to others; nobody honest writes 0x7f.1.
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise UnusableURL(f"{shown} has a number for a host; write it as four decimal numbers") from None
    return name
