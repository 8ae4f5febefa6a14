"""In the browser: the same models without a server, and what they say beside what the server says."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from check_draw import by_mouse, canvas, read
from chromium import violations
from looks import LOOKS, Look, every_look
from packages import cache_folder
from photos import PHOTOS, photo
from PIL import Image
from playwright.sync_api import expect
from site_under_test import DEFAULT, DIGITS, SQUASH, served
from visits import Site, Visit, upload

from classy.labels import label_set
from classy.web import assets
from graphpipe_fn.errors import TransportFailed

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

ESPRESSO = 967
# Of a probability. PNGs have the same pixels everywhere; large JPEGs are decoded by the server at a half or a quarter
# of their size, by browsers at the whole. Measured with Chromium: 0.0002 and 0.002.
SAME, SAME_JPEG = 0.002, 0.02
SAME_ENLARGED = 0.01  # what is enlarged tenfold shows each rounding of a weight; measured: 0.004
BOX = "#in-browser-box"
ASK = """async ([picture, kind, model, topK]) => {
  const { classify } = await import("./static/browser-inference.js");
  const blob = new Blob([Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0))], { type: kind });
  const signal = new AbortController().signal;
  return classify({ blob }, model, { topK, signal, sent: () => {} });
}"""


@pytest.fixture(scope="session")
def runtime() -> Path:
    """Return a folder with onnxruntime-web, fetched once."""
    root = cache_folder() / assets.FOLDER
    try:
        return assets.installed(root) or assets.fetch(root, registry_url=assets.registry(os.environ, Path.home()))
    except TransportFailed as exc:
        pytest.skip(exc.message)


def install(runtime: Path, state: Path) -> None:
    """Put onnxruntime-web into a state folder, as `classy web-assets` does."""
    shutil.copytree(runtime, state / assets.FOLDER / runtime.name)


@pytest.fixture(scope="session")
def ready(site: Site, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a site whose state folder holds onnxruntime-web."""
    state = tmp_path_factory.mktemp("in-browser")
    install(runtime, state)
    with served(state, site.settings) as url:
        yield url


def switch_on(page: Page) -> None:
    """Let the browser classify."""
    page.locator("#in-browser .choice").click()
    expect(page.locator(BOX)).to_be_checked()


def choose(page: Page, *files: Any) -> None:
    """Choose pictures, and wait for their answers."""
    before = page.locator(".answer").count()
    page.set_input_files("#file", list(files))
    expect(page.locator(".answer")).to_have_count(min(20, before + len(files)))
    expect(page.locator(".answer[data-busy]")).to_have_count(0, timeout=60_000)


def asked(page: Page) -> list[Request]:
    """Collect the requests that a page makes from now on, its workers' too; a blob's address leads to itself."""
    found: list[Request] = []
    page.context.on("request", lambda request: None if request.url.startswith("blob:") else found.append(request))
    return found


def sent_nothing(requests: list[Request]) -> None:
    """Hold that no request could have carried a picture: each only fetches, and none asks for an answer."""
    assert {request.method for request in requests} <= {"GET"}
    assert [request.url for request in requests if "api/classify" in request.url] == []
    assert max((len(request.url) for request in requests), default=0) < 200


def here(page: Page, data: bytes, kind: str, model: str, top_k: int = 1000) -> dict[str, Any]:
    """Return the browser's answer to a picture, without the page around it."""
    answer: dict[str, Any] = page.evaluate(ASK, [base64.b64encode(data).decode(), kind, model, top_k])
    return answer


def there(page: Page, url: str, data: bytes, kind: str, model: str, top_k: int = 1000) -> dict[str, Any]:
    """Return the server's answer to the same picture."""
    reply = page.request.post(
        f"{url}api/classify?top_k={top_k}&model={model}", data=data, headers={"Content-Type": kind}
    )
    assert reply.ok, reply.text()
    answer: dict[str, Any] = reply.json()
    return answer


def probabilities(answer: dict[str, Any]) -> dict[int, float]:
    """Return all of an answer's probabilities by class."""
    return {entry["class_index"]: entry["probability"] for entry in answer["top_k"]}


