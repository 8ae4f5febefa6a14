"""
Ports on 127.0.0.1: the wanted one, or another, or a clear refusal.
"""

from __future__ import annotations

import socket

from graphpipe_fn.errors import GraphPipeError


class PortTaken(GraphPipeError):
    """Another program listens on the port that was asked for."""

    code = 50313


def listen(port: int = 0, *, fixed: bool = False) -> socket.socket:
    """
    Return a listening socket on 127.0.0.1.

    Args:
        port: The wanted one; another free one is taken where it is in use.
        fixed: Take this port or none.

    Raises:
        PortTaken: `fixed`, and another program has the port.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        if fixed or not port:
            raise PortTaken(f"port {port} can't be used ({exc.strerror}); stop what has it, or name another") from exc
        return listen(0)
    return listener


def free_port(port: int = 0, *, fixed: bool = False) -> int:
    """
    Return a port that was free a moment ago, for a program that can only be given a number.

    Args and Raises: as for listen().
    """
    with listen(port, fixed=fixed) as listener:
        found: int = listener.getsockname()[1]
    return found
