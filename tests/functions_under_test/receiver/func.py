"""Note what arrives in the file NOTES; refuse keys that say so, and die of others at the first time."""

import json
import os


def handler(ctx, data=None):
    body = data.getvalue().decode()
    with open(os.environ["NOTES"], "a+") as notes:
        notes.seek(0)
        before = notes.read()
        notes.write(json.dumps({"body": body, "type": ctx.Headers().get("content-type")}) + "\n")
    if "poison" in body:
        raise ValueError("poison")
    if "deadly" in body and "deadly" not in before:
        os._exit(1)
    return json.dumps({"results": []})
