"""A float batch to probabilities; the model's fetch starts while this module is imported."""

import os

from classy.pipeline import served, vgg
from classy.settings import Settings
from classy.telemetry import telemetry
from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

settings = Settings.from_env(os.environ)
model = served(vgg(settings), settings)
watched = telemetry("vgg", settings.telemetry).watched
handler = fn_handler(watched(answerer(model, name="vgg")), metadata=model.metadata)
