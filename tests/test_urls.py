"""URLs are read strictly, and shown without secrets."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classy.errors import UnusableURL
from classy.urls import SHOWN_MAX, URL, parse_url, shown_url

READ = [
    ("http://a.test", URL("http", "a.test", 80, "/")),
    ("HTTPS://A.Test:443/Cat.PNG", URL("https", "a.test", 443, "/Cat.PNG")),
    ("http://a.test:8080?q=1", URL("http", "a.test", 8080, "/?q=1")),
    ("http://a.test:/x#part", URL("http", "a.test", 80, "/x")),
    ("http://a.test./x", URL("http", "a.test", 80, "/x")),
    ("http://a_b.test/x", URL("http", "a_b.test", 80, "/x")),
    ("http://a.test/a b.png", URL("http", "a.test", 80, "/a%20b.png")),
    ("http://a.test/a%20b%2F.png", URL("http", "a.test", 80, "/a%20b%2F.png")),
    ("http://a.test/猫.png?名=é", URL("http", "a.test", 80, "/%E7%8C%AB.png?%E5%90%8D=%C3%A9")),
    ("http://a.test/@me/x@2.png?a@b", URL("http", "a.test", 80, "/@me/x@2.png?a@b")),
    ("http://bücher.test/", URL("http", "xn--bcher-kva.test", 80, "/")),
    ("http://日本。jp/", URL("http", "xn--wgv71a.jp", 80, "/")),
    ("http://１２７.0.0.1/", URL("http", "127.0.0.1", 80, "/")),
    ("http://[2A00:0::1]:81/", URL("http", "2a00::1", 81, "/")),
    ("http://[::ffff:127.0.0.1]/", URL("http", str(IPv6Address("::ffff:127.0.0.1")), 80, "/")),
]


@pytest.mark.parametrize(("text", "url"), READ, ids=[case[0] for case in READ])
def test_urls_are_read(text: str, url: URL) -> None:
    """A URL's four parts are what a browser would take them for, and they make a URL that reads the same."""
    assert url == parse_url(text)
    assert url == parse_url(url.text)


