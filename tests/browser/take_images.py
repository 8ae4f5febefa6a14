"""
Take the page's pictures for the documents: `make page-images`.

Only photos that anybody may show are on them: scikit-image's coffee, chelsea and camera are CC0, rocket, astronaut,
moon and the Hubble field are NASA's or SpaceX's and in the public domain.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from chromium import chromium
from looks import DESKTOP, PHONE, Look
from packages import member
from photos import PACKAGES
from playwright.sync_api import expect
from site_under_test import publish_models, served
from strokes import DIGITS
from visits import Visit, Watched, upload, with_place

from classy.web import assets

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIMIT_BYTES = 300_000
PLACES = {
    "hubble_deep_field.jpg": (19.8, -155.5),
    "moon.png": (-29.3, -70.7),
    "astronaut.png": (29.6, -95.1),
    "rocket.jpg": (28.6, -80.6),
    "camera.png": (42.4, -71.1),
    "chelsea.png": (35.0, 135.8),
    "coffee.png": (35.7, 139.7),
}


def photo(name: str) -> bytes:
    """Return a photo of scikit-image's."""
    requirement, sha256, pure = PACKAGES["skimage"]
    return member(requirement, sha256, f"skimage/data/{name}", pure=pure)


def classified(page: Page, *names: str) -> None:
    """Classify photos on the page, one after the other."""
    for name in names:
        page.set_input_files("#file", [upload(name, with_place(photo(name), *PLACES[name]), "image/jpeg")])
        expect(page.locator(".answer").first.locator(".bars").first).to_be_visible(timeout=30_000)
        expect(page.locator(".asking")).to_have_count(0, timeout=30_000)


def draw(page: Page, digit: int) -> None:
    """Draw a digit with the mouse and ask."""
    page.click("#tab-draw")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in DIGITS[digit]:
        points = [(box["x"] + x / 100 * box["width"], box["y"] + y / 100 * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=3)
        page.mouse.up()
    page.wait_for_timeout(300)


def still(page: Page) -> None:
    """Wait until the bars have grown, the thumbnails are there and nothing has the focus."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(2, 2)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(900)


def take(visit: Visit, url: str, save: Callable[[Page, str], None]) -> None:
    """Take all pictures of a site with an empty history."""
    page = visit(url, Look("en", "light", DESKTOP))
    classified(page, *[name for name in PLACES if name != "coffee.png"])
    page.locator(".choice", has_text="lite0-squash").click()
    classified(page, "coffee.png")
    save(page, "page-classify")
    draw(page, 3)
    page.click("#draw-ask")
    expect(page.locator(".asking")).to_have_count(0)
    draw(page, 3)
    save(page, "page-draw")
    page.click("nav [data-view=history]")
    page.locator("#history-table tbody tr").first.wait_for()
    page.select_option("#redo-model", label="lite0-squash@" + visit_version(page))
    page.click("#redo-start")
    expect(page.locator("#redo-progress .summary")).to_be_visible(timeout=60_000)
    expect(page.locator("#redo-start")).to_be_visible()
    page.set_viewport_size({"width": DESKTOP, "height": 1400})
    save(page, "page-history")
    phone = visit(url, Look("ja", "dark", PHONE))
    classified(phone, "chelsea.png")
    phone.set_viewport_size({"width": PHONE, "height": 1300})
    phone.evaluate("scrollTo(0, 0)")
    save(phone, "page-phone-ja-dark")
    chinese = visit(url, Look("zh", "dark", DESKTOP))
    chinese.click("nav [data-view=history]")
    chinese.locator("#history-table tbody .picture").nth(1).click()
    save(chinese, "page-picture-zh-dark")
    alone = visit(url, Look("en", "dark", PHONE))
    alone.locator("#in-browser .choice").click()
    classified(alone, "chelsea.png")
    alone.set_viewport_size({"width": PHONE, "height": 1300})
    alone.evaluate("scrollTo(0, 0)")
    save(alone, "page-in-browser")


def visit_version(page: Page) -> str:
    """Return the version of the squashed model that is published."""
    value = page.locator("#redo-model option", has_text="lite0-squash").get_attribute("value")
    return str(value).partition("@")[2]


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Take the page's pictures.")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where they go")
    into: Path = parser.parse_args().into
    into.mkdir(parents=True, exist_ok=True)

    def save(page: Page, name: str) -> None:
        still(page)
        path = into / f"{name}.png"
        page.screenshot(path=path, scale="css" if page.viewport_size["width"] > PHONE else "device")
        size = path.stat().st_size
        print(f"{path}: {size:,} bytes")
        assert size <= LIMIT_BYTES, "make the picture smaller"

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publish_models((folder / "models").as_uri(), folder / "made", hostile=False)
        assets.fetch(folder / "state" / assets.FOLDER, registry_url=assets.registry(os.environ, Path.home()))
        settings = {"CLASSY_MODEL_STORE": (folder / "models").as_uri()}
        url = stack.enter_context(served(folder / "state", settings))
        visit = Visit(stack.enter_context(chromium()), stack, Watched())
        take(visit, url, save)
        assert visit.watched.complaints == []


if __name__ == "__main__":
    main()
