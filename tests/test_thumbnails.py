"""Thumbnails: made of the pixels that were decoded for the model, upright, small, and nothing but pixels."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clouds import Cloud
from exif_blocks import OFFSET, TAKEN, block, degrees, text
from photos import photo
from pictures import hostile, odd
from pictures.hostile import REFUSED, Hostile
from pictures.odd import Odd, saved
from PIL import Image

from classy.errors import UnreadablePicture
from classy.exif import about_line, parse_about
from classy.front import Classy
from classy.images import PictureLimits, prepared, prepared_all
from classy.models.manifest import InputSpec
from classy.pictures.webp import PLAIN_BYTES, plain_webp
from classy.settings import Settings
from graphpipe_fn.errors import GraphPipeError
from graphpipe_fn.messages import Call

LITE0 = InputSpec("images", 224, 224, 256, mean=(127.0,) * 3, deviation=(128.0,) * 3)
SQUASHED = InputSpec("images", 299, 299, 299, "squash")
TINY = InputSpec("images", 4, 4, 4)
GREY = InputSpec("images", 28, 28, 28, channel_order="L", mean=(0.0,), deviation=(255.0,))
SPECS = {"cropped": LITE0, "squashed": SQUASHED, "tiny": TINY, "grey": GREY}
FAMILIES = {
    "png": odd.pngs, "bmp": odd.bmps, "gif": odd.gifs, "orientations": odd.orientations, "tiff": odd.tiffs,
    "jpeg": odd.jpegs, "webp": odd.webps, "avif": odd.avifs,
}  # fmt: skip


def thumbnail(file: bytes, spec: InputSpec = LITE0, *, px: int = 160, **options: Any) -> bytes:
    """Return the thumbnail of a picture."""
    return prepared(file, spec, thumbnail_px=px, **options).thumbnail


def opened(webp: bytes) -> Image.Image:
    """Read a thumbnail with Pillow, which knows nothing of ours."""
    image = Image.open(io.BytesIO(webp))
    image.load()
    return image


def corners(image: Image.Image) -> list[int]:
    """Return which of four colours each corner has, clockwise from the top left."""
    right, bottom = image.width - 4, image.height - 4
    shades = [image.convert("RGB").getpixel(at) for at in ((3, 3), (right, 3), (right, bottom), (3, bottom))]
    return [int(np.abs(np.array(COLOURS) - shade).sum(axis=1).argmin()) for shade in shades]


COLOURS = [(255, 0, 0), (0, 200, 0), (0, 0, 255), (240, 240, 0)]


def quarters(width: int, height: int) -> Image.Image:
    """Return a picture whose four quarters have four colours."""
    image = Image.new("RGB", (width, height))
    for place, colour in enumerate(COLOURS):
        at = (width // 2 if place in (1, 2) else 0, height // 2 if place in (2, 3) else 0)
        image.paste(colour, (*at, at[0] + width // 2 + 1, at[1] + height // 2 + 1))
    return image


def stored_as(orientation: int) -> list[int]:
    """Return the corners of the quarters when they are shown upright, by way of the array."""
    turned = odd.UPRIGHT[orientation](np.array([[0, 1], [3, 2]]))
    return [int(turned[at]) for at in ((0, 0), (0, 1), (1, 1), (1, 0))]


@pytest.mark.parametrize("orientation", odd.UPRIGHT)
@pytest.mark.parametrize(
    ("format_name", "size"),
    [
        pytest.param("JPEG", (1700, 1300), id="a reduced JPEG"),
        pytest.param("JPEG", (400, 300), id="a JPEG"),
        pytest.param("PNG", (400, 300), id="a PNG"),
        pytest.param("WEBP", (400, 300), id="a WebP"),
        pytest.param("TIFF", (400, 300), id="a TIFF, decoded apart"),
    ],
)
def test_a_thumbnail_is_upright(format_name: str, size: tuple[int, int], orientation: int) -> None:
    """However the file is turned, and whoever decodes it."""
    options: dict[str, Any] = {"tiffinfo": {274: orientation}} if format_name == "TIFF" else {
        "exif": odd.exif(orientation)
    }  # fmt: skip
    made = opened(thumbnail(saved(quarters(*size), format_name, **options)))
    assert corners(made) == stored_as(orientation)
    assert (max(made.size), made.width > made.height) == (160, orientation < 5)


SIZES = [
    ((2000, 1500), (160, 120)),
    ((1000, 4000), (40, 160)),
    ((640, 480), (160, 120)),
    ((160, 160), (160, 160)),
    ((100, 50), (100, 50)),
    ((1, 1), (1, 1)),
    ((5000, 3), (160, 1)),
    ((3, 5000), (1, 160)),
    ((161, 7), (160, 7)),
]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize(("size", "shown"), SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_thumbnail_has_the_pictures_proportions(
    spec: InputSpec, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    """160 px at the longer side, never more than was decoded: of a JPEG for a tiny model that is an eighth."""
    for format_name in ("JPEG", "PNG"):
        made = opened(thumbnail(saved(Image.new("RGB", size, (200, 90, 20)), format_name), spec))
        if format_name == "JPEG" and spec in (TINY, GREY) and made.size != shown:
            assert (max(made.size), made.width / made.height) <= (160, 1.1 * size[0] / size[1])
            assert max(made.size) >= min(max(size) // 8, 160)
        else:
            assert made.size == shown
        wanted = (123,) * 3 if spec is GREY else (200, 90, 20)
        assert np.abs(np.asarray(made.convert("RGB"), int) - wanted).max() <= 12


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("size", [(1700, 1300), (500, 400), (90, 70)], ids=str)
def test_what_the_model_sees_does_not_change_by_it(spec: InputSpec, size: tuple[int, int]) -> None:
    """Not in one bit."""
    for format_name in ("JPEG", "PNG", "TIFF"):
        file = saved(quarters(*size), format_name)
        assert np.array_equal(prepared(file, spec).values, prepared(file, spec, thumbnail_px=160).values)
        assert prepared(file, spec).thumbnail == b""


def faulty(case: Odd) -> str:
    """Return what is wrong with the thumbnail of a legal picture, "" if nothing is."""
    webp = thumbnail(case.file)
    if not plain_webp(webp):
        return f"{case.name}: {webp[:40]!r}"
    height, width, _ = case.pixels.shape
    made = opened(webp)
    if made.size != (width, height):  # all of them are small
        return f"{case.name}: {made.size}"
    off = np.abs(np.asarray(made.convert("RGB"), float).mean(axis=(0, 1)) - case.pixels.mean(axis=(0, 1))).max()
    return f"{case.name}: {off:.0f} grey levels off in the mean" if off > 16 else ""


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_legal_picture_gets_one(family: Callable[[], Iterator[Odd]], every: int) -> None:
    """Of its own size and colours, over white, whichever decoder makes it."""
    with ThreadPoolExecutor(2) as pool:
        cases = [case for case in family() if max(case.pixels.shape[:2]) <= 160][::every]
        assert [text for text in pool.map(faulty, cases) if text] == []


METADATA = block(
    {TAKEN: text("2026:11:20 18:30:00"), OFFSET: text("+09:00")},
    {1: text("S"), 2: degrees(33, 51, 2451), 3: text("E"), 4: degrees(151, 12, 4050)},
)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_thumbnail_tells_nothing_but_pixels(format_name: str) -> None:
    """No EXIF, no place, no profile, no comment: whatever the file says beside its picture."""
    exif = b"Exif\0\0" + METADATA if format_name == "JPEG" else METADATA
    options: dict[str, Any] = {} if format_name == "TIFF" else {"exif": exif}
    made = thumbnail(saved(quarters(300, 200), format_name, icc_profile=b"secret" * 50, **options))
    assert plain_webp(made)
    assert (opened(made).info.keys() & {"exif", "xmp", "icc_profile"}, dict(opened(made).getexif())) == (set(), {})
    assert [mark for mark in (b"EXIF", b"ICCP", b"XMP ", b"VP8X", b"ANIM") if mark in made[:40]] == []
    assert b"secret" not in made


@pytest.mark.parametrize("side_px", [160, 256])
def test_noise_stays_within_the_limit(side_px: int) -> None:
    """The picture that packs worst, at the largest size that may be asked for."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3))
    made = thumbnail(saved(noise, "PNG"), px=side_px)
    assert 0 < len(made) <= PLAIN_BYTES


