"""Ask a server of the Open Inference Protocol over gRPC: for each number on stdin, so many requests, timed."""

from __future__ import annotations

import json
import sys
import time

import grpc
import numpy as np

FAMILIES = {"mlserver": "mlserver.grpc", "kserve": "kserve.protocol.grpc"}
NAMES = {
    "mlserver": ("dataplane_pb2", "dataplane_pb2_grpc"),
    "kserve": ("grpc_predict_v2_pb2", "grpc_predict_v2_pb2_grpc"),
}


def main() -> None:
    """Ask, and print one JSON line for each number: the seconds of each request, and the last answer."""
    peer, port, file = sys.argv[1:4]
    names = NAMES[peer]
    package = __import__(FAMILIES[peer], fromlist=list(names))
    for name in names:
        __import__(f"{FAMILIES[peer]}.{name}")
    messages, services = (getattr(package, name) for name in names)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", 100 << 20)])
    grpc.channel_ready_future(channel).result(60)
    stub = services.GRPCInferenceServiceStub(channel)
    request = messages.ModelInferRequest(model_name="m", id="1")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 3, 224, 224])
    assert tensor is not None
    request.raw_input_contents.append(np.load(file).tobytes())
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            answer = stub.ModelInfer(request, timeout=30)
            seconds.append(time.perf_counter() - began)
        if answer.raw_output_contents:
            output = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
        else:
            output = list(answer.outputs[0].contents.fp32_contents)
        print(json.dumps({"seconds": seconds, "output": output}), flush=True)


if __name__ == "__main__":
    main()
