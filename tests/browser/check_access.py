"""Without a mouse and without eyes: the order of the focus, what is announced, and what has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from looks import FIRST, Look, every_look
from photos import photo
from playwright.sync_api import expect
from visits import Site, Visit, upload

if TYPE_CHECKING:
    from playwright.sync_api import Page


FOCUSED = """(() => {
  const node = document.activeElement;
  if (node === window.last) return ["a part of the same one", 99]; // a date has three stops
  window.last = node;
  if (node === document.body || node.dataset.seen) return ["", 0];
  node.dataset.seen = "yes";
  const shown = node.matches("input[type=file]") ? node.closest("label") : node;
  return [node.outerHTML.slice(0, 200), parseFloat(getComputedStyle(shown).outlineWidth)];
})()"""


def tab(page: Page, times: int = 1) -> None:
    """Press Tab."""
    for _ in range(times):
        page.keyboard.press("Tab")


def test_a_whole_visit_needs_no_mouse(site: Site, visit: Visit) -> None:
    """Skip link, tabs, an address, its answer, the history and a deletion that is thought better of: by keyboard."""
    page = visit(site.url)
    tab(page)
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    tab(page)
    expect(page.locator("#tab-file")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-url")).to_be_focused()
    expect(page.locator("#tab-url")).to_have_attribute("aria-selected", "true")
    tab(page)
    expect(page.locator("#url")).to_be_focused()
    page.keyboard.type(f"{site.pictures}coffee.png")
    page.keyboard.press("Enter")
    expect(page.locator(".bars")).to_be_visible()
    expect(page.locator("#said")).to_contain_text("espresso, 95.1%")
    tab(page, 2)
    expect(page.locator(".choice input").first).to_be_focused()
    page.focus("nav [data-view=history]")
    page.keyboard.press("Enter")
    expect(page.locator("#history-title")).to_be_focused()
    expect(page.locator("nav [data-view=history]")).to_have_attribute("aria-current", "page")
    assert page.title() == "History · Classy"
    page.locator("#history-table .picture").first.wait_for()
    page.focus("#history-table .picture")
    page.keyboard.press("Enter")
    expect(page.locator("#picture-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#history-table .picture").first).to_be_focused()
    page.focus("#history-table .act button")
    page.keyboard.press("Enter")
    expect(page.locator("#confirm-no")).to_be_focused()
    tab(page)
    expect(page.locator("#confirm-yes")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#history-table .act button").first).to_be_focused()


def test_the_focus_is_seen_wherever_it_is(site: Site, visit: Visit) -> None:
    """Each stop of the tab key has an outline of at least 2 px, in both views."""
    page = visit(site.url)
    for view in ("classify", "history"):
        page.click(f"nav [data-view={view}]")
        page.evaluate("document.querySelectorAll('[data-seen]').forEach((node) => delete node.dataset.seen)")
        page.focus(".skip")
        stops = 0
        while stops < 60:
            tab(page)
            name, width = page.evaluate(FOCUSED)
            if not name:
                break  # it was there before, or the focus has left the page
            assert width >= 2, name
            stops += 1
        assert stops >= 11, stops


@every_look
def test_everything_that_is_pressed_has_a_name_in_the_persons_language(site: Site, visit: Visit, look: Look) -> None:
    """No control is nameless, and none is left in English where the page speaks another language."""
    page = visit(site.url, look)
    page.set_input_files("#file", [upload("x.png", photo("coffee.png"))])
    expect(page.locator(".bars")).to_be_visible()
    page.click("nav [data-view=history]")
    page.locator("#history-table tbody tr").first.wait_for()
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, a, input, select")].filter((node) =>
             !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length))
           .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    if look.language == FIRST.language:
        return
    english = page.evaluate(
        """[...document.querySelectorAll("[data-t]")].map((node) => node.textContent)
           .concat([...document.querySelectorAll("[data-live]")].map((node) => node.textContent))
           .filter((text) => /^(Classify|History|Show|Reset|Delete|Cancel|Models|Filters|Answers|Any)$/.test(text))"""
    )
    assert english == []


def test_answers_and_problems_are_announced(site: Site, visit: Visit) -> None:
    """A live region says what was found, and what went wrong."""
    visit.watched.expected = {422}
    page = visit(site.url)
    expect(page.locator("#said")).to_have_attribute("aria-live", "polite")
    page.set_input_files("#file", [upload("cup.png", photo("coffee.png"))])
    expect(page.locator("#said")).to_have_text("cup.png: espresso, 95.1%")
    page.set_input_files("#file", [upload("notes.png", b"no picture")])
    expect(page.locator("#said")).to_have_text("notes.png: This is no picture that can be read")
    expect(page.locator("[role=alert]")).to_be_visible()


def test_who_wants_no_motion_sees_none(site: Site, visit: Visit) -> None:
    """The bars do not grow for people whom motion makes ill."""
    page = visit(site.url, reduced_motion="reduce")
    page.set_input_files("#file", [upload("cup.png", photo("coffee.png"))])
    expect(page.locator(".bars .bar > span").first).to_have_css("animation-name", "none")
