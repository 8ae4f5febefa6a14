"""URLs to pictures' bytes."""

import os

from classy.pipeline import downloader, served
from classy.settings import Settings
from classy.telemetry import telemetry
from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

settings = Settings.from_env(os.environ)
model = served(downloader(settings), settings)
watched = telemetry("downloader", settings.telemetry).watched
handler = fn_handler(watched(answerer(model, name="downloader")), metadata=model.metadata)
