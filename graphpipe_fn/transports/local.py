"""The road within a process: through the codec, over no network; tests and callers use the same door."""

from __future__ import annotations

from collections.abc import Sequence

from graphpipe_fn.messages import Call
from graphpipe_fn.model import Answer, Buffer, Model, Reply, Transport
from graphpipe_fn.server import answerer


def local(served: Model | Answer) -> Transport:
    """
    Return the transport to a model, or to what an adapter would serve, in this process.

    Args:
        served: A Model, answered as a server would (every error becomes a reply), or an Answer.
    """
    answer = answerer(served) if isinstance(served, Model) else served

    def carry(buffers: Sequence[Buffer], call: Call) -> Reply:
        return answer(buffers[0] if len(buffers) == 1 else b"".join(buffers), call)

    return carry
