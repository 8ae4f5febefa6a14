"""Asking: every way to give a picture, in every language, light and dark, on a phone and on a desktop."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import violations
from looks import FIRST, LOOKS, PHONE, Look, every_look
from photos import photo
from playwright.sync_api import expect
from site_under_test import HOSTILE_LABELS
from visits import Site, Visit, upload

from classy.labels import label_set

if TYPE_CHECKING:
    from playwright.sync_api import Page

ESPRESSO = 967
SQUASH = "lite0-squash"


def coffee() -> bytes:
    """Return the photo of an espresso."""
    return photo("coffee.png")


def choose(page: Page, *files: Any) -> None:
    """Choose files, and wait until all is answered."""
    page.set_input_files("#file", list(files))
    answered(page)


def answered(page: Page) -> None:
    """Wait until there are answers and nothing runs."""
    expect(page.locator(".answer").first).to_be_visible()
    expect(page.locator(".asking")).to_have_count(0)


def first_label(page: Page) -> Any:
    """Return the likeliest class of the newest answer."""
    return page.locator(".answer").first.locator(".bars li").first.locator(".label")


@every_look
def test_a_chosen_picture_is_named_in_the_persons_language(site: Site, visit: Visit, look: Look) -> None:
    """Five bars with names and percentages, in the browser's language and colours, and nothing for axe to find."""
    page = visit(site.url, look)
    assert violations(page) == []
    choose(page, upload("coffee.png", coffee()))
    expect(first_label(page)).to_have_text(label_set("imagenet-1k", look.language)[ESPRESSO])
    assert page.locator(".bars li").count() == 5
    shares = page.locator(".bars .share").all_inner_texts()
    assert all(re.fullmatch(r"\d{1,2}\.\d%", share) for share in shares)
    assert shares[0] == "95.1%"
    assert page.locator("html").get_attribute("lang") == {"zh": "zh-Hans"}.get(look.language, look.language)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(245, 244, 240)", "dark": "rgb(20, 23, 27)"}[look.theme]
    assert violations(page) == []


@every_look
def test_two_models_are_compared_side_by_side(site: Site, visit: Visit, look: Look) -> None:
    """Whoever ticks two models sees two columns and whether they agree; the choice outlives the page."""
    page = visit(site.url, look)
    page.locator(".choice", has_text=SQUASH).click()
    choose(page, upload("coffee.png", coffee()))
    columns = page.locator(".answer").first.locator(".by-model")
    assert [column.locator(".bars li").count() for column in columns.all()] == [5, 5]
    assert columns.locator("h4").all_inner_texts() == ["efficientnet-lite0", SQUASH]
    expect(page.locator(".verdict")).to_be_visible()
    if look.width == PHONE:
        boxes = [column.bounding_box() for column in columns.all()]
        assert boxes[0]["y"] < boxes[1]["y"]
    assert violations(page) == []
    page.reload()
    expect(page.locator(".choice", has_text=SQUASH).locator("input")).to_be_checked()


def test_somebody_has_to_answer(site: Site, visit: Visit) -> None:
    """The last ticked model can't be unticked."""
    page = visit(site.url)
    box = page.locator(".choice input:checked")
    box.click()
    expect(page.locator(".choice input:checked")).to_have_count(1)


DROP = """([text, name]) => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const target = document.querySelector("footer"); // anywhere
  for (const kind of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
    if (kind === "dragover") window.shown = !document.getElementById("drop-anywhere").hidden;
  }
}"""
PASTE = """([text, kind]) => {
  const data = new DataTransfer();
  if (kind === "file") {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], "image.png", { type: "image/png" }));
  } else data.setData("text/plain", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: data }));
}"""


def test_a_picture_may_be_dropped_anywhere(site: Site, visit: Visit) -> None:
    """The whole page takes a picture, says so while it is dragged, and leads back from the history."""
    page = visit(f"{site.url}#history")
    page.evaluate(DROP, [base64.b64encode(coffee()).decode(), "dropped.png"])
    answered(page)
    expect(first_label(page)).to_have_text("espresso")
    expect(page.locator(".answer h3")).to_have_text("dropped.png")
    assert page.evaluate("window.shown") is True
    expect(page.locator("#drop-anywhere")).to_be_hidden()


