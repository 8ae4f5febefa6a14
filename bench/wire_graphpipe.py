"""
The original client (PyPI graphpipe 1.0.4), measured in a process and an environment of its own.

It answers each line of its input, the name of a tensor, with one line of JSON: CPU seconds to serialise and to
deserialise it, Y as a response and all others as requests. bench/wire.py starts it.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from graphpipe import convert
from wire_rounds import SHAPES, cpu_seconds, tensor


def main() -> None:
    """Serve rounds until the input ends."""
    values = {name: tensor(name) for name in SHAPES}
    requests = {name: convert.InferReq(input_tensors=[value]) for name, value in values.items()}
    bodies = {}
    for name, value in values.items():
        if name != "Y":
            bodies[name] = bytes(convert.serialize_infer_request(requests[name]))
            back = convert.deserialize_request(bodies[name]).input_tensors[0]
        else:
            bodies[name] = bytes(convert.serialize_infer_response([value], []))
            back = convert.deserialize_infer_response(bodies[name])[0][0]
        if not np.array_equal(back, value):
            sys.exit(f"the original client does not bring {name} back")
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        if name != "Y":
            ser = cpu_seconds(lambda name=name: convert.serialize_infer_request(requests[name]))
            de = cpu_seconds(lambda name=name: convert.deserialize_request(bodies[name]))
        else:
            ser = cpu_seconds(lambda: convert.serialize_infer_response([values["Y"]], []))
            de = cpu_seconds(lambda: convert.deserialize_infer_response(bodies["Y"]))
        print(json.dumps([ser, de]), flush=True)


if __name__ == "__main__":
    main()
