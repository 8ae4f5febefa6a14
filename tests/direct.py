"""
The direct run: Pillow, numpy and onnxruntime by hand, without a line of Classy's.

What the pipeline answers is compared with this. It follows the weights' own recipe, and nothing of it may be made
of the code under test, or both would be wrong alike.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

CROP_PX, SHORT_SIDE_PX = 224, 256


def direct_input(picture: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return EfficientNet-Lite0's input of one picture file, float32 (1, 3, 224, 224)."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    scale = SHORT_SIDE_PX / min(width, height)
    image = image.resize(
        (max(CROP_PX, round(width * scale)), max(CROP_PX, round(height * scale))), Image.Resampling.BICUBIC
    )
    left, top = (image.width - CROP_PX) // 2, (image.height - CROP_PX) // 2
    pixels = np.asarray(image.crop((left, top, left + CROP_PX, top + CROP_PX)), np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)[None]


def direct_probabilities(picture: bytes, graph: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return EfficientNet-Lite0's probabilities of one picture file, float32 (1000,)."""
    session = _session(graph)
    (answer,) = session.run(None, {session.get_inputs()[0].name: direct_input(picture)})
    return answer[0]


@cache
def _session(graph: Path) -> Any:
    return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