DROP_LINK = """(address) => {
  const data = new DataTransfer();
  data.setData("text/uri-list", `# from another page\\r\\n${address}`);
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
  }
}"""


def test_a_picture_of_another_page_may_be_dropped(site: Site, visit: Visit) -> None:
    """Browsers give its address, which the server fetches."""
    page = visit(site.url)
    page.evaluate(DROP_LINK, f"{site.pictures}coffee.png")
    answered(page)
    expect(first_label(page)).to_have_text("espresso")
    expect(page.locator(".answer h3")).to_have_text(f"{site.pictures}coffee.png")


def test_a_picture_may_be_pasted(site: Site, visit: Visit) -> None:
    """A screenshot in the clipboard needs no file."""
    page = visit(site.url)
    page.evaluate(PASTE, [base64.b64encode(coffee()).decode(), "file"])
    answered(page)
    expect(page.locator(".answer h3")).to_have_text("Pasted picture")
    expect(first_label(page)).to_have_text("espresso")


def test_an_address_may_be_pasted(site: Site, visit: Visit) -> None:
    """An address in the clipboard is a question, too."""
    page = visit(site.url)
    page.evaluate(PASTE, [f"{site.pictures}coffee.png", "text"])
    answered(page)
    expect(first_label(page)).to_have_text("espresso")


@every_look
def test_the_server_fetches_an_address(site: Site, visit: Visit, look: Look) -> None:
    """The picture of an address comes by way of the server: the page itself asks nobody else, not even to show it."""
    page = visit(site.url, look)
    page.click("#tab-url")
    assert violations(page) == []
    page.fill("#url", f"{site.pictures}coffee.png")
    page.keyboard.press("Enter")
    answered(page)
    expect(first_label(page)).to_have_text(label_set("imagenet-1k", look.language)[ESPRESSO])
    image = page.locator(".answer .thumb img")
    expect(image).to_have_js_property("complete", True)
    assert (
        image.evaluate("(node) => [node.naturalWidth > 0, new URL(node.src).origin === location.origin]")
        == [True] * 2
    )


def test_several_pictures_get_an_answer_each(site: Site, visit: Visit) -> None:
    """Several files are several questions; one that is no picture does not spoil the others."""
    visit.watched.expected = {422}
    page = visit(site.url)
    choose(
        page, upload("a.png", coffee()), upload("notes.txt", b"no picture", "text/plain"), upload("c.png", coffee())
    )
    expect(page.locator(".answer")).to_have_count(3)
    expect(page.locator(".bars")).to_have_count(2)
    expect(page.locator(".problem")).to_have_count(1)
    page.locator(".answer .icon").first.click()
    expect(page.locator(".answer")).to_have_count(2)


@every_look
def test_the_camera_takes_pictures(site: Site, visit: Visit, look: Look) -> None:
    """One picture by a button; live one after the other in one card, until it is stopped and the camera goes off."""
    page = visit(site.url, look, permissions=("camera",))
    page.click("#tab-camera")
    page.click("#camera-start")
    expect(page.locator("#camera-take")).to_be_focused()
    assert violations(page) == []
    page.wait_for_timeout(300)  # the first frame has no event of its own
    page.click("#camera-take")
    answered(page)
    expect(page.locator(".answer")).to_have_count(1)
    seen: list[str] = []
    page.on("response", lambda reply: seen.append(reply.url) if "api/classify" in reply.url else None)
    page.click("#camera-live")
    expect(page.locator("#camera-live")).to_have_attribute("aria-pressed", "true")
    with page.expect_response(re.compile("api/classify")):
        pass
    with page.expect_response(re.compile("api/classify")):
        pass
    page.click("#camera-stop")
    answered(page)
    assert len(seen) >= 2
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.locator("#camera-start")).to_be_visible()
    assert page.evaluate("document.getElementById('video').srcObject") is None


