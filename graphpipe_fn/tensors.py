"""
What may be given as a tensor: arrays, numbers, text, and nested lists of these.

It knows which numpy dtypes GraphPipe carries, and no bytes of a message. Numpy is imported when the first value
that is not text arrives, so a function that handles nothing but strings never loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.messages import DType, StringTensor, Tensor, strings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANK_MAX: Final = 32  # numpy 1.26 holds no more

NUMERIC: Final[dict[str, DType]] = {
    "|u1": DType.UINT8,
    "|i1": DType.INT8,
    "<u2": DType.UINT16,
    "<i2": DType.INT16,
    "<u4": DType.UINT32,
    "<i4": DType.INT32,
    "<u8": DType.UINT64,
    "<i8": DType.INT64,
    "<f2": DType.FLOAT16,
    "<f4": DType.FLOAT32,
    "<f8": DType.FLOAT64,
}
"""Numpy's name (`dtype.str`) of each numeric type, as it lies on the wire."""

_REMEDIES = {
    "c": "send the real and the imaginary part as two tensors",
    "M": "send .astype('int64') and say the unit in the input's description",
    "m": "send .astype('int64') and say the unit in the input's description",
    "f": "send .astype('float64')",
    "V": "send .astype('float32'), or each field as a tensor of its own",
}


def as_tensor(value: object) -> Tensor:
    """
    Return a value as a tensor that can be sent.

    Args:
        value: A numpy array; anything with `__array__`, the buffer protocol or DLPack; a number, text or bytes
            (rank 0); nested lists of one of these. An empty list is float64, as numpy has it.

    Returns:
        The array itself, uncopied, where its dtype can be sent; little-endian numbers, booleans as uint8, text
        as UTF-8 in a StringTensor. Numpy's `S` arrays have already lost their strings' trailing NULs: send bytes.

    Raises:
        BadTensor: complex, dates, records, ragged lists, mixtures, masked values, over 32 dimensions.
    """
    if isinstance(value, StringTensor):
        _check_rank(len(value.shape))
        return value
    if isinstance(value, (str, bytes, bytearray)):
        return _encoded([value], ())
    if isinstance(value, (list, tuple)):
        leaf: object = value
        while isinstance(leaf, (list, tuple)) and leaf:
            leaf = leaf[0]
        if isinstance(leaf, (str, bytes, bytearray)):
            return _nested(value)
    return _from_array(_array(value))


def _array(value: object) -> NDArray[Any]:
    import numpy as np

    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise BadTensor("the array has masked values, which can't be sent; send .filled(…)")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        if isinstance(value, (list, tuple)) and array.dtype.kind in "SU":
            # Numpy turns the numbers of a mixed list into text; as objects they stay what they are.
            array = np.asarray(value, dtype=object)
    except Exception as exc:
        # A foreign class's own failure: a ragged list, a tensor on a GPU or under autograd, …
        raise BadTensor(f"no tensor can be made of this {type(value).__name__}: {exc}; send a numpy array") from exc
    return array


def _from_array(array: NDArray[Any]) -> Tensor:
    _check_rank(array.ndim)
    dtype = array.dtype
    if dtype.str in NUMERIC:
        return array
    if dtype.kind == "b":
        return array.view("u1")
    if dtype.kind in "iuf" and dtype.newbyteorder("<").str in NUMERIC:
        return array.astype(dtype.newbyteorder("<"))
    if dtype.kind in "SUT":
        return _encoded(array.ravel().tolist(), array.shape)
    if dtype.kind == "O":
        return _objects(array)
    remedy = _REMEDIES.get(dtype.kind, "convert it to a dtype that it has")
    raise BadTensor(f"GraphPipe has no dtype {dtype}; {remedy}")


def _objects(array: NDArray[np.object_]) -> StringTensor:
    values = array.ravel().tolist()
    for place, value in enumerate(values):
        if not isinstance(value, (str, bytes, bytearray)):
            if array.ndim == 0:
                raise BadTensor(
                    f"no tensor can be made of {type(value).__name__}; send an array, a number of at most 64 bits, "
                    "text or a list of these"
                )
            raise BadTensor(
                f"element {place} is {type(value).__name__}, which is neither text nor a number of at most 64 bits; "
                "send an array of one dtype"
            )
    return _encoded(values, array.shape)


def _nested(value: list[Any] | tuple[Any, ...]) -> StringTensor:
    """Flatten nested lists of text without numpy, level by level."""
    shape: list[int] = []
    level: list[Any] | tuple[Any, ...] = [value]
    while isinstance(level[0], (list, tuple)):
        size = len(level[0])
        for place, item in enumerate(level):
            if not isinstance(item, (list, tuple)) or len(item) != size:
                raise BadTensor(
                    f"the list is ragged: at depth {len(shape)}, element {place} is not a list of {size}; "
                    "send lists of one length"
                )
        shape.append(size)
        _check_rank(len(shape))
        level = [item for items in level for item in items]
    for place, item in enumerate(level):
        if not isinstance(item, (str, bytes, bytearray)):
            raise BadTensor(f"element {place} of a list of text is {type(item).__name__}; send text or numbers only")
    return _encoded(level, tuple(shape))


def _encoded(values: list[Any] | tuple[Any, ...], shape: tuple[int, ...]) -> StringTensor:
    try:
        # bytes() makes plain bytes of a bytearray and of numpy's own bytes class; plain bytes it returns as is.
        return strings([value if isinstance(value, str) else bytes(value) for value in values], shape)
    except UnicodeEncodeError as exc:
        raise BadTensor(f"the text {exc.object[:40]!r} has a lone surrogate, which UTF-8 can't carry") from exc


def _check_rank(rank: int) -> None:
    if rank > RANK_MAX:
        raise BadTensor(f"a tensor of {rank} dimensions can't be sent; the limit is {RANK_MAX}")
