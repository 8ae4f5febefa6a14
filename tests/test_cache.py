"""A model whose rows are remembered: what is asked again, what is not, and where rows are kept."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from toy_models import Texts, refuse

from graphpipe_fn.cache import Cached, Store
from graphpipe_fn.errors import BadConfig, BadTensor, TimedOut
from graphpipe_fn.lmdb_store import LmdbStore
from graphpipe_fn.messages import (
    Call,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
    shape_of,
    strings,
)
from graphpipe_fn.rows import ERRORS, decode_row_errors
from graphpipe_fn.stores import ENTRY_BYTES, MemoryStore

LIMIT = 1 << 20


@dataclass
class Rows:
    """Answer "same", the first input, and "count", each row's size; remember how many rows were asked for."""

    asked: list[int] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def metadata(self) -> Metadata:
        return Metadata("rows", outputs=(IOMetadata("same"), IOMetadata("count")))

    def infer(self, request: InferRequest) -> InferResponse:
        tensor = request.inputs[0]
        self.asked.append(shape_of(tensor)[0] if shape_of(tensor) else -1)
        self.before()
        count = np.full(shape_of(tensor)[:1], int(np.prod(shape_of(tensor)[1:])), "i8")
        outputs: dict[str, Tensor] = {"same": tensor, "count": count, "": tensor}
        return InferResponse(tuple(outputs[name] for name in request.output_names or ("same", "count")))


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(limit_bytes=LIMIT)
    else:
        kept = LmdbStore(tmp_path / "cache", limit_bytes=LIMIT)
        yield kept
        kept.close()


def same(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> bool:
    return len(expected) == len(actual) and all(
        a == b
        if isinstance(a, StringTensor) or isinstance(b, StringTensor)
        else (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(expected, actual, strict=True)
    )


TENSORS: list[tuple[str, Tensor]] = [
    ("float32", np.arange(6, dtype="f4").reshape(2, 3)),
    ("float32, other shape", np.arange(6, dtype="f4").reshape(2, 3, 1)),
    ("float32, one row more", np.arange(9, dtype="f4").reshape(3, 3)),
    ("int32 of the same bytes", np.arange(6, dtype="f4").reshape(2, 3).view("i4")),
    ("float64", np.arange(6, dtype="f8").reshape(2, 3)),
    ("uint8", np.arange(6, dtype="u1").reshape(2, 3)),
    ("rows of scalars", np.arange(6, dtype="f4")),
    ("rows of nothing", np.zeros((2, 0), "f4")),
    ("big-endian", np.arange(6, dtype=">i2").reshape(2, 3)),
    ("not contiguous", np.arange(12, dtype="f4").reshape(2, 6)[:, ::2]),
    ("strings", strings(["a", "bbb", "cc"])),
    ("strings, cut elsewhere", strings(["ab", "bb", "cc"])),
    ("strings with NULs", strings([b"a\0", b"a", b"\xff\0\0"])),
    ("rows of strings", strings(["a", "b", "", "ab"], (2, 2))),
    ("rows of strings, cut elsewhere", strings(["", "ab", "a", "b"], (2, 2))),
]


def test_every_kind_of_tensor_comes_back_as_it_was(store: Store) -> None:
    """Tensors of all kinds in one cache never answer for each other, the first time or later."""
    model = Rows()
    cached = Cached(model, store, model_id="m")
    for _ in range(2):
        for name, tensor in TENSORS:
            outputs = cached.infer(InferRequest((tensor,), (), ("same",))).outputs
            native = tensor if isinstance(tensor, StringTensor) else tensor.astype(tensor.dtype.newbyteorder("="))
            assert same((native,), [_native(output) for output in outputs]), name
    first = sum(model.asked)
    assert cached.infer(InferRequest((TENSORS[0][1],), (), ("same",))).outputs
    assert first == sum(model.asked)


def _native(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, StringTensor) else tensor.astype(tensor.dtype.newbyteorder("="))


ROW = np.arange(3, dtype="f4").reshape(1, 3)
ASKED = InferRequest((ROW,), (), ("same",), "config")
OTHERS: list[tuple[str, str, InferRequest]] = [
    ("model", "other", ASKED),
    ("config", "m", ASKED.replace(config="confi")),
    ("no config", "m", ASKED.replace(config="")),
    ("config that looks like the model's id", "mc", ASKED.replace(config="onfig")),
    ("input name", "m", ASKED.replace(input_names=("x",))),
    ("second input", "m", ASKED.replace(inputs=(ROW, ROW))),
    ("output", "m", ASKED.replace(output_names=("count",))),
    ("default outputs", "m", ASKED.replace(output_names=())),
    ("output by place", "m", ASKED.replace(output_names=("",))),
    ("dtype", "m", ASKED.replace(inputs=(ROW.view("i4"),))),
    ("shape", "m", ASKED.replace(inputs=(ROW.reshape(1, 3, 1),))),
    ("one bit", "m", ASKED.replace(inputs=(np.nextafter(ROW, 9, dtype="f4"),))),
]


@pytest.mark.parametrize(("model_id", "other"), [case[1:] for case in OTHERS], ids=[case[0] for case in OTHERS])
def test_what_makes_another_row(model_id: str, other: InferRequest) -> None:
    """A request that differs in any of these is not answered with what is known."""
    model, store = Rows(), MemoryStore(limit_bytes=LIMIT)
    Cached(model, store, model_id="m").infer(ASKED)
    Cached(model, store, model_id=model_id).infer(other)
    assert model.asked == [1, 1]
    Cached(model, store, model_id=model_id).infer(other)
    assert model.asked == [1, 1]


def test_the_order_of_named_inputs_makes_no_other_row() -> None:
    """Named inputs in another order are the same request."""
    model = Rows()
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    cached.infer(InferRequest((ROW, -ROW), ("a", "b")))
    cached.infer(InferRequest((-ROW, ROW), ("b", "a")))
    assert model.asked == [1]


def test_only_missing_rows_are_asked_for_and_each_once(store: Store) -> None:
    """Of a batch the known rows are left out, a row that comes twice is asked for once, the order is kept."""
    model = Rows()
    cached = Cached(model, store, model_id="m")
    batch = np.arange(15, dtype="f4").reshape(5, 3)
    cached.infer(InferRequest((batch[[1, 3]],)))
    mixed = batch[[0, 1, 2, 0, 3, 4, 2]]
    assert same((mixed, np.full(7, 3)), cached.infer(InferRequest((mixed,))).outputs)
    assert model.asked == [2, 3]
    assert same((mixed[::-1], np.full(7, 3)), cached.infer(InferRequest((mixed[::-1],))).outputs)
    assert model.asked == [2, 3]


def test_outputs_are_kept_one_by_one(store: Store) -> None:
    """An output that was answered beside another one is known by itself."""
    model = Rows()
    cached = Cached(model, store, model_id="m")
    cached.infer(InferRequest((ROW,), (), ("same", "count")))
    assert same((np.array([3]),), cached.infer(InferRequest((ROW,), (), ("count",))).outputs)
    assert model.asked == [1]


def test_a_row_missed_by_many_is_computed_once() -> None:
    """32 requests side by side for the same 4 rows ask the model for each row once."""
    model = Rows(before=partial(time.sleep, 0.05))
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    batch = np.arange(12, dtype="f4").reshape(4, 3)
    begin = threading.Barrier(32)

    def ask(place: int) -> bool:
        rows = np.roll(batch, place, axis=0)[: 1 + place % 4]
        begin.wait()
        return same((rows, np.full(len(rows), 3)), cached.infer(InferRequest((rows,))).outputs)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(32)))
    assert sum(model.asked) == 4


