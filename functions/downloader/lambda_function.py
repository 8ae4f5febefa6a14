"""URLs to pictures' bytes, on AWS Lambda; func.py is the same for Fn."""

import os

from classy.aws.stage import stage_handler
from classy.pipeline import downloader, served
from classy.settings import Settings

settings = Settings.from_env(os.environ)
handler = stage_handler(served(downloader(settings), settings), name="downloader")
