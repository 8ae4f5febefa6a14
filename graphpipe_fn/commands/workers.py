"""Several processes that serve at one address: a parent that starts them, and starts anew those that die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from graphpipe_fn.adapters.http import Listen
from graphpipe_fn.errors import BadConfig

RESTART_S = 1.0  # a worker that dies at once is not started in a tight loop
_log = logging.getLogger(__name__)


class Workers:
    """
    Run a function in several processes.

    Args:
        count: Processes.
        work: Runs in a forked child and returns its exit status. It must end on SIGTERM.
    """

    def __init__(self, count: int, work: Callable[[], int]) -> None:
        self._count = count
        self._work = work
        self._children: set[int] = set()
        self._stopping = False

    def run(self) -> int:
        """
        Keep the workers running until SIGTERM or SIGINT, which they get, too.

        Returns:
            0 where all of them ended well after that.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        for _ in range(self._count):
            self._start()
        worst = 0
        while self._children:
            child, status = os.wait()
            if child not in self._children:
                continue
            self._children.discard(child)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                worst = worst or abs(code)
                continue
            if code in (1, 2):  # a worker that says why it can't serve: the others can't either
                self._stop(signal.SIGTERM, None)
                worst = code
                continue
            _log.error("worker %d ended with %d; another one is started", child, code)
            time.sleep(RESTART_S)
            if not self._stopping:
                self._start()
        return worst

    def _start(self) -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = self._work()
            finally:
                os._exit(code)
        self._children.add(child)
        if self._stopping:  # the signal came between the fork and the line above
            os.kill(child, signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for child in self._children:
            os.kill(child, signal.SIGTERM)


def reserved(listen: Listen) -> tuple[socket.socket, int]:
    """
    Take a port that several processes can then listen at.

    Returns:
        The socket that holds the port, without listening, and the port.

    Raises:
        BadConfig: the port can't be had, or it is no port.
    """
    if listen.path:
        raise BadConfig("several workers can't share a unix socket; listen at HOST:PORT, or use --workers 1")
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError as exc:
        raise BadConfig(f"can't listen at {listen.host}:{listen.port} ({exc.strerror})") from exc
    return sock, int(sock.getsockname()[1])
