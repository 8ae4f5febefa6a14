"""The reader of legacy PyTorch files: whole ones are read without a copy, every other one is refused."""

from __future__ import annotations

import pickle
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from torch_files import COUNTS, HELD, HOSTILE, VALUES, state, tensor, torch_file, whole

from classy.errors import ModelSpoilt
from classy.models.torch_file import read_torch_file


def test_tensors_are_read_as_they_were_written() -> None:
    """Shared storages, offsets, transposed axes and scalars come out as PyTorch would show them."""
    arrays = read_torch_file(whole(), where="w.pth")
    assert {name: (array.dtype.str, array.tolist()) for name, array in arrays.items()} == {
        "a": ("<f4", [[0, 1, 2], [3, 4, 5]]),
        "b": ("<f4", [[2, 5], [3, 6], [4, 7]]),
        "n": ("<i8", 1),
    }


def test_no_element_is_copied() -> None:
    """The arrays are views into the file's bytes, so a file can't ask for more memory than it has."""
    data = whole()
    arrays = read_torch_file(data, where="w.pth")
    view = np.frombuffer(data, np.uint8)
    assert [np.shares_memory(array, view) for array in arrays.values()] == [True, True, True]
    assert not any(array.flags.writeable for array in arrays.values())


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((2, 1, 3), (3, 7, 1)), ((1, 1, 1, 1), (9, 8, 0, 5)), ((2, 2, 2), (1, 2, 4)), ((8,), (1,)), ((1, 8), (0, 1))],
    ids=str,
)
def test_any_dense_order_of_the_axes_is_read(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """A tensor whose elements each occur once is read, whatever the stride of an axis of length 1."""
    data = torch_file(state(a=tensor(HELD, shape=shape, strides=strides)), {"0": VALUES})
    want = np.lib.stride_tricks.as_strided(VALUES, shape, [4 * step for step in strides])
    assert read_torch_file(data, where="w.pth")["a"].tolist() == want.tolist()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_does_nothing(name: str, tmp_path: Path) -> None:
    """What is no dictionary of dense tensors is refused by our own error, quickly, and nothing that it names runs."""
    mark = tmp_path / "mark"
    data = HOSTILE[name](str(mark))
    started_s = time.process_time()
    with pytest.raises(ModelSpoilt) as refused:
        read_torch_file(data, where="w.pth")
    assert refused.value.message.startswith("w.pth is not a PyTorch weight file")
    assert len(refused.value.message) < 400
    assert time.process_time() - started_s < 2
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "stack global"])
def test_pythons_own_reader_would_run_what_a_hostile_file_names(name: str, tmp_path: Path) -> None:
    """The attacks are real: pickle.loads() runs them."""
    mark = tmp_path / "mark"
    data = HOSTILE[name](str(mark))
    call = re.search(rb"(cos\nsystem\n|cbuiltins\neval\n|X\x02\0\0\0os).*?R", data, re.DOTALL)
    assert call is not None
    pickle.loads(b"\x80\x04" + call[0] + b".")
    assert mark.exists()


def test_a_file_cut_at_any_byte_is_refused() -> None:
    """No prefix of a file is a file."""
    data = whole()
    for end in range(len(data)):
        with pytest.raises(ModelSpoilt):
            read_torch_file(data[:end], where="w.pth")


def test_a_flipped_bit_never_raises_another_error() -> None:
    """Every flipped bit is refused by our own error, or changes no more than values and names."""
    data = bytearray(whole())
    outcomes = {"read": 0, "refused": 0}
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        try:
            arrays = read_torch_file(bytes(data), where="w.pth")
        except ModelSpoilt:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert sum(array.nbytes for array in arrays.values()) <= 2 * VALUES.nbytes + COUNTS.nbytes
        data[place // 8] ^= 1 << place % 8
    assert outcomes["refused"] > 1500
    assert outcomes["read"] > 500


def test_spliced_files_never_raise_another_error() -> None:
    """Pieces of files put together at random (seed 7) are refused by our own error or read."""
    chance = random.Random(7)
    files = [whole(), torch_file(state(a=tensor(HELD)), {"0": VALUES}), *(make("m") for make in HOSTILE.values())]
    files = [data for data in files if len(data) < 5000]
    refused = 0
    for _ in range(2000):
        first, second = chance.choice(files), chance.choice(files)
        data = first[: chance.randrange(len(first) + 1)] + second[chance.randrange(len(second) + 1) :]
        try:
            read_torch_file(data, where="w.pth")
        except ModelSpoilt:
            refused += 1
    assert refused > 1900


def test_names_of_the_file_are_in_the_error() -> None:
    """The message says which file, what is wrong and what to do."""
    with pytest.raises(ModelSpoilt, match=r"^weights\.pth is not .*cut short.*; fetch it again$"):
        read_torch_file(whole()[:-1], where="weights.pth")
