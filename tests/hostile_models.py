"""
Spoilt models, from a seed: what a store may hold that must not become a session.

`DAMAGED` is what storage, network and disks do to files whose manifest is right; the SHA-256 finds all of it.
`MISDESCRIBED` is what a publisher does whose manifest has the right checksums of the wrong things.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from small_models import CLASSES, GRAPH_NAME, SIDE_PX, dense_weights, small_graph, small_manifest

from classy.models.manifest import InputSpec, Labels, Manifest, OutputSpec

SEED = 20261121
WEIGHTS_NAME = "weights.bin"
BALLAST_BYTES = 2_500_000  # so that the graph is fetched in three parts

WHOLE: Mapping[str, bytes] = {
    GRAPH_NAME: small_graph(external=WEIGHTS_NAME, ballast_bytes=BALLAST_BYTES),
    WEIGHTS_NAME: dense_weights().tobytes(),
}
"""The files of the model that is spoilt: a graph, and weights that lie outside it."""

Damage = Callable[[Path], None]


def whole_manifest() -> Manifest:
    """Return the manifest of the model before it is spoilt."""
    return small_manifest(WHOLE)


def _in(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoil


def _flipped(data: bytes, bits: list[int]) -> bytes:
    spoilt = bytearray(data)
    for bit in bits:
        spoilt[bit // 8] ^= 1 << bit % 8
    return bytes(spoilt)


def _gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _swap(folder: Path) -> None:
    graph, weights = folder / GRAPH_NAME, folder / WEIGHTS_NAME
    data = graph.read_bytes()
    graph.write_bytes(weights.read_bytes())
    weights.write_bytes(data)


def _folder_instead(folder: Path) -> None:
    (folder / GRAPH_NAME).unlink()
    (folder / GRAPH_NAME).mkdir()


def _other_versions_manifest(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(data | {"version": "2"}))


def _in_manifest(*path: str | int, to: Any) -> Damage:
    def spoil(folder: Path) -> None:
        data = json.loads((folder / "manifest.json").read_text())
        place = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to
        (folder / "manifest.json").write_text(json.dumps(data))

    return spoil


def zip_bomb() -> bytes:
    """Return a zip archive of 20 KB that unpacks to 20 MB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.onnx", bytes(20_000_000))
    return packed.getvalue()


