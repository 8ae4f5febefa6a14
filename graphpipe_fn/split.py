"""
Split: a Model whose requests are cut into parts where the road or the answer's way back has a limit.

AWS Lambda takes 6 MB at once, in base64 and with its envelope: seven pictures of 224 × 224 as float32. What does not
fit is asked in parts, some of them at the same time; the caller gets one answer. It is right for models whose rows
are independent.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from graphpipe_fn.errors import BadTensor, GraphPipeError, TooLarge, status_of
from graphpipe_fn.messages import Error, InferRequest, InferResponse, Metadata, StringTensor, Tensor
from graphpipe_fn.model import Model
from graphpipe_fn.rows import (
    ABOUT,
    ERRORS,
    decode_row_errors,
    encode_row_errors,
    error_of,
    join_rows,
    put_rows,
    row_count,
    slice_rows,
    take_rows,
)
from graphpipe_fn.values import dataclass

STRING_BYTES = 16  # of a message beside each string's own: its offset, its length, its end
MESSAGE_BYTES = 2_000  # beside the tensors: tables, names, shapes; the config is counted by itself


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of a request's rows, and what became of them."""

    start: int
    stop: int
    outcome: InferResponse | GraphPipeError


class Split:
    """
    Be a model that is asked in parts that fit.

    An answer that was too large says so only after the work is done, so the number of rows that did fit is kept for
    the next requests, and doubles with each one that fits.

    Args:
        model: Whose road has the limit.
        limit_bytes: Of one request's message.
        parallel: Parts that are asked for at the same time.
    """

    def __init__(self, model: Model, *, limit_bytes: int, parallel: int = 4) -> None:
        self._model = model
        self._limit_bytes = limit_bytes
        self._parallel = parallel
        self._lock = threading.Lock()
        self._rows_max = 1 << 20

    def metadata(self) -> Metadata:
        """Return the model's metadata."""
        return self._model.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Ask for all rows, in as many parts as it takes.

        Raises:
            TooLarge: a single row does not fit; where the output `errors` is asked for, only that row fails.
            GraphPipeError: the model's own, for any part.
        """
        try:
            rows = row_count(request.inputs)
        except BadTensor:  # a scalar, or inputs that do not share their rows
            return self._model.infer(request)
        ranges = self._ranges(request, rows)
        if len(ranges) <= 1:
            parts = self._asked(request, 0, rows)
        else:
            with ThreadPoolExecutor(min(self._parallel, len(ranges)), "split") as pool:
                found = pool.map(lambda part: self._asked(request, *part), ranges)
                parts = [part for parts in found for part in parts]
        return _joined(parts, rows, request.output_names)

    def close(self) -> None:
        """Close the model's connections, if it keeps any."""
        close = getattr(self._model, "close", None)
        if close is not None:
            close()

    def _ranges(self, request: InferRequest, rows: int) -> list[tuple[int, int]]:
        """Return the first and the last row + 1 of each part: as many rows as fit, one at least."""
        room = self._limit_bytes - MESSAGE_BYTES - len(request.config.encode())
        ranges: list[tuple[int, int]] = []
        start, used = 0, 0
        for row in range(rows):
            size = sum(_row_bytes(tensor, row, rows) for tensor in request.inputs)
            if row > start and (used + size > room or row - start >= self._rows_max):
                ranges.append((start, row))
                start, used = row, 0
            used += size
        return [*ranges, (start, rows)]

    def _asked(self, request: InferRequest, start: int, stop: int) -> list[_Part]:
        """Ask for some rows; where the answer says that they were too many, for each half of them."""
        inputs = tuple(slice_rows(tensor, start, stop) for tensor in request.inputs)
        try:
            response = self._model.infer(request.replace(inputs=inputs))
        except GraphPipeError as exc:
            if exc.status != status_of(TooLarge.code):
                raise
            if stop - start <= 1:
                if ERRORS not in request.output_names:
                    raise
                return [_Part(start, stop, exc)]
            middle = (start + stop) // 2
            with self._lock:
                self._rows_max = min(self._rows_max, middle - start)
            return [*self._asked(request, start, middle), *self._asked(request, middle, stop)]
        with self._lock:
            if stop - start >= self._rows_max:
                self._rows_max *= 2
        return [_Part(start, stop, response)]


def _row_bytes(tensor: Tensor, row: int, rows: int) -> int:
    if not isinstance(tensor, StringTensor):
        return tensor.nbytes // rows
    width = len(tensor.values) // rows
    return sum(len(value) + STRING_BYTES for value in tensor.values[row * width : (row + 1) * width])


def _joined(parts: Sequence[_Part], rows: int, names: Sequence[str]) -> InferResponse:
    answered = [(part, part.outcome) for part in parts if isinstance(part.outcome, InferResponse)]
    if len(answered) == len(parts) == 1:
        return answered[0][1]
    timings = tuple(timing for _, response in answered for timing in response.timings)
    errors: list[Error | None] = [None] * rows
    for part in parts:
        if isinstance(part.outcome, GraphPipeError):
            errors[part.start] = error_of(part.outcome)  # such a part is one row
        elif ERRORS in names:
            errors[part.start : part.stop] = decode_row_errors(part.outcome.outputs[names.index(ERRORS)])
    outputs: list[Tensor] = []
    for place in range(max([len(response.outputs) for _, response in answered], default=len(names))):
        name = names[place] if place < len(names) else ""
        if name == ERRORS:
            outputs.append(encode_row_errors(errors))
            continue
        # What a row that failed would have looked like nobody knows; its part may hold anything there. What is said
        # about a row is said of one that failed too.
        column = []
        for part, response in answered:
            good = [row for row in range(part.start, part.stop) if errors[row] is None or name == ABOUT]
            column.append((response.outputs[place], part.start, good))
        outputs.append(_column(column, rows))
    return InferResponse(tuple(outputs), (), timings)


def _column(parts: Sequence[tuple[Tensor, int, Sequence[int]]], rows: int) -> Tensor:
    """Return one output of all parts: of each its tensor, its first row's number, and the rows that count."""
    counted = [(tensor, start, good) for tensor, start, good in parts if good]
    if not counted:
        return put_rows(StringTensor((), (0,)), [], rows)
    taken = [take_rows(tensor, [row - start for row in good]) for tensor, start, good in counted]
    return put_rows(join_rows(taken), [row for _, _, good in counted for row in good], rows)
