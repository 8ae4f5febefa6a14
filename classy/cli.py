"""
The command line: `classy classify | up | down | status | demo | web | web-assets | history | reclassify | model …`.

Only this module and `functions/*/func.py` read the environment. Each command imports what it needs when it runs; what
it takes is in classy.commands.arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from classy.commands.arguments import parser
from classy.settings import BadSetting, Settings
from graphpipe_fn.commands.running import serve_until_told
from graphpipe_fn.errors import GraphPipeError

STATE_DIR = Path(".classy")
PICTURES_AT_ONCE = 16  # in memory, each of up to CLASSY_LIMIT_BYTES


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        0 when all went well, 1 when something was refused or failed, 2 for unusable arguments or settings.
    """
    args = parser(RUNS, os.environ).parse_args(argv)
    state_dir = Path(args.state_dir or os.environ.get("CLASSY_STATE_DIR", "") or STATE_DIR)
    try:
        status = int(args.run(args, state_dir))
        sys.stdout.flush()  # here, where a reader who left is no error, and not at exit
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be printed, nobody reads
        return 1
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
    for source in args.pictures:
        try:
            if "://" not in source:
                open(source, "rb").close()  # before any work is done
        except OSError as exc:
            print(f"classy: {source}: {exc.strerror}; give a picture's file or URL", file=sys.stderr)
            return 2
    rows = min(PICTURES_AT_ONCE, settings.limit_rows)
    if settings.topology == "in-process":  # a person's own machine, whose memory is no function's
        settings = replace(
            settings, limit_request_bytes=max(settings.limit_request_bytes, rows * settings.limit_bytes)
        )
    options = Options(args.top_k or settings.top_k, args.language or settings.language, args.model)
    classy, failed = Classy(settings), False
    for _ in range(args.repeat):
        for start in range(0, len(args.pictures), rows):
            names = args.pictures[start : start + rows]
            sources = tuple(name if "://" in name else _file(name, settings.limit_bytes) for name in names)
            results, hops = classy.classify(Ask(sources, options, batch=True), Call(id="cli"))
            (print_json if args.json else print_results)(names, results, hops)
            failed = failed or any("error" in entry for entry in results)
    return int(failed)


def _file(name: str, limit_bytes: int) -> bytes:
    with open(name, "rb") as file:
        return file.read(limit_bytes + 1)  # more than that is refused in any case


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


def _web_assets(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.web import assets

    registry = assets.registry(os.environ, Path.home())
    folder = assets.fetch(state_dir / assets.FOLDER, registry_url=registry, archive=args.archive)
    print(f"{folder}: the page of `classy web` and `classy up` now offers to classify in the browser")
    return 0


def _history(args: argparse.Namespace, state_dir: Path) -> int:
    from classy.peers import aws_access
    from classy.records import columns, report
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
        shown = columns if args.by_model else report
        printer = {"json": shown.print_json, "csv": shown.print_csv, "table": shown.print_table}[args.format]
        printer(shown.found(store, query, args.limit))
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


RUNS = {
    "classify": _classify,
    "up": _up,
    "down": _down,
    "status": _status,
    "demo": _demo,
    "web": _web,
    "web-assets": _web_assets,
    "history": _history,
    "reclassify": _reclassify,
    "settings": _settings,
    "model default": _model_default,
    "model digits": _model_digits,
    "model list": _model_list,
    "model serve": _model_serve,
    "model publish": _model_publish,
    "model manifest": _model_manifest,
}


if __name__ == "__main__":
    sys.exit(main())
