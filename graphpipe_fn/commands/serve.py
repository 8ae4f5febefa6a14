"""graphpipe-fn serve: an ONNX model as a server."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from graphpipe_fn.batch import Batched
from graphpipe_fn.cache import Cached, Store
from graphpipe_fn.commands.fetch import fetch, fingerprint
from graphpipe_fn.commands.running import (
    add_server_arguments,
    listen_of,
    positive_float,
    positive_int,
    serve_until_told,
)
from graphpipe_fn.commands.workers import Workers, reserved
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.limited import Limited
from graphpipe_fn.messages import DType
from graphpipe_fn.model import Model
from graphpipe_fn.onnx import Engine, OnnxModel, ValueInput

CACHE_MB = 1000.0

# The original's --value-inputs has ONNX's own numbers of element types. Source: onnx.proto3, TensorProto.DataType.
_ONNX_DTYPES = {
    1: DType.FLOAT32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.UINT16,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    8: DType.STRING,
    9: DType.UINT8,
    10: DType.FLOAT16,
    11: DType.FLOAT64,
    12: DType.UINT32,
    13: DType.UINT64,
}


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Add this command's flags; those of the original keep their names, and their variables."""
    parser.add_argument("model", nargs="?", help="an ONNX file: a path, http://…, https://… or s3://BUCKET/KEY")
    parser.add_argument(
        "-m",
        "--model",
        dest="model_flag",
        default=environ.get("GP_MODEL"),
        metavar="MODEL",
        help="the same (GP_MODEL)",
    )
    group = parser.add_argument_group("model")
    group.add_argument(
        "-i", "--inputs", default=environ.get("GP_INPUTS", ""), metavar="A,B", help="the inputs' order (GP_INPUTS)"
    )
    group.add_argument(
        "-o",
        "--outputs",
        default=environ.get("GP_OUTPUTS", ""),
        metavar="A,B",
        help="what is answered by default, inner values too (GP_OUTPUTS)",
    )
    group.add_argument(
        "--value-inputs",
        default=environ.get("GP_VALUE_INPUTS", ""),
        metavar="FILE",
        help='JSON that fixes shapes: {"input": [TYPE, [SIZES]]}, TYPE a name or ONNX\'s number (GP_VALUE_INPUTS)',
    )
    group.add_argument("--name", default="", help="for the metadata; the file's name unless given")
    group.add_argument("--model-version", default="", metavar="TEXT", help="for the metadata")
    group.add_argument("--allow-not-finite", action="store_true", help="let NaN and infinity in and out")
    group.add_argument("--no-inner-outputs", action="store_true", help="answer the listed outputs only")
    _add_work_arguments(parser, environ)
    add_server_arguments(parser, environ)


def _add_work_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    group = parser.add_argument_group("work")
    engines = environ.get("GP_ENGINE_COUNT", "1")
    group.add_argument(
        "--engine-count",
        type=positive_int,
        default=engines,
        metavar="N",
        help="copies of the model that share the work (GP_ENGINE_COUNT; 1)",
    )
    group.add_argument("--threads", type=positive_int, default=1, metavar="N", help="within one run (%(default)d)")
    group.add_argument(
        "--concurrency", type=positive_int, metavar="N", help="runs at the same time (the number of processors)"
    )
    group.add_argument("--workers", type=positive_int, default=1, metavar="N", help="processes (%(default)d)")
    group.add_argument(
        "--batch-size", type=positive_int, default=1, metavar="ROWS", help="put requests together (1: do not)"
    )
    group.add_argument(
        "--batch-wait",
        type=positive_float,
        default=5.0,
        metavar="MS",
        help="for others, in milliseconds (%(default)g)",
    )
    cache = parser.add_argument_group("cache")
    cache.add_argument(
        "-c",
        "--cache",
        action="store_true",
        default=environ.get("GP_CACHE", "").lower() in ("1", "true"),
        help="remember answered rows (GP_CACHE=1)",
    )
    cache.add_argument(
        "-d",
        "--cache-dir",
        default=environ.get("GP_CACHE_DIR", ""),
        metavar="DIR",
        help="on disk, there; otherwise in memory (GP_CACHE_DIR)",
    )
    cache.add_argument(
        "--cache-mb", type=positive_float, default=CACHE_MB, metavar="MB", help="how much (%(default)g)"
    )
    cache.add_argument("--cache-age", type=positive_float, metavar="S", help="for how long, in seconds (for ever)")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    address = options.model or options.model_flag
    if not address:
        raise BadConfig("which model? name its file or address, or set GP_MODEL")
    with tempfile.TemporaryDirectory(prefix="graphpipe-fn-") as folder:
        path = fetch(address, Path(folder))
        if options.workers == 1:
            return _serve(path, options)
        holder, port = reserved(listen_of(options.listen))
        host = options.listen.rpartition(":")[0]
        options.listen = f"{host}:{port}"
        with holder:
            return Workers(options.workers, lambda: _serve_as_worker(path, options)).run()


def _serve_as_worker(path: Path, options: argparse.Namespace) -> int:
    from graphpipe_fn.cli import reported

    return reported(lambda: _serve(path, options, reuse_port=True))


def _serve(path: Path, options: argparse.Namespace, *, reuse_port: bool = False) -> int:
    onnx = OnnxModel(
        path,
        name=options.name,
        version=options.model_version,
        inputs=_names(options.inputs),
        outputs=_names(options.outputs),
        value_inputs=_value_inputs(options.value_inputs),
        engine=Engine(threads=options.threads, count=options.engine_count),
        check_finite=not options.allow_not_finite,
        inner_outputs=not options.no_inner_outputs,
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    concurrency = options.concurrency or max(1, cores // options.threads)
    model: Model = Limited(onnx, concurrency=concurrency)
    batched = None
    if options.batch_size > 1:
        model = batched = Batched(
            model, max_rows=options.batch_size, max_wait_s=options.batch_wait / 1000, workers=concurrency
        )
    if options.cache:
        model = Cached(model, _store(options), model_id=fingerprint(path))
    about = onnx.metadata()
    return serve_until_told(
        model,
        options,
        name=about.name,
        close=batched.close if batched else lambda: None,
        reuse_port=reuse_port,
    )


def _store(options: argparse.Namespace) -> Store:
    limit_bytes = int(options.cache_mb * 1e6)
    if options.cache_dir:
        from graphpipe_fn.lmdb_store import LmdbStore

        return LmdbStore(options.cache_dir, limit_bytes=limit_bytes, max_age_s=options.cache_age)
    from graphpipe_fn.stores import MemoryStore

    return MemoryStore(limit_bytes=limit_bytes, max_age_s=options.cache_age)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _value_inputs(file: str) -> dict[str, ValueInput]:
    if not file:
        return {}
    try:
        with open(file, "rb") as source:
            given = json.load(source)
        return {
            name: ValueInput(_dtype(kind), tuple(int(size) for size in sizes))
            for name, (kind, sizes) in given.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise BadConfig(f'--value-inputs {file}: {exc!r}; write {{"input": ["float32", [-1, 3, 224, 224]]}}') from exc


def _dtype(kind: object) -> DType:
    return DType[kind.upper()] if isinstance(kind, str) else _ONNX_DTYPES[kind]  # type: ignore[index]
