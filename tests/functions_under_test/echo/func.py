"""Answer with the body, and say in headers what arrived and where."""

import json
import os

from fdk.response import Response


def handler(ctx, data=None):
    seen = {
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "headers": dict(ctx.Headers()),
        "deadline": ctx.Deadline(),
        "call_id": ctx.CallID(),
        "method": ctx.Method(),
        "url": ctx.RequestURL(),
    }
    if ctx.Headers().get("what") == "seen":
        return Response(ctx, response_data=json.dumps(seen), headers={"Content-Type": "application/json"})
    headers = {"Content-Type": "application/octet-stream", "Server-Timing": "echo;dur=1"}
    return Response(ctx, response_data=data.getvalue(), headers=headers)
