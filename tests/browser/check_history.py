"""The history: rows and columns, filters, the map, deletion, and classifying everything again."""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chromium import violations
from looks import FIRST, LOOKS, PHONE, Look, every_look
from photos import photo
from PIL import Image
from playwright.sync_api import expect
from site_under_test import DEFAULT, DIGITS, HOSTILE, SQUASH, served
from visits import Site, Visit, upload, with_place

from classy.labels import label_set

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOISE = 58
PLACES = {
    "coffee.png": (35.7, 139.7),
    "chelsea.png": (36.1, 140.1),
    "rocket.jpg": (-17.7, 178.0),
    "china.jpg": (-21.1, -175.2),
    "camera.png": (48.9, 2.4),
}
ROWS = NOISE + len(PLACES) + 1  # and one of an address
ESPRESSO = 967


def noise(seed: int) -> bytes:
    """Return a small picture of nothing."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Filled:
    """A site with a history."""

    url: str

    def ask(self, value: dict[str, Any]) -> dict[str, Any]:
        """Classify without the page."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}api/classify", json.dumps(value).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def get(self, path: str) -> Any:
        """Return what the API answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as reply:
            return json.load(reply)


@pytest.fixture(scope="module")
def filled(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Run a site whose history has more than a page, some places, and one picture of an address."""
    with served(tmp_path_factory.mktemp("filled"), site.settings) as url:
        history = Filled(url)
        pictures = [noise(seed) for seed in range(NOISE)]
        for part in (pictures[:29], pictures[29:]):
            history.ask({"images": [{"image": base64.b64encode(data).decode()} for data in part]})
        history.ask({"name": f"{site.pictures}coffee.png"})
        for name, place in reversed(PLACES.items()):
            data = with_place(photo(name), *place)
            assert history.ask({"image": base64.b64encode(data).decode()})["recorded"] is True
        yield history


def rows(page: Page) -> Any:
    """Return the table's rows."""
    return page.locator("#history-table tbody tr")


def opened(visit: Visit, filled: Filled, look: Look = FIRST) -> Page:
    """Return the history's page with its first rows."""
    page = visit(f"{filled.url}#history", look)
    rows(page).first.wait_for()
    return page


def show(page: Page, **values: str) -> None:
    """Fill the filters in and ask."""
    if not page.locator("#filters").is_visible():
        page.click("#filter-summary")
    for name, value in values.items():
        field = page.locator(f"#filters [name={name}]")
        if field.evaluate("(node) => node.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    with page.expect_response(re.compile(r"api/records\?.*limit=50")):
        page.locator("#filters button.primary").click()


@every_look
def test_there_is_one_row_per_picture_and_more_on_demand(filled: Filled, visit: Visit, look: Look) -> None:
    """The newest picture comes first, with its thumbnail and its name; the cursor leads to every other one, once."""
    page = opened(visit, filled, look)
    expect(rows(page).first.locator(".said .label").first).to_have_text(
        label_set("imagenet-1k", look.language)[ESPRESSO]
    )
    expect(rows(page).first.locator(".thumb img")).to_have_js_property("naturalWidth", 160)
    if look.width != PHONE:
        assert page.locator("#history-table thead th").all_inner_texts()[2] == "efficientnet-lite0"
    assert violations(page) == []
    before = rows(page).count()
    assert 0 < before < ROWS
    page.click("#history-more")
    expect(page.locator("#history-more")).to_be_hidden()
    names = rows(page).evaluate_all("(found) => found.map((row) => row.dataset.picture)")
    assert len(names) == len(set(names)) >= ROWS
    focused = page.evaluate("document.activeElement.closest('tr')?.dataset.picture")
    assert focused == names[before]


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[4]], ids=["en", "ja", "zh"])
def test_filters_find_by_class_model_source_country_and_day(filled: Filled, visit: Visit, look: Look) -> None:
    """A class is found by its name in the page's language; each filter alone, and none after a reset."""
    page = opened(visit, filled, look)
    show(page, label=label_set("imagenet-1k", look.language)[ESPRESSO])
    expect(rows(page)).to_have_count(2)  # with and without a place
    show(page, source="url")
    expect(rows(page)).to_have_count(1)
    expect(rows(page).locator(".name")).to_have_text("coffee.png")
    page.locator("#filters button[type=reset]").click()
    expect(rows(page)).to_have_count(50)
    show(page, country="JP")
    expect(rows(page)).to_have_count(2)
    page.locator("#filters button[type=reset]").click()
    expect(rows(page)).to_have_count(50)
    today = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=9))).date()
    show(page, until=(today - datetime.timedelta(days=1)).isoformat())
    expect(rows(page)).to_have_count(0)
    assert page.locator("#history-said").inner_text() != ""
    show(page, since=today.isoformat(), until=today.isoformat())
    expect(rows(page)).to_have_count(50)
    show(page, since="", until="", model=HOSTILE)
    expect(rows(page)).to_have_count(0)
    assert violations(page) == []


