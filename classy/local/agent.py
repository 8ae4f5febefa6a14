"""
The agent: an Fn-compatible endpoint on 127.0.0.1 whose functions are processes of this machine.

It is for one machine; Fn or Oracle Functions is what to run at scale. One event loop in one thread does everything:
there are no locks, a caller that hangs up cancels what was done for it, calls wait by the hundred without a thread
each (functions that call functions would starve a fixed number of threads), and Linux's parent-death signal, which
follows the thread that started a process, has the one thread it needs. aiohttp serves both sides, TCP outside and
Unix sockets inside: it streams bodies with back pressure and parses HTTP in C.

The memory limit is a watch on what each process alone holds (anonymous and shared pages), not an address-space limit:
a process with onnxruntime that holds 234 MB has 490 MB of addresses, and cgroups need rights that a developer's
account does not have. A process may so be over its limit for a twentieth of a second. Fn's other limits need the
same rights, or another user for each process: its 50 processes and threads are watched and only warned of; its uid
1000, its read-only root and its noexec /tmp are left to `make test-fn-image`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from classy.local import fn_errors
from classy.local.api import Api, fn_errors_as_json
from classy.local.functions import AppSpec, FunctionSpec
from classy.local.gateway import Gateway
from classy.local.ids import invoke_url
from classy.local.launch import Launch
from classy.local.output import LogFile
from classy.local.pool import FREEZE_AFTER_S, QUEUE_S, Pool
from classy.local.process import HEADER_BYTES, FunctionProcess
from classy.local.reaper import Reaper
from classy.local.registry import Fn, Registry
from graphpipe_fn.errors import GraphPipeError

WATCH_S = 0.05
LOG_NAME_BYTES = 240  # of the 255 that file systems allow; `.log.1` is added
START_WAIT_S = 30.0
STOP_WAIT_S = 15.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """
    How an agent behaves.

    Args:
        log_dir: Gets one log file per function.
        processes: Of one function at a time.
        freeze_after_s: How long an idle process keeps running; None for ever.
        queue_s: How long a call waits for a process.
        folders: Further function folders, by name, for functions that are created through the API.
    """

    log_dir: Path
    processes: int = 4
    freeze_after_s: float | None = FREEZE_AFTER_S
    queue_s: float = QUEUE_S
    folders: Mapping[str, Path] = field(default_factory=dict)


class Agent:
    """
    Serve the functions of one app, and what the API adds.

    Args:
        listener: A listening or bound TCP socket; the agent closes it.
        reaper: Owns the run folder and the processes.
        settings: See AgentSettings.
    """

    def __init__(self, listener: socket.socket, reaper: Reaper, settings: AgentSettings) -> None:
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._listener, self._reaper, self._settings = listener, reaper, settings
        self._registry = Registry()
        self._specs: dict[str, FunctionSpec] = {}
        self._pools: dict[str, Pool] = {}
        self._logs: dict[str, LogFile] = {}
        self._processes: set[FunctionProcess] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._failure: BaseException | None = None

    def deploy(self, app: AppSpec, functions: Sequence[FunctionSpec]) -> None:
        """Add an app with its functions and triggers; call it before start()."""
        created = self._registry.create_app({"name": app.name, "config": dict(app.config)})
        for spec in functions:
            fn = self._registry.create_fn(
                {
                    "name": spec.name,
                    "app_id": created.id,
                    "image": spec.image,
                    "memory": spec.memory_mb,
                    "timeout": spec.timeout_s,
                    "idle_timeout": spec.idle_timeout_s,
                    "config": dict(spec.config),
                    "annotations": dict(spec.annotations),
                }
            )
            self._specs[spec.name] = spec
            for name, source in spec.triggers.items():
                self._registry.create_trigger(
                    {"name": name, "app_id": created.id, "fn_id": fn.id, "type": "http", "source": source}
                )

    def start(self) -> None:
        """Serve, in a thread of our own; return when requests are answered."""
        self._thread.start()
        if not self._ready.wait(START_WAIT_S) or self._failure:
            raise GraphPipeError(f"the agent did not start: {self._failure!r}") from self._failure

    def stop(self) -> None:
        """Stop serving, kill every process, and return when they are gone."""
        if self._loop and self._stop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_WAIT_S)
        self._listener.close()

    @property
    def alive(self) -> bool:
        """Return whether the agent serves."""
        return self._thread.is_alive()

    def invoke_url(self, app: str, function: str) -> str:
        """Return the URL at which a function is invoked."""
        return invoke_url(self.url, app, function)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # start() raises it, or the log has it
            self._failure = exc
            if self._ready.is_set():
                logger.critical("the agent ended", exc_info=exc)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        gateway = Gateway(self._registry, self._pool, self._reaper.run_dir)
        application = web.Application(middlewares=[fn_errors_as_json])
        application.add_routes([*Api(self._registry, self._reconcile).routes(), *gateway.routes()])
        application.on_response_prepare.append(_without_server_header)
        runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,  # a caller that hangs up frees what works for it
            shutdown_timeout=0.1,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        watch = asyncio.ensure_future(self._watch_processes())
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await gateway.stop()
            await runner.cleanup()
            await asyncio.gather(*(pool.close("the agent stops") for pool in self._pools.values()), *self._closing)
            await asyncio.gather(*(process.exited for process in self._processes))
            for log in self._logs.values():
                log.close()

    def _pool(self, fn_id: str) -> Pool:
        fn = self._registry.fn(fn_id)
        if fn_id not in self._pools:
            self._pools[fn_id] = Pool(
                self._launch(fn),
                self._start_process,
                processes=self._settings.processes,
                freeze_after_s=self._settings.freeze_after_s,
                queue_s=self._settings.queue_s,
            )
        return self._pools[fn_id]

    def _launch(self, fn: Fn) -> Launch:
        name = fn.image.rpartition("/")[2].partition(":")[0]
        spec = self._specs.get(name)
        if spec is None and name in self._settings.folders:
            spec = FunctionSpec(name=name, folder=self._settings.folders[name])
        if spec is None:
            raise fn_errors.no_image(fn.image)
        app = self._registry.app(fn.app_id)
        return Launch(
            app_id=fn.app_id,
            fn_id=fn.id,
            name=f"{app.name}.{fn.name}",
            folder=spec.folder,
            file=spec.file,
            handler=spec.handler,
            config={**app.config, **fn.config},
            memory_mb=fn.memory,
            timeout_s=fn.timeout,
            idle_timeout_s=fn.idle_timeout,
        )

    def _reconcile(self) -> None:
        """Make the pools follow the registry: a changed function gets new processes, a deleted one none."""
        for fn_id, pool in list(self._pools.items()):
            fn = self._registry.fns.get(fn_id)
            try:
                launch = self._launch(fn) if fn else None
            except fn_errors.FnError:
                launch = None
            if launch is None:
                task = asyncio.ensure_future(self._pools.pop(fn_id).close("its function was removed"))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            elif launch != pool.launch:
                pool.replace(launch)

    async def _start_process(self, launch: Launch) -> FunctionProcess:
        log = self._logs.get(launch.name)
        if log is None:
            log = self._logs[launch.name] = LogFile(self._settings.log_dir / f"{_log_name(launch)}.log")
        process = await FunctionProcess.start(launch, log=log, reaper=self._reaper)
        self._processes.add(process)
        process.exited.add_done_callback(lambda _: self._processes.discard(process))
        return process

    async def _watch_processes(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for process in tuple(self._processes):
                if process.alive and not process.frozen:
                    process.check()


def _log_name(launch: Launch) -> str:
    """Return a file name without its suffix: an app's and a function's name have 255 characters each at most."""
    if len(launch.name) <= LOG_NAME_BYTES:
        return launch.name
    return f"{launch.name[: LOG_NAME_BYTES - len(launch.fn_id) - 1]}-{launch.fn_id}"


async def _without_server_header(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
