"""
A network of its own, in which every address of IPv4 and IPv6 is this machine's: what is dialled is reached.

So a forbidden address that somebody connects to has a real listener behind it, and the public ones that honest
cases need are there too, without any of the packets leaving. It takes Linux and the right to make a namespace.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
RTM_NEWROUTE = 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, RTA_OIF = 255, 3, 254, 2, 4


def enter() -> None:
    """
    Move this process into a network where all addresses are local.

    Raises:
        OSError: it may not, or the system is not Linux.
    """
    _unshare()
    index = socket.if_nametoindex("lo")
    _up("lo")
    for family in (socket.AF_INET, socket.AF_INET6):
        _route_everything_here(family, index)


def _unshare() -> None:
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) == 0:  # as root, outside a container's limits
        return
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace may be made here")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = bytearray(struct.pack("16sh14x", name.encode(), 0))
        fcntl.ioctl(sock, SIOCGIFFLAGS, request)
        flags = struct.unpack_from("h", request, 16)[0]
        struct.pack_into("h", request, 16, flags | IFF_UP)
        fcntl.ioctl(sock, SIOCSIFFLAGS, request)


def _route_everything_here(family: int, index: int) -> None:
    """Do what `ip route add local default dev lo table local` does."""
    scope = RT_SCOPE_HOST if family == socket.AF_INET else 0
    route = struct.pack("BBBBBBBBI", family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, scope, RTN_LOCAL, 0)
    body = route + struct.pack("HHI", 8, RTA_OIF, index)
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        sock.send(struct.pack("IHHII", 16 + len(body), RTM_NEWROUTE, flags, 1, 0) + body)
        error = struct.unpack_from("i", sock.recv(4096), 16)[0]
    if error:
        raise OSError(-error, "the route to everything could not be made")
