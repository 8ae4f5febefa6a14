"""
What functions print: bounded in size, one call id per line, never in memory as a whole.

A function that prints 10 MB in a call leaves its first megabyte in the log and a line that says how much was
dropped; one that prints for days leaves two files of bounded size.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

LINE_BYTES = 8 << 10  # a longer line is cut into several
CALL_BYTES = 1 << 20  # kept of one call's output; what Fn's own server keeps by default
FILE_BYTES = 10 << 20  # of one log file, before it becomes FILE.1
READ_BYTES = 64 << 10  # a pipe's capacity

# Control characters could forge lines or steer a terminal that shows the log.
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")}


class LogFile:
    """
    Append lines to a file of bounded size.

    Args:
        path: The file; when full it replaces `path.1` and a new one is begun.
    """

    def __init__(self, path: Path, *, limit_bytes: int = FILE_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._limit_bytes = limit_bytes
        self._file = path.open("ab", buffering=0)
        self._bytes = path.stat().st_size
        self._lost = 0

    def write(self, call_id: str, text: str) -> None:
        """Append one line: the time, the call's id (or -), the text without control characters."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        line = f"{stamp} {call_id or '-'} {text.translate(_ESCAPED)}\n".encode()
        if self._bytes + len(line) > self._limit_bytes:
            self._turn()
        try:
            self._file.write(line)
        except OSError:  # a disk that is full costs lines, not calls
            self._lost += 1
            return
        self._bytes += len(line)
        if self._lost:
            lost, self._lost = self._lost, 0
            self.write("", f"… {lost} lines before the last one were lost: there was no room for them")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _turn(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._file = self.path.open("ab", buffering=0)
        self._bytes = 0


class Output:
    """
    Read one process's output from the event loop and write it to a log, line by line.

    Args:
        log: Where the lines go.
    """

    def __init__(self, log: LogFile, *, call_bytes: int = CALL_BYTES) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self._log, self._call_bytes = log, call_bytes
        self._call_id = self._label = ""
        self._rest = b""
        self._written = self._dropped = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.read_fd, self._read)
        self._open = True

    def started(self, pid: int | None) -> None:
        """Close our copy of the end that the process writes to; call it once the process has its own, or can't."""
        os.close(self.write_fd)
        self._label = f"[{pid or '-'}]"

    def say(self, text: str) -> None:
        """Write a line of our own, beside what the process prints."""
        self._log.write(self._call_id, f"{self._label} {text}")

    def begin(self, call_id: str) -> None:
        """Say whose lines follow."""
        self.end()
        self._call_id = call_id

    def end(self) -> None:
        """Write the call's last words: what is still in the pipe, a line without its end, what was dropped."""
        self.drain()
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        if self._dropped:
            self.say(f"… {self._dropped} more bytes of output were dropped")
            self._dropped = 0
        self._call_id = ""
        self._written = 0

    def drain(self) -> None:
        """Read what is there now; never more than a pipe holds, so a process that prints on can't keep us."""
        if self._open:
            self._read()

    def close(self) -> None:
        """Read what a dead process left, and let go of the pipe."""
        if self._open:
            self.end()  # what the pipe still holds; its other end may live on in a process that escaped its group
            self._shut()

    def _read(self) -> int:
        try:
            data = os.read(self.read_fd, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._shut()
            return 0
        if self._written > self._call_bytes:
            self._dropped += len(data)
            return len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            for start in range(0, max(len(line), 1), LINE_BYTES):
                self._line(line[start : start + LINE_BYTES])
        if len(self._rest) >= LINE_BYTES:
            self._line(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return len(data)

    def _line(self, line: bytes) -> None:
        self._written += len(line) + 1
        if self._written > self._call_bytes:
            self._dropped += len(line) + 1
        else:
            self.say(line.rstrip(b"\r").decode("utf-8", "replace"))

    def _shut(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self.read_fd)
            os.close(self.read_fd)
