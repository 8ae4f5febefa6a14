"""
Cached: a Model that remembers what another one answered, row by row.

It is right for models whose rows are independent: row i of every output follows from row i of the inputs and the
config. It knows no store's inside (stores) and no model's. What is not made of rows goes straight through.

A row's key is the SHA-256 over the model's id, the config, and each input's name, dtype, row shape and bytes;
with an output's name it makes the key under which that output's row is kept. (The original left out the config
and the dtype.) SHA-256, because processors have instructions for it: twice as fast as BLAKE2b where measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from graphpipe_fn.binding import dtype_of
from graphpipe_fn.codec import decode_response, encode_response
from graphpipe_fn.deadline import left_s
from graphpipe_fn.errors import BadTensor, GraphPipeError, TimedOut
from graphpipe_fn.messages import (
    Call,
    Error,
    InferRequest,
    InferResponse,
    Metadata,
    StringTensor,
    Tensor,
    Timing,
    shape_of,
)
from graphpipe_fn.model import Model
from graphpipe_fn.rows import ERRORS, decode_row_errors, encode_row_errors, join_rows, put_rows, row_count, take_rows

UNFIT = 422  # the status of tensors that a model can't take
_DEFAULTS = "\0"  # stands for "the model's default outputs, all of them" where names stand; no name looks like it

_Row: TypeAlias = "tuple[Tensor, ...]"


class Store(Protocol):
    """Keep bytes by key for a while; it may forget any of them at any time, but never returns other bytes."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key, None for nothing."""
        ...

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep values under keys."""
        ...


class Cached:
    """
    Be a model whose answered rows are remembered.

    A row that several requests miss at once is computed once. Errors are never kept: neither a request's, nor
    those of single rows (see rows).

    Args:
        model: Asked for the missing rows only.
        store: Where rows are kept; how much and how long is its own business. Several models may share one.
        model_id: Names the model and its weights: another version needs another id.
    """

    def __init__(self, model: Model, store: Store, *, model_id: str) -> None:
        self._model = model
        self._store = store
        self._model_id = model_id.encode("utf-8", "surrogateescape")
        self._lock = threading.Lock()
        self._flights: dict[bytes, _Flight] = {}

    def metadata(self) -> Metadata:
        """Return the model's metadata."""
        return self._model.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer the rows that are known, and ask the model for the others.

        Raises:
            TimedOut: another request was computing a row, and did not end before this one's deadline.
            GraphPipeError: the model's own.
        """
        try:
            asked = _Asked(request, self._model_id)
        except BadTensor:  # a scalar, or inputs that do not share their rows
            return self._model.infer(request)
        if not asked.keys or not asked.outputs or asked.names.count(ERRORS) > 1:
            return self._model.infer(request)
        outcomes: dict[bytes, _Row | Error] = {}
        timings: list[Timing] = []
        led, followed = self._board(asked.places)
        try:
            outcomes |= self._kept(led, asked)
            unknown = [key for key in led if key not in outcomes]
            if unknown:
                try:
                    response = self._model.infer(asked.only(unknown))
                except GraphPipeError as exc:
                    if exc.status != UNFIT or len(unknown) == len(asked.keys):
                        raise
                    return self._model.infer(request)  # perhaps it takes batches of one size only
                outcomes |= asked.outcomes(response, unknown)
                if len(unknown) == len(asked.keys):  # all rows, in order: the answer is whole already
                    return response
                timings += response.timings
        finally:
            self._land(led, outcomes, asked)
        for flight in followed:
            outcomes |= flight.wait(request.call)
        # What failed for the one that was waited for may still succeed here: its deadline and its rows were others.
        unknown = [key for key in asked.places if key not in outcomes]
        if unknown:
            response = self._model.infer(asked.only(unknown))
            computed = asked.outcomes(response, unknown)
            self._store.put(asked.entries(computed))
            outcomes |= computed
            timings += response.timings
        try:
            return InferResponse(asked.assembled(outcomes), (), tuple(timings))
        except (BadTensor, KeyError):  # rows that do not fit together, or none: this model's are not independent
            return self._model.infer(request)

    def _board(self, missing: Iterable[bytes]) -> tuple[list[bytes], list[_Flight]]:
        """Return the rows that this request answers for, and the flights of others that it waits for."""
        led, followed = [], []
        with self._lock:
            for key in missing:
                flight = self._flights.get(key)
                if flight is None:
                    self._flights[key] = _Flight(key)
                    led.append(key)
                else:
                    followed.append(flight)
        return led, followed

    def _land(self, led: Sequence[bytes], outcomes: Mapping[bytes, _Row | Error], asked: _Asked) -> None:
        """Keep what was computed, then hand it to those who wait; only then may others miss it again."""
        try:
            self._store.put(asked.entries({key: outcomes[key] for key in led if key in outcomes}))
        finally:
            with self._lock:
                flights = [self._flights.pop(key) for key in led]
            for flight in flights:
                flight.land(outcomes.get(flight.key))

    def _kept(self, keys: Sequence[bytes], asked: _Asked) -> dict[bytes, _Row]:
        values = iter(self._store.get([asked.entry_key(key, name) for key in keys for name in asked.outputs]))
        for key in keys:
            parts = [next(values) for _ in asked.outputs]
            with contextlib.suppress(GraphPipeError):  # kept by another version, or larger than is read today
                tensors = [decode_response(part).outputs for part in parts if part is not None]
                if len(tensors) == len(parts):
                    asked.found[key] = tuple(tensor for group in tensors for tensor in group)
        return dict(asked.found)


class _Flight:
    """One row on its way: computed by one request, waited for by others."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._landed = threading.Event()
        self._row: _Row | None = None

    def land(self, outcome: _Row | Error | None) -> None:
        """Hand the row over. Where it failed, nobody but the request that failed is told."""
        self._row = None if isinstance(outcome, Error) else outcome
        self._landed.set()

    def wait(self, call: Call) -> dict[bytes, _Row]:
        """Return the row by its key, or nothing where whoever waited has to compute it."""
        if not self._landed.wait(left_s(call)):
            raise TimedOut("the deadline passed while another request computed the same row")
        return {} if self._row is None else {self.key: self._row}


