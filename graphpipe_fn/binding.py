"""
Names to tensors: which input is which, which outputs are wanted, and whether they fit the metadata.

The original servers crash on too many inputs and ignore unknown outputs; here both are refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphpipe_fn.errors import BadTensor, UnknownName
from graphpipe_fn.messages import DType, InferRequest, IOMetadata, Metadata, StringTensor, Tensor, shape_of
from graphpipe_fn.tensors import NUMERIC
from graphpipe_fn.values import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A request in a model's own terms: every input by its name, the wanted outputs' names in order."""

    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def bind(
    request: InferRequest,
    metadata: Metadata,
    *,
    default_outputs: Sequence[str] = (),
    extra_outputs: bool = False,
) -> Bound:
    """
    Match a request with a model's inputs and outputs.

    Args:
        request: Names may be absent (the model's order) or "" (the default at that place).
        metadata: The model's; every input in it must be given.
        default_outputs: What an absent output name means; all of the metadata's outputs unless given.
        extra_outputs: Let outputs pass that the metadata does not list (a graph's inner nodes).

    Raises:
        UnknownName: a name is unknown, given twice, missing, or there are too many.
        BadTensor: a tensor's dtype or shape is not the input's.
    """
    known = {io.name: io for io in metadata.inputs}
    names = _resolved(request.input_names, list(known), len(request.inputs), kind="input")
    if len(names) != len(request.inputs):
        raise UnknownName(f"{len(request.inputs)} inputs came with {len(names)} input names; send one name for each")
    inputs: dict[str, Tensor] = {}
    for name, tensor in zip(names, request.inputs, strict=True):
        if name not in known:
            raise UnknownName(f'unknown input "{name}"; this model has {_listed(known)}')
        if name in inputs:
            raise UnknownName(f'input "{name}" was sent twice; send each input once')
        check_tensor(tensor, known[name])
        inputs[name] = tensor
    missing = [name for name in known if name not in inputs]
    if missing:
        raise UnknownName(f"no tensor for input {_listed(missing)}; this model needs {_listed(known)}")

    listed = [io.name for io in metadata.outputs]
    defaults = list(default_outputs) or listed
    wanted = _resolved(request.output_names, defaults, len(defaults), kind="output")
    for name in wanted:
        if name not in listed and name not in defaults and not extra_outputs:
            raise UnknownName(f'unknown output "{name}"; this model has {_listed(listed)}')
    return Bound(inputs, tuple(wanted))


def check_tensor(tensor: Tensor, io: IOMetadata) -> None:
    """
    Refuse a tensor that an input can't take; -1 in `io.shape` and DType.NULL take anything.

    Raises:
        BadTensor: wrong dtype, rank or size.
    """
    dtype = dtype_of(tensor)
    if io.dtype is not DType.NULL and dtype is not io.dtype:
        raise BadTensor(f'input "{io.name}" takes {io.dtype.name.lower()}, not {dtype.name.lower()}')
    shape = shape_of(tensor)
    # A shape of () in metadata is what servers send that do not say; a true scalar input takes anything then.
    if io.shape and (
        len(shape) != len(io.shape) or any(want not in (-1, have) for want, have in zip(io.shape, shape, strict=True))
    ):
        raise BadTensor(f'input "{io.name}" takes shape {list(io.shape)} (-1 is any), not {list(shape)}')


def dtype_of(tensor: Tensor) -> DType:
    """
    Return the schema's dtype of a tensor.

    Raises:
        BadTensor: a numpy dtype that GraphPipe does not have (complex, bool as such, datetime…).
    """
    if isinstance(tensor, StringTensor):
        return DType.STRING
    # Numpy's byte-order-free name is slow to make, so it is made for what is not little-endian only.
    dtype = NUMERIC.get(tensor.dtype.str) or DType.__members__.get(tensor.dtype.name.upper())
    if dtype is None:
        raise BadTensor(f"GraphPipe has no dtype {tensor.dtype}; convert the tensor to one that it has")
    return dtype


def _resolved(names: Sequence[str], defaults: Sequence[str], count: int, *, kind: str) -> list[str]:
    if not names and count > len(defaults):
        raise UnknownName(f"{count} {kind}s were sent, but this model has {len(defaults)}: {_listed(defaults)}")
    resolved = list(names) or list(defaults[:count])
    for place, name in enumerate(resolved):
        if name == "":
            if place >= len(defaults):
                raise UnknownName(f"there is no default {kind} at place {place}; this model has {_listed(defaults)}")
            resolved[place] = defaults[place]
    return resolved


def _listed(names: Sequence[str] | dict[str, IOMetadata]) -> str:
    shown = [f'"{name}"' for name in names]
    return ", ".join(shown) if shown else "none"
