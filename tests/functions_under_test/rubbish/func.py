"""Never get there: the folder's sitecustomize answers on the socket itself, and not as an FDK does."""


def handler(ctx, data=None):
    return "unreachable"
