"""`classy web`: the page and the HTTP API on this machine, and where they keep things unless told."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from dataclasses import replace
from pathlib import Path

from classy.errors import ModelMissing
from classy.front import Classy
from classy.settings import BadSetting, Settings
from classy.telemetry import telemetry
from classy.web import assets
from classy.web.app import body_limit, create_app
from classy.web.serving import LOCAL_HOSTS, make_server, serve_until_told
from graphpipe_fn.errors import GraphPipeError, Unavailable

PORT = 18100


def serve_page(settings: Settings, state_dir: Path, *, host: str, port: int, prefix: str = "") -> int:
    """
    Serve until SIGTERM or SIGINT; call it in the main thread.

    Args:
        settings: Without a place for records and pictures, both are kept in the state folder.
        host: An address of this machine, or a name of one.
        port: 0 for the usual one, or a free one where that is taken.
        prefix: Where it is mounted, "" for nowhere else.

    Returns:
        The exit status.

    Raises:
        BadSetting: a setting or the prefix can't be used.
        Unavailable: nobody can listen there.
    """
    if prefix and (not prefix.startswith("/") or prefix.endswith("/") or "?" in prefix):
        raise BadSetting(f"--prefix is {prefix!r}; it takes a path like /classy, without a slash at its end")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = kept_in(state_dir, settings)
    listener = _listener(host, port)
    address, bound = listener.getsockname()[:2]
    local = ipaddress.ip_address(address).is_loopback
    classy = Classy(settings, telemetry=telemetry("page", settings.telemetry | {"prometheus"}))
    try:
        _say_without_model(classy)
        app = create_app(
            classy,
            settings,
            hosts=LOCAL_HOSTS if local else frozenset(),
            web_assets=state_dir.absolute() / assets.FOLDER,
        )
        server = make_server(app, listener, limit_bytes=body_limit(settings), prefix=prefix)
        shown = f"[{address}]" if ":" in address else address
        serve_until_told(server, started=lambda: print(f"page: http://{shown}:{bound}{prefix}/", flush=True))
    finally:
        classy.close()
    return 0


def kept_in(state_dir: Path, settings: Settings) -> Settings:
    """Return settings whose records and pictures have a place: one in the state folder where none is named."""
    folder = state_dir.absolute()
    if not settings.records:
        folder.mkdir(parents=True, exist_ok=True)
        settings = replace(settings, records=f"sqlite:///{folder / 'records.db'}")
    if not settings.pictures:
        settings = replace(settings, pictures=(folder / "pictures").as_uri())
    return settings


def _say_without_model(classy: Classy) -> None:
    try:
        classy.manifests.get()
    except ModelMissing as exc:
        print(f"classy: {exc.message}; or make the default one with: classy model default", file=sys.stderr)
    except GraphPipeError as exc:
        print(f"classy: {exc.message}", file=sys.stderr)  # whatever it is, it may pass


def _listener(host: str, port: int) -> socket.socket:
    wanted = [port] if port else [PORT, 0]
    for choice in wanted:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, choice, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=512)
        except OSError as exc:
            error = exc
    raise Unavailable(f"{host}:{wanted[-1]} can't be listened at ({error.strerror or error}); name another address")