@every_look
def test_places_are_on_the_map_and_close_ones_are_one_button(filled: Filled, visit: Visit, look: Look) -> None:
    """Near places are one button with their number; it lists them, and looks closer."""
    page = opened(visit, filled, look)
    expect(page.locator("#map use")).to_have_count(3)
    many = page.locator(".mark.many").last
    expect(many).to_have_text("2")
    many.scroll_into_view_if_needed()
    assert violations(page) == []
    many.click()
    expect(page.locator("#map-found li")).to_have_count(2)
    expect(page.locator("#map-found h3")).to_be_focused()
    page.locator("#map-found button", has_text=label_set("imagenet-1k", look.language)[ESPRESSO]).click()
    expect(page.locator("#picture")).to_be_visible()
    assert violations(page) == []


def test_the_map_is_walked_by_keyboard(filled: Filled, visit: Visit) -> None:
    """Tab goes from west to east, Enter opens a place, Escape leads back; plus, minus and arrows move the map."""
    page = opened(visit, filled)
    page.locator(".mark").first.wait_for()
    page.focus("#map")
    page.keyboard.press("Tab")
    expect(page.locator(".mark").first).to_be_focused()
    label = page.locator(".mark").first.get_attribute("aria-label")
    assert re.search(r"21\.1° S, 175\.2° W$", str(label)), label
    page.keyboard.press("Enter")
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#picture-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".mark").first).to_be_focused()
    page.focus("#map")
    box = page.locator("#map svg")
    whole = box.get_attribute("viewBox")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    x, _, width, _ = map(float, str(box.get_attribute("viewBox")).split())
    assert (width, x) == (180.0, -90 + 180 / 8)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("-")
    assert str(box.get_attribute("viewBox")).split()[0::2] == str(whole).split()[0::2]


def drag(page: Page, from_: tuple[float, float], to: tuple[float, float]) -> None:
    """Mark the area between two places of the map, in shares of its width and height."""
    page.click("#map-select")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (from_, to)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    with page.expect_response(re.compile(r"api/records\?.*box=")):
        page.mouse.up()


