"""
OnnxModel: an ONNX file as a Model, run by onnxruntime.

It knows onnxruntime's types, options and exceptions, and translates them once. It knows no labels and no pictures,
and downloads nothing. onnxruntime is imported with the first OnnxModel, so a thread can load both.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphpipe_fn.binding import bind
from graphpipe_fn.deadline import ALARMS, left_s
from graphpipe_fn.errors import BadModel, BadTensor, GraphPipeError, TimedOut, TooLarge, UnknownName
from graphpipe_fn.messages import (
    Call,
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERVER = "graphpipe-fn"

# onnxruntime's names of element types. GraphPipe has no bool: it travels as uint8, 0 or 1.
_DTYPES = {
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(float16)": DType.FLOAT16,
    "tensor(string)": DType.STRING,
    "tensor(bool)": DType.UINT8,
    **{
        f"tensor({kind}{bits})": DType[f"{kind}{bits}".upper()]
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}
_ERROR_LOG, _NO_LOG = 3, 4  # onnxruntime's severities: ERROR, FATAL


@dataclass(frozen=True, slots=True)
class ValueInput:
    """Say what the graph leaves open: one input's dtype and its shape (-1 for any)."""

    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """
    How onnxruntime works; the defaults are right for a server that answers several requests side by side.

    Args:
        threads: Within one run. More than 1 helps only a lone caller: two requests side by side on one thread each
            beat two threads for one request.
        count: Sessions that share the load, each with its own copy of the weights.
        prepack: Reorder weights for speed at load. False loads a graph with large dense layers up to 7 times
            faster and halves its memory, but runs batches of 2 and more up to twice as slow.
        providers: onnxruntime's execution providers, the preferred one first.
    """

    threads: int = 1
    count: int = 1
    prepack: bool = True
    providers: tuple[str, ...] = ("CPUExecutionProvider",)


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
        self._inner: tuple[frozenset[str], Any] | None = None
        self._inner_names: frozenset[str] | None = None

        sessions = [self._session(self._graph)]
        nodes = {arg.name: arg for arg in sessions[0].get_outputs()}
        extra = [output for output in outputs if output not in nodes]
        if extra:
            sessions = [self._session(self._extended(extra))]
            nodes = {arg.name: arg for arg in sessions[0].get_outputs()}
        sessions += [self._session(self._extended(extra) if extra else self._graph) for _ in range(engine.count - 1)]
        self._sessions: list[Any] = sessions
        self._next = 0
        self._outputs = frozenset(nodes)

        known = {arg.name: arg for arg in sessions[0].get_inputs()}
        overridable = {arg.name: arg for arg in sessions[0].get_overridable_initializers()}
        ordered = _ordered(inputs, known, overridable)
        self._bool_inputs = frozenset(arg.name for arg in ordered if arg.type == "tensor(bool)")
        wanted = [nodes[output] for output in outputs] or [arg for arg in nodes.values() if arg.type in _DTYPES]
        unfit = [arg for arg in wanted if arg.type not in _DTYPES]
        if unfit:
            raise BadModel(f'output "{unfit[0].name}" is a {unfit[0].type}, which GraphPipe can\'t carry')
        if not wanted:
            raise BadModel("the graph has no output that is a tensor; export it without ZipMap")

        about = sessions[0].get_modelmeta()
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
        bound = bind(request, self._metadata, extra_outputs=True)
        feeds = {name: self._feed(name, tensor) for name, tensor in bound.inputs.items()}
        inner = [name for name in bound.outputs if name not in self._outputs]
        session = self._inner_session(inner) if inner else self._any_session()
        results = self._run(session, list(bound.outputs), feeds, request.call, inner=bool(inner))
        tensors = [self._tensor(name, result) for name, result in zip(bound.outputs, results, strict=True)]
        return InferResponse(tuple(tensors))

    def _any_session(self) -> Any:
        if len(self._sessions) == 1:
            return self._sessions[0]
        self._next = place = (self._next + 1) % len(self._sessions)  # a lost update only repeats one session
        return self._sessions[place]

    def _run(
        self, session: Any, outputs: list[str], feeds: dict[str, NDArray[Any]], call: Call, *, inner: bool
    ) -> Sequence[Any]:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = _NO_LOG  # the caller is told; a log line each would be his to write
        options.only_execute_path_to_fetches = inner
        try:
            if left_s(call) is None:
                return session.run(outputs, feeds, options)  # type: ignore[no-any-return]
            assert call.deadline_s is not None  # left_s() has just read it
            with ALARMS.at(call.deadline_s, lambda: setattr(options, "terminate", True)):
                return session.run(outputs, feeds, options)  # type: ignore[no-any-return]
        except GraphPipeError:
            raise
        except MemoryError as exc:
            raise TooLarge("the run needs more memory than there is; send fewer rows") from exc
        except Exception as exc:
            if call.deadline_s is not None and time.monotonic() >= call.deadline_s:
                raise TimedOut("the deadline passed while the model ran; allow more time or send fewer rows") from exc
            raise _run_error(exc) from exc

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

    def _inner_session(self, names: Sequence[str]) -> Any:
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
            session = self._session(self._extended(sorted(wanted.difference(base))))
            for arg in session.get_outputs():
                if arg.name in names and arg.type not in _DTYPES:
                    raise BadTensor(f'output "{arg.name}" is a {arg.type}, which GraphPipe can\'t carry')
            self._inner = (wanted, session)
            return session

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

    def _session(self, graph: str | bytes) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._engine.threads
        options.inter_op_num_threads = 1
        # Lower levels cost twice the time per run: the NCHWc layout pass is in the last one.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _ERROR_LOG
        for key, value in _session_config(self._engine, graph, beside=self._graph).items():
            options.add_session_config_entry(key, value)
        if self._external_data:
            names, buffers = list(self._external_data), list(self._external_data.values())
            sizes = [memoryview(buffer).nbytes for buffer in buffers]
            options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
        try:
            return onnxruntime.InferenceSession(
                graph, options, providers=list(self._engine.providers), enable_fallback=0
            )
        except Exception as exc:
            where = f" {os.path.basename(graph)}" if isinstance(graph, str) else ""
            raise BadModel(f"the ONNX model{where} can't be loaded: {_told(exc)}; export it again") from exc