def differs(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the greatest difference of two answers' probabilities."""
    first, second = probabilities(one), probabilities(other)
    assert first.keys() == second.keys()
    return max(abs(first[index] - second[index]) for index in first)


@pytest.mark.parametrize("model", [DEFAULT, SQUASH])
def test_every_sample_photo_is_seen_as_the_server_sees_it(ready: str, visit: Visit, model: str) -> None:
    """The same class first, and no probability of the thousand further off than another decoder makes it."""
    page = visit(ready)
    off = {}
    for name in PHOTOS:
        kind = "image/png" if name.endswith(".png") else "image/jpeg"
        one, other = here(page, photo(name), kind, model), there(page, ready, photo(name), kind, model)
        assert len(one["top_k"]) == 1000
        assert [one[key] for key in ("class_index", "class_id", "label")] == [
            other[key] for key in ("class_index", "class_id", "label")
        ], name
        assert one["model"] == other["model"]
        off[name] = differs(one, other)
    print(model, {name: round(value, 4) for name, value in off.items()})
    assert {name: value for name, value in off.items() if value > (SAME if ".png" in name else SAME_JPEG)} == {}


def coded(picture: Image.Image, kind: str, **more: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def coffee() -> Image.Image:
    """Return the photo of an espresso."""
    return Image.open(io.BytesIO(photo("coffee.png"))).convert("RGB")


def turned(orientation: int) -> bytes:
    """Return the photo as a camera stores it that was held another way."""
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    return coded(coffee().transpose(transposed[orientation]), "JPEG", quality=95, exif=exif)


def sixteen_bit() -> bytes:
    """Return the photo in shades of grey, 16 bits deep."""
    return coded(Image.fromarray(np.asarray(coffee().convert("L"), np.uint16) * 257), "PNG")


def see_through() -> bytes:
    """Return the photo with an alpha channel that runs from nothing to all."""
    picture = coffee()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return coded(picture, "PNG")


def with_a_transparent_colour() -> bytes:
    """Return the photo with a palette, one of whose colours is transparent."""
    return coded(coffee().quantize(64), "PNG", transparency=3)


KINDS: dict[str, tuple[Callable[[], bytes], str, float]] = {
    **{f"turned {way}": ((lambda way=way: turned(way)), "image/jpeg", SAME_JPEG) for way in range(2, 9)},
    "alpha": (see_through, "image/png", SAME),
    "a transparent colour": (with_a_transparent_colour, "image/png", SAME),
    "grey": (lambda: coded(coffee().convert("L"), "PNG"), "image/png", SAME),
    "grey, 16 bits": (sixteen_bit, "image/png", SAME),
    "grey and alpha": (lambda: coded(Image.open(io.BytesIO(see_through())).convert("LA"), "PNG"), "image/png", SAME),
    "one bit": (lambda: coded(coffee().convert("1"), "PNG"), "image/png", SAME),
    "progressive": (lambda: coded(coffee(), "JPEG", progressive=True), "image/jpeg", SAME_JPEG),
    "WebP": (lambda: coded(coffee(), "WEBP", lossless=True), "image/webp", SAME),
    "GIF": (lambda: coded(coffee(), "GIF"), "image/gif", SAME),
    "BMP": (lambda: coded(coffee(), "BMP"), "image/bmp", SAME),
    "AVIF": (lambda: coded(coffee(), "AVIF", quality=95), "image/avif", SAME_JPEG),
    "tiny": (lambda: coded(coffee().resize((3, 2)), "PNG"), "image/png", SAME),
    "a long strip": (lambda: coded(coffee().resize((1500, 20)), "PNG"), "image/png", SAME_ENLARGED),
    "a tall strip": (lambda: coded(coffee().resize((20, 1500)), "PNG"), "image/png", SAME_ENLARGED),
    "large": (lambda: coded(coffee().resize((4800, 3200)), "JPEG", quality=90), "image/jpeg", SAME_JPEG),
    "another type's name": (lambda: coded(coffee(), "PNG"), "image/jpeg", SAME),
}


@pytest.mark.parametrize("model", [DEFAULT, SQUASH])
def test_every_kind_of_picture_is_prepared_alike(ready: str, visit: Visit, model: str) -> None:
    """Upright, over white, at any depth and any size: what the server reads and the browser can, both read alike."""
    page = visit(ready)
    off, first = {}, {}
    for name, (make, kind, same) in KINDS.items():
        one, other = here(page, make(), kind, model), there(page, ready, make(), kind, model)
        off[name] = (round(differs(one, other), 4), same)
        if one["class_index"] != other["class_index"]:
            first[name] = (one["top_k"][:2], other["top_k"][:2])
    print(model, off)
    assert {name: (value, same) for name, (value, same) in off.items() if value > same} == {}
    assert first == {}


def test_drawn_digits_are_read_in_the_browser_too(ready: str, visit: Visit) -> None:
    """All ten as the server reads them, with the digit model that a page draws for."""
    page = visit(ready)
    switch_on(page)
    requests = asked(page)
    found, probable = [], []
    for digit in range(10):
        by_mouse(page, canvas(page), digit)
        found.append(read(page))
        probable.append(page.locator(".answer").first.locator(".bars .share").first.inner_text())
    sent_nothing(requests)
    page.locator("#in-browser .choice").click()
    server = []
    for digit in range(10):
        by_mouse(page, canvas(page), digit)
        server.append(read(page))
    assert found == server
    assert len([digit for digit, text in enumerate(found) if text == str(digit)]) >= 8
    assert any(request.url.endswith(f"models/{DIGITS.replace('@', '/')}/manifest.json") for request in requests)


@every_look
def test_a_picture_does_not_leave_the_browser(ready: str, visit: Visit, look: Look) -> None:
    """Whoever asks for it is answered in their language by two models, and nothing of the picture is sent or kept."""
    page = visit(ready, look)
    switch_on(page)
    assert violations(page) == []
    before = page.request.get(f"{ready}api/records").json()["records"]
    page.locator("#model-list .choice", has_text=SQUASH.split("@")[0]).click()
    requests = asked(page)
    choose(page, upload("coffee.png", photo("coffee.png")), upload("cat.png", photo("chelsea.png")))
    sent_nothing(requests)
    names = [request.url for request in requests]
    assert any("onnxruntime-web-" in name and name.endswith(".wasm") for name in names)
    assert page.request.get(f"{ready}api/records").json()["records"] == before
    answer = page.locator(".answer", has_text="coffee.png")
    label = answer.locator(".by-model").first.locator(".bars .label").first
    expect(label).to_have_text(label_set("imagenet-1k", look.language)[ESPRESSO])
    expect(answer.locator(".bars")).to_have_count(2)
    expect(answer.locator(".bars").first.locator(".share").first).to_have_text(re.compile(r"95\.\d%"))
    said = {"en": "nothing was sent", "ja": "送信も記録もしていません", "zh": "未发送也未记录"}[look.language]
    expect(answer).to_contain_text(said)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= look.width
    page.reload()
    expect(page.locator(BOX)).to_be_checked()
    page.locator("#in-browser .choice").click()
    with page.expect_request(re.compile("api/classify")):
        choose(page, upload("coffee.png", photo("coffee.png")))


def test_the_camera_needs_no_server_either(ready: str, visit: Visit) -> None:
    """One picture by a button, then live ones in a card of their own: each is seen here, and none is sent."""
    page = visit(ready, permissions=("camera",))
    switch_on(page)
    requests = asked(page)
    page.click("#tab-camera")
    page.click("#camera-start")
    page.wait_for_timeout(300)  # the first frame has no event of its own
    page.click("#camera-take")
    expect(page.locator(".answer .bars")).to_have_count(1)
    page.click("#camera-live")
    expect(page.locator(".answer .bars")).to_have_count(2)
    first = page.locator(".answer").first.element_handle()
    page.wait_for_function("(card) => !card.isConnected", arg=first)  # the next one has taken its place
    page.click("#camera-stop")
    expect(page.locator(".answer[data-busy]")).to_have_count(0)
    expect(page.locator(".answer .bars")).to_have_count(2)
    sent_nothing(requests)


def test_it_goes_on_without_the_server(site: Site, runtime: Path, visit: Visit, tmp_path: Path) -> None:
    """Once the model is there, the server may end: pictures and drawings are still answered."""
    install(runtime, tmp_path)
    with ExitStack() as server:
        page = visit(server.enter_context(served(tmp_path, site.settings)))
        switch_on(page)
        choose(page, upload("coffee.png", photo("coffee.png")))
        by_mouse(page, canvas(page), 0)
        assert read(page) == "0"
        page.click("#tab-file")
    requests = asked(page)
    choose(page, upload("chelsea.png", photo("chelsea.png")))
    expect(page.locator(".answer").first.locator(".bars .label").first).to_have_text("tiger cat")
    by_mouse(page, canvas(page), 3)
    assert read(page) == "3"
    assert requests == []


MOVED = """(bar) => new Promise((done) => {
  const look = () => (bar.value > 0.05 && bar.value < 1 ? done(bar.value) : setTimeout(look, 20));
  look();
})"""


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[4]], ids=["en", "ja", "zh"])
def test_loading_shows_progress_and_can_be_cancelled(ready: str, visit: Visit, look: Look) -> None:
    """The bar shows how much of 33 MB is there; Cancel ends the download, and the question can be asked again."""
    page = visit(ready, look)
    switch_on(page)
    held: list[Any] = []
    page.context.route(re.compile(r"models/.*/.*\.(onnx|data|bin)"), lambda route: held.append(route))
    page.set_input_files("#file", [upload("coffee.png", photo("coffee.png"))])
    bar = page.locator(".asking progress")
    assert 0.05 < bar.evaluate(MOVED) < 1  # the runtime is there, and the model is not
    said = {"en": "Loading the model", "ja": "モデルを読み込み中", "zh": "正在加载模型"}[look.language]
    expect(page.locator(".state")).to_have_text(re.compile(rf"{said}.*\d+\.\d%"))
    assert violations(page) == []
    page.locator(".asking button").click()
    expect(page.locator(".asking")).to_have_count(0)
    assert held != []
    page.context.unroute(re.compile(r"models/.*/.*\.(onnx|data|bin)"))
    page.locator(".answer .body .actions button").click()
    expect(page.locator(".bars")).to_be_visible()
    expect(page.locator(".bars .label").first).to_have_text(label_set("imagenet-1k", look.language)[ESPRESSO])


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3], LOOKS[5]], ids=["en", "ja", "zh"])
def test_what_the_browser_can_not_do_is_said(ready: str, site: Site, visit: Visit, look: Look) -> None:
    """No picture, and an address: each is named, sends nothing, and spoils nothing."""
    page = visit(ready, look)
    switch_on(page)
    requests = asked(page)
    choose(page, upload("notes.txt", b"no picture", "text/plain"))
    unread = {
        "en": "can't read the file as a picture",
        "ja": "画像として読み取れません",
        "zh": "无法将该文件读取为图片",
    }
    expect(page.locator(".problem")).to_contain_text(unread[look.language])
    page.click("#tab-url")
    page.fill("#url", f"{site.pictures}coffee.png")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_count(2)
    only = {"en": "Only the server fetches addresses", "ja": "サーバーだけが取得できます", "zh": "只有服务器能获取"}
    expect(page.locator(".problem").first).to_contain_text(only[look.language])
    assert violations(page) == []
    sent_nothing(requests)
    choose(page, upload("coffee.png", photo("coffee.png")))
    expect(page.locator(".bars")).to_be_visible()


