"""What becomes of the values that people hand in."""

from __future__ import annotations

import subprocess
import sys
from array import array
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from codec_invariants import same

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.messages import StringTensor, Tensor, strings
from graphpipe_fn.tensors import as_tensor


class WithArray:
    """What pandas, JAX and scikit-image have: a way to be seen as an array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.values, dtype=dtype)


class WithDLPack:
    """A tensor of another library, shared by DLPack only; its device is 1 (CPU) or 2 (CUDA)."""

    def __init__(self, values: np.ndarray[Any, Any], device: tuple[int, int] = (1, 0)) -> None:
        self.values = values
        self.device = device

    def __dlpack__(self, **options: Any) -> Any:
        if self.device != (1, 0):
            raise BufferError("this tensor is not on the CPU")
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class Annotated(np.ndarray):  # type: ignore[type-arg]
    """What libraries derive from numpy's own class."""


class OnGPU:
    """What torch does for a tensor that numpy can't see."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def objects(*values: object) -> np.ndarray[Any, Any]:
    """Return an object array of exactly these values."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


ACCEPTED: dict[str, tuple[Any, Tensor]] = {
    "float": (1.5, np.array(1.5)),
    "int": (3, np.array(3)),
    "int over 63 bits": (2**63, np.array(2**63, "u8")),
    "bool": (True, np.array(1, "u1")),
    "numpy scalar": (np.float32(1.5), np.array(1.5, "f4")),
    "list of numbers": ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
    "tuple of floats": ((1.0, 2.0), np.array([1.0, 2.0])),
    "list of bools": ([True, False], np.array([1, 0], "u1")),
    "list of arrays": ([np.zeros(2, "f4"), np.ones(2, "f4")], np.array([[0, 0], [1, 1]], "f4")),
    "list of numpy scalars": ([np.float32(1), np.float32(2)], np.array([1, 2], "f4")),
    "empty list": ([], np.array([])),
    "empty lists": ([[], []], np.empty((2, 0))),
    "range": (range(3), np.arange(3)),
    "array.array": (array("f", [1, 2]), np.array([1, 2], "f4")),
    "memoryview": (memoryview(b"ab"), np.array([97, 98], "u1")),
    "big-endian": (np.array([1, 258], ">u2"), np.array([1, 258], "<u2")),
    "big-endian float": (np.array([1.5], ">f4"), np.array([1.5], "<f4")),
    "bool array": (np.array([[True], [False]]), np.array([[1], [0]], "u1")),
    "subclass": (np.zeros(2, "f4").view(Annotated), np.zeros(2, "f4")),
    "nothing masked": (np.ma.masked_array([1.0, 2.0]), np.array([1.0, 2.0])),
    "32 dimensions": (np.zeros((1,) * 32), np.zeros((1,) * 32)),
    "__array__": (WithArray([[1.5]]), np.array([[1.5]])),
    "__array__ of text": (WithArray(["a"]), strings(["a"])),
    "DLPack": (WithDLPack(np.arange(3, dtype="i2")), np.arange(3, dtype="i2")),
    "str": ("né", strings(["né"], ())),
    "bytes": (b"a\0", strings([b"a\0"], ())),
    "bytearray": (bytearray(b"a\0"), strings([b"a\0"], ())),
    "list of str": (["a", "é"], strings(["a", "é"])),
    "list of bytes": ([b"a\0", b"\xff"], strings([b"a\0", b"\xff"])),
    "str and bytes": (["a", b"b", bytearray(b"c")], strings(["a", "b", "c"])),
    "nested text": ([["a", "b"], ("c", "d")], strings(["a", "b", "c", "d"], (2, 2))),
    "escaped bytes": (["\udcff"], strings([b"\xff"])),
    "U array": (np.array([["a", "é"]]), strings(["a", "é"], (1, 2))),
    "S array": (np.array([b"a", b"bc"]), strings(["a", "bc"])),
    "transposed S array": (np.array([[b"a", b"b"], [b"c", b"d"]]).T, strings(["a", "c", "b", "d"], (2, 2))),
    "0-d U array": (np.array("a"), strings(["a"], ())),
    "object array of text": (objects("a", b"b\0"), strings([b"a", b"b\0"])),
    "object array of numpy text": (objects(np.str_("a"), np.bytes_(b"b")), strings(["a", "b"])),
    "no objects": (objects(), strings([])),
    "StringTensor": (strings(["a"]), strings(["a"])),
    "list of StringTensors": ([strings(["a"]), strings(["b"])], strings(["a", "b"], (2, 1))),
}
if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):  # numpy 2
    ACCEPTED["variable-width strings"] = (np.array(["a", "é"], np.dtypes.StringDType()), strings(["a", "é"]))

