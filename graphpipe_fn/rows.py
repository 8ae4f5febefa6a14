"""
Row errors: how one bad row of a batch does not spoil the others.

A model whose rows are independent may offer an output named `errors`: String (N,), empty where row i is fine,
else "CODE message". Who asks for it gets every good row's result, with zeros (or empty strings) in the rows that
failed; who does not ask, as the original clients, gets the first bad row's error for the whole request.

It may also offer an output named `about`: String (N,), what it knows of row i beside its result, one line of text or
none. Rows that failed have it too. A chain that is asked for both gathers each stage's lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from graphpipe_fn.errors import BadTensor, GraphPipeError, RemoteError
from graphpipe_fn.messages import Error, InferResponse, StringTensor, Tensor, Timing, shape_of, strings

ERRORS = "errors"
ABOUT = "about"
Row = TypeVar("Row")


def rows_response(
    outcomes: Sequence[Row | GraphPipeError],
    *,
    wanted: Sequence[str],
    name: str,
    pack: Callable[[list[Row]], Tensor],
    what: str = "row",
    others: Mapping[str, Tensor] | None = None,
    timings: Callable[[], tuple[Timing, ...]] = tuple,
) -> InferResponse:
    """
    Answer with what became of each row.

    Args:
        outcomes: Each row's value or its error, in order.
        wanted: The outputs that were asked for: `name`, `errors`, or any of `others`.
        name: The main output.
        pack: Makes its tensor of the values, one row each.
        what: What a row is, for the message "picture 3 of 8: …".
        others: Further outputs, made by the caller, with a row for each outcome, good or bad.
        timings: Asked at the end for what the work cost.

    Raises:
        GraphPipeError: the first row's error, where `errors` is not wanted.
    """
    good = [row for row, outcome in enumerate(outcomes) if not isinstance(outcome, GraphPipeError)]
    failed = {row: outcome for row, outcome in enumerate(outcomes) if isinstance(outcome, GraphPipeError)}
    if failed and ERRORS not in wanted:
        row, error = next(iter(failed.items()))
        if len(outcomes) == 1:
            raise error
        raise RemoteError(f"{what} {row + 1} of {len(outcomes)}: {error.message}", code=error.code) from error
    outputs: dict[str, Tensor] = dict(others or {})
    if ERRORS in wanted:
        rows = [error_of(failed[row]) if row in failed else None for row in range(len(outcomes))]
        outputs[ERRORS] = encode_row_errors(rows)
    if name in wanted:
        values = [outcome for outcome in outcomes if not isinstance(outcome, GraphPipeError)]
        # What a row would have looked like nobody knows where there is none.
        packed = pack(values) if values else StringTensor((), (0,))
        outputs[name] = put_rows(packed, good, len(outcomes))
    return InferResponse(tuple(outputs[output] for output in wanted), (), timings())


def encode_row_errors(errors: Sequence[Error | None]) -> StringTensor:
    """Return errors as a String tensor (N,), "" for None."""
    return strings(["" if error is None else f"{error.code} {error.message}" for error in errors])


def decode_row_errors(tensor: Tensor) -> list[Error | None]:
    """
    Read the output `errors` back.

    Raises:
        BadTensor: not a String tensor of rank 1, or a text without a code.
    """
    if not isinstance(tensor, StringTensor) or len(tensor.shape) != 1:
        raise BadTensor(f'the output "{ERRORS}" must be a String tensor of shape [N], not {list(shape_of(tensor))}')
    return [_decoded(text) for text in tensor.values]


def decode_about(tensor: Tensor) -> list[str]:
    """
    Read the output `about` back: each row's lines, "" for none.

    Raises:
        BadTensor: not a String tensor of rank 1.
    """
    if not isinstance(tensor, StringTensor) or len(tensor.shape) != 1:
        raise BadTensor(f'the output "{ABOUT}" must be a String tensor of shape [N], not {list(shape_of(tensor))}')
    return [text.decode("utf-8", "replace") for text in tensor.values]


def _decoded(text: bytes) -> Error | None:
    if not text:
        return None
    code, _, message = text.decode("utf-8", "replace").partition(" ")
    if not code.isascii() or not code.isdigit():
        raise BadTensor(f'the output "{ERRORS}" holds {text[:40]!r}, which is not "CODE message"')
    return Error(int(code), message)


def error_of(error: GraphPipeError) -> Error:
    """Return an exception as the value that messages carry."""
    return Error(error.code, error.message)


def raised(error: Error) -> GraphPipeError:
    """Return the value as the exception that a caller catches."""
    return RemoteError(error.message, code=error.code)


def row_count(tensors: Sequence[Tensor]) -> int:
    """
    Return N, the first dimension that all tensors share.

    Raises:
        BadTensor: a scalar, or tensors that disagree.
    """
    counts = {shape_of(tensor)[0] if shape_of(tensor) else None for tensor in tensors}
    if len(counts) != 1 or None in counts:
        raise BadTensor("the tensors do not share a first dimension: " + str([list(shape_of(t)) for t in tensors]))
    count = counts.pop()
    assert count is not None  # checked in the line above, for the type checker
    return count


def take_rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the given rows; the tensor itself, uncopied, where these are all of them in order."""
    if len(rows) == shape_of(tensor)[0] and all(row == place for place, row in enumerate(rows)):
        return tensor
    if isinstance(tensor, StringTensor):
        width = len(tensor.values) // tensor.shape[0] if tensor.shape[0] else 0
        values = tuple(v for row in rows for v in tensor.values[row * width : (row + 1) * width])
        return StringTensor(values, (len(rows), *tensor.shape[1:]))
    return tensor[list(rows)]


