"""Base64: the standard library's own as the reference, and what it would let pass."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

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


@settings(max_examples=500)
@given(st.text("QUJD=-!é", max_size=12))
def test_what_is_accepted_is_what_strict_mode_accepts(text: str) -> None:
    """Being faster than the standard library's strict mode makes no difference to what passes."""

    def tried(decode: Callable[[], bytes]) -> bytes | None:
        try:
            return decode()
        except ValueError:
            return None

    assert tried(lambda: decode_base64(text)) == tried(lambda: binascii.a2b_base64(text, strict_mode=True))
