"""Take longer to import than the timeout of the tests."""

import time

time.sleep(600)


def handler(ctx, data=None):
    return "unreachable"
