"""Pictures' bytes to the batch that the model takes."""

import os

from classy.pipeline import preprocessor, served
from classy.settings import Settings
from classy.telemetry import telemetry
from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

settings = Settings.from_env(os.environ)
model = served(preprocessor(settings), settings)
watched = telemetry("preprocessor", settings.telemetry).watched
handler = fn_handler(watched(answerer(model, name="preprocessor")), metadata=model.metadata)
