"""What goes wrong is said in the person's language, with what the server says and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import violations
from looks import LOOKS, Look, every_look
from photos import photo
from playwright.sync_api import expect
from visits import Site, Visit, upload

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

CLASSIFY = re.compile("api/classify")
PROBLEM = "application/problem+json"
UNREACHED = {"en": "The server can't be reached", "ja": "サーバーに接続できません", "zh": "无法连接服务器"}
MISTAKEN = {"en": "The server made a mistake", "ja": "サーバーでエラーが起きました", "zh": "服务器出错"}
BUSY = {"en": "Too many questions at once", "ja": "リクエストが多すぎます"}
NO_PICTURE = {
    "en": "This is no picture that can be read",
    "ja": "読み取れる画像ではありません",
    "zh": "这不是可读取的图片",
}


def coffee() -> list[dict[str, object]]:
    """Return a picture for an input."""
    return [upload("coffee.png", photo("coffee.png"))]


def problem(page: Page, title: str) -> None:
    """Expect one problem with that title, which axe finds nothing serious in."""
    expect(page.locator(".problem")).to_have_count(1)
    expect(page.locator(".problem strong")).to_have_text(title)
    assert violations(page) == []


@every_look
def test_without_a_connection_the_page_says_so_and_tries_again(site: Site, visit: Visit, look: Look) -> None:
    """Nobody is left with a spinner: the connection is named, and the same picture can be asked again."""
    visit.watched.expected = {0}
    page = visit(site.url, look)
    page.context.set_offline(True)
    page.set_input_files("#file", coffee())
    problem(page, UNREACHED[look.language])
    page.context.set_offline(False)
    page.locator(".problem button").click()
    expect(page.locator(".bars")).to_be_visible()


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[5]], ids=["en", "ja", "zh"])
def test_a_mistake_of_the_server_names_the_request(site: Site, visit: Visit, look: Look) -> None:
    """A 500 says so, and gives the request's id for whoever reads the log."""
    visit.watched.expected = {500}
    page = visit(site.url, look)
    body = {"type": "about:blank", "title": "Internal", "status": 500, "detail": "a bug", "request_id": "abc-123"}
    page.route(
        CLASSIFY,
        lambda route: route.fulfill(status=500, content_type=PROBLEM, body=json.dumps(body)),
    )
    page.set_input_files("#file", coffee())
    problem(page, MISTAKEN[look.language])
    expect(page.locator(".problem")).to_contain_text("abc-123")
    page.unroute(CLASSIFY)
    page.locator(".problem button").click()
    expect(page.locator(".bars")).to_be_visible()


def test_an_answer_that_is_no_json_is_a_problem_of_the_server(site: Site, visit: Visit) -> None:
    """A gateway's page of HTML in between is shown as an error, and never as markup."""
    visit.watched.expected = {502}
    page = visit(site.url)
    page.route(
        CLASSIFY, lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1><script>window.hacked=1</script>")
    )
    page.set_input_files("#file", coffee())
    problem(page, "The server is busy")
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[2]], ids=["en", "ja"])
def test_too_many_questions_wait_as_long_as_the_server_asks(
    another: Callable[..., str], visit: Visit, look: Look
) -> None:
    """A real 429: the button counts the server's seconds down, and only then asks again."""
    url = another(CLASSY_RATE_LIMIT="4")
    visit.watched.expected = {429}
    page = visit(url, look)
    for _ in range(6):
        page.set_input_files("#file", coffee())
    expect(page.locator(".asking")).to_have_count(0)
    first = page.locator(".problem").first
    expect(first.locator("strong")).to_have_text(BUSY[look.language])
    button = first.locator("button")
    expect(button).to_be_disabled()
    expect(button).to_have_text(re.compile(r"\d+ (s|秒後)"))
    assert violations(page) == []
    expect(button).to_be_enabled(timeout=65_000)
    before = page.locator(".problem").count()
    button.click()
    expect(page.locator(".problem")).to_have_count(before - 1)


def test_a_picture_over_the_limit_is_named_as_too_large(another: Callable[..., str], visit: Visit) -> None:
    """A real 413, with the limit in the server's words."""
    visit.watched.expected = {413}
    page = visit(another(CLASSY_LIMIT_BYTES="1000"))
    page.set_input_files("#file", coffee())
    problem(page, "This picture is too large")
    expect(page.locator(".problem .detail")).to_contain_text("CLASSY_LIMIT_BYTES")


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[4]], ids=["en", "ja", "zh"])
def test_what_is_no_picture_is_said(site: Site, visit: Visit, look: Look) -> None:
    """A text is refused as what it is, though it would be JSON."""
    visit.watched.expected = {422}
    page = visit(site.url, look)
    page.set_input_files("#file", [upload("x.json", b'{"name": "https://example.org/"}', "application/json")])
    problem(page, NO_PICTURE[look.language])


