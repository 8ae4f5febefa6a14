"""Start a process of its own and answer with its pid."""

import subprocess


def handler(ctx, data=None):
    return str(subprocess.Popen(["/bin/sleep", "600"]).pid)
