"""Pictures' bytes to the batch that the model takes, on AWS Lambda; func.py is the same for Fn."""

import os

from classy.aws.stage import stage_handler
from classy.peers import handover, served
from classy.pipeline import preprocessor
from classy.settings import Settings
from classy.telemetry import telemetry

settings = Settings.from_env(os.environ)
model = served(preprocessor(settings), settings)
handler = stage_handler(
    model, name="preprocessor", handover=handover(settings), telemetry=telemetry("preprocessor", settings.telemetry)
)