REFUSED = [
    ("", "no URL that is fetched"),
    ("cat.png", "no URL that is fetched"),
    ("//a.test/x", "no URL that is fetched"),
    ("http:a.test", "no URL that is fetched"),
    ("ftp://a.test/x", "no URL that is fetched"),
    ("file:///etc/passwd", "no URL that is fetched"),
    ("http://", "no host"),
    ("http:///x", "no host"),
    ("http://:80/", "no host"),
    ("http://a.test/x ", "blanks around it"),
    ("\nhttp://a.test/x", "blanks around it"),
    ("http://a.test\\x", "backslash or control"),
    ("http://a.te\tst/", "backslash or control"),
    ("http://a.test/\x00", "backslash or control"),
    ("http://a.test/\x85x", "backslash or control"),
    ("http://user@a.test/", "user name or password"),
    ("http://@a.test/", "user name or password"),
    ("http://a.test:0/", "ports are 1 to 65535"),
    ("http://a.test:65536/", "ports are 1 to 65535"),
    ("http://a.test:８０/", "no host that can be read"),
    ("http://a.test:80:80/", "no host that can be read"),
    ("http://a.test:http/", "no host that can be read"),
    ("http://a%2etest/", "no domain name can be"),
    ("http://a b/", "no domain name can be"),
    ("http://a..test/", "no domain name can be"),
    ("http://.a.test/", "no domain name can be"),
    ("http://" + "a" * 64 + ".test/", "no domain name can be"),
    ("http://" + "a." * 127 + "test/", "no domain name can be"),
    ("http://\ud800.test/", "no domain name can be"),
    ("http://a.test/\ud800", "no text"),
    ("http://[::1]x/", "no host that can be read"),
    ("http://[a.test]/", "no IPv6 address"),
    ("http://[127.0.0.1]/", "no IPv6 address"),
    ("http://[fe80::1%25eth0]/", "network interface"),
    ("http://0177.0.0.1/", "four decimal numbers"),
    ("http://0x7f.1/", "four decimal numbers"),
    ("http://2130706433/", "four decimal numbers"),
    ("http://1.2.3/", "four decimal numbers"),
    ("http://a.test.1/", "four decimal numbers"),
    ("http://a.test/" + "x" * 8192, "the limit is 8192"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[ascii(case[0])[:40] for case in REFUSED])
def test_urls_that_readers_disagree_about_are_refused(text: str, reason: str) -> None:
    """What is no URL, or might be two, is refused with the reason."""
    with pytest.raises(UnusableURL) as caught:
        parse_url(text)
    assert reason in caught.value.message


JOINED = [
    ("/y.png", "http://a.test:81/y.png"),
    ("y.png?q", "http://a.test:81/dir/y.png?q"),
    ("?q", "http://a.test:81/dir/x.png?q"),
    ("//b.test/y", "http://b.test/y"),
    ("https://b.test", "https://b.test/"),
    ("../../../y", "http://a.test:81/y"),
    ("猫.png", "http://a.test:81/dir/%E7%8C%AB.png"),
]


@pytest.mark.parametrize(("location", "expected"), JOINED)
def test_redirects_are_joined(location: str, expected: str) -> None:
    """A Location is read relative to where it came from."""
    assert expected == parse_url("http://a.test:81/dir/x.png").join(location).text


@pytest.mark.parametrize(
    "location", ["http://[", "http://[]", "//[::1]]/", "\\\\b.test", "/a\tb", "data:,x", "s3://b/k"]
)
def test_redirects_to_nowhere_are_refused(location: str) -> None:
    """A Location that is no URL is refused with our own error, never with urllib's."""
    with pytest.raises(UnusableURL):
        parse_url("http://a.test/").join(location)


SHOWN = [
    ("http://a.test/x.png", "http://a.test/x.png"),
    ("http://a.test/x.png?X-Amz-Signature=secret", "http://a.test/x.png?…"),
    ("http://a.test/x.png#secret", "http://a.test/x.png"),
    ("http://user:secret@a.test/x", "http://a.test/x"),
    ("http://user:se/cret@a.test/x", "http://a.test/x"),
    ("http://user:se?cret@a.test/x", "http://…?…"),
    ("http:\\\\user:secret@a.test/x", "http:\\\\a.test/x"),
    ("user:secret@a.test/x", "a.test/x"),
    ("http://secret@secret@a.test/x", "http://a.test/x"),
    ("http://a.test/@me", "http://a.test/@me"),
    ("http://a.test/\x1b[31m\r\n\u202ex", "http://a.test/[31mx"),
    ("s3://bucket/key", "s3://bucket/key"),
    ("http://a.test/" + "x" * 500, "http://a.test/" + "x" * 185 + "…"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), SHOWN, ids=[ascii(case[0])[:40] for case in SHOWN])
def test_what_is_shown_holds_no_secret(text: str, expected: str) -> None:
    """Passwords, queries, fragments and control characters do not reach a message."""
    assert expected == shown_url(text)


@given(st.text())
def test_anything_can_be_shown(text: str) -> None:
    """Whatever is shown is one printable line of bounded length."""
    shown = shown_url(text)
    assert len(shown) <= SHOWN_MAX + 2
    assert shown.isprintable()


@given(
    st.sampled_from(["http", "https"]),
    st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="@:/?#\\"), max_size=12),
    st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="@"), max_size=12),
)
def test_no_password_is_shown(scheme: str, user: str, password: str) -> None:
    """However odd a password is, no message about its URL holds it."""
    secret = f"5ecret{password}5ecret"
    text = f"{scheme}://{user}:{secret}@a.test/x"
    with pytest.raises(UnusableURL) as caught:
        parse_url(text)
    assert "5ecret" not in caught.value.message
    assert "5ecret" not in shown_url(text)


@given(st.text())
def test_only_our_error_escapes(text: str) -> None:
    """Whatever text is read as a URL, it is one or it is refused."""
    for candidate in (text, f"http://{text}", f"http://{text}/", f"http://a.test/{text}", f"https://[{text}]/"):
        try:
            url = parse_url(candidate)
        except UnusableURL:
            continue
        assert url == parse_url(url.text)
        assert url.target.isascii()
