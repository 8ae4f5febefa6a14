from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from toy_models import Texts

from classy.errors import SourceNotFound, UnreadablePicture
from classy.images import Prepared
from classy.models.manifest import InputSpec
from classy.stages import Classifiers, Downloader, Preprocessor, model_of
from graphpipe_fn.errors import BadConfig, BadTensor, GraphPipeError, RemoteError, TooLarge
from graphpipe_fn.messages import Call, Error, InferRequest, StringTensor, strings
from graphpipe_fn.rows import ABOUT, ERRORS, decode_row_errors

SPEC = InputSpec("x", height_px=2, width_px=2, resize_px=2)


@dataclass
class Pages:
    """A fetcher over a dict; notes the deadline that it was given."""

    pages: dict[str, bytes]
    deadline_s: float | None = None

    def fetch_all(self, uris: Sequence[str], *, deadline_s: float | None = None) -> list[bytes | GraphPipeError]:
        self.deadline_s = deadline_s
        return [self.pages.get(uri) or SourceNotFound(f"no {uri}") for uri in uris]


def decode(
    pictures: Sequence[bytes], spec: InputSpec, *, thumbnail_px: int, deadline_s: float | None
) -> list[Prepared | GraphPipeError]:
    """Fill one row with the picture's length, and its thumbnail with its size; an empty picture is refused."""
    return [
        Prepared(np.full(spec.row_shape, len(picture), np.float32), b"%d" % thumbnail_px)
        if picture
        else UnreadablePicture("empty")
        for picture in pictures
    ]


def test_the_downloader_hands_its_deadline_to_the_fetch() -> None:
    """Time that the caller no longer has is not spent."""
    pages = Pages({"http://a": b"A"})
    response = Downloader(pages).infer(InferRequest((strings(["http://a"]),), call=Call(deadline_s=12.5)))
    assert response.outputs == (strings([b"A"]),)
    assert pages.deadline_s == 12.5
    assert [timing.name for timing in response.timings] == ["downloader"]


def test_a_url_that_fails_is_its_own_rows_error() -> None:
    """The other pictures come through, in their places."""
    stage = Downloader(Pages({"http://a": b"A", "http://c": b"C"}))
    request = InferRequest((strings(["http://a", "http://b", "http://c"]),), output_names=("", ERRORS))
    pictures, errors = stage.infer(request).outputs
    assert pictures == strings([b"A", b"", b"C"])
    assert decode_row_errors(errors) == [None, Error(42413, "no http://b"), None]


def test_who_asks_for_no_errors_gets_the_first_with_its_place() -> None:
    """An original client reads which picture it was, and the code is kept."""
    with pytest.raises(RemoteError) as refused:
        Downloader(Pages({"http://a": b"A"})).infer(InferRequest((strings(["http://a", "http://b"]),)))
    assert (refused.value.message, refused.value.code) == ("picture 2 of 2: no http://b", 42413)


