"""URLs to pictures' bytes, on AWS Lambda; func.py is the same for Fn."""

import os

from classy.aws.stage import stage_handler
from classy.peers import handover, served
from classy.pipeline import downloader
from classy.settings import Settings
from classy.telemetry import telemetry

settings = Settings.from_env(os.environ)
model = served(downloader(settings), settings)
handler = stage_handler(
    model, name="downloader", handover=handover(settings), telemetry=telemetry("downloader", settings.telemetry)
)
