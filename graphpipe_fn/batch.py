"""
Batched: a Model that asks another one for several requests' rows at once.

Requests are put together when they have the same config, names, dtypes and row shapes. The wait is counted from
the first one's arrival (the original's idle timer began anew with each), never past anybody's deadline. What goes
wrong for one request is told to nobody else. It is right for models whose rows are independent.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import accumulate
from types import TracebackType
from typing import Self

from graphpipe_fn.binding import dtype_of
from graphpipe_fn.deadline import left_s
from graphpipe_fn.errors import BadTensor, Busy, RemoteError, TimedOut, TransportFailed, Unavailable
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata, Timing, shape_of
from graphpipe_fn.model import Model
from graphpipe_fn.rows import join_rows, row_count, slice_rows

WAIT = "batch-wait"  # the Timing of the time in the queue
SHARE = 0.2  # of a new run's time in the running mean by which deadlines are met


class Batched:
    """
    Be a model that is asked in batches.

    Args:
        model: Asked from `workers` threads.
        max_rows: Rows of one batch. A request of more is split.
        max_wait_s: How long the first request of a batch waits for others.
        workers: Batches at the same time.
        queue_rows: Rows that may wait; a request that finds more is refused.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_rows: int = 16,
        max_wait_s: float = 0.005,
        workers: int = 1,
        queue_rows: int = 1024,
    ) -> None:
        if min(max_rows, workers, queue_rows) < 1 or max_wait_s < 0:
            raise ValueError("max_rows, workers and queue_rows must be at least 1, max_wait_s at least 0")
        self._model = model
        self._max_rows = max_rows
        self._max_wait_s = max_wait_s
        self._workers = workers
        self._queue_rows = queue_rows
        self._changed = threading.Condition()
        self._groups: dict[Hashable, _Group] = {}
        self._waiting_rows = 0
        self._run_s = 0.0
        self._threads: list[threading.Thread] = []
        self._open = True

    def metadata(self) -> Metadata:
        """Return the model's metadata."""
        return self._model.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer with this request's rows of a batch.

        Raises:
            Busy: too many rows wait already.
            Unavailable: the batcher was closed.
            TimedOut: the request's deadline passed first.
            GraphPipeError: the model's own, for these rows.
        """
        left_s(request.call)
        try:
            rows, key = row_count(request.inputs), _group_key(request)
        except BadTensor:  # a scalar, or inputs that do not share their rows
            rows = 0
        if not rows:
            return self._model.infer(request)
        entries = [
            _Entry(_part(request, start, min(start + self._max_rows, rows)), self._max_wait_s, self._run_s)
            for start in range(0, rows, self._max_rows)
        ]
        self._queue(key, entries, rows)
        try:
            answers = [self._answer(entry) for entry in entries]
        except BaseException:
            self._withdraw(key, entries)
            raise
        if len(answers) == 1:
            return answers[0]
        columns = list(zip(*(answer.outputs for answer in answers), strict=False))
        try:
            return InferResponse(tuple(join_rows(column) for column in columns), (), answers[0].timings)
        except BadTensor:  # parts that do not fit together: this model's rows depend on their batch after all
            return self._model.infer(request)

    def close(self) -> None:
        """Refuse new requests, answer those that wait, then end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _queue(self, key: Hashable, entries: Sequence[_Entry], rows: int) -> None:
        with self._changed:
            if not self._open:
                raise Unavailable("this server is shutting down; ask again, another one may answer")
            if self._waiting_rows and self._waiting_rows + rows > self._queue_rows:
                batches = self._waiting_rows / self._max_rows / self._workers
                raise Busy(
                    f"{self._waiting_rows} rows wait already; the limit is {self._queue_rows}",
                    retry_after_s=max(0.1, batches * self._run_s),
                )
            self._waiting_rows += rows
            group = self._groups.setdefault(key, _Group(self._max_rows))
            for entry in entries:
                group.add(entry)
            if not self._threads:  # not before the first request: threads do not outlive a fork
                self._threads = [
                    threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
                    for number in range(self._workers)
                ]
                for thread in self._threads:
                    thread.start()
            self._changed.notify()

    def _answer(self, entry: _Entry) -> InferResponse:
        if not entry.done.wait(left_s(entry.request.call)):
            raise TimedOut("the deadline passed before this request's batch was answered; allow more time")
        if entry.error is not None:
            raise entry.error.with_traceback(None)  # of a batch the same one is raised in several threads
        assert entry.response is not None  # done with an answer or with an error
        return entry.response

    def _withdraw(self, key: Hashable, entries: Sequence[_Entry]) -> None:
        with self._changed:
            group = self._groups.get(key)
            for entry in entries:
                if group is not None and group.drop(entry):
                    self._waiting_rows -= entry.rows
            if group is not None and not group.entries:
                del self._groups[key]

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            started = time.monotonic()
            for entry in batch:
                entry.waited_s = started - entry.arrived_s
            self._run(batch)
            took = time.monotonic() - started
            self._run_s += SHARE * (took - self._run_s)
            del batch  # or the last one's tensors would stay until the next

    def _next(self) -> list[_Entry] | None:
        """Return the batch whose time has come, waiting for one; None at the end."""
        with self._changed:
            while True:
                due = min(self._groups.items(), key=lambda item: item[1].due_s, default=None)
                if due is None:
                    if not self._open:
                        return None
                    self._changed.wait()
                    continue
                key, group = due
                wait_s = group.due_s - time.monotonic()
                if wait_s > 0 and self._open:
                    self._changed.wait(wait_s)
                    continue
                batch = group.take()
                if not group.entries:
                    del self._groups[key]
                self._waiting_rows -= sum(entry.rows for entry in batch)
                self._changed.notify()  # what is left may be another worker's
                return batch

    def _run(self, batch: Sequence[_Entry]) -> None:
        """Answer every entry, together if that can be done."""
        if len(batch) > 1:
            try:
                self._run_together(batch)
            except Exception as exc:  # noqa: BLE001 - handed to the callers that wait, here or below
                if _is_nobodys(exc):
                    for entry in batch:
                        entry.fail(exc)
                # Else somebody's rows were bad: each request is now asked by itself.
        for entry in batch:
            if not entry.done.is_set():
                self._run_alone(entry)

    def _run_together(self, batch: Sequence[_Entry]) -> None:
        columns = zip(*(entry.request.inputs for entry in batch), strict=True)
        inputs = tuple(join_rows(column) for column in columns)
        calls = [entry.request.call for entry in batch]
        response = self._model.infer(batch[0].request.replace(inputs=inputs, call=_joined_call(calls)))
        rows = sum(entry.rows for entry in batch)
        if response.errors or any(shape_of(output)[:1] != (rows,) for output in response.outputs):
            return
        start = 0
        for entry in batch:
            stop = start + entry.rows
            outputs = tuple(slice_rows(output, start, stop) for output in response.outputs)
            entry.answer(InferResponse(outputs, (), response.timings))
            start = stop

    def _run_alone(self, entry: _Entry) -> None:
        try:
            left_s(entry.request.call)
            entry.answer(self._model.infer(entry.request))
        except Exception as exc:  # noqa: BLE001 - handed to the caller that waits
            entry.fail(exc)


