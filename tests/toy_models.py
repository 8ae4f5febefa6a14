"""Small real models that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphpipe_fn.binding import bind
from graphpipe_fn.errors import BadTensor, GraphPipeError
from graphpipe_fn.messages import (
    DType,
    Error,
    InferRequest,
    InferResponse,
    IOMetadata,
    Metadata,
    StringTensor,
    Timing,
    strings,
)
from graphpipe_fn.rows import ABOUT, ERRORS, encode_row_errors, error_of


@dataclass
class Texts:
    """A String (N,) → String (N,) model with row errors, and `about` where it is given; remembers its requests."""

    change: Callable[[str], str]
    name: str = "texts"
    about: Callable[[str], str] | None = None
    seen: list[InferRequest] = field(default_factory=list)

    def metadata(self) -> Metadata:
        """Describe one String input and, beside the texts, their errors."""
        text = IOMetadata("text", shape=(-1,), dtype=DType.STRING)
        names = (ERRORS, ABOUT) if self.about else (ERRORS,)
        outputs = (text, *(IOMetadata(name, "", (-1,), DType.STRING) for name in names))
        return Metadata(self.name, "1", "tests", "", (text,), outputs)

    def infer(self, request: InferRequest) -> InferResponse:
        """Change each text; a GraphPipeError from `change` is that row's own."""
        self.seen.append(request)
        bound = bind(request, self.metadata(), default_outputs=["text"])
        given = bound.inputs["text"]
        if not isinstance(given, StringTensor):
            raise BadTensor("texts only")
        changed: list[str] = []
        errors: list[Error | None] = []
        for value in given:
            try:
                changed.append(self.change(value.decode()))
                errors.append(None)
            except GraphPipeError as exc:
                if ERRORS not in bound.outputs:
                    raise
                changed.append("")
                errors.append(error_of(exc))
        outputs = {"text": strings(changed), ERRORS: encode_row_errors(errors)}
        if self.about:
            outputs[ABOUT] = strings([self.about(value.decode()) for value in given])
        return InferResponse(tuple(outputs[name] for name in bound.outputs), (), (Timing(self.name, 0.0),))


def refuse(text: str, *, when: str) -> str:
    """Raise BadTensor for one text, return the others as they are."""
    if text == when:
        raise BadTensor(f"{text} is refused")
    return text