def test_without_permission_the_camera_app_is_offered(site: Site, visit: Visit) -> None:
    """Who denies the camera reads what to do, and may still use the phone's own app."""
    page = visit(site.url)
    page.click("#tab-camera")
    page.click("#camera-start")
    expect(page.locator("#camera-problem")).to_contain_text("Allow it in the browser")
    page.set_input_files("#capture", upload("photo.jpg", coffee()))
    answered(page)
    expect(first_label(page)).to_have_text("espresso")


MOVED = """(bar) => new Promise((done) => {
  const look = () => (bar.value > 0.05 && bar.value < 1 ? done(bar.value) : setTimeout(look, 20));
  look();
})"""


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3]], ids=["en", "ja"])
def test_sending_shows_progress_and_can_be_cancelled(site: Site, visit: Visit, look: Look) -> None:
    """On a slow line the bar moves; Cancel ends the request, and the question can be asked again."""
    page = visit(site.url, look)
    slow = page.context.new_cdp_session(page)
    line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000}
    slow.send("Network.emulateNetworkConditions", line)
    page.set_input_files("#file", [upload("coffee.png", coffee())])
    bar = page.locator(".asking progress")
    expect(bar).to_be_visible()
    assert 0.05 < bar.evaluate(MOVED) < 1
    expect(page.locator(".state")).to_have_text(re.compile(r"\d+\.\d%$"))
    with page.expect_event("requestfailed"):
        page.locator(".asking button").click()
    expect(page.locator(".asking")).to_have_count(0)
    slow.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": -1})
    visit.watched.complaints.clear()  # a cancelled request may be written to the console
    page.locator(".answer .actions button").click()
    answered(page)
    expect(first_label(page)).to_have_text(label_set("imagenet-1k", look.language)[ESPRESSO])


def test_a_slow_answer_is_explained_by_the_cold_start(site: Site, visit: Visit) -> None:
    """Nothing is said of cold starts for 1.4 s; who waits longer reads why."""
    page = visit(site.url)
    held: list[Any] = []
    page.route(re.compile("api/classify"), lambda route: held.append(route))
    page.clock.install(time=0)
    page.clock.pause_at(60_000)
    page.set_input_files("#file", [upload("coffee.png", coffee())])
    expect(page.locator(".asking")).to_be_visible()
    page.clock.run_for(1400)
    expect(page.locator(".asking")).not_to_contain_text("after a pause")
    page.clock.run_for(200)
    expect(page.locator(".asking")).to_contain_text("after a pause")
    held[0].continue_()
    answered(page)
    expect(first_label(page)).to_have_text("espresso")


