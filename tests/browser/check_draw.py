"""Drawing: digits by mouse, finger, pen and keyboard, read by the digit model that the package brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chromium import violations
from looks import LOOKS, Look, every_look
from playwright.sync_api import expect
from strokes import DIGITS
from visits import Site, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

LEAST_RIGHT = 8  # of the ten digits
PHONE_EN = LOOKS[1]


def canvas(page: Page) -> dict[str, float]:
    """Show the canvas; return where it is on the screen."""
    page.click("#tab-draw")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return dict(box)


def places(box: dict[str, float], digit: int) -> list[list[tuple[float, float]]]:
    """Return a digit's strokes as places on the screen."""
    return [
        [(box["x"] + x / 100 * box["width"], box["y"] + y / 100 * box["height"]) for x, y in stroke]
        for stroke in DIGITS[digit]
    ]


def by_mouse(page: Page, box: dict[str, float], digit: int) -> None:
    """Draw with the mouse."""
    for stroke in places(box, digit):
        page.mouse.move(*stroke[0])
        page.mouse.down()
        for point in stroke[1:]:
            page.mouse.move(*point, steps=3)
        page.mouse.up()


def by_finger(page: Page, box: dict[str, float], digit: int) -> None:
    """Draw with a finger, as the browser's own touch events have it."""
    screen = page.context.new_cdp_session(page)

    def touch(kind: str, points: list[tuple[float, float]]) -> None:
        value = [{"x": x, "y": y} for x, y in points]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": value})

    for stroke in places(box, digit):
        touch("touchStart", [stroke[0]])
        for point in stroke[1:]:
            touch("touchMove", [point])
        touch("touchEnd", [])


def by_pen(page: Page, box: dict[str, float], digit: int) -> None:
    """Draw with a pen that feels its pressure, as the browser's own events have it."""
    screen = page.context.new_cdp_session(page)

    def pen(kind: str, place: tuple[float, float], force: float) -> None:
        button = "none" if kind == "mouseMoved" and not force else "left"
        event = {"type": kind, "x": place[0], "y": place[1], "button": button, "buttons": 1 if force else 0}
        screen.send("Input.dispatchMouseEvent", {**event, "clickCount": 1, "pointerType": "pen", "force": force})

    for stroke in places(box, digit):
        pen("mouseMoved", stroke[0], 0)
        pen("mousePressed", stroke[0], 0.5)
        for point in stroke[1:]:
            pen("mouseMoved", point, 0.5)
        pen("mouseReleased", stroke[-1], 0)


def read(page: Page) -> str:
    """Ask the model; return what it reads."""
    before = page.locator(".answer").count()
    page.click("#draw-ask")
    expect(page.locator(".answer")).to_have_count(before + 1)
    expect(page.locator(".asking")).to_have_count(0)
    return page.locator(".answer").first.locator(".bars .label").first.inner_text()


LISTEN = """() => {
  window.kinds = new Set();
  const kind = (event) => window.kinds.add(event.pointerType);
  document.getElementById("canvas").addEventListener("pointerdown", kind);
}"""


@pytest.mark.parametrize(
    ("look", "draw", "kind"),
    [(LOOKS[0], by_mouse, "mouse"), (LOOKS[5], by_finger, "touch"), (PHONE_EN, by_pen, "pen")],
    ids=["mouse", "finger", "pen"],
)
def test_drawn_digits_are_read(site: Site, visit: Visit, look: Look, draw: Any, kind: str) -> None:
    """At least eight of ten digits, however they are drawn, on a phone and on a desktop, in the dark too."""
    page = visit(site.url, look)
    page.evaluate(LISTEN)
    found = {}
    for digit in DIGITS:
        draw(page, canvas(page), digit)
        found[digit] = read(page)
    assert page.evaluate("[...window.kinds]") == [kind]
    right = [digit for digit, text in found.items() if text == str(digit)]
    assert len(right) >= LEAST_RIGHT, found


@every_look
def test_the_canvas_is_for_models_of_drawings_only(site: Site, visit: Visit, look: Look) -> None:
    """While somebody draws, the models for photos are not asked, and nothing serious is found by axe."""
    page = visit(site.url, look)
    assert page.locator(".choice .name").all_inner_texts()[0] == "efficientnet-lite0"
    by_mouse(page, canvas(page), 0)
    assert violations(page) == []
    assert page.locator(".choice .name").all_inner_texts() == ["digits"]
    assert read(page) == "0"
    assert page.locator(".answer").first.locator("h4").all_inner_texts() == ["digits"]


def test_a_place_and_a_size_do_not_matter(site: Site, visit: Visit) -> None:
    """A small digit in a corner is centred as MNIST's are before it is sent."""
    page = visit(site.url)
    box = canvas(page)
    corner = {"x": box["x"] + 4, "y": box["y"] + 4, "width": box["width"] / 3, "height": box["height"] / 3}
    found = []
    for digit in (0, 2, 3, 7):
        by_mouse(page, corner, digit)
        found.append(read(page))
    assert found == ["0", "2", "3", "7"]


def test_an_empty_canvas_asks_nobody(site: Site, visit: Visit) -> None:
    """Nothing drawn is nothing asked; nor is what was cleared or undone."""
    page = visit(site.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "classify" in request.url else None)
    box = canvas(page)
    page.click("#draw-ask")
    expect(page.locator("#said")).to_have_text("Nothing is drawn yet.")
    by_mouse(page, box, 4)
    page.click("#draw-clear")
    expect(page.locator("#draw-clear")).to_be_disabled()
    page.click("#draw-ask")
    by_mouse(page, box, 1)
    page.click("#draw-undo")
    page.click("#draw-ask")
    expect(page.locator(".answer")).to_have_count(0)
    assert [url for url in asked if "api/classify" in url] == []


def test_undo_takes_back_the_last_stroke_only(site: Site, visit: Visit) -> None:
    """Whoever slips repeats one stroke and not all of them."""
    page = visit(site.url)
    box = canvas(page)
    by_mouse(page, box, 0)
    by_mouse(page, box, 1)
    page.click("#draw-undo")
    assert read(page) == "0"


def test_the_keyboard_draws_too(site: Site, visit: Visit) -> None:
    """Arrows move the pen, space lowers and lifts it, Enter asks: a seven, without any pointer."""
    page = visit(site.url)
    page.focus("#tab-file")
    page.keyboard.press("End")
    expect(page.locator("#tab-draw")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#canvas")).to_be_focused()
    for key, times in (("ArrowLeft", 6), ("ArrowUp", 9)):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    expect(page.locator("#said")).to_have_text("Pen down")
    for _ in range(11):
        page.keyboard.press("ArrowRight")
    for _ in range(9):
        for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    expect(page.locator("#said")).to_have_text("Pen up")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .bars .label").first).to_have_text("7")
