"""
Decoding apart: a process of its own for the pictures whose cost does not follow from their header.

Those are TIFF and AVIF (containers in containers, lists that are searched again and again, tables of any size),
lossless and transparent WebP (a Huffman table for every few pixels), run-length packed BMP, and whatever is estimated
to use up half its budget. For all others bytes × scans × pixels bound the work, so they are decoded in the caller's
process at no extra cost. A counting file object in the caller's process can't take the child's place: Pillow hands
these decoders the whole file in one call, and 1.4 MB of AVIF then keep it busy for 16 s without reading again (20 MB,
growing with the square, for most of an hour).

The child is started anew for each picture, with Pillow but without numpy: about 85 ms of CPU time (90 for TIFF), next
to 40 ms for a 2 Mpx AVIF itself. It needs two pipes, no file, no shared memory and no signal handler of the caller,
so it works where the disk is read-only and where threads run. It limits itself before it looks at the picture: CPU
time, memory, no files written, no further processes. A crash of a decoder costs that picture only.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict

from classy.errors import PictureTooCostly, PictureTooLarge, UnreadablePicture
from classy.models.manifest import InputSpec
from classy.pictures.plan import PictureLimits
from classy.pictures.webp import PLAIN_BYTES, plain_webp
from graphpipe_fn.errors import GraphPipeError, InternalError, TimedOut, Unavailable

_START = "import sys; sys.path[:0] = sys.argv[1:]; from classy.pictures.worker import main; main()"
_OWN_BYTES = 32_000_000  # of the memory limit: for what the child itself needs
_WALL_SHARE = 10.0  # a child that waits for a processor longer than this many times its CPU budget is given up
_ERRORS = {kind.code: kind for kind in (UnreadablePicture, PictureTooLarge, PictureTooCostly)}
_END_S = 0.1  # of the CPU budget: for what the child does after decoding, and the caller around it
_MESSAGE_CHARS = 1_000
_HEAD_BYTES = 8_000  # of the answer's first line; JSON takes up to 6 bytes per character


def render_apart(
    picture: bytes,
    spec: InputSpec,
    *,
    limits: PictureLimits,
    exact: bool = False,
    thumbnail_px: int = 0,
    timeout_s: float | None = None,
) -> tuple[int, bytes, bytes]:
    """
    Decode one picture in a process of its own.

    Args:
        picture, spec, limits, exact, thumbnail_px: As for classy.pictures.decode.render.
        timeout_s: When the caller stops waiting, from now.

    Returns:
        Channels, 1 or 3, the spec's height × width × channels bytes, and the thumbnail.

    Raises:
        UnreadablePicture, PictureTooLarge, PictureTooCostly: as render does; the last also where the child used up
            its time or memory.
        TimedOut: `timeout_s` passed.
        Unavailable: no process could be started.
    """
    task = {"spec": asdict(spec), "limits": asdict(limits), "exact": exact, "thumbnail_px": thumbnail_px}
    most_s = _WALL_SHARE * limits.budget_s(limits.px)
    wait_s = most_s if timeout_s is None else min(timeout_s, most_s)
    head, body, status, late = _asked(json.dumps(task).encode() + b"\n" + picture, _answer_bytes(spec), wait_s)
    if late and wait_s < most_s:
        raise TimedOut("the deadline passed while the picture was decoded; allow more time or send a smaller picture")
    if head:
        return _answer(head, body, spec)
    if late or status in (-signal.SIGPROF, -signal.SIGXCPU):
        raise PictureTooCostly(
            f"decoding this picture took more than its CPU time ({limits.time_s:g} s, and more for a large one); "
            "send a smaller picture or a JPEG, or raise CLASSY_PICTURE_TIME"
        )
    if status == -signal.SIGKILL:
        raise PictureTooCostly(
            "decoding this picture took more memory than there is; send a smaller picture or a JPEG"
        )
    if status < 0:
        raise UnreadablePicture("this picture is damaged so that its decoder crashed; save it as a JPEG or PNG")
    raise InternalError(f"the process that decodes pictures ended with status {status} and no answer")


def _asked(task: bytes, most_bytes: int, wait_s: float) -> tuple[bytes, bytes, int, bool]:
    """Run the child; return the answer's first line and the rest, the exit status, and whether time ran out."""
    import subprocess

    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter with our own module; the picture goes to stdin
            [sys.executable, "-I", "-S", "-B", "-c", _START, *_roots()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as exc:
        raise Unavailable(f"no process could be started to decode the picture ({exc.strerror}); try again") from exc
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(max(wait_s, 0.0), give_up)
    timer.start()
    try:
        assert child.stdin is not None  # both are pipes; said for the type checker
        assert child.stdout is not None
        with suppress(BrokenPipeError):  # where it ended before it had read all, its status tells why
            child.stdin.write(task)
            child.stdin.close()
        # It answers only when it has read everything, so writing first and reading then can't lock up.
        head, _, body = child.stdout.read(most_bytes).partition(b"\n")
        return head, body, child.wait(), late.is_set()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def _roots() -> list[str]:
    """Return the folders that the child needs to import from: the child reads no site-packages of its own accord."""
    import PIL

    import classy
    import graphpipe_fn

    files = [str(package.__file__) for package in (classy, graphpipe_fn, PIL)]
    return list(dict.fromkeys(os.path.dirname(os.path.dirname(os.path.abspath(file))) for file in files))


def _answer_bytes(spec: InputSpec) -> int:
    return _HEAD_BYTES + spec.width_px * spec.height_px * 3 + PLAIN_BYTES


def _answer(head: bytes, body: bytes, spec: InputSpec) -> tuple[int, bytes, bytes]:
    """Check what the child says as one checks a stranger: a decoder may have been taken over."""
    try:
        said = json.loads(head)
        if "code" in said:
            raise _ERRORS[said["code"]](str(said["message"]))
        channels = {"L": 1, "RGB": 3}[said["mode"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise InternalError("the process that decodes pictures answered with something else") from exc
    size = spec.width_px * spec.height_px * channels
    pixels, thumbnail = body[:size], body[size:]
    if len(pixels) != size or (thumbnail and not plain_webp(thumbnail)):
        raise InternalError("the process that decodes pictures answered with too few or too many pixels")
    return channels, pixels, thumbnail


def main() -> None:
    """Be the child: read a task and a picture from standard input, write the answer to standard output."""
    import warnings

    from classy.pictures.decode import render
    from classy.pictures.guard import inspect

    task = json.loads(sys.stdin.buffer.readline())
    picture = sys.stdin.buffer.read()
    limits = PictureLimits(**task["limits"])
    tuples = {key: tuple(task["spec"][key]) for key in ("mean", "deviation")}
    spec = InputSpec(**{**task["spec"], **tuples})
    warnings.simplefilter("ignore")  # about odd tags; a picture that is read right needs no remark
    if picture[4:8] == b"ftyp":
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # threads would multiply memory, and their CPU time is ours too
    if task["thumbnail_px"]:
        from PIL import WebPImagePlugin  # noqa: F401 - loaded before memory is limited
    _confine(limits)
    try:
        rendered = render(
            inspect(picture, limits),
            spec,
            limits=limits,
            exact=task["exact"],
            thumbnail_px=task["thumbnail_px"],
            on_size=lambda px: _allow_cpu(limits.budget_s(px)),
        )
        answer: dict[str, object] = {"mode": rendered.image.mode}
        body = rendered.image.tobytes() + rendered.thumbnail
    except GraphPipeError as exc:
        answer, body = {"code": exc.code, "message": exc.message[:_MESSAGE_CHARS]}, b""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + body)


def _confine(limits: PictureLimits) -> None:
    """Limit this process's CPU time, memory and rights, as far as the platform can."""
    try:
        import resource
    except ImportError:  # Windows; there the caller's timer is the only limit
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a caller that ignores it would have it ignored here
    most_s = math.ceil(limits.budget_s(limits.px)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))
    for nothing in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(nothing, (0, 0))
    with suppress(OSError):  # no /proc: macOS, where RLIMIT_AS limits nothing either
        with open("/proc/self/statm", "rb") as file:
            here = int(file.read().split()[0]) * resource.getpagesize()
        most = here + max(limits.memory_bytes - _OWN_BYTES, _OWN_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    _allow_cpu(limits.budget_s(0))


def _allow_cpu(most_s: float) -> None:
    """Let the process end itself (SIGPROF) when it has used so much CPU time since its start."""
    signal.setitimer(signal.ITIMER_PROF, max(most_s - _END_S - time.process_time(), 0.001))