def slice_rows(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Return the rows from `start` up to `stop`; of numbers a view, not a copy."""
    if isinstance(tensor, StringTensor):
        width = len(tensor.values) // tensor.shape[0] if tensor.shape[0] else 0
        return StringTensor(tensor.values[start * width : stop * width], (stop - start, *tensor.shape[1:]))
    return tensor[start:stop]


def put_rows(tensor: Tensor, rows: Sequence[int], count: int) -> Tensor:
    """
    Spread rows over a taller tensor.

    Args:
        tensor: Row i goes to row `rows[i]`.
        count: Rows of the result; those not named are zeros or empty strings.
    """
    if len(rows) == count:
        return tensor
    if isinstance(tensor, StringTensor):
        width = len(tensor.values) // len(rows) if rows else 1
        values = [b""] * (count * width)
        for place, row in enumerate(rows):
            values[row * width : (row + 1) * width] = tensor.values[place * width : (place + 1) * width]
        return StringTensor(tuple(values), (count, *tensor.shape[1:]))
    import numpy as np

    spread = np.zeros((count, *tensor.shape[1:]), tensor.dtype)
    spread[list(rows)] = tensor
    return spread


def join_rows(tensors: Sequence[Tensor]) -> Tensor:
    """
    Return the rows of all tensors, one after the other; a lone tensor itself, uncopied.

    Raises:
        BadTensor: their rows differ in dtype or shape.
    """
    if len(tensors) == 1:
        return tensors[0]
    if len({shape_of(tensor)[1:] for tensor in tensors}) != 1 or not all(shape_of(tensor) for tensor in tensors):
        raise BadTensor(f"rows of different shapes can't be joined: {[list(shape_of(t)) for t in tensors]}")
    texts = [tensor for tensor in tensors if isinstance(tensor, StringTensor)]
    if texts:
        if len(texts) != len(tensors):
            raise BadTensor("rows of strings and of numbers can't be joined")
        count = sum(text.shape[0] for text in texts)
        return StringTensor(tuple(value for text in texts for value in text.values), (count, *texts[0].shape[1:]))
    import numpy as np

    arrays = [tensor for tensor in tensors if not isinstance(tensor, StringTensor)]
    if len({array.dtype.newbyteorder("=") for array in arrays}) != 1:
        raise BadTensor(f"rows of different dtypes can't be joined: {[str(array.dtype) for array in arrays]}")
    return np.concatenate(arrays)
