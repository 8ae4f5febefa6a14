"""What every peer runs: the same session with the same options as this library's own server."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime


def session(model: str) -> Any:
    """Return an onnxruntime session with one thread that does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def picture(body: bytes | memoryview) -> np.ndarray[Any, Any]:
    """Return the request's tensor, uncopied."""
    return np.frombuffer(body, np.float32).reshape(1, 3, 224, 224)