def test_an_area_is_marked_by_dragging(filled: Filled, visit: Visit) -> None:
    """Dragging over Japan lists what was taken there; `Whole world` lists everything again."""
    page = opened(visit, filled)
    drag(page, (0.8, 0.2), (0.95, 0.45))
    expect(rows(page)).to_have_count(2)
    west, south, east, north = map(float, page.input_value("[name=box]").split(","))
    assert west < 139 < 141 < east
    assert south < 35 < 37 < north
    expect(page.locator("#map-select")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#filter-summary")).to_have_text("Filters (1)")
    assert float(str(page.locator("#map .area").get_attribute("width"))) == pytest.approx(east - west, abs=0.02)
    page.click("#map-all")
    expect(rows(page)).to_have_count(50)


def test_an_area_may_lie_across_the_antimeridian(filled: Filled, visit: Visit) -> None:
    """Fiji and Tonga are 7° apart: with the Pacific in the middle they are one area, whose west is the greater."""
    page = opened(visit, filled)
    page.focus("#map")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    marks = page.locator(".mark.many")
    expect(marks.first).to_be_visible()
    drag(page, (0.44, 0.5), (0.56, 0.75))
    expect(rows(page)).to_have_count(2)
    west, _, east, _ = map(float, page.input_value("[name=box]").split(","))
    assert west > 0 > east


def test_an_area_that_was_typed_is_shown(filled: Filled, visit: Visit) -> None:
    """Who can't drag types the four numbers; what are none is not asked."""
    page = opened(visit, filled)
    show(page, box="170, -30, -170, -10")
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#map .area")).to_have_attribute("width", "20")
    page.fill("[name=box]", "somewhere")
    assert page.locator("[name=box]").evaluate("(node) => node.checkValidity()") is False


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[5]], ids=["en", "ja", "zh"])
def test_a_picture_is_deleted_after_a_question(filled: Filled, visit: Visit, look: Look) -> None:
    """The harmless button has the focus; the other one removes row, records and thumbnail."""
    answer = filled.ask({"image": base64.b64encode(noise(1000 + look.width + len(look.theme))).decode()})
    sha256 = answer["picture_sha256"]
    page = opened(visit, filled, look)
    row = page.locator(f"tr[data-picture='{answer['picture_id']}']")
    expect(row).to_be_visible()
    row.locator(".act button").click()
    expect(page.locator("#confirm-no")).to_be_focused()
    assert violations(page) == []
    page.keyboard.press("Enter")
    expect(page.locator("#confirm")).to_be_hidden()
    expect(row).to_be_visible()
    row.locator(".picture").click()
    page.locator("#picture .danger").click()
    page.click("#confirm-yes")
    expect(row).to_have_count(0)
    expect(page.locator("#picture")).to_be_hidden()
    assert filled.get(f"api/records?picture={answer['picture_id']}")["records"] == []
    status = page.request.get(f"{filled.url}api/thumbnails/{sha256}").status
    assert status == 404


def test_a_picture_shows_all_and_gives_its_original_back(filled: Filled, visit: Visit) -> None:
    """Details name time, place and source; the original is the very file that was sent."""
    page = opened(visit, filled)
    data = with_place(photo("coffee.png"), *PLACES["coffee.png"])
    row = page.locator("tr", has_text="35.7° N, 139.7° E")
    row.locator(".picture").click()
    facts = page.locator("#picture .facts").inner_text()
    assert "May 3, 2026, 10:11" in facts  # as the camera's clock had it
    assert "Japan" in facts
    assert hashlib.sha256(data).hexdigest() in facts
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the original").click()
    assert Path(saved.value.path()).read_bytes() == data


def test_a_thumbnail_tells_nothing_but_the_picture(filled: Filled, visit: Visit) -> None:
    """Where and when a picture was taken is in its record, and not in the file that anybody may save."""
    page = opened(visit, filled)
    address = page.locator("tr", has_text="35.7° N, 139.7° E").locator(".thumb img").evaluate("(node) => node.src")
    body = page.request.get(address).body()
    image = Image.open(io.BytesIO(body))
    assert (image.format, image.width) == ("WEBP", 160)
    assert dict(image.getexif()) == {}
    assert [kind for kind in (b"EXIF", b"XMP ", b"ICCP") if kind in body] == []


def test_the_history_is_saved_as_csv(filled: Filled, visit: Visit) -> None:
    """The file holds what the filters show."""
    page = opened(visit, filled)
    show(page, country="JP")
    expect(rows(page)).to_have_count(2)
    with page.expect_download() as saved:
        page.click("#history-csv")
    lines = Path(saved.value.path()).read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("id,")


