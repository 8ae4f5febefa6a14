"""Answer with as many bytes as the body says, or with the size and hash of the body."""

import hashlib

from fdk.response import Response


def handler(ctx, data=None):
    body = data.getvalue()
    if len(body) < 20:
        return Response(ctx, response_data=b"\x00\xff" * (int(body) // 2), headers={"Content-Type": "image/x-raw"})
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"
