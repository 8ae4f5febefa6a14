"""Classy, the front: JSON or a picture in, labels out; uploads' events in, results written; the HTTP API."""

import os

from classy.front import Classy
from classy.settings import Settings
from classy.telemetry import telemetry
from classy.web.trigger import Triggered
from graphpipe_fn.adapters.fn import handler as fn_handler

settings = Settings.from_env(os.environ)
classy = Classy(settings, telemetry=telemetry("classy", settings.telemetry))
handler = fn_handler(classy.answer, triggered=Triggered(classy, settings))
