"""
The classifier: a fetched model as a Model whose outputs are probabilities, row by row.

What the manifest says is held against the graph before the first request. It knows no labels' text and no
pictures; which class has which name is for who reads the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classy.errors import ModelSpoilt
from classy.models.fetch import FetchedModel
from classy.models.files import mapped
from classy.models.manifest import Manifest
from graphpipe_fn.binding import bind
from graphpipe_fn.errors import BadModel, BadTensor, GraphPipeError, TooLarge
from graphpipe_fn.messages import (
    DType,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Tensor,
    shape_of,
    strings,
)
from graphpipe_fn.onnx import Engine, OnnxModel
from graphpipe_fn.onnx_file import external_files
from graphpipe_fn.rows import ABOUT, ERRORS, encode_row_errors, error_of, put_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERVER = "classy"
INPUT, PROBABILITIES, MODEL = "input", "probabilities", "model"
# Reordering the weights at load makes batches up to twice as fast, but with VGG's dense layers a cold start of 0.6 s
# takes 3.2 s and half as much memory again; without such layers there is nothing to win (models below 100 MB).
PREPACK_LIMIT_BYTES = 256_000_000
ORDINARY = 10_000.0  # normalised pixels are below 300 with every known preprocessing
SLACK = 1e-3  # what float32 rounding may do to a probability


class Classifier:
    """
    Answer which class each row of a batch is.

    Outputs: "probabilities" (the default), "errors" and "about" (see graphpipe_fn.rows; it has nothing to say in the
    latter), "model" (NAME@VERSION per row), and any value that the graph computes, by its name.

    Args:
        fetched: The model's files, already checked.
        threads: Of one inference.
        limit_rows: Rows in one request, at most.

    Raises:
        ModelSpoilt: the graph can't be loaded, or is not what the manifest says.
    """

    def __init__(self, fetched: FetchedModel, *, threads: int = 1, limit_rows: int = 64) -> None:
        manifest = fetched.manifest
        size = sum(file.bytes for file in manifest.files)
        try:
            _check_files(fetched)
            self._graph = OnnxModel(
                fetched.graph,
                name=manifest.name,
                version=manifest.version,
                external_data=fetched.external_data,
                engine=Engine(threads=threads, prepack=size < PREPACK_LIMIT_BYTES),
                check_finite=False,  # done here, where one row's fault is not the others'
            )
        except BadModel as exc:
            raise ModelSpoilt(f"{manifest.ref} can't be loaded: {exc.message}") from exc
        self._one_by_one = _check_graph(self._graph.metadata(), manifest)
        self._manifest = manifest
        self._limit_rows = limit_rows
        self._metadata = Metadata(
            name=manifest.name,
            version=manifest.version,
            server=SERVER,
            description=manifest.description,
            inputs=(
                IOMetadata(manifest.input.name, "normalised pixels", (-1, *manifest.input.row_shape), DType.FLOAT32),
            ),
            outputs=(
                IOMetadata(PROBABILITIES, "of each class", (-1, manifest.output.classes), DType.FLOAT32),
                IOMetadata(ERRORS, "why a row failed, empty where it did not", (-1,), DType.STRING),
                IOMetadata(MODEL, "NAME@VERSION that answered", (-1,), DType.STRING),
                IOMetadata(ABOUT, "empty", (-1,), DType.STRING),
            ),
        )

    def metadata(self) -> Metadata:
        """Return the manifest's name and version, the graph's input and the three outputs that every model has."""
        return self._metadata

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Classify each row.

        Raises:
            UnknownName: an input or output that there is not.
            BadTensor: no rows, or rows that the model can't take.
            TooLarge: more rows than the limit.
            TimedOut: the request's deadline passed.
            GraphPipeError: the first bad row's error, where the row errors were not asked for.
        """
        if request.input_names == (INPUT,):  # every classifier's input goes by this name beside its graph's own
            request = request.replace(input_names=())
        bound = bind(request, self._metadata, default_outputs=[PROBABILITIES], extra_outputs=True)
        batch: Any = bound.inputs[self._manifest.input.name]
        count = len(batch)
        if count == 0:
            raise BadTensor("an empty batch; send at least one row")
        if count > self._limit_rows:
            raise TooLarge(f"{count} rows in one request; the limit is {self._limit_rows}, send them in parts")

        failed = _not_finite(batch)
        good = [row for row in range(count) if row not in failed]
        own = (PROBABILITIES, ERRORS, MODEL, ABOUT)
        inner = [name for name in dict.fromkeys(bound.outputs) if name not in own]
        outputs: dict[str, Tensor] = {}
        if good:
            rows = batch if len(good) == count else batch[good]
            results = self._run(rows, [self._manifest.output.name, *inner], request)
            result: Any = results[0]
            probabilities, wrong = self._probabilities(result, len(rows))
            failed.update({good[place]: self._wrong_row(result[place], rows[place]) for place in wrong})
            outputs = {
                name: _spread(name, tensor, good, count) for name, tensor in zip(inner, results[1:], strict=True)
            }
            outputs[PROBABILITIES] = put_rows(probabilities, good, count)
        if failed and ERRORS not in bound.outputs:
            raise _first(failed, count)
        outputs.setdefault(PROBABILITIES, _zeros(count, self._manifest.output.classes))
        outputs[ERRORS] = encode_row_errors(
            [error_of(failed[row]) if row in failed else None for row in range(count)]
        )
        outputs[MODEL] = strings([self._manifest.ref] * count)
        outputs[ABOUT] = strings([""] * count)
        nothing = StringTensor((), (0,))  # what the graph's own values look like nobody knows without a run
        return InferResponse(tuple(outputs.get(name, nothing) for name in bound.outputs))

    def _run(self, batch: NDArray[Any], names: Sequence[str], request: InferRequest) -> list[Tensor]:
        ask = InferRequest(output_names=tuple(names), call=request.call)
        if not self._one_by_one or len(batch) == 1:
            return list(self._graph.infer(ask.replace(inputs=(batch,))).outputs)
        answers = [
            self._graph.infer(ask.replace(inputs=(batch[row : row + 1],))).outputs for row in range(len(batch))
        ]
        return [_joined(name, tensors) for name, tensors in zip(names, zip(*answers, strict=True), strict=True)]

    def _probabilities(self, result: Any, count: int) -> tuple[NDArray[Any], list[int]]:
        """Return float32 (N, classes), and the rows that can't be probabilities, all zeros."""
        import numpy as np

        spec = self._manifest.output
        values = result.reshape(len(result), -1)
        if values.shape != (count, spec.skip + spec.classes):
            raise ModelSpoilt(
                f"{self._manifest.ref} answered {list(result.shape)} for {count} rows, not {spec.skip} + "
                f"{spec.classes} classes each; publish it again with the right output"
            )
        right = np.isfinite(values).all(axis=1)
        if spec.kind == "probabilities":
            right &= (values >= -SLACK).all(axis=1) & (values <= 1 + SLACK).all(axis=1)
        values = np.where(right[:, None], values, np.float32(0))[:, spec.skip :]
        if spec.kind == "logits":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
            values[~right] = 0
        return np.ascontiguousarray(values), [int(place) for place in np.flatnonzero(~right)]

    def _wrong_row(self, answer: NDArray[Any], row: NDArray[Any]) -> GraphPipeError:
        largest = max(abs(float(row.min())), abs(float(row.max())))
        if largest > ORDINARY:
            return BadTensor(f"values up to {largest:.3g} lead to no probabilities; send normalised pixels")
        what = f"{float(answer.min()):.3g} to {float(answer.max()):.3g}"
        return ModelSpoilt(
            f"{self._manifest.ref} answered {what} where its manifest says {self._manifest.output.kind}; "
            "publish it again with the right output (logits where the graph ends before its softmax)"
        )


