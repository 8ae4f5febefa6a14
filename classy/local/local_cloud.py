"""
The local cloud as a whole: storage, agent and uploads as one supervised tree, started, watched and stopped together.

Which functions there are and how they are configured is the caller's: make a LocalCloud (it takes the ports), compose
the functions from its endpoints, start() it. up.py does so for the command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from classy.errors import StorageFailed
from classy.local.agent import Agent, AgentSettings
from classy.local.functions import AppSpec, FunctionSpec
from classy.local.ids import invoke_url
from classy.local.inbox import announce_missed
from classy.local.page import LocalPage
from classy.local.pool import QUEUE_S
from classy.local.ports import free_port, listen
from classy.local.reaper import Reaper, started_at
from classy.local.state import CloudState, Lock, clean_up_after_kill, clear_state, write_state
from classy.local.storage import LocalStorage, StorageSettings, client_errors
from classy.local.uploads import Uploads, invoker
from graphpipe_fn.errors import GraphPipeError

AGENT_PORT = 18080
STORAGE_PORT = 18090
PAGE_PORT = 18100
WATCH_S = 0.5
INVOKE_MARGIN_S = 10.0
RESTARTS = 3  # of parts that end by themselves, in one run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """
    How a local cloud runs.

    Args:
        state_dir: Keeps objects, logs and the state file.
        agent_port, storage_port, page_port: 0 for the usual one, or a free one where that is taken; another is
            kept.
        buckets, inbox: The storage's; new objects of the inbox are announced.
        uploads_to: The function that gets the announcements; "" for none.
        results: The bucket where that function writes INBOX/KEY/ETAG.….json for what it has dealt with; whatever has
            nothing there is announced again at each start of the storage. "" announces all of the inbox again.
        processes: Of one function at a time.
        folders: Further function folders for the API.
    """

    state_dir: Path
    agent_port: int = 0
    storage_port: int = 0
    page_port: int = 0
    buckets: Sequence[str] = ("models", "inbox", "results")
    inbox: str = "inbox"
    uploads_to: str = "classy-func"
    results: str = "results"
    processes: int = 4
    folders: Mapping[str, Path] = field(default_factory=dict)

    @property
    def log_dir(self) -> Path:
        """Return where every part's log is."""
        return self.state_dir / "logs"


