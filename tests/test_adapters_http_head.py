"""The head of an HTTP request: what is read, and what is refused because it can be read in two ways."""

from __future__ import annotations

import random
import time

import pytest

from graphpipe_fn.adapters.http_head import (
    FIELDS_MAX,
    Head,
    UnknownCoding,
    UnknownVersion,
    UnmetExpectation,
    chunk_length,
    parse_head,
)
from graphpipe_fn.errors import GraphPipeError, MalformedMessage

HOST = {"host": "a"}
READ: list[tuple[str, bytes, Head]] = [
    ("plain", b"GET / HTTP/1.1\r\nHost: a", Head("GET", "/", HOST, True, 0, False)),
    (
        "close",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close",
        Head("GET", "/", {**HOST, "connection": "x, Close"}, False, 0, False),
    ),
    ("old", b"GET / HTTP/1.0", Head("GET", "/", {}, False, 0, False)),
    (
        "old, kept",
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive",
        Head("GET", "/", {"connection": "Keep-Alive"}, True, 0, False),
    ),
    (
        "length",
        b"POST /a HTTP/1.1\r\nhOST:a\r\nContent-Length:  007 ",
        Head("POST", "/a", {**HOST, "content-length": "007"}, True, 7, False),
    ),
    (
        "chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked",
        Head("POST", "/", {**HOST, "transfer-encoding": "Chunked"}, True, None, False),
    ),
    (
        "waits",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1",
        Head("POST", "/", {**HOST, "expect": "100-Continue", "content-length": "1"}, True, 1, True),
    ),
    ("query", b"GET /a%20b?c=/d HTTP/1.1\r\nHost: a", Head("GET", "/a b", HOST, True, 0, False)),
    ("whole address", b"GET http://a:1/b?c HTTP/1.1\r\nHost: a", Head("GET", "/b", HOST, True, 0, False)),
    ("whole address without path", b"GET HTTP://a HTTP/1.1\r\nHost: a", Head("GET", "/", HOST, True, 0, False)),
    ("star", b"OPTIONS * HTTP/1.1\r\nHost: a", Head("OPTIONS", "*", HOST, True, 0, False)),
    (
        "repeated field",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\nX:\t2",
        Head("GET", "/", {**HOST, "x": "1, 2"}, True, 0, False),
    ),
    ("empty value", b"GET / HTTP/1.1\r\nHost:", Head("GET", "/", {"host": ""}, True, 0, False)),
    (
        "bytes over 127",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: \xe9",
        Head("GET", "/", {**HOST, "x": "\xe9"}, True, 0, False),
    ),
]


@pytest.mark.parametrize(("head", "expected"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_heads_that_are_read(head: bytes, expected: Head) -> None:
    """A head says what HTTP/1.1 says that it says."""
    assert expected == parse_head(head)


LENGTH = b"\r\nContent-Length: 5"
REFUSED: list[tuple[str, bytes, type[GraphPipeError]]] = [
    ("nothing", b"", MalformedMessage),
    ("no version", b"GET /", MalformedMessage),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: a", MalformedMessage),
    ("tab", b"GET\t/ HTTP/1.1\r\nHost: a", MalformedMessage),
    ("byte over 127 in the target", b"GET /\xe9 HTTP/1.1\r\nHost: a", MalformedMessage),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", MalformedMessage),
    ("HTTP/2", b"PRI * HTTP/2.0", UnknownVersion),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a", UnknownVersion),
    ("no host", b"GET / HTTP/1.1", MalformedMessage),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", MalformedMessage),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: a" + LENGTH + LENGTH, MalformedMessage),
    ("two lengths in one", b"POST / HTTP/1.1\r\nHost: a" + LENGTH + b", 5", MalformedMessage),
    ("negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1", MalformedMessage),
    ("signed length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1", MalformedMessage),
    ("spaced length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1", MalformedMessage),
    ("underscored length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_1", MalformedMessage),
    ("hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1", MalformedMessage),
    ("superscript length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb9", MalformedMessage),
    ("endless length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 19, MalformedMessage),
    ("empty length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:", MalformedMessage),
    ("both", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked" + LENGTH, MalformedMessage),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", MalformedMessage),
    ("gzip", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", UnknownCoding),
    ("chunked, then more", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x", UnknownCoding),
    ("vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked", MalformedMessage),
    ("two codings", b"POST / HTTP/1.1\r\nHost: a" + b"\r\nTransfer-Encoding: chunked" * 2, MalformedMessage),
    ("space before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5", MalformedMessage),
    ("folded", b"POST / HTTP/1.1\r\nHost: a\r\nx: 1\r\n Content-Length: 5", MalformedMessage),
    ("bare line feed", b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 5", MalformedMessage),
    ("bare carriage return", b"POST / HTTP/1.1\r\nHost: a\rContent-Length: 5", MalformedMessage),
    ("NUL", b"GET / HTTP/1.1\r\nHost: a\0", MalformedMessage),
    ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nx", MalformedMessage),
    ("no name", b"GET / HTTP/1.1\r\nHost: a\r\n: x", MalformedMessage),
    ("odd expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok", UnmetExpectation),
    ("many fields", b"GET / HTTP/1.1\r\nHost: a" + b"\r\nx: 1" * FIELDS_MAX, MalformedMessage),
]


@pytest.mark.parametrize(("head", "error"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_heads_that_are_refused(head: bytes, error: type[GraphPipeError]) -> None:
    """What is no HTTP/1.1, or leaves room for two opinions on where the body ends, is refused."""
    with pytest.raises(error) as caught:
        parse_head(head)
    assert type(caught.value) is error
    assert 400 <= caught.value.status <= 599


def test_nothing_else_is_raised() -> None:
    """Heads altered at random are read or refused, with our own error."""
    dice = random.Random(11)
    whole = [head for _, head, *_ in READ] + [head for _, head, _ in REFUSED]
    for _ in range(20_000):
        head = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(head) + 1)
            head[place : place + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
        try:
            parsed = parse_head(bytes(head))
        except GraphPipeError:
            continue
        assert parsed.length is None or parsed.length >= 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost:" + b" " * 16_000 + b"\0",
        b"GET / HTTP/1.1\r\n" + b"a" * 16_000,
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 4_000 + b"\0",
        b"G" * 16_000,
        b"GET " + b"/" * 16_000 + b"\0 HTTP/1.1",
    ],
    ids=["spaces", "name", "lines", "method", "target"],
)
def test_hostile_heads_take_no_time(head: bytes) -> None:
    """A head of 16 KB that is no head is refused within 20 ms, however it is built."""
    began = time.process_time()
    with pytest.raises(MalformedMessage):
        parse_head(head)
    assert time.process_time() - began < 0.02


CHUNKS: list[tuple[bytes, int | None]] = [
    (b"0", 0),
    (b"1f", 31),
    (b"00A;x=y", 10),
    (b"7 ;x", 7),
    (b"", None),
    (b" 1", None),
    (b"-1", None),
    (b"0x1", None),
    (b"1_0", None),
    (b"g", None),
    (b"1" * 16, None),
    (b"1;\n", None),
]


@pytest.mark.parametrize(("line", "expected"), CHUNKS, ids=[line.decode() or "empty" for line, _ in CHUNKS])
def test_lengths_of_chunks(line: bytes, expected: int | None) -> None:
    """A chunk's length is a hexadecimal number and nothing that only looks like one."""
    if expected is None:
        with pytest.raises(MalformedMessage):
            chunk_length(line)
    else:
        assert expected == chunk_length(line)