def test_what_was_just_asked_is_in_the_history(filled: Filled, visit: Visit) -> None:
    """Coming back from the other view shows the new picture first."""
    page = opened(visit, filled)
    page.click("nav [data-view=classify]")
    page.set_input_files("#file", [upload("new.png", noise(5000))])
    expect(page.locator(".bars")).to_be_visible()
    page.click("nav [data-view=history]")
    newest = filled.get("api/records?limit=1")["records"][0]["picture"]
    expect(rows(page).first).to_have_attribute("data-picture", newest)


@pytest.mark.parametrize(
    ("look", "model"), [(LOOKS[0], SQUASH), (LOOKS[3], DIGITS), (LOOKS[5], HOSTILE)], ids=["en", "ja", "zh"]
)
def test_everything_is_classified_again_stopped_and_gone_on_with(
    filled: Filled, visit: Visit, look: Look, model: str
) -> None:
    """Progress moves, Stop stops, Go on does only the rest, the summary adds up, and the table has a new column."""
    page = opened(visit, filled, look)
    pictures = len({record["picture"] for record in filled.get("api/records?limit=1000")["records"]})
    page.select_option("#redo-model", model)
    slices: list[Any] = []
    page.route(
        re.compile("api/reclassify"),
        lambda route: (
            slices.append(route) if slices or '"after":""' not in route.request.post_data else route.continue_()
        ),
    )
    page.click("#redo-start")
    bar = page.locator("#redo-progress progress")
    expect(bar).to_have_attribute("max", str(pictures))  # and the second slice is held, as if it took long
    assert 0 < bar.evaluate("(node) => node.value") < pictures
    assert violations(page) == []
    page.click("#redo-stop")
    expect(page.locator("#redo-start")).to_be_visible()
    page.unroute(re.compile("api/reclassify"))
    after_stop = len(filled.get(f"api/records?limit=1000&model={model}")["records"])
    assert 0 < after_stop < pictures
    page.click("#redo-start")
    expect(page.locator("#redo-start")).to_be_visible()
    expect(bar).to_have_js_property("value", pictures)
    assert len(filled.get(f"api/records?limit=1000&model={model}")["records"]) == pictures
    figures = page.locator("#redo-progress .summary > p").inner_text().replace(",", "")
    numbers = sorted(map(int, re.findall(r"\d+", figures)))
    assert numbers[-1] == sum(numbers[:-1]) <= pictures
    assert page.evaluate("window.hacked") is None
    shown = page.locator("#history-table .said[data-model]")
    expect(
        shown.filter(has=page.locator(f"xpath=self::*[@data-model='{model.split('@')[0]}']")).first
    ).to_be_visible()
    assert violations(page) == []
    page.click("#redo-start")
    nothing = {"en": "Every picture has an answer", "ja": "分類済み", "zh": "都已有"}
    expect(page.locator("#redo-progress")).to_contain_text(nothing[look.language])


def test_the_default_model_has_the_first_column(filled: Filled, visit: Visit) -> None:
    """Whatever else was asked, the columns begin with the default model."""
    page = opened(visit, filled)
    columns = page.locator("#history-table thead th").all_inner_texts()
    assert columns[2] == DEFAULT.split("@")[0]


@pytest.mark.parametrize(
    ("look", "name"),
    [(LOOKS[0], "Kashmir"), (LOOKS[3], "カシミール"), (LOOKS[4], "克什米尔")],
    ids=["en", "ja", "zh"],
)
def test_an_area_that_two_states_claim_is_called_by_its_name(
    another: Callable[..., str], visit: Visit, look: Look, name: str
) -> None:
    """In the reader's language, and no country is named."""
    history = Filled(another())
    data = with_place(photo("coffee.png"), 34.5, 77.0)
    assert "country" not in history.ask({"image": base64.b64encode(data).decode()})
    page = opened(visit, history, look)
    expect(rows(page).first).to_contain_text(f"{name} · 34.5")
