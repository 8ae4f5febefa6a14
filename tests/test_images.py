"""classy.images: what comes out for ordinary pictures, how they are refused, and what they may start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import boxes, hostile, odd, writers
from pictures.odd import saved
from PIL import Image, ImageOps

from classy.errors import PictureTooCostly, PictureTooLarge, UnreadablePicture
from classy.images import PictureLimits, classifier_input, classifier_inputs
from classy.models.manifest import InputSpec
from graphpipe_fn.errors import GraphPipeError, InternalError, TimedOut, Unavailable

LITE0 = InputSpec("images", 224, 224, 256, mean=(127.0,) * 3, deviation=(128.0,) * 3)
GREY_LEVELS = 128  # of LITE0's deviation: one grey level is 1 / 128
ORIGINALS = Path(__file__).parent / "pictures" / "original"


@functools.cache
def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture whose detail falls off as a photo's does."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0)
    for step, share in ((1, 0.02), (4, 0.12), (16, 0.35), (64, 0.8)):
        size = (max(2, width // step), max(2, height // step))
        noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        total += (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) - 128) * share
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def recipe(file: bytes) -> np.ndarray:
    """Return LITE0's input as its authors' users work it out, with Pillow alone."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    image = image.resize((max(224, round(width * scale)), max(224, round(height * scale))), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    cropped = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return ((cropped - 127) / 128).transpose(2, 0, 1)


SIZES = [
    (640, 480),
    (480, 640),
    (300, 300),
    (224, 224),
    (256, 256),
    (100, 50),
    (37, 53),
    (1, 1),
    (1200, 257),
    (91, 1300),
]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_lossless_pictures_equal_the_recipe(size: tuple[int, int]) -> None:
    """A PNG comes out exactly as the model's published preprocessing has it, at any size and shape."""
    file = saved(photo(*size), "PNG")
    assert np.array_equal(classifier_input(file, LITE0), recipe(file))


@pytest.mark.parametrize("orientation", odd.UPRIGHT)
@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_turned_pictures_equal_the_recipe(format_name: str, orientation: int) -> None:
    """A picture is turned before it is resized, as the recipe does it, so that not even rounding differs."""
    file = saved(photo(400, 300), format_name, exif=odd.exif(orientation))
    assert np.array_equal(classifier_input(file, LITE0, exact=True), recipe(file))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_exact_jpegs_equal_the_recipe(options: dict[str, Any]) -> None:
    """With `exact` a JPEG of any size comes out exactly as the recipe has it."""
    file = saved(photo(1632, 1224), "JPEG", quality=90, **options)
    assert np.array_equal(classifier_input(file, LITE0, exact=True), recipe(file))


def test_small_jpegs_equal_the_recipe_without_exact() -> None:
    """A JPEG of less than four times the target is never decoded at a reduced scale."""
    file = saved(photo(1022, 1300), "JPEG", quality=90)
    assert np.array_equal(classifier_input(file, LITE0), recipe(file))


LARGE = [(1632, 1224, 1), (2063, 1031, 1), *((1025, 1091, turn) for turn in odd.UPRIGHT)]


@pytest.mark.parametrize(("width", "height", "orientation"), LARGE)
def test_large_jpegs_stay_near_the_recipe(width: int, height: int, orientation: int) -> None:
    """Decoding a JPEG at a reduced scale changes no pixel by much and shifts no picture, however it is turned."""
    file = saved(photo(width, height), "JPEG", quality=88, exif=odd.exif(orientation))
    off = np.abs(classifier_input(file, LITE0) - recipe(file)) * GREY_LEVELS
    assert off.mean() < 0.6
    assert off.max() < 8
    assert off.max() > 0, "nothing was reduced, so this tests nothing"


def bicubic(pixels: np.ndarray, count: int) -> np.ndarray:
    """Resize the first axis to `count`, antialiased with Keys' cubic of a = −1/2, in double precision."""
    scale = len(pixels) / count
    width = max(scale, 1.0)
    offset = (np.arange(len(pixels)) + 0.5 - ((np.arange(count) + 0.5) * scale)[:, np.newaxis]) / width
    x = np.abs(offset)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.tensordot(weights, pixels, axes=1).clip(0, 255)


