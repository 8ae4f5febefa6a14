"""The model that every road is tested with: it hands tensors back, or fails as its config says."""

from __future__ import annotations

import time

from graphpipe_fn import errors
from graphpipe_fn.binding import bind
from graphpipe_fn.messages import Error, InferRequest, InferResponse, IOMetadata, Metadata, Timing

# What no caller may ever read.
SECRET = "the password is swordfish"


class ContractModel:
    """Be the identity on one input of any dtype and shape; the config chooses other behaviours."""

    def metadata(self) -> Metadata:
        """Describe one input and one output."""
        return Metadata(
            "contract", "1", "tests", "Gives back what it gets.", (IOMetadata("x", "anything"),), (IOMetadata("y"),)
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """
        Answer, fail, or take long.

        Configs: "" · "raise CLASS" · "bug" · "sleep SECONDS" · "call" (what the Call held) · "errors CODE" (returned,
        not raised) · "unsendable" (an output of no GraphPipe dtype).
        """
        what, _, detail = request.config.partition(" ")
        if what == "raise":
            raise getattr(errors, detail)(f"refused with {detail}", retry_after_s=7.2)
        if what == "bug":
            raise ZeroDivisionError(SECRET)
        if what == "sleep":
            time.sleep(float(detail))
        if what == "errors":
            return InferResponse(errors=(Error(int(detail), "returned"),))
        if what == "unsendable":
            import numpy as np

            return InferResponse((np.zeros(2, complex),))
        bound = bind(request, self.metadata())
        if what == "call":
            from graphpipe_fn.messages import strings

            left_s = -1.0 if request.call.deadline_s is None else request.call.deadline_s - time.monotonic()
            return InferResponse((strings([request.call.id, request.call.traceparent, f"{left_s:.3f}"]),))
        return InferResponse((bound.inputs["x"],), timings=(Timing("inner", 0.0, None),))
