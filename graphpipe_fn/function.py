"""
A typed function as a Model: its metadata comes from its annotations.

    Pictures = Annotated[NDArray[np.float32], Shape("N", 3, 224, 224)]

    @model(version="2")
    def double(x: Pictures) -> Pictures:
        "Twice as bright."
        return x * 2

Positional parameters are inputs, by name. Their annotations are `NDArray[np.float32]` and its like, `StringTensor`,
or `Tensor` for any dtype; `Annotated[…, Shape(…)]` adds sizes. The return annotation is one such type, a `tuple` of
them, or a NamedTuple, whose fields name the outputs. A keyword parameter `config` gets the request's config, as
`str` or as a dataclass made of its JSON; a keyword parameter `call` gets the Call. The decorated function can still
be called as before.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import update_wrapper
from types import UnionType
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from graphpipe_fn.binding import bind, dtype_of
from graphpipe_fn.errors import BadConfig, BadTensor
from graphpipe_fn.messages import (
    Call,
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
    shape_of,
)
from graphpipe_fn.tensors import as_tensor

SERVER = "graphpipe-fn"

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, init=False)
class Shape:
    """
    Say what sizes a tensor has.

    Args:
        dims: A number; a name for any size, the same one wherever the name stands; -1 for any size.
        description: For the metadata.
    """

    dims: tuple[int | str, ...]
    description: str

    def __init__(self, *dims: int | str, description: str = "") -> None:
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "description", description)


class FunctionModel(Generic[_P, _R]):
    """
    Be the model that a function is. `model` makes these.

    Raises:
        TypeError: the function's annotations do not say what goes in and out.
    """

    def __init__(self, function: Callable[_P, _R], *, name: str = "", version: str = "") -> None:
        update_wrapper(self, function)
        self._function = function
        self._inputs, self._extras = _parameters(function)
        hints = _hints(function)
        if "return" not in hints:
            raise TypeError(f"{function.__qualname__}() has no return annotation; annotate what it returns")
        self._outputs = _outputs(hints["return"], function.__qualname__)
        self._metadata = Metadata(
            name=name or function.__name__,
            version=version,
            server=SERVER,
            description=(inspect.getdoc(function) or "").partition("\n")[0],
            inputs=tuple(put.metadata for put in self._inputs),
            outputs=tuple(put.metadata for put in self._outputs),
        )

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._function(*args, **kwargs)

    def metadata(self) -> Metadata:
        """Return what the annotations say."""
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Call the function.

        Raises:
            UnknownName: an input or output that the function does not have.
            BadTensor: an input of another dtype or shape than annotated, or sizes of one name that differ.
            BadConfig: the config is not what the function takes.
        """
        bound = bind(request, self._metadata)
        sizes: dict[str, int] = {}
        for put in self._inputs:
            put.check_sizes(bound.inputs[put.metadata.name], sizes)
        tensors = [bound.inputs[put.metadata.name] for put in self._inputs]
        if request.config and "config" not in self._extras:
            raise BadConfig(f"{self._metadata.name} takes no config; send none")
        extras: dict[str, Any] = {}
        if "config" in self._extras:
            extras |= self._extras["config"].given(request.config)
        if "call" in self._extras:
            extras["call"] = request.call
        returned: Any = self._function(*tensors, **extras)  # type: ignore[arg-type]
        outputs = self._named(returned, sizes)
        return InferResponse(tuple(outputs[name] for name in bound.outputs))

    def _named(self, returned: Any, sizes: dict[str, int]) -> dict[str, Tensor]:
        values = list(returned) if isinstance(returned, tuple) else [returned]
        if len(values) != len(self._outputs):
            raise TypeError(f"{self._metadata.name} returned {len(values)} outputs, not {len(self._outputs)}")
        outputs = {}
        for put, value in zip(self._outputs, values, strict=True):
            tensor = as_tensor(value)
            put.check_returned(tensor, sizes)
            outputs[put.metadata.name] = tensor
        return outputs


@overload
def model(function: Callable[_P, _R], /) -> FunctionModel[_P, _R]: ...


@overload
def model(*, name: str = "", version: str = "") -> Callable[[Callable[_P, _R]], FunctionModel[_P, _R]]: ...


def model(function: Callable[_P, _R] | None = None, /, *, name: str = "", version: str = "") -> Any:
    """
    Make a Model of a typed function; to be used as a decorator, with or without arguments.

    Args:
        name: The model's; the function's unless given.
        version: The model's.

    Raises:
        TypeError: the function's annotations do not say what goes in and out.
    """
    if function is not None:
        return FunctionModel(function)
    return lambda given: FunctionModel(given, name=name, version=version)


@dataclass(frozen=True, slots=True)
class _Put:
    """One input or output: what the metadata says, and the names of its sizes."""

    metadata: IOMetadata
    dims: tuple[int | str, ...] | None

    def check_sizes(self, tensor: Tensor, sizes: dict[str, int]) -> None:
        """Refuse an input whose sizes are not those of the same name elsewhere; bind() has checked the rest."""
        for dim, size in zip(self.dims or (), shape_of(tensor), strict=False):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                raise BadTensor(
                    f'input "{self.metadata.name}" has {dim} = {size}, but {dim} is {sizes[dim]} elsewhere'
                )

    def check_returned(self, tensor: Tensor, sizes: dict[str, int]) -> None:
        """Complain about an output that is not what the function promised: a bug, not the caller's doing."""
        about, shape = self.metadata, shape_of(tensor)
        if about.dtype not in (DType.NULL, dtype_of(tensor)):
            raise TypeError(
                f'output "{about.name}" is {dtype_of(tensor).name.lower()}, not {about.dtype.name.lower()}'
            )
        if self.dims is None:
            return
        wanted = [sizes.setdefault(dim, size) if isinstance(dim, str) else dim for dim, size in zip(self.dims, shape)]  # noqa: B905 - ranks are compared below
        if len(shape) != len(self.dims) or any(w not in (-1, have) for w, have in zip(wanted, shape, strict=True)):
            raise TypeError(f'output "{about.name}" has shape {list(shape)}, not {list(self.dims)} with {sizes}')