def test_an_error_is_nobody_elses() -> None:
    """When the request that computes a row fails, those who waited for it compute it themselves."""
    arrived = threading.Semaphore(0)
    failing = threading.Event()

    def fail_first() -> None:
        if len(model.asked) == 1:
            arrived.release()
            assert failing.wait(10)
            raise BadTensor("the first request fails")

    model = Rows(before=fail_first)
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached.infer, ASKED)
        assert arrived.acquire(timeout=10)
        second = pool.submit(cached.infer, ASKED)
        (flight,) = cached._flights.values()
        deadline = time.monotonic() + 10
        while not flight._landed._cond._waiters and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.001)
        failing.set()
        with pytest.raises(BadTensor):
            first.result(10)
        assert same((ROW,), second.result(10).outputs)
    assert model.asked == [1, 1]
    cached.infer(ASKED)
    assert model.asked == [1, 1]


def test_waiting_for_another_request_ends_at_the_deadline() -> None:
    """Who waits for a row that another request computes is told when the own deadline passes."""
    go_on = threading.Event()
    model = Rows(before=partial(_wait, go_on))
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cached.infer, ASKED)
        deadline = time.monotonic() + 10
        while not model.asked and time.monotonic() < deadline:
            time.sleep(0.001)
        began = time.monotonic()
        with pytest.raises(TimedOut):
            cached.infer(ASKED.replace(call=Call(deadline_s=began + 0.1)))
        assert 0.1 <= time.monotonic() - began < 1
        go_on.set()
        assert same((ROW,), first.result(10).outputs)


def _wait(event: threading.Event) -> None:
    assert event.wait(10)


