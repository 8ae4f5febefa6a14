"""Tensors to what people and other programs read, for the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.messages import StringTensor, Tensor, shape_of

WIDTH_MAX = 60  # characters of a text shown in a table
ROWS_MAX = 50  # rows shown in a table


def write_answer(outputs: Mapping[str, Tensor], form: str, file: str | None, *, top: int) -> None:
    """
    Write a response's outputs.

    Args:
        outputs: By name, in order.
        form: "table", "json" or "npy"; with several outputs "npy" writes an .npz archive.
        file: Where to; None for stdout.
        top: Values shown of each row in a table.

    Raises:
        BadTensor: the file can't be written, or there is nothing that the form can hold.
    """
    try:
        if file is not None:
            with open(file, "wb") as target:
                _write(outputs, form, target, top)
        else:
            _write(outputs, form, sys.stdout.buffer, top)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise BadTensor(f"{file!r} can't be written ({exc.strerror})") from exc


def _write(outputs: Mapping[str, Tensor], form: str, target: BinaryIO, top: int) -> None:
    if form == "npy":
        _write_arrays(outputs, target)
    elif form == "json":
        text = json.dumps({name: _json(tensor) for name, tensor in outputs.items()}, ensure_ascii=False)
        target.write(text.encode("utf-8", "replace") + b"\n")
    else:
        for name, tensor in outputs.items():
            target.write("".join(f"{line}\n" for line in _table(name, tensor, top)).encode("utf-8", "replace"))


def _write_arrays(outputs: Mapping[str, Tensor], target: BinaryIO) -> None:
    import numpy as np

    arrays = {name: _array(tensor) for name, tensor in outputs.items()}
    if len(arrays) == 1:
        np.save(target, next(iter(arrays.values())), allow_pickle=False)
    else:
        np.savez(target, **arrays)


def _array(tensor: Tensor) -> Any:
    if not isinstance(tensor, StringTensor):
        return tensor
    import numpy as np

    if any(value.endswith(b"\0") for value in tensor.values):
        raise BadTensor("a text ends in a NUL byte, which .npy files can't hold; use --format json")
    return np.array(tensor.values or [b""], "S").reshape(-1)[: len(tensor.values)].reshape(tensor.shape)


def _json(tensor: Tensor) -> Any:
    if isinstance(tensor, StringTensor):
        values = [value.decode("utf-8", "backslashreplace") for value in tensor.values]
        return _nested(values, tensor.shape)
    return tensor.tolist()


def _nested(values: list[str], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    width = len(values) // shape[0] if shape[0] else 0
    return [_nested(values[place * width : (place + 1) * width], shape[1:]) for place in range(shape[0])]


def _table(name: str, tensor: Tensor, top: int) -> list[str]:
    shape = shape_of(tensor)
    kind = "string" if isinstance(tensor, StringTensor) else str(tensor.dtype)
    lines = [f"{name}: {kind}, {' × '.join(map(str, shape)) or 'scalar'}"]
    rows = shape[0] if shape else 1
    width = math.prod(shape[1:])
    for row in range(min(rows, ROWS_MAX)):
        lines.append(f"  {row}: {_row(tensor, row, width, top)}")
    if rows > ROWS_MAX:
        lines.append(f"  … {rows - ROWS_MAX} more rows")
    return lines


def _row(tensor: Tensor, row: int, width: int, top: int) -> str:
    if isinstance(tensor, StringTensor):
        values = tensor.values[row * width : (row + 1) * width]
        return ", ".join(repr(value.decode("utf-8", "backslashreplace")[:WIDTH_MAX]) for value in values[:top])
    flat = tensor.reshape(-1)[row * width : (row + 1) * width]
    if width <= top:
        return "  ".join(f"{value:.6g}" if flat.dtype.kind == "f" else str(value) for value in flat.tolist())
    largest = flat.argsort(kind="stable")[::-1][:top]
    return "  ".join(f"[{place}] {flat[place]:.6g}" for place in largest.tolist())
