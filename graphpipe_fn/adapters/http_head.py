"""
The head of an HTTP/1.1 request: bytes in, values out, no I/O.

Whatever leaves room for two opinions about where a body ends is refused: two lengths, a length beside a transfer
coding, spaces before a colon, folded lines, bare line feeds. Source: RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphpipe_fn.errors import GraphPipeError, MalformedMessage

FIELDS_MAX = 100

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_NAME}) ([!-~]+) HTTP/([0-9])\.([0-9])")
# Possessive throughout: with a choice of where a run of spaces ends, a hostile line would take quadratic time.
_FIELD = re.compile(rf"({_NAME}+):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n")
_FIELDS = re.compile(rf"(?:{_NAME}+:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ONCE = ("content-length", "transfer-encoding", "host", "expect")


class UnknownVersion(GraphPipeError):
    """A version of HTTP that is neither 1.0 nor 1.1."""

    code = 50500


class UnknownCoding(GraphPipeError):
    """A transfer coding other than chunked."""

    code = 50100


class UnmetExpectation(GraphPipeError):
    """An Expect header other than 100-continue."""

    code = 41700


@dataclass(frozen=True, slots=True)
class Head:
    """
    What a request says before its body.

    Args:
        path: Decoded, without the query; "*" for the server as a whole.
        headers: Names in lower case, repeated ones joined with commas.
        keep_alive: Whether the client wants to send another request.
        length: Of the body; None for a chunked one.
        waits: Whether the client waits for "100 Continue" before it sends the body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool
    length: int | None
    waits: bool


def parse_head(head: bytes) -> Head:
    """
    Read a request's head.

    Args:
        head: From the request line up to the empty line, without that.

    Raises:
        MalformedMessage: no HTTP/1.1, or not unmistakably.
        UnknownVersion, UnknownCoding, UnmetExpectation: HTTP, but not what is spoken here.
    """
    line, _, rest = head.decode("latin-1").partition("\r\n")
    start = _REQUEST_LINE.fullmatch(line)
    if start is None:
        raise MalformedMessage(f"{line[:80]!r} is no HTTP request line")
    method, target, major, minor = start.groups()
    if major != "1" or minor not in "01":
        raise UnknownVersion(f"HTTP/{major}.{minor} is not spoken here; use HTTP/1.1")
    headers = _headers(rest + "\r\n" if rest else "")
    modern = minor == "1"
    if modern and "host" not in headers:
        raise MalformedMessage("there is no Host header, which HTTP/1.1 demands")
    keep_alive = modern
    if "connection" in headers:
        options = {option.strip() for option in headers["connection"].lower().split(",")}
        keep_alive = "close" not in options and (modern or "keep-alive" in options)
    return Head(
        method,
        "/" if target == "/" else _path(target),
        headers,
        keep_alive,
        length=_length(headers, chunked_allowed=modern),
        waits=modern and "expect" in headers and _expects(headers["expect"]),
    )


def chunk_length(line: bytes) -> int:
    """
    Read the line before a chunk.

    Raises:
        MalformedMessage: not a hexadecimal number, with or without extensions.
    """
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise MalformedMessage(f"{line[:40]!r} is no length of a chunk")
    return int(match[1], 16)


def _headers(lines: str) -> dict[str, str]:
    if not _FIELDS.fullmatch(lines):
        wrong = next(line for line in lines.split("\r\n") if not _FIELD.fullmatch(line + "\r\n"))
        raise MalformedMessage(f"{wrong[:80]!r} is no HTTP header line")
    fields = _FIELD.findall(lines)
    if len(fields) > FIELDS_MAX:
        raise MalformedMessage(f"there are over {FIELDS_MAX} header lines; send fewer")
    headers: dict[str, str] = {}
    for written, text in fields:
        name, value = written.lower(), text.rstrip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise MalformedMessage(f"there are two {name} headers; send one")
        else:
            headers[name] += ", " + value
    return headers


def _path(target: str) -> str:
    path = _ABSOLUTE.sub("", target, count=1).partition("?")[0] or "/"
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    return path


def _length(headers: Mapping[str, str], *, chunked_allowed: bool) -> int | None:
    coding, declared = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if declared is not None or not chunked_allowed:
            raise MalformedMessage("Transfer-Encoding beside Content-Length, or in HTTP/1.0: send one length")
        if coding.lower() != "chunked":
            raise UnknownCoding(f"the transfer coding {coding[:40]!r} is not known here; use chunked")
        return None
    if declared is None:
        return 0
    if not _LENGTH.fullmatch(declared):
        raise MalformedMessage(f"the Content-Length {declared[:40]!r} is no number")
    return int(declared)


def _expects(expectation: str) -> bool:
    if expectation.lower() != "100-continue":
        raise UnmetExpectation(f"the expectation {expectation[:40]!r} is not known here")
    return True
