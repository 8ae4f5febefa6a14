"""
One function process: started as Fn starts it, one call at a time, killed with everything it started.

It runs `fdk func.py handler` with FN_LISTENER and FN_FORMAT in a clean environment and speaks HTTP to its socket. It
knows nothing of queues (pool) nor of the outer request (gateway).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp

from classy.local import fn_errors
from classy.local.bodies import chunks, spool
from classy.local.fn_errors import CallNotSent, FnError
from classy.local.launch import LAUNCHER, Launch, environment
from classy.local.output import LogFile, Output
from classy.local.reaper import Reaper

SOCKET_WAIT_S = 5.0  # Fn's own
SOCKET_POLL_S = 0.005
EXIT_WAIT_S = 0.5
HEADER_BYTES = 64 << 10
OPEN_FILES = 350  # Fn's own
THREADS = (
    50  # Fn's own, of all processes in a container; to enforce it takes cgroups, or another user for each function
)

_TOLD = frozenset(("RssAnon", "RssShmem", "Threads"))  # in /proc/PID/status


@dataclass(frozen=True, slots=True)
class FunctionReply:
    """What a function answered: FDK's status, its headers as they came, its body in a file."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: IO[bytes]
    length: int


class FunctionProcess:
    """One process of a function; make it with start()."""

    def __init__(
        self,
        launch: Launch,
        process: asyncio.subprocess.Process,
        folder: Path,
        output: Output,
        reaper: Reaper,
    ) -> None:
        self.launch = launch
        self.pid = process.pid
        self.frozen = False
        self._process, self._folder, self._output, self._reaper = process, folder, output, reaper
        self._socket = folder / "lsnr.sock"
        self._killed_for = ""
        self._warned_of_threads = False
        self.exited = asyncio.ensure_future(self._watch())

    @classmethod
    async def start(cls, launch: Launch, *, log: LogFile, reaper: Reaper) -> FunctionProcess:
        """
        Start a process and wait until it listens.

        Raises:
            FnError: it ended, or has no socket after 5 s; it is gone then.
        """
        folder = Path(tempfile.mkdtemp(prefix="", dir=reaper.run_dir))
        (folder / "tmp").mkdir()
        output = Output(log)
        fdk = Path(sys.executable).with_name("fdk")  # by its path, not by its first line, which may be too long
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", LAUNCHER, str(os.getpid()), str(OPEN_FILES)),
                *(sys.executable, fdk, launch.file, launch.handler),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_fd,
                stderr=output.write_fd,
                cwd=launch.folder,
                env=environment(launch, folder),
                start_new_session=True,
            )
        except BaseException as exc:
            output.started(None)
            output.say(f"can't be started in {launch.folder}: {exc!r}")
            output.close()
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(exc, OSError | ValueError):  # ValueError: a configuration that is no environment
                raise fn_errors.died_at_start() from exc
            raise
        output.started(process.pid)
        reaper.add(process.pid)
        self = cls(launch, process, folder, output, reaper)
        output.say(f"started in {launch.folder}")
        try:
            async with asyncio.timeout(SOCKET_WAIT_S):
                while not os.path.lexists(self._socket):
                    if self.exited.done():
                        raise fn_errors.died_at_start()
                    await asyncio.sleep(SOCKET_POLL_S)
        except BaseException as exc:
            self.kill(
                f"no socket after {SOCKET_WAIT_S:g} s" if isinstance(exc, TimeoutError) else "not needed any more"
            )
            await self.exited
            if isinstance(exc, TimeoutError):
                raise fn_errors.no_socket() from exc
            raise
        return self

    @property
    def alive(self) -> bool:
        """Return whether it may take a call."""
        return not self.exited.done() and not self._killed_for

    async def call(self, headers: Sequence[tuple[str, str]], body: IO[bytes], call_id: str) -> FunctionReply:
        """
        Send one call and read its answer; the process is killed if it is cut short.

        Args:
            headers: Everything but the transport's own.
            body: Sent from its beginning.
            call_id: For the log.

        Raises:
            CallNotSent: the process was gone already.
            FnError: it ended, took too long, or answered with too much.
        """
        self._output.begin(call_id)
        try:
            async with asyncio.timeout(self.launch.timeout_s):
                return await self._exchange(headers, body)
        except TimeoutError as exc:
            self.kill(f"the call took longer than {self.launch.timeout_s} s")
            raise fn_errors.timed_out() from exc
        except asyncio.CancelledError:
            self.kill("the caller hung up")
            raise
        except (FnError, CallNotSent):
            await asyncio.wait((self.exited,), timeout=EXIT_WAIT_S)  # so that the log tells how it ended
            self.kill("it closed the connection in the middle of a call")
            raise
        finally:
            self._output.end()

    def freeze(self) -> None:
        """Stop the process's clock, as Fn pauses an idle container."""
        if self.alive and not self.frozen:
            self.frozen = True
            self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        if self.frozen:
            self.frozen = False
            self._signal(signal.SIGCONT)

    def kill(self, why: str) -> None:
        """End the process and everything in its group, at once; `why` goes to the log unless it is empty."""
        if self.alive:
            self._killed_for = why or "no reason"
            if why:
                self._output.say(f"killed: {why}")
            self._signal(signal.SIGKILL)

    def check(self) -> None:
        """
        Kill the process when it holds more than its memory; say once when it has more threads than Fn allows.

        Of the memory that counts which only this process holds. Linux alone tells; elsewhere nothing happens.
        """
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except (OSError, UnicodeDecodeError):
            return
        lines = (line.partition(":") for line in status.splitlines())
        told = {name: int(value.split()[0]) for name, _, value in lines if name in _TOLD}
        memory_mb = (told.get("RssAnon", 0) + told.get("RssShmem", 0)) / 1024
        if memory_mb > self.launch.memory_mb:
            self.kill(f"it holds {memory_mb:.0f} MB, over its limit of {self.launch.memory_mb} MB")
        elif told.get("Threads", 0) > THREADS and not self._warned_of_threads:
            self._warned_of_threads = True
            self._output.say(f"it has {told['Threads']} threads; Fn starts no more than {THREADS}")

    async def _watch(self) -> None:
        code = await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started; its pid is not given away while its group lives
        self._reaper.remove(self.pid)
        if not self._killed_for:
            self._output.say(f"ended by itself with status {code}")
        self._output.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _exchange(self, headers: Sequence[tuple[str, str]], body: IO[bytes]) -> FunctionReply:
        # A connection per call: fdk 0.1.128 spins on one that is idle for 75 s, and Fn's own server keeps none long.
        connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # none: call() has one
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        ) as session:
            try:
                async with session.post("http://localhost/call", data=chunks(body), headers=headers) as response:
                    body, length = await spool(response.content, self._reaper.run_dir, fn_errors.response_too_large)
                    return FunctionReply(response.status, tuple(response.headers.items()), body, length)
            except aiohttp.ClientConnectorError as exc:
                raise CallNotSent from exc
            except (aiohttp.ClientError, ConnectionError) as exc:
                raise fn_errors.no_response() from exc
            except OSError as exc:  # no room for the answer
                self._output.say(f"its answer can't be kept: {exc}")
                raise fn_errors.machine_fails(exc) from exc

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