def test_resizing_is_antialiased_bicubic_by_the_book() -> None:
    """Resizing agrees with the textbook formula worked out in double precision, to within rounding."""
    pixels = np.asarray(photo(500, 384), float)
    wide = bicubic(pixels.swapaxes(0, 1), round(500 * 256 / 384)).swapaxes(0, 1)
    expected = bicubic(wide, 256)
    left = (expected.shape[1] - 224) // 2
    got = classifier_input(saved(photo(500, 384), "PNG"), LITE0).transpose(1, 2, 0) * 128 + 127
    assert np.abs(got - expected[16:240, left : left + 224]).max() <= 1.5


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("resize", ["short-side", "squash"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR", "L"])
def test_specs_are_followed(interpolation: Any, resize: Any, layout: Any, order: Any) -> None:
    """Every field of the spec means what the manifest says."""
    count = 1 if order == "L" else 3
    mean, deviation = (103.939, 116.779, 123.68)[:count], (57.4, 57.1, 58.4)[:count]
    spec = InputSpec("x", 96, 112, 128, resize, interpolation, order, layout, mean, deviation)
    image = photo(300, 200)
    grey = image.convert("L") if order == "L" else image
    target = (192, 128) if resize == "short-side" else (112, 96)
    resized = grey.resize(target, Image.Resampling[interpolation.upper()])
    left, top = (target[0] - 112) // 2, (target[1] - 96) // 2
    pixels = np.asarray(resized, float).reshape(target[1], target[0], count)[top : top + 96, left : left + 112]
    expected = (pixels[..., ::-1] if order == "BGR" else pixels) - mean
    expected /= deviation
    got = classifier_input(saved(image, "PNG"), spec)
    assert got.dtype == np.float32
    assert got.shape == spec.row_shape
    assert got.flags.c_contiguous
    shown = got.transpose(1, 2, 0) if layout == "NCHW" else got
    assert np.abs(shown - expected).max() < 1e-6 * 255 / 57


def test_the_nearest_pixel_is_one_of_the_pictures_own() -> None:
    """A JPEG is not shrunk while it is decoded where single pixels are taken: averages are none of them."""
    spec = InputSpec("x", 96, 112, 128, "squash", "nearest")
    file = saved(photo(900, 700), "JPEG", quality=95)
    assert np.array_equal(classifier_input(file, spec), classifier_input(file, spec, exact=True))


def test_grey_jpegs_are_decoded_as_grey() -> None:
    """A spec of one channel takes a JPEG's brightness, which is what converting its colours gives."""
    spec = InputSpec("x", 28, 28, 28, channel_order="L", mean=(0.0,), deviation=(1.0,))
    file = saved(photo(100, 80), "JPEG", quality=95)
    assert np.abs(classifier_input(file, spec) - classifier_input(file, spec, exact=True)).max() <= 1.5


@pytest.mark.parametrize("name", ["a_420", "b_444"])
def test_the_original_preprocessor_agrees(name: str) -> None:
    """The tensor that the original Classy made of the same JPEG differs by half a grey level in the mean."""
    mean = (103.939, 116.779, 123.68)
    spec = InputSpec("data", 224, 224, 224, "squash", "bicubic", "BGR", "NHWC", mean, (1.0,) * 3)
    stored = np.asarray(Image.open(ORIGINALS / f"{name}.tensor.png"), np.float32)[..., ::-1]
    got = classifier_input((ORIGINALS / f"{name}.jpg").read_bytes(), spec)
    assert np.abs(got - (stored - np.array(mean, np.float32))).mean() < 0.6


def test_huge_aspects_are_cropped_before_they_are_resized() -> None:
    """A line of 20,000 pixels costs no more than its middle: resized as a whole it would be a gigapixel."""
    line = np.zeros((1, 20_000, 3), np.uint16)
    line[:, 9_000:11_000] = 200
    started_s = time.process_time()
    got = classifier_input(writers.png(line, colour=2), LITE0) * 128 + 127
    assert np.abs(got - 200).max() < 1
    assert time.process_time() - started_s < 1


# ---------------------------------------------------------------- batches


def test_batches_keep_their_order_and_one_bad_picture_to_itself() -> None:
    """A batch gives each picture its own answer at its own place, the same as alone."""
    files = [saved(photo(320, 240, seed), "JPEG") for seed in range(6)]
    files[2:2] = [b"<html>", saved(photo(64, 64), "TIFF"), b""]
    together = classifier_inputs(files, LITE0)
    assert [type(row) for row in together[2:5]] == [UnreadablePicture, np.ndarray, UnreadablePicture]
    for place in (0, 1, 3, 5, 6, 7, 8):
        assert np.array_equal(together[place], classifier_input(files[place], LITE0))


def test_an_empty_batch_is_empty() -> None:
    """No pictures, no rows, no threads."""
    assert classifier_inputs([], LITE0) == []


def test_pictures_after_the_deadline_are_not_begun() -> None:
    """A deadline that has passed refuses every picture at once."""
    rows = classifier_inputs([saved(photo(64, 64), "PNG")] * 3, LITE0, deadline_s=time.monotonic() - 1)
    assert [type(row) for row in rows] == [TimedOut] * 3


def test_a_picture_decoded_apart_is_given_up_at_the_deadline() -> None:
    """A picture that keeps its own process busy past the deadline is stopped there."""
    started_s = time.monotonic()
    with pytest.raises(TimedOut, match="deadline"):
        classifier_input(boxes.many_items(65_000), LITE0, deadline_s=started_s + 0.5)
    assert 0.4 < time.monotonic() - started_s < 0.8


# ---------------------------------------------------------------- refusals

HUGE_PNG = hostile._raw_png(10_000, 10_000, 8, 2, b"")
REFUSALS: dict[str, tuple[bytes, type[GraphPipeError], str]] = {
    "empty": (b"", UnreadablePicture, "the picture is empty (0 bytes); send a file: JPEG, PNG"),
    "html": (
        b"<!DOCTYPE html><html>", UnreadablePicture,
        "this is no picture (it starts with '<!DOCTYPE'…); JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are read",
    ),
    "text": (b"hello", UnreadablePicture, "this is no picture (it starts with 'hello')"),
    "noise": (b"\1\2\3\4\5", UnreadablePicture, "this is no picture (it starts with the bytes 01 02 03 04 05)"),
    "pdf": (b"%PDF-1.4", UnreadablePicture, "this is a PDF, which is not read; JPEG, PNG"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", UnreadablePicture, "this is HEIC, which is not read"),
    "cut png": (saved(photo(90, 90), "PNG")[:3000], UnreadablePicture, "this PNG is cut short; send the whole file"),
    "cut jpeg": (saved(photo(300, 300), "JPEG")[:3000], UnreadablePicture, "it is cut short, damaged or"),
    "100 Mpx": (
        HUGE_PNG, PictureTooLarge,
        "10,000 × 10,000 px is over the limit of 40 Mpx; send a smaller picture or raise CLASSY_LIMIT_PX",
    ),
    "side": (hostile._raw_png(20_001, 1, 8, 2, b""), PictureTooLarge, "over the limit of 20,000 px"),
    "bytes": (
        bytes(20_000_001), PictureTooLarge,
        "20,000,001 bytes is over the limit of 20 MB; send a smaller file or raise CLASSY_LIMIT_BYTES",
    ),
    "scans": (hostile.scan_bomb(2_000, 2_000, 900, "refine"), PictureTooCostly, "or raise CLASSY_PICTURE_TIME"),
    "float tiff": (saved(Image.new("F", (9, 9)), "TIFF"), UnreadablePicture, "no known range of values; save it as"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_culprit_and_the_remedy(file: bytes, kind: type[GraphPipeError], words: str) -> None:
    """A refusal says what the file is and what to do about it."""
    with pytest.raises(kind) as caught:
        classifier_input(file, LITE0)
    assert words in caught.value.message


LIMITS = {
    "bytes": (PictureLimits(bytes=1_000), PictureTooLarge),
    "px": (PictureLimits(px=99 * 99), PictureTooLarge),
    "side": (PictureLimits(side_px=99), PictureTooLarge),
    "time": (PictureLimits(time_s=1e-4), PictureTooCostly),
    "memory": (PictureLimits(memory_bytes=10_000), PictureTooCostly),
}


@pytest.mark.parametrize(("limits", "kind"), LIMITS.values(), ids=LIMITS)
def test_every_limit_holds(limits: PictureLimits, kind: type[GraphPipeError]) -> None:
    """Each limit refuses a picture that is over it, and only that makes the difference."""
    file = saved(photo(100, 100), "PNG")
    classifier_input(file, LITE0)
    with pytest.raises(kind):
        classifier_input(file, LITE0, limits=limits)


def test_a_gigapixel_limit_meets_pillows_own() -> None:
    """Whoever raises our limit over Pillow's is refused with our error, not Pillow's."""
    limits = PictureLimits(px=10**9, memory_bytes=10**12, time_s=100)
    body = hostile._frame_of(saved(photo(64, 48), "WEBP"))[1]
    file = hostile.webp((b"VP8 ", body[:6] + b"\xff\x3f\xff\x3f" + body[10:]))
    with pytest.raises(PictureTooLarge, match="Pillow"):
        classifier_input(file, LITE0, limits=limits)


# ---------------------------------------------------------------- processes and imports


def in_a_fresh_interpreter(code: str, *files: bytes) -> Any:
    """Run code that prints JSON, with files as hexadecimal arguments on its standard input."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input="\n".join(file.hex() for file in files).encode(),
        capture_output=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert run.stderr.decode() == ""
    return json.loads(run.stdout)


STARTS = """
import json, sys
from classy.images import classifier_input
from classy.models.manifest import InputSpec
spec, started = InputSpec("x", 224, 224, 256), []
sys.addaudithook(lambda name, _: started.append(name) if name in ("subprocess.Popen", "os.fork", "os.exec") else None)
counts = []
for line in sys.stdin:
    before = len(started)
    classifier_input(bytes.fromhex(line), spec)
    counts.append(len(started) - before)
print(json.dumps(counts))
"""


def test_ordinary_pictures_start_no_process() -> None:
    """JPEG, PNG, GIF, BMP and lossy WebP are decoded on the spot; only TIFF and AVIF always cost a process."""
    image = photo(1632, 1224)
    small = image.resize((400, 300))
    files = [saved(image, "JPEG"), saved(image, "JPEG", progressive=True), saved(small, "WEBP", quality=80)]
    files += [saved(small, "PNG"), saved(small.quantize(), "GIF"), saved(small, "BMP"), saved(small, "TIFF")]
    assert in_a_fresh_interpreter(STARTS, *files, saved(small, "AVIF")) == [0, 0, 0, 0, 0, 0, 1, 1]


IMPORTS = """
import json, sys
import classy.images
from classy.models.manifest import InputSpec
before = set(sys.modules)
classy.images.classifier_input(bytes.fromhex(sys.stdin.read()), InputSpec("x", 224, 224, 256))
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
"""


def test_only_what_a_jpeg_needs_is_imported() -> None:
    """Starting cold for a JPEG loads Pillow's one plug-in for it, and none of the modules of what is not used."""
    at_import, for_a_jpeg = in_a_fresh_interpreter(IMPORTS, saved(photo(64, 64), "JPEG"))
    loaded = {name for name in [*at_import, *for_a_jpeg] if name.endswith("ImagePlugin")}
    assert loaded == {"PIL.JpegImagePlugin"}
    assert {"subprocess", "concurrent.futures", "PIL.ImageCms"} & set(at_import) == set()


def script(folder: Path, body: str) -> str:
    """Write a program that stands where Python is looked for."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\nsys.stdin.buffer.read()\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def children() -> set[int]:
    """Return this process's children, those of other tests' servers and those that ended unreaped too."""
    stats = {path.parent.name: path for path in Path("/proc").glob("[0-9]*/stat")}
    found = set()
    for pid, path in stats.items():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(pid))
    return found


CHILDREN = {
    "silent": ("", InternalError),
    "failing": ("sys.exit(3)", InternalError),
    "babbling": ("print('hello')", InternalError),
    "endless": ("while True: sys.stdout.write('x' * 65536)", InternalError),
    "without pixels": ('print(\'{"mode": "RGB"}\')', InternalError),
    "of another mode": ("print('{\"mode\": \"CMYK\"}' + 'x' * 200704)", InternalError),
    "with an error of its own": ('print(\'{"code": 1, "message": "x"}\')', InternalError),
    "crashing": ("os.kill(os.getpid(), signal.SIGSEGV)", UnreadablePicture),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", PictureTooCostly),
    "out of CPU time": ("signal.setitimer(signal.ITIMER_PROF, 0.05)\nwhile True: pass", PictureTooCostly),
    "hanging": ("time.sleep(60)", PictureTooCostly),
}


@pytest.mark.parametrize(("body", "kind"), CHILDREN.values(), ids=CHILDREN)
def test_whatever_the_child_does_is_our_error(
    body: str, kind: type[GraphPipeError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that crashes, hangs, lies or talks without end becomes an error of ours, and leaves no process."""
    monkeypatch.setattr(sys, "executable", script(tmp_path, body))
    limits = PictureLimits(time_s=0.05)
    before = children()
    with pytest.raises(kind):
        classifier_input(saved(photo(16, 16), "TIFF"), LITE0, limits=limits)
    assert children() <= before


def test_no_process_to_be_had_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the picture is not to blame, and the caller may retry."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(Unavailable) as caught:
        classifier_input(saved(photo(16, 16), "TIFF"), LITE0)
    assert caught.value.retryable


def test_memory_in_the_child_is_bounded() -> None:
    """An AVIF whose pixels need more than the memory limit is refused, wherever the decoder runs out of it."""
    file = saved(Image.new("RGBA", (3_000, 3_000), (255, 0, 0, 9)), "AVIF", speed=10)
    classifier_input(file, LITE0)
    with pytest.raises((PictureTooCostly, UnreadablePicture)):
        classifier_input(file, LITE0, limits=PictureLimits(memory_bytes=70_000_000))


def test_specs_travel_to_the_child_whole() -> None:
    """A picture decoded apart follows the spec as one decoded here does."""
    spec = dataclasses.replace(LITE0, resize="squash", interpolation="lanczos", channel_order="L", mean=(9.0,))
    spec = dataclasses.replace(spec, deviation=(3.0,), layout="NHWC", height_px=50)
    image = photo(200, 300)
    apart, here = classifier_input(saved(image, "TIFF"), spec), classifier_input(saved(image, "PNG"), spec)
    assert np.array_equal(apart, here)
