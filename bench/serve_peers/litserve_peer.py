"""LitServe with a multipart file, its fastest form: it takes no raw body."""

# No `from __future__ import annotations`: LitServe looks at the annotation of decode_request() itself.
import sys
from typing import Any

import litserve
from fastapi import Request
from session import picture, session


class Api(litserve.LitAPI):
    """Run the model on the file named "data"."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = session(sys.argv[1])

    def decode_request(self, request: Request) -> Any:
        """Return the tensor."""
        return picture(request["data"].file.read())

    def predict(self, x: Any) -> Any:
        """Return the first output."""
        return self.model.run(None, {"x": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return it as JSON: it is small."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