@pytest.mark.parametrize(
    ("url", "status", "title"),
    [
        ("http://169.254.169.254/latest/meta-data/", 403, "This address is not allowed"),
        ("javascript:alert(1)", 400, "The server can't use this"),
        ("PICTURES/missing.png", 424, "The picture can't be fetched"),
    ],
    ids=["forbidden address", "no address", "missing"],
)
def test_an_address_that_can_not_be_fetched_is_named(
    site: Site, visit: Visit, url: str, status: int, title: str
) -> None:
    """The server's guards are heard on the page."""
    visit.watched.expected = {status}
    page = visit(site.url)
    page.click("#tab-url")
    page.fill("#url", url.replace("PICTURES/", site.pictures))
    page.keyboard.press("Enter")
    problem(page, title)


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[5]], ids=["en", "ja", "zh"])
def test_a_key_is_asked_for_once_and_used_for_everything(
    another: Callable[..., str], visit: Visit, look: Look
) -> None:
    """With CLASSY_API_KEY the page asks for the key; then models, answers, history and thumbnails are there."""
    url = another(CLASSY_API_KEY="open sesame")
    visit.watched.expected = {401}
    page = visit(url, look)
    expect(page.locator("#key")).to_be_visible()
    expect(page.locator("#key-value")).to_be_focused()
    assert violations(page) == []
    page.fill("#key-value", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-value")).to_have_value("")
    expect(page.locator("#key")).to_be_visible()
    page.fill("#key-value", "open sesame")
    page.keyboard.press("Enter")
    expect(page.locator(".choice").first).to_be_visible()
    expect(page.locator("#key")).to_be_hidden()
    page.set_input_files("#file", coffee())
    expect(page.locator(".bars")).to_be_visible()
    page.click("nav [data-view=history]")
    image = page.locator("#history-table .thumb img")
    expect(image).to_have_attribute("src", re.compile("^blob:"))
    expect(image).to_have_js_property("naturalWidth", 160)
    page.reload()
    expect(page.locator("#history-table tbody tr")).to_have_count(1)
    fresh = visit(url, look)
    expect(fresh.locator("#key")).to_be_visible()


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[4]], ids=["en", "ja", "zh"])
def test_a_server_without_models_says_how_it_gets_one(
    another: Callable[..., str], visit: Visit, look: Look, tmp_path: Path
) -> None:
    """A picture for nobody is a problem with a remedy, and not an empty card."""
    visit.watched.expected = {503}
    page = visit(another(CLASSY_MODEL_STORE=tmp_path.as_uri()), look)
    page.set_input_files("#file", coffee())
    expect(page.locator(".problem")).to_have_count(1)
    expect(page.locator(".problem .detail")).to_contain_text("classy model")
    assert violations(page) == []


def test_a_picture_may_be_faster_than_the_list_of_models(site: Site, visit: Visit) -> None:
    """Who drops a picture at once is answered by the model that the list then names."""
    page = visit(site.url)
    held: list[Route] = []
    page.route(re.compile("api/models"), lambda route: held.append(route))
    page.reload()
    page.set_input_files("#file", coffee())
    page.wait_for_timeout(200)
    expect(page.locator(".answer")).to_have_count(0)
    held[0].continue_()
    expect(page.locator(".bars")).to_be_visible()
    expect(page.locator(".answer h4")).to_have_text("efficientnet-lite0")


def test_a_server_without_records_says_what_is_missing(another: Callable[..., str], visit: Visit) -> None:
    """The history of a server whose records are gone is a problem with a way on, and not an empty page."""
    visit.watched.expected = {404}
    page = visit(another())
    body = {
        "type": "about:blank",
        "title": "Not kept",
        "status": 404,
        "detail": "no records here",
        "code": 40412,
    }
    page.route(
        re.compile("api/records"),
        lambda route: route.fulfill(status=404, content_type=PROBLEM, body=json.dumps(body)),
    )
    page.click("nav [data-view=history]")
    expect(page.locator("#history-problem")).to_contain_text("CLASSY_RECORDS")
