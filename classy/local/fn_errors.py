"""
What Fn's server answers when it can't answer: its own statuses and words, which the `fn` CLI and users know.

Source: seen on a real server, and its documented API for the rest.
"""

from __future__ import annotations


class FnError(Exception):
    """
    Be answered with `{"message": …}`.

    Args:
        status: HTTP status.
        message: Fn's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class CallNotSent(Exception):
    """A process was gone before it got a byte of the call, so the call can be given to another."""


_LATEST_FDK = "please ensure you are using the latest fdk and check the logs"


def function_failed() -> FnError:
    """Return the answer to a handler that raised, could not be imported or does not exist."""
    return FnError(502, "function failed")


def no_response() -> FnError:
    """Return the answer to a process that ended in the middle of a call."""
    return FnError(502, "error receiving function response")


def invalid_response() -> FnError:
    """Return the answer to a status that no FDK sends."""
    return FnError(502, "invalid function response")


def response_too_large() -> FnError:
    """Return the answer to a response over the limit."""
    return FnError(502, "function response body too large")


def request_too_large() -> FnError:
    """Return the answer to a request over the limit."""
    return FnError(413, "Request content too large")


def timed_out() -> FnError:
    """Return the answer to a call over its function's timeout."""
    return FnError(504, "Timed out")


def too_busy() -> FnError:
    """Return the answer to a call for which no process became free in time."""
    return FnError(503, "Timed out - server too busy")


def machine_fails(exc: OSError) -> FnError:
    """Return the answer to a call for which this machine has no room, file or process left; no words of Fn's."""
    return FnError(503, f"this machine can't serve the call now: {exc.strerror or exc}; free some room and try again")


def died_at_start() -> FnError:
    """Return the answer to a process that ended before it had a socket."""
    return FnError(502, f"Container failed to initialize, {_LATEST_FDK}")


def no_socket() -> FnError:
    """Return the answer to a process that has no socket in time."""
    return FnError(504, f"Container initialization timed out, {_LATEST_FDK}")


def no_image(image: str) -> FnError:
    """Return the answer to an image for which there is no folder here."""
    return FnError(502, f"Failed to pull image '{image}': no function folder of that name on this machine")
