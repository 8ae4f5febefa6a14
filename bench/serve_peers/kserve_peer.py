"""KServe over gRPC with raw contents, its fastest form: its REST binary extension makes Python lists."""

from __future__ import annotations

import sys
from typing import Any

import kserve
from session import session


class Model(kserve.Model):
    """Run the model."""

    def __init__(self, path: str) -> None:
        super().__init__("m")
        self.model = session(path)
        self.ready = True

    def predict(self, payload: kserve.InferRequest, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer the first output."""
        output = self.model.run(None, {"x": payload.inputs[0].as_numpy()})[0]
        answer = kserve.InferOutput("y", list(output.shape), "FP32")
        answer.set_data_from_numpy(output, binary_data=True)
        return kserve.InferResponse(response_id=payload.id, model_name="m", infer_outputs=[answer])


if __name__ == "__main__":
    path, grpc_port, http_port = sys.argv[1:4]
    kserve.ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), workers=1, enable_docs_url=False).start(
        [Model(path)]
    )
