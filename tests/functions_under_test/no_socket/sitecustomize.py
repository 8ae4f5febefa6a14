"""Python imports this before fdk runs, as the folder is on its path."""

import time

time.sleep(600)
