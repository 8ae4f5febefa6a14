"""Answer with the status that the body names, and with headers that try things."""

from fdk.response import Response


def handler(ctx, data=None):
    headers = {"X-Own": "1", "Connection": "close", "Content-Type": "text/x-own"}
    return Response(ctx, response_data="body", headers=headers, status_code=int(data.getvalue()))