def _check_files(fetched: FetchedModel) -> None:
    """Refuse weights that the manifest does not list: onnxruntime may take them from anywhere, and unchecked."""
    graph = mapped(fetched.graph) if isinstance(fetched.graph, Path) else fetched.graph
    unlisted = set(external_files(graph)).difference(file.name for file in fetched.manifest.files[1:])
    if unlisted:
        raise ModelSpoilt(
            f"the graph of {fetched.manifest.ref} takes weights from {min(unlisted)!r:.200}, which its manifest does "
            "not list; publish it again with all of its files"
        )


def _check_graph(graph: Metadata, manifest: Manifest) -> bool:
    """
    Hold the graph against its manifest.

    Returns:
        Whether the graph takes only one row at a time.

    Raises:
        ModelSpoilt: they differ.
    """
    spec, output = manifest.input, manifest.output
    have = {io.name: io for io in graph.inputs}
    row = spec.row_shape
    if list(have) != [spec.name]:
        raise _differ(manifest, f"input {spec.name!r}", f"inputs {list(have)}")
    taken = have[spec.name]
    if taken.dtype is not DType.FLOAT32 or not _fits(taken.shape, (-1, *row)):
        raise _differ(manifest, f"float32 {[-1, *row]}", f"{taken.dtype.name.lower()} {list(taken.shape)} as input")
    given = {io.name: io for io in graph.outputs}.get(output.name)
    if given is None:
        raise _differ(manifest, f"output {output.name!r}", f"outputs {[io.name for io in graph.outputs]}")
    columns = output.skip + output.classes
    flat = given.shape[:2] if all(dim in (-1, 1) for dim in given.shape[2:]) else given.shape
    # A graph whose output has no shape is believed until it has answered.
    if given.dtype is not DType.FLOAT32 or (flat and not _fits(flat, (-1, columns))):
        raise _differ(
            manifest,
            f"float32 [-1, {columns}] ({output.skip} skipped, {output.classes} classes)",
            f"{given.dtype.name.lower()} {list(given.shape)} as output",
        )
    if taken.shape[0] > 1:
        raise ModelSpoilt(
            f"the graph of {manifest.ref} takes exactly {taken.shape[0]} rows; export it with a free batch, or 1"
        )
    return taken.shape[0] == 1