def png() -> bytes:
    """Return a picture, one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    )


def _damaged() -> dict[str, Damage]:
    chance = random.Random(SEED)
    size, weights_size = len(WHOLE[GRAPH_NAME]), len(WHOLE[WEIGHTS_NAME])
    cases: dict[str, Damage] = {}
    for end in (0, 1, size - 1, 1 << 20, *(chance.randrange(size) for _ in range(6))):
        cases[f"graph cut at {end}"] = _in(GRAPH_NAME, lambda data, end=end: data[:end])
    for bit in (0, size * 8 - 1, (1 << 20) * 8, *(chance.randrange(size * 8) for _ in range(12))):
        cases[f"graph's bit {bit} flipped"] = _in(GRAPH_NAME, lambda data, bit=bit: _flipped(data, [bit]))
    for bit in (0, *(chance.randrange(weights_size * 8) for _ in range(4))):
        cases[f"weights' bit {bit} flipped"] = _in(WEIGHTS_NAME, lambda data, bit=bit: _flipped(data, [bit]))
    start = chance.randrange(size - 5000)
    cases |= {
        "graph's two halves swapped": _in(GRAPH_NAME, lambda data: data[len(data) // 2 :] + data[: len(data) // 2]),
        "graph's 4096 bytes zero": _in(GRAPH_NAME, lambda data: data[:start] + bytes(4096) + data[start + 4096 :]),
        "graph's parts in another order": _in(
            GRAPH_NAME, lambda data: data[1 << 20 : 2 << 20] + data[: 1 << 20] + data[2 << 20 :]
        ),
        "graph doubled": _in(GRAPH_NAME, lambda data: data * 2),
        "graph with one byte more": _in(GRAPH_NAME, lambda data: data + b"\0"),
        "graph as a gzip stream": _in(GRAPH_NAME, gzip.compress),
        "graph as a zip bomb": _in(GRAPH_NAME, lambda data: zip_bomb()),
        "graph as HTML": _in(GRAPH_NAME, lambda data: b"<html><body>503 Service Unavailable</body></html>"),
        "graph as a picture": _in(GRAPH_NAME, lambda data: png()),
        "graph of another model": _in(
            GRAPH_NAME, lambda data: small_graph(seed=9, external=WEIGHTS_NAME, ballast_bytes=BALLAST_BYTES)
        ),
        "zeros of the graph's size": _in(GRAPH_NAME, lambda data: bytes(len(data))),
        "graph missing": _gone(GRAPH_NAME),
        "weights missing": _gone(WEIGHTS_NAME),
        "weights cut": _in(WEIGHTS_NAME, lambda data: data[:-4]),
        "weights doubled": _in(WEIGHTS_NAME, lambda data: data * 2),
        "weights of another model": _in(WEIGHTS_NAME, lambda data: dense_weights(seed=9).tobytes()),
        "graph and weights swapped": _swap,
        "folder instead of the graph": _folder_instead,
        "everything gone but the manifest": lambda folder: (_gone(GRAPH_NAME)(folder), _gone(WEIGHTS_NAME)(folder))[
            0
        ],
        "manifest of another version": _other_versions_manifest,
        "manifest cut": _in("manifest.json", lambda data: data[: len(data) // 2]),
        "manifest empty": _in("manifest.json", lambda data: b""),
        "manifest as HTML": _in("manifest.json", lambda data: b"<html>"),
        "manifest with another checksum": _in_manifest("files", 0, "sha256", to="0" * 64),
        "manifest with another size": _in_manifest("files", 0, "bytes", to=100),
        "manifest with a size of 8 EiB": _in_manifest("files", 0, "bytes", to=1 << 63),
        "manifest with a size of 3 GB": _in_manifest("files", 0, "bytes", to=3_000_000_000),
        "manifest whose file climbs": _in_manifest("files", 1, "name", to="../../../etc/passwd"),
        "manifest whose file is absolute": _in_manifest("files", 1, "name", to="/etc/passwd"),
        "manifest whose weights come first": lambda folder: _in_manifest(
            "files", to=json.loads((folder / "manifest.json").read_text())["files"][::-1]
        )(folder),
        "manifest without the weights": lambda folder: _in_manifest(
            "files", to=json.loads((folder / "manifest.json").read_text())["files"][:1]
        )(folder),
    }
    return cases


DAMAGED: Mapping[str, Damage] = _damaged()


def lying_model(inputs: list[int | str], outputs: list[int | str], *nodes: onnx.NodeProto, **more: Any) -> bytes:
    """Return a graph from `x` to `y` of these nodes, unchecked."""
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", ["x"], ["y"])],
        "lying",
        [helper.make_tensor_value_info("x", more.get("dtype", TensorProto.FLOAT), inputs)],
        [helper.make_tensor_value_info("y", more.get("dtype", TensorProto.FLOAT), outputs)],
        more.get("initializers", []),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _files(graph: bytes, **others: bytes) -> tuple[dict[str, bytes], Manifest]:
    files = {GRAPH_NAME: graph, **others}
    return files, small_manifest(files)


def _described(graph: bytes, **changes: Any) -> tuple[dict[str, bytes], Manifest]:
    files, manifest = _files(graph)
    return files, replace(manifest, **changes)


def _unknown_operator() -> bytes:
    return lying_model(
        ["N", 3, SIDE_PX, SIDE_PX], ["N", CLASSES], helper.make_node("RunCommand", ["x"], ["y"], domain="evil")
    )


SIXTEEN = Labels(names={"en": tuple(str(index) for index in range(16))})

MISDESCRIBED: Mapping[str, Callable[[], tuple[dict[str, bytes], Manifest]]] = {
    "no ONNX but HTML": lambda: _files(b"<html>" * 100),
    "no ONNX but zeros": lambda: _files(bytes(5000)),
    "no ONNX but noise": lambda: _files(random.Random(SEED).randbytes(5000)),
    "no ONNX but a picture": lambda: _files(png()),
    "no ONNX but a zip bomb": lambda: _files(zip_bomb()),
    "no ONNX but a pickle": lambda: _files(b"\x80\x02cos\nsystem\n(X\x04\0\0\0truetR."),
    "graph cut in half": lambda: _files(small_graph()[: len(small_graph()) // 2]),
    "graph twice in one file": lambda: _files(small_graph() * 2),
    "graph with messages deep in each other": lambda: _files(deep_graph(5000)),
    "graph with an unknown operator": lambda: _files(_unknown_operator()),
    "weights in a file that is not listed": lambda: _files(small_graph(external=WEIGHTS_NAME)),
    "weights in a folder above": lambda: _files(small_graph(external="../weights.bin")),
    "weights in a folder below and above": lambda: _files(small_graph(external="a/../../weights.bin")),
    "weights at an absolute path": lambda: _files(small_graph(external="/etc/passwd")),
    "weights in a device": lambda: _files(small_graph(external="/dev/zero")),
    "weights in memory": lambda: _files(small_graph(external="*/_ORT_MEM_ADDR_/*")),
    "weights in the manifest": lambda: _files(small_graph(external="manifest.json")),
    "weights in the graph itself": lambda: _files(small_graph(external=GRAPH_NAME)),
    "weights that are too few": lambda: _files(small_graph(external=WEIGHTS_NAME), **{WEIGHTS_NAME: b"\0" * 8}),
    "input of another name": lambda: _described(small_graph(), input=InputSpec("data", SIDE_PX, SIDE_PX, SIDE_PX)),
    "input of another size": lambda: _described(small_graph(), input=InputSpec("x", 8, 8, 8)),
    "input of another layout": lambda: _described(small_graph(layout="NHWC")),
    "input of another dtype": lambda: _files(small_graph(dtype=TensorProto.DOUBLE)),
    "input of grey pictures": lambda: _described(
        small_graph(), input=InputSpec("x", 4, 4, 4, channel_order="L", mean=(0.0,), deviation=(1.0,))
    ),
    "batch of exactly 5": lambda: _files(small_graph(batch=5)),
    "output of another name": lambda: _described(small_graph(), output=OutputSpec("probabilities", CLASSES)),
    "more classes than the graph has": lambda: _described(small_graph(), output=OutputSpec("y", 16), labels=SIXTEEN),
    "fewer classes than the graph has": lambda: _described(small_graph(columns=20), output=OutputSpec("y", 3)),
    "skipped columns that are not there": lambda: _described(small_graph(), output=OutputSpec("y", 3, skip=1)),
    "labels that are too few": lambda: _described(small_graph(), labels=Labels(names={"en": ("a", "b")})),
    "label set of another size": lambda: _described(small_graph(), labels=Labels(set="imagenet-1k")),
    "output that is a picture": lambda: _files(lying_model(["N", 3, 4, 4], ["N", 3, 4, 4])),
    "output of another dtype": lambda: _described(
        lying_model(["N", 3, 4, 4], ["N", 3, 4, 4], dtype=TensorProto.INT64)
    ),
}


def deep_graph(depth: int) -> bytes:
    """Return protobuf messages nested as subgraphs of subgraphs."""
    attribute = b""
    for _ in range(depth):
        for number in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            attribute = bytes([number << 3 | 2]) + _varint(len(attribute)) + attribute
    graph = b"\x0a" + _varint(len(attribute)) + attribute
    return b"\x08\x08\x3a" + _varint(len(graph)) + graph


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def write_misdescribed(folder: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write a model into a store as a publisher without checks would."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest.to_json())
