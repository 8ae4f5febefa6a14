"""Flask under gunicorn with threads (its default worker keeps no connection), with raw bytes as the body."""

from __future__ import annotations

import sys

from flask import Flask, Response, request
from gunicorn.app.base import BaseApplication
from session import picture, session

app = Flask(__name__)
loaded = {}


@app.post("/")
def infer() -> Response:
    """Answer the first output's bytes."""
    return Response(loaded["model"].run(None, {"x": picture(request.get_data())})[0].tobytes())


class Application(BaseApplication):
    """Gunicorn with the settings that suit it best."""

    def load_config(self) -> None:
        """Set them."""
        for name, value in {
            "bind": f"127.0.0.1:{sys.argv[2]}",
            "worker_class": "gthread",
            "threads": 8,
            "workers": 1,
            "keepalive": 75,
            "loglevel": "error",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Load the model in the worker, not in its parent."""
        loaded["model"] = session(sys.argv[1])
        return app


if __name__ == "__main__":
    Application().run()
