from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from classy.asks import Ask, Options, parse_ask, parse_query, with_query
from classy.errors import BadRequest
from graphpipe_fn.errors import MethodNotAllowed

DEFAULTS = Options(top_k=5, language="ja")
URL = "https://example.org/dog.jpg"
PICTURE = b"\xff\xd8\xff\xe0 a picture"
BASE64 = base64.b64encode(PICTURE).decode()


def parsed(body: Any, content_type: str = "text/plain") -> Ask:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_ask(data, content_type, defaults=DEFAULTS, limit_rows=3)


GOOD: list[Any] = [
    pytest.param({"name": URL}, "", Ask((URL,), DEFAULTS), id="the talk's own"),
    pytest.param({"imagelink": URL}, "", Ask((URL,), DEFAULTS), id="the article's"),
    pytest.param({"images": [URL, URL]}, "", Ask((URL, URL), DEFAULTS, batch=True), id="several"),
    pytest.param({"images": [URL, {"image": BASE64}]}, "", Ask((URL, PICTURE), DEFAULTS, batch=True), id="mixed"),
    pytest.param({"image": BASE64}, "", Ask((PICTURE,), DEFAULTS), id="base64"),
    pytest.param({"image": "data:image/jpeg;base64," + BASE64}, "", Ask((PICTURE,), DEFAULTS), id="data URL"),
    pytest.param(PICTURE, "image/jpeg", Ask((PICTURE,), DEFAULTS), id="a body with its type"),
    pytest.param(PICTURE, "text/plain", Ask((PICTURE,), DEFAULTS), id="a body without"),
    pytest.param(b"{ not json", "image/png", Ask((b"{ not json",), DEFAULTS), id="the type wins over a brace"),
    pytest.param(
        {"name": URL, "top_k": 2, "language": "en", "model": "m@1"},
        "",
        Ask((URL,), Options(2, "en", "m@1")),
        id="options",
    ),
]


@pytest.mark.parametrize(("body", "content_type", "ask"), GOOD)
def test_a_question_is_understood(body: Any, content_type: str, ask: Ask) -> None:
    """Every documented form is read."""
    assert parsed(body, content_type) == ask


BAD: list[Any] = [
    pytest.param(b"", "the body is empty; send", id="empty"),
    pytest.param(b" \n", "the body is empty", id="blank"),
    pytest.param(b'{"name": ', "looks like JSON but can't be read", id="cut"),
    pytest.param(b'{"a":' * 100_000, "can't be read (it is nested too deep)", id="deep"),
    pytest.param(b'{"top_k": ' + b"9" * 5_000 + b"}", "can't be read (a number has too many digits)", id="long"),
    pytest.param(b'{"a": "\xff"}', "can't be read (it is no UTF-8)", id="no UTF-8"),
    pytest.param({"image": 7}, '"image" must be a text, a picture in base64, not 7', id="a number for a picture"),
    pytest.param({"image": None}, '"image" must be a text, a picture in base64, not null', id="no picture"),
    pytest.param({"image": "AA=A"}, '"image" must be a picture in base64 (', id="spoilt base64"),
    pytest.param({"image": "ü"}, '"image" must be a picture in base64 (', id="no base64"),
    pytest.param([URL], "must be a JSON object, not [", id="a list"),
    pytest.param("https://x", 'must be a JSON object, not "https://x"', id="a text"),
    pytest.param({}, "names no picture", id="nothing asked"),
    pytest.param({"name": URL, "image": BASE64}, 'has "name", "image"; give exactly one', id="two sources"),
    pytest.param({"nmae": URL}, "unknown key 'nmae'", id="a typing mistake"),
    pytest.param({"name": 7}, '"name" must be a URL, not 7', id="no text"),
    pytest.param({"name": " "}, '"name" must be a URL', id="blank URL"),
    pytest.param({"name": "https://x/\ud800"}, "half a character", id="a lone surrogate"),
    pytest.param({"images": []}, "at least one URL", id="no images"),
    pytest.param({"images": URL}, "must be a list", id="images is a text"),
    pytest.param({"images": [URL] * 4}, "holds 4; the limit is 3", id="too many"),
    pytest.param({"image": "$$$"}, "picture in base64", id="bad base64"),
    pytest.param({"image": ""}, "is empty", id="empty base64"),
    pytest.param({"image": None}, "picture in base64", id="null"),
    pytest.param({"name": URL, "top_k": 0}, "from 1 to 1000, not 0", id="top_k 0"),
    pytest.param({"name": URL, "top_k": True}, "whole number", id="top_k true"),
    pytest.param({"name": URL, "language": "fr"}, 'one of "en", "ja", "zh"', id="language"),
    pytest.param({"name": URL, "model": 3}, '"model" must be a text', id="model"),
]


@pytest.mark.parametrize(("body", "complaint"), BAD)
def test_what_can_not_be_understood_is_refused_with_the_remedy(body: Any, complaint: str) -> None:
    """A 400 that says what to send instead."""
    with pytest.raises(BadRequest) as refused:
        parsed(body)
    assert complaint in refused.value.message
    assert refused.value.status == 400


def test_an_unusable_entry_of_several_is_its_own_error() -> None:
    """The others are classified, and its message says which one it is."""
    ask = parsed({"images": [URL, {"url": URL}, {"name": URL}]})
    good, bad, named = ask.sources
    assert (good, named) == (URL, URL)
    assert isinstance(bad, BadRequest)
    assert bad.message == '"images"[1]: must be a URL, {"name": URL} or {"image": BASE64}'


def test_a_posts_query_gives_options_and_nothing_else() -> None:
    """A picture as the body has no other place for them."""
    assert with_query(DEFAULTS, "top_k=2&language=en") == Options(2, "en")
    with pytest.raises(BadRequest, match="in the query of a POST"):
        with_query(DEFAULTS, "url=https://x/")


QUERIES: list[Any] = [
    ("url=https%3A%2F%2Fx%2Fa+b.jpg", {"name": "https://x/a b.jpg"}),
    ("imagelink=https://x/a.jpg", {"imagelink": "https://x/a.jpg"}),
    (
        "url=https://x/&top_k=3&language=en&model=m",
        {"name": "https://x/", "top_k": 3, "language": "en", "model": "m"},
    ),
    ("top_k=many", {"top_k": "many"}),
    ("", {}),
]


@pytest.mark.parametrize(("query", "value"), QUERIES)
def test_a_query_says_what_the_json_would(query: str, value: dict[str, Any]) -> None:
    """So that one place checks both."""
    assert parse_query("GET", query) == value


@pytest.mark.parametrize(
    ("method", "query", "error"),
    [
        ("GET", "url=a&url=b", BadRequest),
        ("GET", "url=a&name=b", BadRequest),
        ("GET", "image=abc", BadRequest),
        ("DELETE", "url=a", MethodNotAllowed),
    ],
)
def test_a_query_that_says_too_much_is_refused(method: str, query: str, error: type[Exception]) -> None:
    """One picture, once, by GET."""
    with pytest.raises(error):
        parse_query(method, query)
