"""
Uploads that nobody waits for: each stage hands its result on and ends, and the last one brings it to Classy.

A stage that is waited for is paid for twice, by whoever waits as well. An upload has no caller, so its message
carries what a caller would remember: where the picture came from, what was said of it, what each hop cost, and the
hops that are left. Lambda queues each message, tries a failure again, and keeps what fails in the end in the
function's dead-letter queue; records are idempotent, so a message that comes twice changes nothing.

The message is GraphPipe's; its config holds the route under "then". One message, one picture: a picture as float32
is 0.8 MB, and what Lambda queues has at most 1 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

from classy.errors import FINAL, UploadDelayed
from classy.records.values import Source
from graphpipe_fn.errors import BadConfig, BadTensor
from graphpipe_fn.messages import (
    Call,
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
from graphpipe_fn.routed import HOPS_MAX, encode_config, parse_config
from graphpipe_fn.rows import ABOUT, ERRORS, decode_about, decode_row_errors, encode_row_errors, raised, row_count
from graphpipe_fn.values import dataclass

THEN = "then"
MODEL = "model"

HandOn = Callable[[str, InferRequest], None]
"""Send a message to a URI, and wait only until it is queued there."""


@dataclass(frozen=True, slots=True)
class Then:
    """
    What travels with a picture that nobody waits for.

    Args:
        hops: URIs that are left; the last one takes the outcome.
        source: Where the picture came from.
        about: What the stages said of it so far, lines of JSON.
        timings: What each stage so far cost.
    """

    hops: tuple[str, ...]
    source: Source
    about: str = ""
    timings: tuple[Timing, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as the config holds it."""
        return {
            "hops": list(self.hops),
            "source": asdict(self.source),
            "about": self.about,
            "timings": [[hop.name, hop.seconds, hop.cold] for hop in self.timings],
        }

    @classmethod
    def parse(cls, value: Any) -> Self:
        """
        Read what as_json() made.

        Raises:
            BadConfig: anything else.
        """
        try:
            then = cls(
                tuple(str(hop) for hop in value["hops"]),
                Source(**value["source"]),
                str(value["about"]),
                tuple(Timing(str(name), float(seconds), cold) for name, seconds, cold in value["timings"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise BadConfig(f'the config\'s "{THEN}" is none that Classy wrote ({exc!r})') from exc
        if not 1 <= len(then.hops) <= HOPS_MAX:
            raise BadConfig(f'the config\'s "{THEN}" has {len(then.hops)} hops; it takes 1 to {HOPS_MAX}')
        return then


def begin(source: Source, uri: str, hops: Sequence[str], *, call: Call, **config: Any) -> InferRequest:
    """
    Return the message with which a picture sets out.

    Args:
        source: For its record.
        uri: Where the Downloader fetches it.
        hops: Behind the one that gets this message.
        config: For all stages: the model, the thumbnail's size.
    """
    return InferRequest(
        (strings([uri]),),
        config=encode_config(None, **config, then=Then(tuple(hops), source).as_json()),
        call=_unhurried(call),
    )


class Continued:
    """
    Be a stage as its function serves it, that also takes pictures nobody waits for.

    Args:
        waited: Answers requests of callers who wait.
        stage: The function's own stage.
        hand_on: Sends on.
        allowed: URIs that a message may name as hops.
    """

    def __init__(self, waited: Model, stage: Model, *, hand_on: HandOn, allowed: Collection[str]) -> None:
        self._waited = waited
        self._stage = stage
        self._hand_on = hand_on
        self._allowed = frozenset(allowed)

    def metadata(self) -> Metadata:
        """Return the stage's metadata."""
        return self._waited.metadata()

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer, or hand on and answer with nothing.

        Raises:
            BadConfig: the route is none, or names a hop that is not allowed.
            UploadDelayed: what went wrong with the picture may go well later.
            GraphPipeError: the stage's own, or the message can't be sent on.
        """
        if f'"{THEN}"' not in request.config:
            return self._waited.infer(request)
        rest = parse_config(request.config).rest
        then = Then.parse(rest.pop(THEN, None))
        for hop in then.hops:
            if hop not in self._allowed:
                raise BadConfig(f'the hop "{hop[:200]}" is not allowed; add it to this function\'s allowed hops')
        if row_count(request.inputs) != 1:
            raise BadTensor("a message that nobody waits for holds one picture; send each by itself")
        last = len(then.hops) == 1
        names = ("", ERRORS, ABOUT, *((MODEL,) if last else ()))
        response = self._stage.infer(request.replace(output_names=names, config=encode_config(**rest)))
        error, line = decode_row_errors(response.outputs[1])[0], decode_about(response.outputs[2])[0]
        if error is not None and error.code not in FINAL:
            raise UploadDelayed(f"{then.source.uri} can't be dealt with now: {error.message}")
        then = replace(
            then,
            hops=then.hops[-1:] if error else then.hops,
            about="\n".join(part for part in (then.about, line) if part),
            timings=(*then.timings, *response.timings),
        )
        hop, *hops = then.hops
        inputs: tuple[Tensor, ...] = (response.outputs[0],)
        if not hops:
            model = response.outputs[3] if last and not error else strings([""])
            inputs, hops = (StringTensor((), (0,)) if error else inputs[0], model, encode_row_errors([error])), [hop]
        config = encode_config(None, **rest, then=replace(then, hops=tuple(hops)).as_json())
        self._hand_on(hop, InferRequest(inputs, config=config, call=_unhurried(request.call)))
        return InferResponse((), (), response.timings)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of a picture that nobody waited for.

    Args:
        row: Its probabilities, float32 (classes,), or its error.
        model: NAME@VERSION that was asked.
    """

    row: Any
    model: str
    then: Then

    @classmethod
    def of(cls, request: InferRequest) -> Self:
        """
        Read the last stage's message.

        Raises:
            BadConfig, BadTensor: it is none.
        """
        rest = parse_config(request.config).rest
        then = Then.parse(rest.get(THEN))
        if len(request.inputs) != 3:
            raise BadTensor(f"an outcome has probabilities, a model and errors, not {len(request.inputs)} tensors")
        probabilities, model, errors = request.inputs
        error: Error | None = decode_row_errors(errors)[0]
        if error is None and (isinstance(probabilities, StringTensor) or probabilities.ndim != 2):
            raise BadTensor("an outcome's probabilities are numbers of shape [1, classes]")
        asked = rest.get(MODEL)
        answered = model[0].decode("utf-8", "replace") if isinstance(model, StringTensor) and len(model) else ""
        return cls(
            raised(error) if error else probabilities[0], answered or (asked if isinstance(asked, str) else ""), then
        )


def _unhurried(call: Call) -> Call:
    """Return the call without its deadline: the next stage has a time of its own."""
    return replace(call, deadline_s=None)