def test_a_refused_picture_has_none() -> None:
    """It is refused as without one, and its neighbours have theirs."""
    good = saved(quarters(300, 200), "PNG")
    first, bad, cut, last = prepared_all([good, b"no picture", good[:200], good], LITE0, thumbnail_px=160)
    assert isinstance(bad, UnreadablePicture)
    assert isinstance(cut, UnreadablePicture)
    assert not isinstance(first, GraphPipeError)
    assert not isinstance(last, GraphPipeError)
    assert plain_webp(first.thumbnail)
    assert first.thumbnail == last.thumbnail


def hostility(case: Hostile) -> str:
    """Return what is wrong with the thumbnail of a hostile picture, "" if nothing is."""
    try:
        made = prepared(case.file, LITE0, limits=PictureLimits(), thumbnail_px=160)
    except GraphPipeError:
        return f"{case.name}: refused" if isinstance(case.right, np.ndarray) else ""
    if isinstance(case.right, str) and case.right == REFUSED:
        return f"{case.name}: read"
    return "" if plain_webp(made.thumbnail) else f"{case.name}: {made.thumbnail[:40]!r}"


@pytest.mark.slow
def test_a_hostile_picture_is_refused_or_gets_a_plain_one() -> None:
    """One of each attack; all of them, in bounded time and memory, are tests/test_images_hostile.py's."""
    with ThreadPoolExecutor(2) as pool:
        assert [text for text in pool.map(hostility, hostile.corpus(most_each=1)) if text] == []


