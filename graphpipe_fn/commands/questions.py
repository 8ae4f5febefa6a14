"""
Files to tensors, for the command line.

A picture goes as it is to an input of strings (the file's bytes), and as pixels to one of numbers: RGB, 0 to 255,
resized to what the model's metadata says. What else a model wants of its pixels, only its own preprocessing knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphpipe_fn.errors import BadTensor, NotFound
from graphpipe_fn.messages import DType, IOMetadata, Metadata, StringTensor, Tensor, strings
from graphpipe_fn.tensors import NUMERIC, as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE_PX = 224  # of a picture where the model takes any size: what most classifiers were trained with
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_NUMPY = {dtype: name for name, dtype in NUMERIC.items()}


def read_inputs(files: Sequence[str], metadata: Callable[[], Metadata]) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """
    Read the inputs of one request.

    Args:
        files: `FILE` in the order of the model's inputs, or `NAME=FILE`.
        metadata: The model's; asked only where a file alone does not say what it is.

    Returns:
        The inputs' names, or none where all are in the model's order, and the tensors.

    Raises:
        NotFound, BadTensor: a file is missing, or can't be read as a tensor.
    """
    named: list[tuple[str, Tensor]] = []
    for place, argument in enumerate(files):
        name, file = _parted(argument)
        if file.lower().endswith(".npz"):
            named += _npz(file)
            continue
        about = _about(metadata, name, place)
        if file == "-" or file.lower().endswith(".json"):
            named += _json(name, sys.stdin.buffer.read() if file == "-" else _bytes(file), file, metadata, place)
        elif file.lower().endswith(".npy"):
            named.append((name, _npy(file)))
        elif file.lower().endswith(_PICTURES):
            named.append((name, _picture(file, about())))
        else:
            raise BadTensor(f"{file!r}: the name's end says nothing known; use .npy, .npz, .json or a picture's")
    if any(name for name, _ in named) and not all(name for name, _ in named):
        known = [io.name for io in metadata().inputs]
        named = [(name or (known[place] if place < len(known) else ""), t) for place, (name, t) in enumerate(named)]
    names = tuple(name for name, _ in named)
    return (names if any(names) else ()), tuple(tensor for _, tensor in named)


def _parted(argument: str) -> tuple[str, str]:
    name, equals, file = argument.partition("=")
    return (name, file) if equals and not Path(argument).exists() else ("", argument)


def _about(metadata: Callable[[], Metadata], name: str, place: int) -> Callable[[], IOMetadata | None]:
    def about() -> IOMetadata | None:
        inputs = metadata().inputs
        if name:
            return next((io for io in inputs if io.name == name), None)
        return inputs[place] if place < len(inputs) else None

    return about


def _bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise NotFound(f"{file!r} can't be read ({exc.strerror})") from exc


def _npy(file: str) -> Tensor:
    import io

    import numpy as np

    try:
        # No pickles: an array file from elsewhere must not be able to run code.
        return as_tensor(np.load(io.BytesIO(_bytes(file)), allow_pickle=False))
    except (ValueError, EOFError, OSError) as exc:
        raise BadTensor(f"{file!r} is no .npy file of numbers or text ({exc})") from exc


def _npz(file: str) -> list[tuple[str, Tensor]]:
    import io
    import zipfile

    import numpy as np

    try:
        with np.load(io.BytesIO(_bytes(file)), allow_pickle=False) as archive:
            return [(name, as_tensor(archive[name])) for name in archive.files]
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as exc:
        raise BadTensor(f"{file!r} is no .npz file of numbers or text ({exc})") from exc


def _json(
    name: str, text: bytes, file: str, metadata: Callable[[], Metadata], place: int
) -> list[tuple[str, Tensor]]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise BadTensor(f"{'stdin' if file == '-' else repr(file)} is no JSON ({exc})") from exc
    if isinstance(value, dict) and not name:
        return [(key, _typed(item, _about(metadata, key, 0)())) for key, item in value.items()]
    return [(name, _typed(value, _about(metadata, name, place)()))]


def _typed(value: Any, about: IOMetadata | None) -> Tensor:
    tensor = as_tensor(value)
    if isinstance(tensor, StringTensor) or about is None or about.dtype not in _NUMPY:
        return tensor
    return tensor.astype(_NUMPY[about.dtype])  # JSON has one kind of number


def _picture(file: str, about: IOMetadata | None) -> Tensor:
    data = _bytes(file)
    if about is not None and about.dtype is DType.STRING:
        return strings([data])
    shape = about.shape if about is not None else ()
    if len(shape) not in (0, 4):
        raise BadTensor(f"{file!r}: the input takes shape {list(shape)}, which is not that of pictures")
    channels_first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    height, width, channels = (shape[2:] + shape[1:2]) if channels_first else (shape[1:] or (-1, -1, 3))
    pixels = _pixels(data, file, "L" if channels == 1 else "RGB", height, width)
    batch = pixels.transpose(2, 0, 1)[None] if channels_first else pixels[None]
    numeric = about is not None and about.dtype in _NUMPY
    return batch.astype(_NUMPY[about.dtype] if about is not None and numeric else "u1")


def _pixels(data: bytes, file: str, mode: str, height: int, width: int) -> NDArray[Any]:
    import io

    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture).convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise BadTensor(f"{file!r} is no picture that can be read ({exc})") from exc
    size = (width if width > 0 else SIDE_PX, height if height > 0 else SIDE_PX)
    array = np.asarray(upright.resize(size, Image.Resampling.BICUBIC))
    return array[..., None] if mode == "L" else array
