"""
OnnxModel: an ONNX file as a Model, run by onnxruntime.

It knows no labels and no pictures, and downloads nothing. How onnxruntime is spoken to stands in onnx_session; it is
imported with the first OnnxModel, so a thread can load both.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphpipe_fn.binding import Bound, bind, check_tensor
from graphpipe_fn.errors import BadModel, BadTensor, UnknownName
from graphpipe_fn.messages import (
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
)
from graphpipe_fn.model import Buffer
from graphpipe_fn.onnx_file import node_outputs, with_outputs
from graphpipe_fn.onnx_session import DTYPES, Session
from graphpipe_fn.onnx_session import Engine as Engine
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERVER = "graphpipe-fn"
SMALL = 4_096  # values up to which isfinite() is faster than a sum


@dataclass(frozen=True, slots=True)
class ValueInput:
    """Say what the graph leaves open: one input's dtype and its shape (-1 for any)."""

    dtype: DType
    shape: tuple[int, ...]


class OnnxModel:
    """
    Be the model in an ONNX file. Any value that the graph computes can be asked for by its name.

    Args:
        graph: The file's path, or its bytes.
        name, version, description: For the metadata; the file's own unless given.
        inputs: The order of the inputs; all of the graph's. Initialisers that the graph lets callers override may
            be among them.
        outputs: What is answered where a request names no outputs; inner values may be among them.
        value_inputs: Dtype and shape of inputs, by name.
        external_data: The bytes of files that the graph's weights lie in, by name; otherwise they are looked for
            beside the path. onnxruntime uses them in place.
        engine: How onnxruntime works.
        check_finite: Refuse NaN and infinity in inputs and outputs. Switch it off where they mean something.
        inner_outputs: Let callers ask for any value of the graph. Costs a second copy of the weights when used.

    Raises:
        BadModel: the file is missing, is no ONNX model, or has inputs that GraphPipe can't carry.
    """

    def __init__(
        self,
        graph: str | os.PathLike[str] | Buffer,
        *,
        name: str = "",
        version: str = "",
        description: str = "",
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        value_inputs: Mapping[str, ValueInput] | None = None,
        external_data: Mapping[str, Buffer] | None = None,
        engine: Engine = Engine(),
        check_finite: bool = True,
        inner_outputs: bool = True,
    ) -> None:
        self._graph: str | bytes | None = bytes(graph) if isinstance(graph, Buffer) else os.fspath(graph)
        self._external_data = dict(external_data or {})
        self._engine = engine
        self._check_finite = check_finite
        self._inner_outputs = inner_outputs
        self._building = threading.Lock()
        self._inner: tuple[frozenset[str], Session] | None = None
        self._inner_names: frozenset[str] | None = None

        first = self._session(self._graph)
        nodes = {arg.name: arg for arg in first.outputs}
        extra = [output for output in outputs if output not in nodes]
        served = self._extended(extra) if extra else self._graph
        if extra:
            first = self._session(served)
            nodes = {arg.name: arg for arg in first.outputs}
        self._sessions = [first, *(self._session(served) for _ in range(engine.count - 1))]
        self._next = 0
        self._outputs = frozenset(nodes)

        known = {arg.name: arg for arg in first.inputs}
        overridable = {arg.name: arg for arg in first.overridable}
        ordered = _ordered(inputs, known, overridable)
        self._bool_inputs = frozenset(arg.name for arg in ordered if arg.type == "tensor(bool)")
        wanted = [nodes[output] for output in outputs] or [arg for arg in nodes.values() if arg.type in DTYPES]
        unfit = [arg for arg in wanted if arg.type not in DTYPES]
        if unfit:
            raise BadModel(f'output "{unfit[0].name}" is a {unfit[0].type}, which GraphPipe can\'t carry')
        if not wanted:
            raise BadModel("the graph has no output that is a tensor; export it without ZipMap")

        about = first.about
        stem = os.path.splitext(os.path.basename(self._graph))[0] if isinstance(self._graph, str) else ""
        self._metadata = Metadata(
            name=name or stem or about.graph_name,
            version=version or (str(about.version) if 0 < about.version < 2**63 - 1 else ""),
            server=SERVER,
            description=description or about.description or about.graph_description,
            inputs=tuple(_io(arg, value_inputs or {}) for arg in ordered),
            outputs=tuple(_io(arg, {}) for arg in wanted),
        )
        unknown = set(value_inputs or {}) - {io.name for io in self._metadata.inputs}
        if unknown:
            raise BadModel(f'value inputs name "{min(unknown)}", which is no input of this model')
        self._defaults = tuple(io.name for io in self._metadata.outputs)
        if not inner_outputs:
            self._graph = None  # the session has its own copy of what it needs

    def metadata(self) -> Metadata:
        """Return the graph's inputs and outputs: symbolic sizes as -1, bool as uint8."""
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Run the graph.

        Raises:
            UnknownName: an input or output that the graph does not have.
            BadTensor: a tensor that the graph can't take, or a result that is not finite.
            TooLarge: the run needs more memory than there is.
            TimedOut: the request's deadline passed; the run is stopped.
        """
        bound = self._bound(request)
        feeds = {name: self._feed(name, tensor) for name, tensor in bound.inputs.items()}
        inner = [name for name in bound.outputs if name not in self._outputs]
        session = self._inner_session(inner) if inner else self._any_session()
        results = session.run(bound.outputs, feeds, request.call)
        tensors = [self._tensor(name, result) for name, result in zip(bound.outputs, results, strict=True)]
        return InferResponse(tuple(tensors))

    def _bound(self, request: InferRequest) -> Bound:
        known = self._metadata.inputs
        if request.input_names or request.output_names or len(request.inputs) != len(known):
            return bind(request, self._metadata, extra_outputs=True)
        for io, tensor in zip(known, request.inputs, strict=True):  # what nearly all requests are, without a search
            check_tensor(tensor, io)
        return Bound({io.name: tensor for io, tensor in zip(known, request.inputs, strict=True)}, self._defaults)

    def _any_session(self) -> Session:
        if len(self._sessions) == 1:
            return self._sessions[0]
        self._next = place = (self._next + 1) % len(self._sessions)  # a lost update only repeats one session
        return self._sessions[place]

    def _feed(self, name: str, tensor: Tensor) -> NDArray[Any]:
        if isinstance(tensor, StringTensor):
            import numpy as np

            texts = np.empty(len(tensor.values), dtype=object)
            try:
                texts[:] = [value.decode() for value in tensor.values]
            except UnicodeDecodeError as exc:
                raise BadTensor(f'input "{name}" has a string that is no UTF-8; ONNX has no other strings') from exc
            return texts.reshape(tensor.shape)
        if self._check_finite:
            _check_finite(f'input "{name}"', tensor)
        return tensor.astype(bool) if name in self._bool_inputs else tensor

    def _tensor(self, name: str, result: Any) -> Tensor:
        kind = getattr(getattr(result, "dtype", None), "kind", "")
        if kind == "O":
            return StringTensor(tuple(str(text).encode() for text in result.ravel()), result.shape)
        if kind == "b":
            return result.view("uint8")  # type: ignore[no-any-return]
        if not kind:
            raise BadTensor(f'output "{name}" is no tensor but a {type(result).__name__}; ask for another one')
        if self._check_finite:
            _check_finite(f'output "{name}"', result)
        return result  # type: ignore[no-any-return]

    def _inner_session(self, names: Sequence[str]) -> Session:
        """
        Return the session that also answers these values.

        There is one, for all names asked for so far: one per set of names would let callers fill the memory, or
        make us build sessions at every request.
        """
        inner = self._inner
        if inner is not None and inner[0].issuperset(names):
            return inner[1]
        with self._building:
            inner = self._inner
            if inner is not None and inner[0].issuperset(names):
                return inner[1]
            wanted = inner[0].union(names) if inner is not None else frozenset(names)
            base = [name for name in self._outputs if name in wanted]
            session = self._session(self._extended(sorted(wanted.difference(base))), partial=True)
            for arg in session.outputs:
                if arg.name in names and arg.type not in DTYPES:
                    raise BadTensor(f'output "{arg.name}" is a {arg.type}, which GraphPipe can\'t carry')
            self._inner = (wanted, session)
            return session

    def _session(self, graph: str | bytes, *, partial: bool = False) -> Session:
        folder = os.path.dirname(os.path.abspath(self._graph)) if isinstance(self._graph, str) else ""
        return Session(graph, self._engine, folder=folder, external_data=self._external_data, partial=partial)

    def _extended(self, names: Sequence[str]) -> bytes:
        if self._graph is None:
            listed = ", ".join(f'"{io.name}"' for io in self._metadata.outputs)
            raise UnknownName(f'unknown output "{names[0]}"; this model has {listed}')
        if isinstance(self._graph, bytes):
            return self._with(self._graph, names)
        try:
            with open(self._graph, "rb") as file:
                # Not closed: an exception may hold views of it, which would make closing fail.
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as exc:
            raise BadModel(f"the model's file can't be read any more ({exc.strerror}); put it back") from exc
        return self._with(view, names)

    def _with(self, graph: Buffer, names: Sequence[str]) -> bytes:
        if self._inner_names is None:
            self._inner_names = frozenset(node_outputs(graph))
        for name in names:
            if name not in self._inner_names:
                import difflib

                near = difflib.get_close_matches(name, self._inner_names, n=3)
                hint = "do you mean " + " or ".join(f'"{other}"' for other in near) if near else "look into its file"
                raise UnknownName(f'unknown output "{name}"; the graph computes no such value, {hint}')
        return with_outputs(graph, names)


def _ordered(inputs: Sequence[str], known: dict[str, Any], overridable: dict[str, Any]) -> list[Any]:
    for name in inputs:
        if name not in known and name not in overridable:
            listed = ", ".join(f'"{other}"' for other in known)
            raise BadModel(f'the graph has no input "{name}"; it has {listed}')
    if inputs and set(known) - set(inputs):
        missing = min(set(known) - set(inputs))
        raise BadModel(f'the graph also needs input "{missing}"; list all of its inputs, or none')
    ordered = [known.get(name) or overridable[name] for name in inputs] or list(known.values())
    for arg in ordered:
        if arg.type not in DTYPES:
            raise BadModel(f'input "{arg.name}" is a {arg.type}, which GraphPipe can\'t carry')
    return ordered


def _io(arg: Any, value_inputs: Mapping[str, ValueInput]) -> IOMetadata:
    dtype = DTYPES[arg.type]
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in arg.shape)
    given = value_inputs.get(arg.name)
    if given is not None:
        if given.dtype is not dtype:
            raise BadModel(f'value inputs say {given.dtype.name} for "{arg.name}", but the graph says {dtype.name}')
        if shape and (
            len(shape) != len(given.shape) or any(a not in (-1, b) for a, b in zip(shape, given.shape, strict=True))
        ):
            raise BadModel(f'value inputs say {given.shape} for "{arg.name}", but the graph says {shape}')
        shape = given.shape
    return IOMetadata(arg.name, "", shape, dtype)


def _check_finite(what: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity. Both survive a sum, which einsum makes of many values in one fast pass."""
    if array.dtype.kind != "f":
        return
    import numpy as np

    flat = array.reshape(-1)
    if (flat.size > SMALL and math.isfinite(np.einsum("i->", flat))) or np.isfinite(flat).all():
        return  # a sum that is not finite may only have overflowed, so the values have the last word
    raise BadTensor(f"{what} holds NaN or infinity; send finite numbers")
