"""FastAPI under uvicorn (httptools, uvloop), with raw bytes as the body: its fastest form."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from session import picture, session

model = session(sys.argv[1])
app = FastAPI()


@app.post("/")
async def infer(request: Request) -> Response:
    """Answer the first output's bytes."""
    return Response(model.run(None, {"x": picture(await request.body())})[0].tobytes())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
