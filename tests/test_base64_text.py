"""Base64: the standard library's own as the reference, and what it would let pass."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe_fn.base64_text import decode_base64, decoded_length, encode_base64


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_what_is_encoded_decodes_to_itself(pieces: list[bytes]) -> None:
    """Pieces of any length make one text, the same as the standard library's."""
    text = encode_base64(pieces).decode()
    assert text == base64.b64encode(b"".join(pieces)).decode()
    assert (decode_base64(text), decoded_length(text)) == (b"".join(pieces), sum(map(len, pieces)))


@pytest.mark.parametrize(
    "text",
    [
        "QUJD\n",
        "QUJ",
        "QUJ!D",
        "QU JD",
        "QUJD!!!!",
        "QUJD====",
        "QQ==QUJD",
        "QUJDQQ==QUJD",
        "QQ=QUJD=",
        "=QUJ",
        "====",
        "=",
        "QUJé",
        "QU-_",
        "QUJD\x00\x00\x00\x00",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Not a character is skipped, as the standard library does unasked."""
    with pytest.raises(ValueError):
        decode_base64(text)


SPEC = re.compile("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")  # RFC 4648, section 4


@settings(max_examples=500)
@given(st.text("QUJD=-!é", max_size=12))
def test_what_is_accepted_is_what_the_standard_defines(text: str) -> None:
    """Python's strict mode passes "DDDD=" and its lax one nearly anything; here the definition decides."""
    try:
        decoded: bytes | None = decode_base64(text)
    except ValueError:
        decoded = None
    assert decoded == (base64.b64decode(text) if SPEC.fullmatch(text) else None)
