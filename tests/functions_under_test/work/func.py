"""Take a while, then answer with a checksum that only a right answer has."""

import hashlib
import os
import time


def handler(ctx, data=None):
    body = data.getvalue()
    time.sleep(float(os.environ.get("WORK_S", "0.02")))
    return hashlib.sha256(body).hexdigest()
