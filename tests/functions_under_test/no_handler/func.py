"""Has no handler."""


def other(ctx, data=None):
    return "unreachable"