def test_row_errors_pass_through_and_are_not_kept() -> None:
    """Good rows of a batch are remembered, the bad row is asked for again each time, all in their places."""
    texts = Texts(partial(_upper, when="bad"))
    cached = Cached(texts, MemoryStore(limit_bytes=LIMIT), model_id="t")
    request = InferRequest((strings(["a", "bad", "b"]),), (), ("text", ERRORS))
    for _ in range(2):
        changed, errors = cached.infer(request).outputs
        assert changed == strings(["A", "", "B"])
        assert [error and error.message for error in decode_row_errors(errors)] == [None, "bad is refused", None]
    assert [len(seen.inputs[0]) for seen in texts.seen] == [3, 1]
    with pytest.raises(BadTensor, match="bad is refused"):
        cached.infer(request.replace(output_names=("text",)))
    only_bad = request.replace(inputs=(strings(["bad", "bad"]),))
    assert [bool(error) for error in decode_row_errors(cached.infer(only_bad).outputs[1])] == [True, True]


def _upper(text: str, *, when: str) -> str:
    return refuse(text, when=when).upper()


class Sum:
    """Add all rows up: an answer that has no rows."""

    def metadata(self) -> Metadata:
        return Metadata("sum")

    def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse((np.array(np.asarray(request.inputs[0]).sum()),))


class Padded:
    """Answer each row with as many zeros as the batch has rows: rows that depend on their batch."""

    def metadata(self) -> Metadata:
        return Metadata("padded")

    def infer(self, request: InferRequest) -> InferResponse:
        count = shape_of(request.inputs[0])[0]
        return InferResponse((np.zeros((count, count), "f4"),))


def test_models_without_independent_rows_are_asked_whole() -> None:
    """An answer that is not made of rows is the model's own, however much is known."""
    batch = np.arange(12, dtype="f4").reshape(4, 3)
    summed = Cached(Sum(), MemoryStore(limit_bytes=LIMIT), model_id="s")
    padded = Cached(Padded(), MemoryStore(limit_bytes=LIMIT), model_id="p")
    for count in (1, 4, 2, 4, 1):
        assert summed.infer(InferRequest((batch[:count],))).outputs[0] == batch[:count].sum()
        assert shape_of(padded.infer(InferRequest((batch[:count],))).outputs[0]) == (count, count)


class FourRows(Rows):
    """Take batches of four rows only, as graphs with a fixed batch do."""

    def infer(self, request: InferRequest) -> InferResponse:
        if shape_of(request.inputs[0])[0] != 4:
            raise BadTensor("four rows, please")
        return super().infer(request)


def test_models_of_one_batch_size_are_asked_whole() -> None:
    """A batch of which some rows are known is asked for as it is where the model takes no smaller one."""
    model = FourRows()
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    batch = np.arange(21, dtype="f4").reshape(7, 3)
    for start in (0, 3, 3, 0):
        rows = batch[start : start + 4]
        assert same((rows, np.full(4, 3)), cached.infer(InferRequest((rows,))).outputs)
    assert model.asked == [4, 4, 4]
    with pytest.raises(BadTensor):
        cached.infer(InferRequest((batch[:5],)))


@pytest.mark.parametrize(
    "inputs",
    [(np.array(1.0),), (np.ones((2, 2)), np.ones((3, 2))), (np.ones((0, 2)),), ()],
    ids=["scalar", "rows disagree", "no rows", "no inputs"],
)
def test_requests_without_rows_go_straight_through(inputs: tuple[np.ndarray, ...]) -> None:
    """What has no rows reaches the model each time."""

    class Counting(Rows):
        def infer(self, request: InferRequest) -> InferResponse:
            self.asked.append(0)
            return InferResponse((np.ones(1),))

    model = Counting()
    cached = Cached(model, MemoryStore(limit_bytes=LIMIT), model_id="m")
    for _ in range(2):
        cached.infer(InferRequest(inputs))
    assert model.asked == [0, 0]


