"""
Bodies on their way through: read whole, in memory while they are small, on disk when they are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, cast

import aiohttp

from classy.local.fn_errors import FnError

SPOOL_BYTES = 1 << 20  # of a body kept in memory; the rest lies on disk
CHUNK_BYTES = 256 << 10
LIMIT_BYTES = 1 << 30  # of an answer; Fn's own server has none, a disk does


async def spool(
    content: aiohttp.StreamReader, folder: Path, too_large: Callable[[], FnError], *, limit_bytes: int = LIMIT_BYTES
) -> tuple[IO[bytes], int]:
    """
    Read a whole body into a file that lies in memory while it is small.

    Args:
        content: The body as it comes.
        folder: For what is too big for memory; the file has no name there.
        too_large: What is raised for a body over the limit.

    Returns:
        The file at its beginning, and its length in bytes.
    """
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(folder)))  # noqa: SIM115 - the caller's
    length = 0
    try:
        async for chunk in content.iter_chunked(CHUNK_BYTES):
            length += len(chunk)
            if length > limit_bytes:
                raise too_large()
            file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, length


async def chunks(body: IO[bytes]) -> AsyncIterator[bytes]:
    """Yield a body from its beginning, in pieces."""
    body.seek(0)
    while chunk := body.read(CHUNK_BYTES):
        yield chunk