def _fits(shape: Sequence[int], want: Sequence[int]) -> bool:
    return len(shape) == len(want) and all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, want, strict=True))


def _differ(manifest: Manifest, said: str, found: str) -> ModelSpoilt:
    return ModelSpoilt(f"the manifest of {manifest.ref} says {said}, its graph has {found}; publish it again")


def _not_finite(batch: NDArray[Any]) -> dict[int, GraphPipeError]:
    if math.isfinite(batch.min()) and math.isfinite(batch.max()):  # both carry NaN
        return {}
    import numpy as np

    bad = np.flatnonzero(~np.isfinite(batch.reshape(len(batch), -1)).all(axis=1))
    return {int(row): BadTensor("it holds NaN or infinity; send finite numbers") for row in bad}


def _first(failed: dict[int, GraphPipeError], count: int) -> GraphPipeError:
    row = min(failed)
    error = failed[row]
    # In the output `errors` the place tells which row it is; here the message has to.
    return error if count == 1 else type(error)(f"row {row + 1} of {count}: {error.message}")


def _spread(name: str, tensor: Tensor, good: Sequence[int], count: int) -> Tensor:
    if len(good) < count and shape_of(tensor)[:1] != (len(good),):
        raise BadTensor(f'output "{name}" has no rows, so it can\'t be had beside a row that failed; ask without it')
    return put_rows(tensor, good, count)


def _joined(name: str, tensors: Sequence[Tensor]) -> Tensor:
    if any(isinstance(tensor, StringTensor) or shape_of(tensor)[:1] != (1,) for tensor in tensors):
        raise BadTensor(f'output "{name}" has no rows; ask for it with one row at a time')
    import numpy as np

    return np.concatenate(tensors)


def _zeros(count: int, classes: int) -> NDArray[Any]:
    import numpy as np

    return np.zeros((count, classes), np.float32)
