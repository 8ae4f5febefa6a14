"""Pictures' bytes to the batch that the model takes, on AWS Lambda; func.py is the same for Fn."""

import os

from classy.aws.stage import stage_handler
from classy.pipeline import preprocessor, served
from classy.settings import Settings

settings = Settings.from_env(os.environ)
handler = stage_handler(served(preprocessor(settings), settings), name="preprocessor")
