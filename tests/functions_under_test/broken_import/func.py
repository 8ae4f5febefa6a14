"""Can't be imported."""

import a_module_that_does_not_exist  # noqa: F401


def handler(ctx, data=None):
    return "unreachable"
