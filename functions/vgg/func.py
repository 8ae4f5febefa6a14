"""A float batch to probabilities; the model's fetch starts while this module is imported."""

import os

from classy.pipeline import vgg, served
from classy.settings import Settings
from graphpipe_fn.adapters.fn import handler as fn_handler
from graphpipe_fn.server import answerer

settings = Settings.from_env(os.environ)
handler = fn_handler(answerer(served(vgg(settings), settings), name="vgg"))