@dataclass(init=False, slots=True)
class _Asked:
    """
    One request as rows.

    Args:
        names: The output names of the request, or _DEFAULTS.
        outputs: Those of them that are kept; "" with its place, since it means another output at each.
        keys: One per row.
        places: The first row of each key: a row that comes twice is computed once.
        found: Rows from the store, by key.
    """

    request: InferRequest
    names: list[str]
    outputs: list[str]
    keys: list[bytes]
    places: dict[bytes, int]
    found: dict[bytes, _Row]

    def __init__(self, request: InferRequest, model_id: bytes) -> None:
        self.request = request
        self.names = list(request.output_names) or [_DEFAULTS]
        self.outputs = [name or f"\0{place}" for place, name in enumerate(self.names) if name != ERRORS]
        self.found = {}
        if request.input_names and len(request.input_names) != len(request.inputs):
            raise BadTensor("there are not as many input names as inputs")  # which the model says in its own words
        start = hashlib.sha256(_framed(model_id) + _framed(request.config.encode("utf-8", "surrogateescape")))
        hashes = [start.copy() for _ in range(row_count(request.inputs))]
        named = zip(request.input_names or [""] * len(request.inputs), request.inputs, strict=True)
        # Named inputs may come in any order; unnamed ones have only their order.
        ordered = sorted(named, key=lambda pair: pair[0]) if all(request.input_names) else named
        for name, tensor in ordered:
            shape = shape_of(tensor)[1:]
            about = struct.pack(f"<{2 + len(shape)}q", dtype_of(tensor), len(shape), *shape)
            about = _framed(name.encode("utf-8", "surrogateescape")) + about
            for digest, row in zip(hashes, _row_bytes(tensor), strict=True):
                digest.update(about)
                digest.update(row)
        self.keys = [digest.digest() for digest in hashes]
        self.places = {}
        for place, key in enumerate(self.keys):
            self.places.setdefault(key, place)

    def entry_key(self, key: bytes, name: str) -> bytes:
        """Return the key of one output's row."""
        return hashlib.sha256(key + name.encode("utf-8", "surrogateescape")).digest()

    def only(self, keys: Sequence[bytes]) -> InferRequest:
        """Return the request for these rows."""
        rows = [self.places[key] for key in keys]
        return self.request.replace(inputs=tuple(take_rows(tensor, rows) for tensor in self.request.inputs))

    def outcomes(self, response: InferResponse, keys: Sequence[bytes]) -> dict[bytes, _Row | Error]:
        """Return the rows of the model's answer by key; none where it is not made of rows."""
        tensors = list(response.outputs)
        if response.errors or not tensors or (self.names != [_DEFAULTS] and len(tensors) != len(self.names)):
            return {}
        if any(shape_of(tensor)[:1] != (len(keys),) for tensor in tensors):
            return {}
        errors: Sequence[Error | None] = [None] * len(keys)
        if ERRORS in self.names:
            errors = decode_row_errors(tensors.pop(self.names.index(ERRORS)))
        return {
            key: error or tuple(take_rows(tensor, [row]) for tensor in tensors)
            for row, (key, error) in enumerate(zip(keys, errors, strict=True))
        }

    def entries(self, outcomes: Mapping[bytes, _Row | Error]) -> list[tuple[bytes, bytes]]:
        """Return what the store gets: of each new row one entry per named output, or one for all defaults."""
        entries = []
        for key, row in outcomes.items():
            if isinstance(row, Error) or key in self.found:
                continue
            parts = [row] if self.outputs[0] == _DEFAULTS else [(tensor,) for tensor in row]
            for name, part in zip(self.outputs, parts, strict=True):
                entries.append((self.entry_key(key, name), b"".join(encode_response(InferResponse(part)))))
        return entries

    def assembled(self, outcomes: Mapping[bytes, _Row | Error]) -> tuple[Tensor, ...]:
        """Return the outputs, each row in its place."""
        rows = [outcomes[key] for key in self.keys]
        good = {place: row for place, row in enumerate(rows) if not isinstance(row, Error)}
        columns = list(zip(*good.values(), strict=True))
        outputs: list[Tensor] = [put_rows(join_rows(column), list(good), len(rows)) for column in columns]
        if not good:  # what a row would have looked like nobody knows
            outputs = [put_rows(StringTensor((), (0,)), [], len(rows)) for _ in self.outputs]
        if ERRORS in self.names:
            errors = encode_row_errors([row if isinstance(row, Error) else None for row in rows])
            outputs.insert(self.names.index(ERRORS), errors)
        return tuple(outputs)


def _framed(text: bytes) -> bytes:
    return struct.pack("<q", len(text)) + text


def _row_bytes(tensor: Tensor) -> Iterable[bytes | memoryview]:
    """Return each row's bytes; strings with their lengths, so that no two rows read the same."""
    if isinstance(tensor, StringTensor):
        width = len(tensor.values) // tensor.shape[0] if tensor.shape[0] else 0
        starts = range(0, len(tensor.values), width) if width else ()
        texts = (tensor.values[start : start + width] for start in starts)
        return [b"".join(map(_framed, row)) for row in texts] if width else [b""] * tensor.shape[0]
    import numpy as np

    little = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
    if not little.size:
        return [b""] * little.shape[0]
    return [row.data for row in little.reshape(little.shape[0], -1).view(np.uint8)]
