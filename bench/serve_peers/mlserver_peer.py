"""MLServer over gRPC with raw contents, its fastest form, in its own process model."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mlserver import MLModel, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.server import MLServer
from mlserver.types import InferenceRequest, InferenceResponse
from session import session


class Model(MLModel):
    """Run the model."""

    async def load(self) -> bool:
        """Load it."""
        self.model = session(os.environ["PEER_MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the first output."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        output: Any = self.model.run(None, {"x": x})[0]
        return InferenceResponse(model_name="m", outputs=[NumpyCodec.encode_output("y", output)])


async def serve() -> None:
    """Serve gRPC at the port that was asked for, REST and metrics anywhere."""
    port = int(sys.argv[2])
    settings = Settings(
        host="127.0.0.1",
        http_port=int(sys.argv[3]),
        grpc_port=port,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
        grpc_max_message_length=100 << 20,
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="m", implementation=Model)])


if __name__ == "__main__":
    os.environ["PEER_MODEL"] = sys.argv[1]
    asyncio.run(serve())