REFUSED: dict[str, tuple[Any, str]] = {
    "complex": (1j, "no dtype complex128; send the real and the imaginary part"),
    "date": (np.datetime64("2020-01-01"), r"no dtype datetime64\[D\]; send .astype\('int64'\)"),
    "duration": (np.timedelta64(1, "s"), r"no dtype timedelta64\[s\]; send .astype\('int64'\)"),
    "records": (np.zeros(1, [("a", "f4")]), "no dtype .*; send .*each field as a tensor"),
    "bfloat16": (np.zeros(1, ml_dtypes.bfloat16), "no dtype bfloat16; send .astype"),
    "ragged": ([[1, 2], [3]], "no tensor can be made of this list: .*inhomogeneous"),
    "ragged text": ([["a", "b"], ["c"]], "ragged: at depth 1, element 1 is not a list of 2"),
    "text of several depths": (["a", ["b"]], "element 1 of a list of text is list"),
    "lists of several depths": ([["a"], "b"], "ragged: at depth 1, element 1 is not a list of 1"),
    "text, then a number": (["a", 1], "element 1 of a list of text is int; send text or numbers only"),
    "a number, then text": ([1, "a"], "element 0 is int, which is neither text"),
    "text and None": (["a", None], "element 1 of a list of text is NoneType"),
    "numbers and None": ([1.5, None], "element 0 is float"),
    "int over 64 bits": (2**64, "no tensor can be made of int"),
    "ints over 64 bits": ([1, 2**64], "element 0 is int, which is neither text nor a number of at most 64 bits"),
    "dict": ({"a": 1}, "no tensor can be made of dict; send an array"),
    "set": ({1}, "no tensor can be made of set"),
    "None": (None, "no tensor can be made of NoneType"),
    "generator": ((number for number in (1, 2)), "no tensor can be made of generator"),
    "object array": (objects("a", 2.0), "element 1 is float"),
    "masked": (np.ma.masked_array([1.0, 2.0], [False, True]), "masked values, .*send .filled"),
    "33 nested lists": (eval("[" * 33 + "'a'" + "]" * 33), "33 dimensions can't be sent"),
    "33 dimensions of strings": (StringTensor((b"a",), (1,) * 33), "33 dimensions can't be sent"),
    "lone surrogate": (["\ud800"], "lone surrogate"),
    "on a GPU": (OnGPU(), "no tensor can be made of this OnGPU: can't convert cuda"),
    "DLPack on a GPU": (
        WithDLPack(np.zeros(1), (2, 0)),
        "no tensor can be made of this WithDLPack: .*not on the CPU",
    ),
}
if int(np.__version__.split(".")[0]) >= 2:  # before, there were no such arrays
    REFUSED["33 dimensions"] = (np.zeros((1,) * 33), "33 dimensions can't be sent; the limit is 32")
if np.dtype("g").itemsize > 8:  # not everywhere
    REFUSED["long double"] = (np.zeros(1, "g"), r"no dtype .*; send .astype\('float64'\)")


@pytest.mark.parametrize(("value", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_values_become_tensors(value: Any, expected: Tensor) -> None:
    """A value becomes the tensor that numpy users expect, text a StringTensor."""
    assert same(expected, as_tensor(value))


@pytest.mark.parametrize(("value", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_tensor_is_refused(value: Any, words: str) -> None:
    """A refusal names what can't be sent, and what to send instead."""
    with pytest.raises(BadTensor, match=words):
        as_tensor(value)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_arrays_that_can_be_sent_are_not_copied(dtype: str) -> None:
    """A numeric array is returned itself, strides and all; a model in the same process works on the original."""
    tensor = np.zeros((3, 4), dtype).T
    assert as_tensor(tensor) is tensor


def test_memory_is_shared_where_it_can_be() -> None:
    """Booleans, buffers and DLPack are views of the original."""
    flags = np.zeros(4, bool)
    values = np.zeros(4, "f4")
    for value, source in ((flags, flags), (memoryview(values), values), (WithDLPack(values), values)):
        assert np.shares_memory(as_tensor(value), source)


def test_text_needs_no_numpy() -> None:
    """Text becomes a tensor in a process that never imports numpy."""
    program = """
import sys
from graphpipe_fn.errors import BadTensor
from graphpipe_fn.tensors import as_tensor
assert as_tensor([["a"], [b"b"]]).shape == (2, 1)
assert as_tensor("a").shape == ()
try:
    as_tensor(["a", 1])
except BadTensor:
    assert "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
