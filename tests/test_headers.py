"""What travels beside a message, as HTTP headers."""

from __future__ import annotations

import time

import pytest

from graphpipe_fn.headers import (
    call_of,
    format_deadline,
    header_value,
    parse_deadline,
    parse_retry_after,
    reply_headers,
    reply_of,
    request_headers,
)
from graphpipe_fn.messages import Call, Timing
from graphpipe_fn.model import Reply


def test_a_call_survives_its_headers() -> None:
    """A server reads the Call that a client wrote."""
    call = Call("call-1", time.monotonic() + 12.5, "00-ab-cd-01")
    read = call_of({name.lower(): value for name, value in request_headers(call)}, call_id="unused")
    assert (read.id, read.traceparent) == (call.id, call.traceparent)
    assert read.deadline_s == pytest.approx(call.deadline_s, abs=0.005)


def test_an_empty_call_has_no_headers() -> None:
    """Nothing is sent that nobody set."""
    assert request_headers(Call()) == []


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\nb", "ü", '"'])
def test_an_id_that_could_break_a_log_line_is_not_taken(given: str) -> None:
    """The platform's own id stands in for one that nobody could grep for."""
    assert call_of({"x-request-id": given}, call_id="own").id == "own"


def test_a_reply_survives_its_headers() -> None:
    """A client reads the Reply that a server wrote."""
    reply = Reply([b"body"], 503, "text/plain", (Timing("a", 0.5, True),), (("retry-after", "8"), ("allow", "POST")))
    headers = {name.lower(): value for name, value in reply_headers(reply)}
    assert headers == {
        "content-type": "text/plain",
        "server-timing": "a;dur=500.000;desc=cold",
        "retry-after": "8",
        "allow": "POST",
    }
    read = reply_of(503, headers, b"body")
    assert (read.status, read.content_type, read.timings, read.headers, read.body()) == (
        503,
        "text/plain",
        reply.timings,
        (("retry-after", "8"),),
        b"body",
    )


@pytest.mark.parametrize(
    ("status", "sent", "read"),
    [(200, "404", 404), (200, "200", 200), (200, "4040", 200), (200, "", 200), (502, "404", 502), (200, "100", 200)],
)
def test_the_status_that_a_platform_hid_is_read_from_our_own_header(status: int, sent: str, read: int) -> None:
    """Fn's direct invoke makes a 200 of a refusal; only a 200 is doubted, and only for an error."""
    assert reply_of(status, {"graphpipe-status": sent}, b"").status == read


def test_no_header_holds_a_line_break() -> None:
    """Values that come from elsewhere can't end a header and begin another."""
    reply = Reply([], content_type="a\r\nb", headers=(("retry-after", "1\r\nSet-Cookie: x\x00\x7f"),))
    values = [value for _, value in reply_headers(reply)]
    assert values == ["a  b", "1  Set-Cookie: x"]
    assert header_value("é\t") == ""


@pytest.mark.parametrize(
    ("text", "left_s"),
    [
        ("2031-01-01T00:00:10Z", 10.0),
        ("2031-01-01T00:00:10.250Z", 10.25),
        ("2031-01-01T00:00:10.123456789Z", 10.123456),
        ("2031-01-01T09:00:10+09:00", 10.0),
        ("2030-12-31T23:59:59Z", -1.0),
    ],
)
def test_deadlines_are_read_in_every_form_of_the_standard(text: str, left_s: float) -> None:
    """Fractions and offsets are legal; the distance to now is what counts."""
    start = parse_deadline("2031-01-01T00:00:00Z")
    read = parse_deadline(text)
    assert start is not None
    assert read is not None
    assert read - start == pytest.approx(left_s, abs=0.01)


@pytest.mark.parametrize("text", ["", "soon", "2031-01-01T00:00:10", "2031-13-01T00:00:10Z", "12", "\x00"])
def test_what_is_no_time_is_no_deadline(text: str) -> None:
    """A header that can't be read does not refuse a request."""
    assert parse_deadline(text) is None


def test_a_deadline_is_never_written_later_than_it_is() -> None:
    """Rounding takes time from the peer, it gives none."""
    for hundredths in range(100):
        deadline_s = time.monotonic() + 5 + hundredths / 97
        read = parse_deadline(format_deadline(deadline_s))
        assert read is not None
        assert deadline_s - 0.01 < read <= deadline_s + 0.0005


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("9" * 9, None),
    ],
)
def test_only_whole_seconds_are_a_time_to_retry(text: str, seconds: float | None) -> None:
    """What the header may say beside seconds is taken for nothing said."""
    assert parse_retry_after(text) == seconds