def _session_config(engine: Engine, graph: str | bytes, *, beside: str | bytes | None) -> dict[str, str]:
    config = {
        # Spinning threads burn the CPU quota that functions are given, and their neighbours' cores.
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.use_external_initializer_file_buffers_directly": "1",
    }
    if not engine.prepack:
        config["session.disable_prepacking"] = "1"
    if isinstance(graph, bytes) and isinstance(beside, str):
        folder = os.path.dirname(os.path.abspath(beside))
        config["session.model_external_initializers_file_folder_path"] = folder
    return config


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
        if arg.type not in _DTYPES:
            raise BadModel(f'input "{arg.name}" is a {arg.type}, which GraphPipe can\'t carry')
    return ordered


def _io(arg: Any, value_inputs: Mapping[str, ValueInput]) -> IOMetadata:
    dtype = _DTYPES[arg.type]
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
    """Refuse NaN and infinity; minimum and maximum carry them, at half the cost of looking at each value."""
    if array.dtype.kind != "f" or not array.size:
        return
    if not (math.isfinite(array.min()) and math.isfinite(array.max())):
        raise BadTensor(f"{what} holds NaN or infinity; send finite numbers")


def _run_error(exc: Exception) -> GraphPipeError:
    told = _told(exc)
    # The graph is loaded and fixed, so a run that fails does so because of the values and sizes of this request.
    if "allocate memory" in told or "bad_alloc" in told:
        return TooLarge("the run needs more memory than there is; send fewer rows")
    return BadTensor(f"the model can't take these tensors: {told}")


def _told(exc: Exception) -> str:
    """Return onnxruntime's words for people: one line, without its own source paths and codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(exc).split()))
    text = re.sub(r"/\S+:\d+ [^()]*\([^()]*\)(?: const)? ?", "", text)  # where in its source: file:line signature()
    text = re.sub(r"(?:/[\w.+-]+)+/", "", text)
    return text[:300]
