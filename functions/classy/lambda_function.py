"""Classy, the front, on AWS Lambda: HTTP, queues of uploads, events, direct invokes; func.py is the same for Fn."""

import os
from pathlib import Path

from classy.aws.front import Front
from classy.aws.snapshots import keep_in_snapshot
from classy.front import Classy
from classy.settings import Settings
from classy.telemetry import telemetry

settings = Settings.from_env(os.environ)
classy = Classy(settings, telemetry=telemetry("classy", settings.telemetry))
handler = Front(classy, settings, sample=Path(__file__).with_name("sample.jpg").read_bytes)
keep_in_snapshot(os.environ, prepare=classy.prepare, renew=classy.close)
