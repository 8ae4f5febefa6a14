"""Fail in the way that the body names."""

import contextlib
import os
import signal
import threading
import time


def handler(ctx, data=None):
    how = data.getvalue().decode()
    if how == "raise":
        raise ValueError("the detail that belongs to the log")
    if how == "timeout":
        raise TimeoutError("told by the function itself")
    if how == "exit":
        os._exit(3)
    if how == "sysexit":
        raise SystemExit(4)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "pid":
        return str(os.getpid())
    if how == "sleep":
        print("falling asleep")
        time.sleep(600)
    if how == "threads":
        over = threading.Event()
        threads = [threading.Thread(target=over.wait) for _ in range(60)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # longer than the agent looks away
        over.set()
        for thread in threads:
            thread.join()
    if how == "memory":
        time.sleep(len(bytearray(600_000_000)))
    if how == "hang up":
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                os.close(fd)
    return how