def in_a_shell(command: str, folder: Path) -> str:
    """Run a command that the page gave, in a folder; return what it printed."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    done = subprocess.run(["sh", "-c", f"{command} --silent"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_question_as_curl_is_answered_alike(site: Site, visit: Visit, tmp_path: Path) -> None:
    """What is copied runs in a shell, whatever the file is called, and gives the page's answer."""
    name = 'it\'s a $(cup) `of` "coffee".png'
    (tmp_path / name).write_bytes(coffee())
    page = visit(site.url, permissions=("clipboard-read", "clipboard-write"))
    choose(page, upload(name, coffee()))
    page.get_by_role("button", name="Copy JSON").click()
    expect(page.get_by_role("button", name="Copied.")).to_be_visible()
    shown = json.loads(page.evaluate("navigator.clipboard.readText()"))
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("button", name="Copied.")).to_have_count(2)
    command = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(
        ["sh", "-c", f"{command} --silent"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["top_k"] == shown["top_k"]
    assert shown["top_k"][0]["label"]["ja"] == "エスプレッソ"


def test_an_address_as_curl_is_answered_alike(site: Site, visit: Visit, tmp_path: Path) -> None:
    """The same holds for addresses."""
    page = visit(site.url, permissions=("clipboard-read", "clipboard-write"))
    page.click("#tab-url")
    page.fill("#url", f"{site.pictures}coffee.png?it's")
    page.keyboard.press("Enter")
    answered(page)
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("button", name="Copied.")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(in_a_shell(command, tmp_path))["class_index"] == ESPRESSO


def test_language_and_colours_are_switched_at_once_and_remembered(site: Site, visit: Visit) -> None:
    """An answer that is there already changes its language, too; the next visit begins as the last one ended."""
    page = visit(site.url)
    choose(page, upload("coffee.png", coffee()))
    for language in ("ja", "zh", "en", "zh"):
        page.select_option("#language", language)
        expect(first_label(page)).to_have_text(label_set("imagenet-1k", language)[ESPRESSO])
    page.select_option("#theme", "dark")
    dark = "rgb(20, 23, 27)"
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.reload()
    expect(page.locator("h1").first).to_have_text("图片里有什么？")
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.select_option("#theme", "light")
    expect(page.locator("body")).to_have_css("background-color", "rgb(245, 244, 240)")


def test_labels_and_names_are_never_markup(site: Site, visit: Visit) -> None:
    """A label or a file's name with tags in it is shown with its tags, here and in the history, and does nothing."""
    name = "<img src=x onerror=\"window.hacked='name'\">.png"
    page = visit(site.url)
    page.locator(".choice", has_text="hostile").click()
    choose(page, upload(name, coffee()))
    expect(page.locator(".answer h3")).to_have_text(name)
    labels = page.locator(".by-model", has_text="hostile").locator(".label").all_text_contents()
    assert sorted(labels) == sorted(HOSTILE_LABELS)
    page.click("#tab-url")
    page.fill("#url", f"{site.pictures}dog%20%3Cb%3Ebold%3Cb%3E.png")
    page.keyboard.press("Enter")
    answered(page)
    page.click("nav [data-view=history]")
    row = page.locator("#history-table tbody tr").first
    row.wait_for()
    row.locator(".picture").click()
    page.locator("#picture").wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#history-table b, #answers b, #picture b, #history-table script").count() == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1600])
def test_nothing_sticks_out_at_any_width(site: Site, visit: Visit, width: int) -> None:
    """From 320 to 1600 px the page scrolls in one direction only, and what is pressed is 44 px high, or as wide."""
    page = visit(site.url, viewport={"width": width, "height": 800})
    page.locator(".choice", has_text=SQUASH).click()
    choose(page, upload(f"{'a-long-name-without-spaces' * 8}.png", coffee()))
    page.select_option("#language", "ja")
    for view in ("classify", "history"):
        page.click(f"nav [data-view={view}]")
        page.locator(f"#view-{view}").wait_for()
        for tab in page.locator(f"#view-{view} [role=tab]").all():
            tab.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """[...document.querySelectorAll("button, select, nav a, .button, input:not([type=checkbox], [type=file])")]
        .filter((node) => node.checkVisibility() && !node.closest("summary"))
        .map((node) => [node.id || node.textContent, node.getBoundingClientRect()])
        .filter(([, box]) => box.height < 43.5 || box.width < 43.5).map(([name]) => name)"""
    )
    assert small == []


def test_the_page_works_below_any_path(another: Any, visit: Visit) -> None:
    """Behind a stage's name like /dev all is relative: classifying, thumbnails and the history's map."""
    url = another("/dev")
    assert url.endswith("/dev/")
    page = visit(url)
    choose(page, upload("coffee.png", coffee()))
    expect(first_label(page)).to_have_text("espresso")
    page.click("nav [data-view=history]")
    image = page.locator("#history-table .thumb img")
    expect(image).to_have_js_property("complete", True)
    assert "/dev/api/thumbnails/" in image.evaluate("(node) => node.src")
    expect(page.locator("#map svg use")).to_have_count(3)


def test_a_person_with_the_first_look_sees_english(site: Site, visit: Visit) -> None:
    """A language that the page has not becomes English."""
    page = visit(site.url, FIRST, locale="fr-FR")
    expect(page.locator("h1").first).to_have_text("What is in the picture?")
