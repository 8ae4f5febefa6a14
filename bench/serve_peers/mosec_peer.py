"""mosec, a Rust front with Python workers, with raw bytes as the body."""

from __future__ import annotations

import os
import sys
from typing import Any

import mosec
from session import picture, session


class Model(mosec.Worker):
    """Run the model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = session(os.environ["PEER_MODEL"])

    def deserialize(self, data: Any) -> Any:
        """Return the tensor."""
        return picture(data)

    def forward(self, data: Any) -> Any:
        """Return the first output."""
        return self.model.run(None, {"x": data})[0]

    def serialize(self, data: Any) -> bytes:
        """Return its bytes."""
        return bytes(data.tobytes())


if __name__ == "__main__":
    os.environ["PEER_MODEL"] = sys.argv[1]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[2], "--timeout", "30000", "--log-level", "error"]
    server = mosec.Server()
    server.append_worker(Model, num=1)
    server.run()
