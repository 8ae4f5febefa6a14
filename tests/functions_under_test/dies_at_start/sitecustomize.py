"""Python imports this before fdk runs, as the folder is on its path."""

import os

os._exit(7)