def test_a_load_that_failed_is_tried_anew(ready: str, visit: Visit) -> None:
    """A connection that was lost while loading is named; Retry needs no reload of the page."""
    visit.watched.expected = {0}
    page = visit(ready)
    switch_on(page)
    page.context.route(re.compile(r"\.onnx"), lambda route: route.abort("connectionreset"))
    choose(page, upload("coffee.png", photo("coffee.png")))
    expect(page.locator(".problem strong")).to_have_text("The server can't be reached")
    page.context.unroute(re.compile(r"\.onnx"))
    page.locator(".problem button").click()
    expect(page.locator(".bars")).to_be_visible()


def test_a_model_with_a_flipped_bit_is_not_run(ready: str, visit: Visit) -> None:
    """It would answer, and wrongly: its SHA-256 is held against the manifest's, as on the server."""
    page = visit(ready)
    switch_on(page)

    def flip(route: Any) -> None:
        reply = route.fetch()
        data = bytearray(reply.body())
        data[len(data) // 2] ^= 1
        route.fulfill(response=reply, body=bytes(data))

    page.context.route(re.compile(r"\.onnx"), flip)
    choose(page, upload("coffee.png", photo("coffee.png")))
    expect(page.locator(".problem")).to_contain_text("SHA-256")
    page.context.unroute(re.compile(r"\.onnx"))
    page.locator(".problem button").click()
    expect(page.locator(".bars")).to_be_visible()


def test_a_server_with_a_key_gives_its_models_to_who_has_it(
    site: Site, runtime: Path, visit: Visit, tmp_path: Path
) -> None:
    """The worker names the key, too."""
    install(runtime, tmp_path)
    visit.watched.expected = {401}
    with served(tmp_path, {**site.settings, "CLASSY_API_KEY": "open sesame"}) as url:
        page = visit(url)
        page.fill("#key-value", "open sesame")
        page.keyboard.press("Enter")
        page.locator("#in-browser .choice").wait_for()
        switch_on(page)
        choose(page, upload("coffee.png", photo("coffee.png")))
        expect(page.locator(".bars")).to_be_visible()


def test_who_was_there_before_can_use_it_after(site: Site, runtime: Path, visit: Visit, tmp_path: Path) -> None:
    """A page that names the command offers more after it, below any path, to a browser that has all in its cache."""
    with served(tmp_path, {**site.settings, "CLASSY_MODEL_ALIAS_AGE": "0"}, prefix="/dev") as url:
        page = visit(url)
        expect(page.locator("#in-browser")).to_contain_text("classy web-assets")
        expect(page.locator(BOX)).to_have_count(0)
        assert violations(page) == []
        install(runtime, tmp_path)
        page.reload()
        switch_on(page)
        choose(page, upload("coffee.png", photo("coffee.png")))
        expect(page.locator(".bars .label").first).to_have_text("espresso")
