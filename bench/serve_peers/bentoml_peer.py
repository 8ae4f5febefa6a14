"""BentoML with a multipart file, its fastest form: its main server takes no other binary body."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
from session import picture, session


@bentoml.service(workers=1, traffic={"timeout": 30})
class Model:
    """Run the model on the file named "data"."""

    def __init__(self) -> None:
        self.model = session(os.environ["PEER_MODEL"])

    @bentoml.api(route="/infer")
    def infer(self, data: Path) -> list[list[float]]:
        """Return the first output as JSON: it is small."""
        output: list[list[float]] = self.model.run(None, {"x": picture(data.read_bytes())})[0].tolist()
        return output


if __name__ == "__main__":
    environ = {**os.environ, "PEER_MODEL": os.path.abspath(sys.argv[1]), "BENTOML_DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "bentoml", "serve", f"{Path(__file__).stem}:Model"]
    command += ["--host", "127.0.0.1", "--port", sys.argv[2]]
    os.chdir(Path(__file__).parent)
    os.execve(sys.executable, command, environ)