class LocalCloud:
    """
    One machine's cloud; use it as a context manager, or call stop().

    Raises:
        AlreadyRunning: another process runs it in this state folder.
        PortTaken: a port that was asked for is in use.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.uploads: Uploads | None = None
        self._restarts = self._unsaved = 0
        self._stopped = False
        with contextlib.ExitStack() as undo:
            self._lock = Lock(settings.state_dir)
            undo.callback(self._lock.release)
            notes = []
            if clean_up_after_kill(settings.state_dir):
                notes.append("cleaned up after a run that ended without `classy down`")
            self._reaper = Reaper()
            undo.callback(self._reaper.stop)
            listener = undo.enter_context(listen(settings.agent_port or AGENT_PORT, fixed=bool(settings.agent_port)))
            self.agent = Agent(
                listener,
                self._reaper,
                AgentSettings(log_dir=settings.log_dir, processes=settings.processes, folders=settings.folders),
            )
            self.storage = LocalStorage(
                StorageSettings(
                    data_dir=settings.state_dir / "storage",
                    log_file=settings.log_dir / "storage.log",
                    buckets=settings.buckets,
                    inbox=settings.inbox,
                ),
                self._reaper,
                port=free_port(settings.storage_port or STORAGE_PORT, fixed=bool(settings.storage_port)),
            )
            self.page = LocalPage(
                settings.state_dir,
                settings.log_dir / "page.log",
                self._reaper,
                port=free_port(settings.page_port or PAGE_PORT, fixed=bool(settings.page_port)),
            )
            self._has_page = False
            usual = ((settings.agent_port or AGENT_PORT, self.agent.port, "functions have"),
                     (settings.storage_port or STORAGE_PORT, self.storage.port, "storage has"),
                     (settings.page_port or PAGE_PORT, self.page.port, "page has"))  # fmt: skip
            notes += [f"port {want} is taken, so the {what} {got}" for want, got, what in usual if want != got]
            self._state = CloudState(
                pid=os.getpid(),
                started=started_at(os.getpid()),
                run_dir=str(self._reaper.run_dir),
                log_dir=str(settings.log_dir.absolute()),
                agent_url=self.agent.url,
                storage_url=self.storage.endpoint,
                notes=tuple(notes),
            )
            write_state(settings.state_dir, self._state)
            undo.pop_all()

    def __enter__(self) -> LocalCloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def invoke_url(self, app: str, function: str) -> str:
        """Return where a function will be invoked; known before it is there."""
        return invoke_url(self.agent.url, app, function)

    def start(
        self,
        app: AppSpec,
        functions: Sequence[FunctionSpec],
        prepare: Callable[[], object] = lambda: None,
        page: Mapping[str, str] | None = None,
    ) -> CloudState:
        """
        Start everything from the main thread; return when it answers.

        Args:
            prepare: Called once the storage answers and before any function can be called: fills the buckets.
            page: The settings of the page and the HTTP API; None for neither.

        Raises:
            GraphPipeError: a part does not start; call stop().
        """
        self.agent.deploy(app, functions)
        receiver = next((spec for spec in functions if spec.name == self.settings.uploads_to), None)
        wait_s = QUEUE_S + (receiver.timeout_s if receiver else 0)  # for a process, then for its answer
        self.storage.settings = replace(self.storage.settings, visibility_s=round(2 * wait_s))
        if page is not None:
            self.page.start(page)  # its imports run meanwhile; it asks for nothing before the first request
            self._has_page = True
        self.storage.start()
        prepare()
        self.agent.start()
        if receiver:
            invoke = invoker(self.invoke_url(app.name, receiver.name), timeout_s=wait_s + INVOKE_MARGIN_S)
            queue_url = self.storage.queue_url(self.storage.settings.queue)
            self.uploads = Uploads(self.storage.sqs(), queue_url, invoke)
            self._announce_missed()
            self.uploads.start()
        if self._has_page:
            self.page.ready()
        self._state = replace(
            self._state,
            ready=True,
            app=app.name,
            functions=tuple(sorted(spec.name for spec in functions)),
            page_url=self.page.url if self._has_page else "",
        )
        write_state(self.settings.state_dir, self._state)
        logger.info("ready: functions %s, storage %s", self.agent.url, self.storage.endpoint)
        return self._state

    def watch(self, stop: threading.Event) -> int:
        """
        Keep everything running until `stop` is set; call it in the thread of start(), with which the storage dies.

        Returns:
            0 when told to stop, 1 when a part ended that can't be started again.
        """
        while not stop.wait(WATCH_S):
            if not self.agent.alive:
                logger.critical("the agent ended by itself")
                return 1
            if not self.storage.alive:
                if not self._restarted("storage", self.storage):
                    return 1
                self._announce_missed()
            self._note_unsaved()
            if self._has_page and not self.page.alive and not self._restarted("page", self.page):
                return 1
        return 0

    def stop(self) -> None:
        """Stop everything, in the order in which nothing is lost; return when it is gone. Twice is once."""
        if self._stopped:
            return
        self._stopped = True
        if self.uploads:
            self.uploads.stop()
        self.page.stop()
        self.agent.stop()
        self.storage.stop()
        self._reaper.stop()
        clear_state(self.settings.state_dir)
        self._lock.release()
        logger.info("stopped")

    def _announce_missed(self) -> None:
        if self.uploads is not None:  # in a thread: the emulator lists 1,000 objects in half a second
            threading.Thread(target=self._find_missed, name="inbox", daemon=True).start()

    def _find_missed(self) -> None:
        failures: tuple[type[Exception], ...] = (StorageFailed, *client_errors())
        try:
            missed = announce_missed(self.storage, results=self.settings.results)
        except failures as exc:
            if not self._stopped:
                logger.error(
                    "what is new in %s can't be found out: %s; the next start tries again", self.settings.inbox, exc
                )
            return
        if missed:
            logger.info("%d objects of %s had no result and are announced again", missed, self.settings.inbox)

    def _note_unsaved(self) -> None:
        """Say what the emulator does not: that it could not write what it was given."""
        unsaved = self.storage.unsaved()
        if unsaved:
            self._unsaved += len(unsaved)
            trouble = (
                f"the storage holds {self._unsaved} objects in memory only and loses them when it ends, the last one "
                f"{unsaved[-1]}; free room in {self.storage.settings.data_dir} and upload them again"
            )
            logger.error("%s", trouble)
            self._state = replace(self._state, troubles=(trouble,))
            with contextlib.suppress(OSError):  # that very disk may be full
                write_state(self.settings.state_dir, self._state)

    def _restarted(self, what: str, part: LocalStorage | LocalPage) -> bool:
        self._restarts += 1
        logger.error("the %s ended by itself; %s may say why", what, part.log_file)
        if self._restarts > RESTARTS:
            logger.critical("parts ended %d times", self._restarts)
            return False
        part.stop()
        try:
            part.start()
        except GraphPipeError as exc:
            logger.critical("the %s does not start again: %s", what, exc)
            return False
        return True
