"""Chain: each model's outputs are the next one's inputs; where one of them is remote, nothing changes here."""

from __future__ import annotations

from graphpipe_fn.errors import BadTensor, UnknownName
from graphpipe_fn.messages import (
    Error,
    InferRequest,
    InferResponse,
    Metadata,
    StringTensor,
    Tensor,
    Timing,
    strings,
)
from graphpipe_fn.model import Model
from graphpipe_fn.rows import (
    ABOUT,
    ERRORS,
    decode_about,
    decode_row_errors,
    encode_row_errors,
    put_rows,
    row_count,
    take_rows,
)
from graphpipe_fn.values import dataclass


@dataclass(frozen=True, slots=True)
class Configured:
    """Be a model that always sends this config, whatever the request's own says."""

    model: Model
    config: str

    def metadata(self) -> Metadata:
        return self.model.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        return self.model.infer(request.replace(config=self.config))


class Chain:
    """
    Be several models as one.

    The first model gets the request's inputs, the last one its output names; in between each model's default
    outputs go to the next model in order. All get the request's config (see Configured). Asked for the output
    `errors` (see rows), a chain asks every model for it and sends on only the rows that are still good; asked for
    `about` as well, it asks every model for that too and answers with all their lines.
    """

    def __init__(self, *models: Model) -> None:
        if not models:
            raise ValueError("a Chain needs at least one model")
        self.models = models

    def metadata(self) -> Metadata:
        """Return the last model's metadata with the first model's inputs."""
        first, last = self.models[0].metadata(), self.models[-1].metadata()
        return Metadata(last.name, last.version, last.server, last.description, first.inputs, last.outputs)

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Run the models one after the other.

        Raises:
            GraphPipeError: any model's own, for the request as a whole.
        """
        if ERRORS in request.output_names:
            return self._infer_rows(request)
        timings: list[Timing] = []
        for model in self.models[:-1]:
            response = model.infer(request.replace(output_names=()))
            timings += response.timings
            request = request.replace(inputs=response.outputs, input_names=())
        response = self.models[-1].infer(request)
        return InferResponse(response.outputs, response.errors, (*timings, *response.timings))

    def _infer_rows(self, request: InferRequest) -> InferResponse:
        names = request.output_names
        gathered = tuple(name for name in (ABOUT, ERRORS) if name in names)
        for name in gathered:
            if names.count(name) > 1:
                raise UnknownName(f'output "{name}" was asked for twice; ask once')
        count = row_count(request.inputs)
        errors: list[Error | None] = [None] * count
        about: list[list[str]] = [[] for _ in range(count)]
        good = list(range(count))
        timings: list[Timing] = []
        outputs: list[Tensor] = []
        for place, model in enumerate(self.models, start=1):
            wanted = names if place == len(self.models) else ("", *gathered)
            response = model.infer(request.replace(output_names=wanted))
            timings += response.timings
            if len(response.outputs) != len(wanted):
                raise BadTensor(f"a model was asked for {len(wanted)} outputs and answered {len(response.outputs)}")
            found = decode_row_errors(response.outputs[wanted.index(ERRORS)])
            lines = decode_about(response.outputs[wanted.index(ABOUT)]) if ABOUT in wanted else [""] * len(found)
            if len(found) != len(good) or len(lines) != len(good):
                raise BadTensor(f"a model was asked about {len(good)} rows and answered about {len(found)}")
            kept = [row for row, error in enumerate(found) if error is None]
            for row, error in enumerate(found):
                errors[good[row]] = error
                about[good[row]] += [lines[row]] if lines[row] else []
            good = [good[row] for row in kept]
            outputs = [
                take_rows(output, kept)
                for name, output in zip(wanted, response.outputs, strict=True)
                if name not in gathered
            ]
            if not good:
                # Nothing is left to ask the next model about; what its rows would look like nobody knows.
                outputs = [StringTensor((), (0,)) for name in names if name not in gathered]
                break
            request = request.replace(inputs=tuple(outputs), input_names=())
        rest = iter([put_rows(output, good, count) for output in outputs])
        own = {ERRORS: encode_row_errors(errors), ABOUT: strings(["\n".join(lines) for lines in about])}
        return InferResponse(
            tuple(own[name] if name in gathered else next(rest) for name in names), (), tuple(timings)
        )
