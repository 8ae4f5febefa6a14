"""
Session: onnxruntime's types, options and exceptions, translated once. It knows no requests and no metadata.

onnxruntime is imported with the first Session.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphpipe_fn.deadline import ALARMS, left_s
from graphpipe_fn.errors import BadModel, BadTensor, GraphPipeError, TimedOut, TooLarge
from graphpipe_fn.messages import Call, DType
from graphpipe_fn.model import Buffer
from graphpipe_fn.values import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

# onnxruntime's names of element types. GraphPipe has no bool: it travels as uint8, 0 or 1.
DTYPES = {
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


def load_onnxruntime() -> Any:
    """
    Return the package, imported so that it reports to nobody.

    Release 1.31 keeps a device id and sends usage to its maker unless this variable is set before the import; its own
    function for that comes too late. Who sets the variable decides.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


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


class Session:
    """
    Run one graph; from several threads at once.

    Args:
        graph: A file's path, or its bytes.
        engine: How onnxruntime works.
        folder: Where files of weights are looked for, if the graph is given as bytes.
        external_data: The bytes of such files, by name; they must stay as they are.
        partial: Compute only what the outputs asked for need.

    Raises:
        BadModel: onnxruntime can't load the graph.
    """

    def __init__(
        self,
        graph: str | bytes,
        engine: Engine,
        *,
        folder: str = "",
        external_data: Mapping[str, Buffer] | None = None,
        partial: bool = False,
    ) -> None:
        onnxruntime = load_onnxruntime()

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = engine.threads
        options.inter_op_num_threads = 1
        # Lower levels cost twice the time per run: the NCHWc layout pass is in the last one.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _ERROR_LOG
        for key, value in _config(engine, folder).items():
            options.add_session_config_entry(key, value)
        if external_data:
            names, buffers = list(external_data), list(external_data.values())
            sizes = [memoryview(buffer).nbytes for buffer in buffers]
            options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=list(engine.providers), enable_fallback=0
            )
        except Exception as exc:
            where = f" {os.path.basename(graph)}" if isinstance(graph, str) else ""
            raise BadModel(f"the ONNX model{where} can't be loaded: {_told(exc)}; export it again") from exc
        self._partial = partial
        self._options = self._run_options()
        self.inputs: list[Any] = self._session.get_inputs()
        self.overridable: list[Any] = self._session.get_overridable_initializers()
        self.outputs: list[Any] = self._session.get_outputs()
        self.about: Any = self._session.get_modelmeta()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], call: Call) -> Sequence[Any]:
        """
        Compute values.

        Args:
            outputs: Their names.
            feeds: An array for each input.
            call: Its deadline stops the run.

        Raises:
            BadTensor: the graph can't take these arrays.
            TooLarge: there is not enough memory.
            TimedOut: the deadline passed.
        """
        try:
            if left_s(call) is None:
                return self._session.run(outputs, feeds, self._options)  # type: ignore[no-any-return]
            assert call.deadline_s is not None  # left_s() has just read it
            options = self._run_options()  # of its own, since the deadline ends it
            with ALARMS.at(call.deadline_s, lambda: setattr(options, "terminate", True)):
                return self._session.run(outputs, feeds, options)  # type: ignore[no-any-return]
        except GraphPipeError:
            raise
        except MemoryError as exc:
            raise TooLarge("the run needs more memory than there is; send fewer rows") from exc
        except Exception as exc:
            if call.deadline_s is not None and time.monotonic() >= call.deadline_s:
                raise TimedOut("the deadline passed while the model ran; allow more time or send fewer rows") from exc
            raise _run_error(exc) from exc

    def _run_options(self) -> Any:
        onnxruntime = load_onnxruntime()

        options = onnxruntime.RunOptions()
        options.log_severity_level = _NO_LOG  # the caller is told; a log line each would be his to write
        options.only_execute_path_to_fetches = self._partial
        return options


def _config(engine: Engine, folder: str) -> dict[str, str]:
    config = {
        # Spinning threads burn the CPU quota that functions are given, and their neighbours' cores.
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.use_external_initializer_file_buffers_directly": "1",
    }
    if not engine.prepack:
        config["session.disable_prepacking"] = "1"
    if folder:
        config["session.model_external_initializers_file_folder_path"] = folder
    return config


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