class Clock:
    """Tell the time that the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


StoreMaker = Callable[..., MemoryStore | LmdbStore]


@pytest.fixture(params=["memory", "lmdb"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    return MemoryStore if request.param == "memory" else partial(LmdbStore, tmp_path / "cache")


def key_of(number: int) -> bytes:
    return b"%032d" % number


def test_a_store_keeps_what_was_used_last(make_store: StoreMaker) -> None:
    """Ten times what fits goes in; the limit holds, and what is asked for again and again stays."""
    clock = Clock()
    store = make_store(limit_bytes=LIMIT, clock=clock)
    value = os.urandom(10_000)
    store.put([(key_of(0), value)])
    for number in range(1, 10 * LIMIT // len(value)):
        clock.now += 1
        store.put([(key_of(number), value)])
        assert store.get([key_of(0), key_of(number)]) == [value, value]
        assert store.used_bytes <= LIMIT
    assert store.get([key_of(1)]) == [None]
    if isinstance(store, LmdbStore):
        assert os.path.getsize(store._folder / "data.mdb") <= LIMIT
        store.close()


def test_a_store_forgets_what_is_too_old(make_store: StoreMaker) -> None:
    """An entry is returned up to its age and never after, however often it is used; then its room is free."""
    clock = Clock()
    store = make_store(limit_bytes=LIMIT, max_age_s=60, clock=clock)
    store.put([(key_of(1), b"one")])
    for _ in range(4):
        clock.now += 15
        assert store.get([key_of(1)]) == [b"one"]
    clock.now += 0.01
    assert store.get([key_of(1)]) == [None]
    store.put([(key_of(1), b"one again")])
    assert store.get([key_of(1)]) == [b"one again"]
    clock.now += 1000
    if isinstance(store, LmdbStore):
        store.put([])
        assert store.used_bytes == 0
        store.close()


def test_a_store_does_not_keep_what_is_larger_than_itself(make_store: StoreMaker) -> None:
    """A value over the limit is not kept, and drives nothing else out."""
    store = make_store(limit_bytes=LIMIT)
    store.put([(key_of(1), b"small"), (key_of(2), bytes(LIMIT))])
    assert store.get([key_of(1), key_of(2)]) == [b"small", None]
    if isinstance(store, LmdbStore):
        store.close()


def test_memory_accounts_for_replaced_entries() -> None:
    """A key that is put again is counted once."""
    store = MemoryStore(limit_bytes=LIMIT)
    for _ in range(3):
        store.put([(key_of(1), b"12345")])
    assert store.used_bytes == 5 + ENTRY_BYTES


def test_a_spoilt_entry_is_not_returned(tmp_path: Path) -> None:
    """A value whose bytes changed on disk, or that lies under another key, counts as unknown."""
    store = LmdbStore(tmp_path, limit_bytes=LIMIT)
    store.put([(key_of(number), b"value %d" % number) for number in range(3)])
    env, entries = store._env.env, store._env.dbs["entries"]
    with env.begin(write=True) as txn:
        kept = bytearray(txn.get(key_of(0), db=entries))
        kept[-1] ^= 1
        txn.put(key_of(0), bytes(kept), db=entries)
        txn.put(key_of(1), txn.get(key_of(2), db=entries), db=entries)
        txn.put(key_of(3), b"short", db=entries)
    assert store.get([key_of(number) for number in range(4)]) == [None, None, b"value 2", None]
    store.close()


@pytest.mark.parametrize("cut", ["garbage", "half", "empty"])
def test_a_spoilt_file_begins_anew(tmp_path: Path, cut: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no LMDB file, or was cut short, is thrown away with a word in the log."""
    store = LmdbStore(tmp_path, limit_bytes=LIMIT)
    store.put([(key_of(number), os.urandom(5000)) for number in range(100)])
    store.close()
    data = (tmp_path / "data.mdb").read_bytes()
    (tmp_path / "data.mdb").write_bytes({"garbage": b"x" * 9999, "half": data[: len(data) // 2], "empty": b""}[cut])
    store = LmdbStore(tmp_path, limit_bytes=LIMIT)
    assert store.get([key_of(number) for number in range(100)]) == [None] * 100
    store.put([(key_of(1), b"new")])
    assert store.get([key_of(1)]) == [b"new"]
    assert ("it begins anew" in caplog.text) == (cut != "empty")
    store.close()


def _fill(folder: Path, worker: int) -> int:
    store = LmdbStore(folder, limit_bytes=4 * LIMIT)
    wrong = 0
    for number in range(150):
        store.put([(key_of(1000 * worker + number), b"%d" % number * 500)])
        for other in range(4):
            kept = store.get([key_of(1000 * other + number)])[0]
            wrong += kept is not None and kept != b"%d" % number * 500
    wrong += store.get([key_of(1000 * worker + 149)]) == [None]
    store.close()
    return wrong


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Four processes that write and read one file at once see whole values only."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.starmap(_fill, [(tmp_path, worker) for worker in range(4)]) == [0, 0, 0, 0]


def test_a_forked_child_has_the_file_too(tmp_path: Path) -> None:
    """A worker that was forked off a process with an open store reads and writes the same file."""
    store = LmdbStore(tmp_path, limit_bytes=LIMIT)
    store.put([(key_of(1), b"parent")])
    child = os.fork()
    if child == 0:
        store.put([(key_of(2), b"child")])
        os._exit(0 if store.get([key_of(1), key_of(2)]) == [b"parent", b"child"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get([key_of(1), key_of(2)]) == [b"parent", b"child"]
    store.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Settings that can't work are refused at once."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="file"):
        LmdbStore(tmp_path / "file", limit_bytes=LIMIT)
    with pytest.raises(BadConfig, match="too small"):
        LmdbStore(tmp_path / "new", limit_bytes=4096)
