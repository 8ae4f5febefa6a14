"""Classy, the front: JSON or a picture in, labels out; uploads' events in, results written."""

import os

from classy.front import Classy
from classy.settings import Settings
from graphpipe_fn.adapters.fn import handler as fn_handler

handler = fn_handler(Classy(Settings.from_env(os.environ)).answer)