def _is_nobodys(error: Exception) -> bool:
    """Return whether an error says nothing about the rows: asking one by one would only multiply the load."""
    kinds = (Busy, Unavailable, TransportFailed, TimedOut)
    return isinstance(error, kinds) or (isinstance(error, RemoteError) and error.status in (429, 502, 503, 504))


class _Entry:
    """
    One request, or a part of one, in the queue.

    Args:
        wait_s: How long it may wait for others.
        run_s: What a batch takes, and so what is kept of a deadline.
    """

    def __init__(self, request: InferRequest, wait_s: float, run_s: float) -> None:
        self.request = request
        self.rows = shape_of(request.inputs[0])[0]
        self.arrived_s = time.monotonic()
        self.due_s = self.arrived_s + wait_s
        deadline_s = request.call.deadline_s
        if deadline_s is not None:  # half of the time left is for the run, whose cost may not be known yet
            self.due_s = min(self.due_s, deadline_s - 2 * run_s, (self.arrived_s + deadline_s) / 2)
        self.waited_s = 0.0
        self.done = threading.Event()
        self.response: InferResponse | None = None
        self.error: Exception | None = None

    def answer(self, response: InferResponse) -> None:
        """Hand the answer to whoever waits for it."""
        self.response = replace(response, timings=(Timing(WAIT, self.waited_s), *response.timings))
        self.done.set()

    def fail(self, error: Exception) -> None:
        """Hand the error to whoever waits for an answer."""
        self.error = error
        self.done.set()


class _Group:
    """
    Entries that can share a batch, in the order of their arrival.

    Args:
        full_rows: So many rows are a batch that waits for nothing.
    """

    def __init__(self, full_rows: int) -> None:
        self.entries: list[_Entry] = []
        self.due_s = math.inf
        self._full_rows = full_rows
        self._rows = 0

    def add(self, entry: _Entry) -> None:
        """Queue an entry."""
        self.entries.append(entry)
        self._rows += entry.rows
        self.due_s = -math.inf if self._rows >= self._full_rows else min(self.due_s, entry.due_s)

    def drop(self, entry: _Entry) -> bool:
        """Return whether the entry was still waiting; now it is not."""
        if entry not in self.entries:
            return False
        self.entries.remove(entry)
        self._count()
        return True

    def take(self) -> list[_Entry]:
        """Return the next batch: the first entry, and those behind it as far as they fit."""
        sums = list(accumulate(entry.rows for entry in self.entries))
        place = max(1, bisect_right(sums, self._full_rows))
        batch, self.entries = self.entries[:place], self.entries[place:]
        self._count()
        return batch

    def _count(self) -> None:
        self._rows = sum(entry.rows for entry in self.entries)
        full = self._rows >= self._full_rows
        self.due_s = -math.inf if full else min((entry.due_s for entry in self.entries), default=math.inf)


def _group_key(request: InferRequest) -> Hashable:
    """Return what requests must share to be asked together."""
    rows = tuple((dtype_of(tensor), shape_of(tensor)[1:]) for tensor in request.inputs)
    return request.config, request.input_names, request.output_names, rows


def _part(request: InferRequest, start: int, stop: int) -> InferRequest:
    if start == 0 and stop == shape_of(request.inputs[0])[0]:
        return request
    return request.replace(inputs=tuple(slice_rows(tensor, start, stop) for tensor in request.inputs))


def _joined_call(calls: Sequence[Call]) -> Call:
    """Return the call of a batch: the latest deadline, since the others end by themselves, and the first one's id."""
    deadlines = [call.deadline_s for call in calls]
    latest = None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
    return replace(calls[0], id=f"{calls[0].id}+{len(calls) - 1}" if calls[0].id else "", deadline_s=latest)
