"""
Become a child that dies with its parent: `launcher.py PARENT_PID OPEN_FILES PROGRAM ARGUMENT…`.

It runs in the new process, before `exec`, because Python code between fork and exec is not safe in a threaded
parent. Linux's parent-death signal follows the parent *thread*: the parent starts children from one thread that lives
as long as it does. It is run by path, and imports nothing of Classy.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Set what a function's process inherits, then become the program."""
    parent, open_files, program = int(arguments[0]), int(arguments[1]), arguments[2]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above took effect
            sys.exit("the parent is gone")
    if open_files:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        least = open_files if most == resource.RLIM_INFINITY else min(open_files, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, least))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(program, arguments[2:])  # noqa: S606 - the program is given by path, no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
