"""A float batch to probabilities, on AWS Lambda; the model's fetch starts while this module is imported."""

import gc
import os
from typing import Any

gc.disable()  # until the first answer: what is imported stays, and looking through it again and again takes 10 ms

from classy.aws.snapshots import keep_in_snapshot
from classy.aws.stage import noise, stage_handler
from classy.peers import handover, served
from classy.pipeline import vgg
from classy.settings import Settings
from classy.telemetry import telemetry

settings = Settings.from_env(os.environ)
model = vgg(settings)
handle = stage_handler(
    served(model, settings),
    name="vgg",
    prepare=model.metadata,
    sample=lambda: noise(model),
    handover=handover(settings),
    telemetry=telemetry("vgg", settings.telemetry),
)
keep_in_snapshot(os.environ, prepare=model.metadata, renew=lambda: None)


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer an event."""
    try:
        return handle(event, context)
    finally:
        gc.enable()
