"""The signer: AWS's own example, and botocore's signer as the second opinion."""

from __future__ import annotations

import calendar
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe_fn.transports.aws_sigv4 import Credentials, Request, sign

EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def test_the_published_example_has_the_published_signature() -> None:
    """AWS's test suite for signers, case get-vanilla, comes out to the letter."""
    request = Request(method="GET", host="example.amazonaws.com", path="/")
    at = calendar.timegm((2015, 8, 30, 12, 36, 0))
    assert sign(request, EXAMPLE, region="us-east-1", service="service", at=at) == [
        ("X-Amz-Date", "20150830T123600Z"),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
    ]


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
names = st.from_regex(r"X-[A-Z][a-z]{1,8}(-[A-Z][a-z]{1,8})?", fullmatch=True)
segments = st.lists(st.text("abcXYZ019-_~%:$", min_size=1, max_size=12), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST"]),
    segments=segments,
    query=st.lists(st.tuples(st.text("abZ09", min_size=1, max_size=6), st.text("ab09%24", max_size=6)), max_size=3),
    headers=st.dictionaries(names, printable, max_size=4),
    body=st.binary(max_size=200),
    secret=printable.filter(bool),
    token=st.sampled_from(["", "token/with+signs=="]),
)
def test_botocore_signs_the_same(
    method: str,
    segments: list[str],
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    secret: str,
    token: str,
) -> None:
    """Whatever the request, AWS's own SDK proves it with the same headers."""
    path = "/" + "/".join(segments)
    encoded = "&".join(f"{name}={value}" for name, value in query)
    url = f"http://127.0.0.1:4566{path}" + (f"?{encoded}" if encoded else "")
    theirs = AWSRequest(method, url, headers={"X-Own": "1", **headers}, data=body)
    SigV4Auth(BotoCredentials("AKID", secret, token or None), "lambda", "eu-central-1").add_auth(theirs)
    at = calendar.timegm(time.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    ours = sign(
        Request(
            method=method,
            host="127.0.0.1:4566",
            path=path,
            query=encoded,
            headers=[("X-Own", "1"), *headers.items()],
            body=[body[:7], memoryview(body)[7:]],
        ),
        Credentials("AKID", secret, token),
        region="eu-central-1",
        service="lambda",
        at=at,
    )
    assert dict(ours) == dict(theirs.headers.items())


@pytest.mark.parametrize("shown", [repr(EXAMPLE), str(EXAMPLE), f"{EXAMPLE}"])
def test_the_secret_is_never_shown(shown: str) -> None:
    """A log line with the credentials in it tells nobody the key."""
    assert "AKIDEXAMPLE" in shown
    assert "wJalr" not in shown