@dataclass(frozen=True, slots=True)
class _Extra:
    """A keyword parameter that is no input."""

    kind: Any
    has_default: bool

    def given(self, config: str) -> dict[str, Any]:
        """Return the keyword argument for a request's config; none where the parameter's default holds."""
        if not config and self.has_default:
            return {}
        return {"config": config if self.kind is str else _from_json(self.kind, config or "{}")}


def _parameters(function: Callable[..., Any]) -> tuple[list[_Put], dict[str, _Extra]]:
    hints = _hints(function)
    inputs, extras = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        where = f"{function.__qualname__}(): {name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} takes any number of arguments; name each input")
        if name not in hints:
            raise TypeError(f"{where} has no annotation; write {name}: Tensor, or say its dtype and shape")
        kind, has_default = hints[name], parameter.default is not parameter.empty
        if parameter.kind is not parameter.KEYWORD_ONLY:
            inputs.append(_put(kind, name, where))
        elif (name == "config" and (kind is str or is_dataclass(kind))) or (name == "call" and kind is Call):
            extras[name] = _Extra(kind, has_default)
        elif not has_default:
            raise TypeError(f"{where}: keyword parameters are config (str or a dataclass) and call (Call)")
    return inputs, extras


def _hints(what: Any) -> dict[str, Any]:
    from numpy.typing import NDArray

    known = getattr(what, "__globals__", None) or vars(sys.modules[what.__module__])
    # The alias Tensor is text, so that messages need no numpy; its names are perhaps not the function's module's.
    lacking = {"NDArray": NDArray, "StringTensor": StringTensor, "Any": Any}
    names = {name: value for name, value in lacking.items() if name not in known}
    return get_type_hints(what, localns=names, include_extras=True)


def _outputs(kind: Any, where: str) -> list[_Put]:
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = _hints(kind)
        return [_put(hints[name], name, f"{where} returns {name}") for name in kind._fields]
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if Ellipsis in parts:
            raise TypeError(f"{where} returns any number of outputs; say how many")
        return [_put(part, f"output{place}", f"{where} returns") for place, part in enumerate(parts)]
    return [_put(kind, "output", f"{where} returns")]


def _put(kind: Any, name: str, where: str) -> _Put:
    sizes: Shape | None = None
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        sizes = next((note for note in notes if isinstance(note, Shape)), None)
    dims = sizes.dims if sizes is not None else None
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in dims or ())
    about = IOMetadata(name, sizes.description if sizes is not None else "", shape, _dtype(kind, where))
    return _Put(about, dims)


def _dtype(kind: Any, where: str) -> DType:
    if kind is StringTensor:
        return DType.STRING
    if kind is Any or get_origin(kind) in (Union, UnionType):
        return DType.NULL
    import numpy as np

    kind = _expanded(kind)
    origin = get_origin(kind) or kind
    if origin is np.ndarray:
        scalars = [get_args(part) for part in get_args(kind) if get_origin(part) is np.dtype]
        scalar = scalars[0][0] if scalars and scalars[0] else Any
        abstract = (np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating)
        if scalar is Any or scalar in abstract or not isinstance(scalar, type):
            return DType.NULL
        name = np.dtype(scalar).name.upper()
        if name in DType.__members__:
            return DType[name]
        raise TypeError(f"{where}: GraphPipe has no dtype {scalar.__name__}; use one that it has")
    raise TypeError(f"{where}: {kind!r} is no tensor; use NDArray[np.float32] and its like, StringTensor or Tensor")


def _expanded(kind: Any) -> Any:
    """Return what a `type` alias stands for: NDArray is one from numpy 2.5 on."""
    while hasattr(get_origin(kind) or kind, "__value__"):
        alias = get_origin(kind)
        kind = kind.__value__ if alias is None else alias.__value__[get_args(kind)]
    return kind


def _from_json(kind: Any, config: str) -> Any:
    try:
        given = json.loads(config)
    except (ValueError, RecursionError) as exc:
        raise BadConfig(f"the config is no JSON ({exc})") from exc
    known = {field.name: field for field in fields(kind) if field.init}
    if not isinstance(given, Mapping):
        raise BadConfig(f"the config must be a JSON object with {', '.join(known)}")
    for name in given:
        if name not in known:
            raise BadConfig(f'the config has no "{name}"; it has {", ".join(known)}')
    for name, field in known.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise BadConfig(f'the config lacks "{name}"')
    hints = get_type_hints(kind)
    for name, value in given.items():
        if hints[name] in (bool, int, float, str) and not _fits(value, hints[name]):
            raise BadConfig(f'the config\'s "{name}" must be {hints[name].__name__}, not {value!r:.40}')
    try:
        return kind(**given)
    except (TypeError, ValueError) as exc:
        raise BadConfig(f"the config can't be used: {exc}") from exc


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind
