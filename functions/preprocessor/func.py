"""Pictures' bytes to the batch that the model takes."""

import os

from classy.pipeline import preprocessor, served
from classy.settings import Settings
from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

settings = Settings.from_env(os.environ)
model = served(preprocessor(settings), settings)
handler = fn_handler(answerer(model, name="preprocessor"), metadata=model.metadata)