ABOUT: list[Any] = [
    pytest.param("", id="none"),
    pytest.param("AAAA", id="no WebP"),
    pytest.param("!!!", id="no base64"),
    pytest.param("é", id="no ASCII"),
    pytest.param(7, id="a number"),
    pytest.param(None, id="null"),
    pytest.param(["x"], id="a list"),
]


@pytest.mark.parametrize("said", ABOUT)
def test_what_a_stranger_calls_a_thumbnail_is_none(said: Any) -> None:
    """A stage may be another's; what it says beside that is taken as ever."""
    told = parse_about(json.dumps({"sha256": "a" * 64, "thumbnail": said}))
    assert (told.thumbnail, told.sha256) == (b"", "a" * 64)


def test_a_thumbnail_travels_in_the_line_about_its_picture() -> None:
    """As base64 in the one line of JSON; without one, the line is what it was."""
    file = saved(quarters(300, 200), "PNG")
    made = thumbnail(file)
    line = about_line(file, made)
    assert (parse_about(line).thumbnail, "\n" in line) == (made, False)
    assert "thumbnail" not in about_line(file)


TOPOLOGIES = ["in-process", "caller-led", "server-led", "hybrid"]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_keeps_the_same(cloud: Cloud, tmp_path: Path, topology: str) -> None:
    """Pictures by URL and as a body: a thumbnail of both, the bytes of what was sent, and the answer says so."""
    cloud.objects.put("s3://classy-photos/thumbnail.png", photo("chelsea.png"))
    environ = {
        **cloud.settings(topology),
        "CLASSY_RECORDS": f"sqlite:///{tmp_path}/records.db",
        "CLASSY_PICTURES": (tmp_path / "pictures").as_uri(),
    }
    urls = ["s3://classy-photos/thumbnail.png", "s3://classy-photos/nothing.png"]
    with closing(Classy(Settings.from_env(environ))) as front:
        asked = json.loads(front.answer(json.dumps({"images": urls}).encode(), Call()).body())["results"]
        sent = json.loads(front.answer(photo("china.jpg"), Call(content_type="image/jpeg")).body())
        assert [entry.get("kept") for entry in (*asked, sent)] == [True, None, True]
        kept = front.kept
        assert kept is not None
        for answer, name in ((asked[0], "chelsea.png"), (sent, "china.jpg")):
            assert kept.thumbnail(answer["picture_sha256"]) == thumbnail(photo(name))
        assert kept.get(sent["picture_sha256"]) == photo("china.jpg")
        assert len(list((tmp_path / "pictures" / "originals").iterdir())) == 1
        assert front.reclassifier().run("").left == 0