def test_the_preprocessor_makes_the_models_batch() -> None:
    """float32 (N, C, H, W), zeros where a picture failed."""
    stage = Preprocessor(lambda ref: SPEC, decode)
    batch, errors = stage.infer(InferRequest((strings([b"12", b"", b"1"]),), output_names=("batch", ERRORS))).outputs
    assert not isinstance(batch, StringTensor)
    assert (batch.dtype, batch.shape) == (np.dtype(np.float32), (3, 3, 2, 2))
    assert batch[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert decode_row_errors(errors) == [None, Error(42211, "empty"), None]


def test_the_preprocessor_tells_of_every_picture_what_its_file_tells() -> None:
    """Of one that it refuses too, and only who asks is told; a thumbnail is made for who asks for that as well."""
    asked: list[bytes] = []

    def about(picture: bytes, thumbnail: bytes) -> str:
        asked.append(picture)
        return f"{len(picture)} bytes, {thumbnail.decode()} px"

    stage = Preprocessor(lambda ref: SPEC, decode, about=about)
    request = InferRequest((strings([b"12", b"", b"1"]),), output_names=("", ABOUT, ERRORS))
    assert stage.infer(request).outputs[1] == strings(["2 bytes, 0 px", "0 bytes,  px", "1 bytes, 0 px"])
    small = request.replace(config='{"thumbnail_px":16}')
    assert stage.infer(small).outputs[1] == strings(["2 bytes, 16 px", "0 bytes,  px", "1 bytes, 16 px"])
    stage.infer(small.replace(output_names=("", ERRORS)))
    assert asked == [b"12", b"", b"1"] * 2


@pytest.mark.parametrize("size", ['"160"', "-1", "257", "1.5", "true", "null"])
def test_a_thumbnail_of_no_size_is_refused(size: str) -> None:
    """Before a picture is decoded, and a large one is no thumbnail."""
    request = InferRequest((strings([b"1"]),), output_names=("", ABOUT, ERRORS), config=f'{{"thumbnail_px":{size}}}')
    with pytest.raises(BadConfig, match="thumbnail_px"):
        Preprocessor(lambda ref: SPEC, decode).infer(request)


def test_the_downloader_has_nothing_to_say_but_can_be_asked() -> None:
    """So that a chain can ask all of its stages the same."""
    request = InferRequest((strings(["http://a", "http://b"]),), output_names=(ABOUT, ERRORS))
    assert Downloader(Pages({"http://a": b"A"})).infer(request).outputs[0] == strings(["", ""])


def test_the_preprocessor_reads_the_spec_of_the_model_that_the_request_names() -> None:
    """Preprocessor and classifier follow the same name."""
    asked: list[str] = []

    def spec_of(ref: str) -> InputSpec:
        asked.append(ref)
        return SPEC

    Preprocessor(spec_of, decode).infer(InferRequest((strings([b"1"]),), config='{"model":"m@2"}'))
    assert asked[-1] == "m@2"


@pytest.mark.parametrize(
    ("sizes", "limit_bytes", "decoded"),
    [
        pytest.param([4, 4, 4], 8, [4, 4, None], id="the last has no room"),
        pytest.param([6, 6, 2], 8, [6, None, 2], id="a small one after it has"),
        pytest.param([9], 8, [9], id="one alone always has"),
        pytest.param([9, 1], 8, [9, None], id="the first alone"),
    ],
)
def test_pictures_beyond_a_requests_bytes_are_refused_and_the_others_decoded(
    sizes: list[int], limit_bytes: int, decoded: list[int | None]
) -> None:
    """Memory is bounded by a request's bytes, not by how many pictures it holds."""
    stage = Preprocessor(lambda ref: SPEC, decode, limit_bytes=limit_bytes)
    request = InferRequest((strings([b"x" * size for size in sizes]),), output_names=("batch", ERRORS))
    batch, errors = stage.infer(request).outputs
    assert not isinstance(batch, StringTensor)
    codes = [error.code if error else None for error in decode_row_errors(errors)]
    assert codes == [41313 if size is None else None for size in decoded]
    assert batch[:, 0, 0, 0].tolist() == [size or 0 for size in decoded]


@pytest.mark.parametrize(
    ("rows", "error", "complaint"),
    [(0, BadTensor, "an empty batch"), (4, TooLarge, "4 in one request; the limit is 3")],
)
def test_a_batch_of_none_or_too_many_is_refused(rows: int, error: type[GraphPipeError], complaint: str) -> None:
    """Before any work is done."""
    with pytest.raises(error, match=complaint):
        Downloader(Pages({}), limit_rows=3).infer(InferRequest((strings(["http://a"] * rows),)))


@pytest.mark.parametrize("config", ['{"model":3}', "nonsense"])
def test_a_config_that_names_no_model_rightly_is_refused(config: str) -> None:
    """A typing mistake does not fall back to the default model."""
    with pytest.raises(BadConfig):
        model_of(config)


def test_the_default_model_starts_loading_at_once() -> None:
    """Before the first request, while the imports still run."""
    began = threading.Event()

    def load(ref: str) -> Texts:
        began.set()
        return Texts(str.upper, ref)

    stage = Classifiers(load, default="m")
    assert began.wait(10)
    assert stage.infer(InferRequest((strings(["a"]),))).outputs == (strings(["A"]),)


def test_a_request_names_its_model_and_the_last_few_stay() -> None:
    """Two models side by side load once each; the third drops the one that was used least lately."""
    loads: list[str] = []

    def load(ref: str) -> Texts:
        loads.append(ref)
        return Texts(lambda text: f"{ref}:{text}", ref)

    stage = Classifiers(load, default="m", keep=2)
    for ref in ("m", "n", "m", "n", "o", "m"):
        response = stage.infer(InferRequest((strings(["a"]),), config=f'{{"model":"{ref}"}}'))
        assert response.outputs == (strings([f"{ref}:a"]),)
    assert loads == ["m", "n", "o", "m"]


def test_a_version_that_its_name_already_loads_is_not_loaded_twice() -> None:
    """Classy asks for NAME@VERSION while NAME loads at the start; that is one model in memory, not two."""
    loads: list[str] = []

    def load(ref: str) -> Texts:
        loads.append(ref)
        return Texts(str.upper, "m")  # whose version is "1"

    stage = Classifiers(load, default="m")
    for ref in ("m@1", "m@2", "m"):
        stage.infer(InferRequest((strings(["a"]),), config=f'{{"model":"{ref}"}}'))
    assert loads == ["m", "m@2"]


def test_a_slow_load_of_one_model_does_not_hold_up_another() -> None:
    """Only who asks for it waits."""
    gate = threading.Event()

    def load(ref: str) -> Texts:
        if ref == "slow":
            gate.wait(10)
        return Texts(str.upper, ref)

    stage = Classifiers(load, default="slow")
    quick = InferRequest((strings(["a"]),), config='{"model":"quick"}', call=Call(deadline_s=time.monotonic() + 5))
    assert stage.infer(quick).outputs == (strings(["A"]),)
    gate.set()
