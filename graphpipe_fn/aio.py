"""
The client for asyncio, for callers who ask many peers, or one peer many things, at once.

It is the same Client, its calls made in threads: a call spends its time waiting or in the kernel, without the GIL,
and one implementation has one set of bugs. A cancelled call is let go at once; its thread ends with the answer or
at the deadline, and its connection goes back to the pool or is closed, as always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from graphpipe_fn.client import Client
from graphpipe_fn.messages import Call, InferRequest, InferResponse, Metadata, Tensor
from graphpipe_fn.transports import connect as connect_client

_T = TypeVar("_T")

CONCURRENCY = 32  # threads; a function container of Fn has room for 48 in all


class AsyncClient:
    """
    Be a Client whose methods are awaited.

    Args:
        client: Closed together with this one.
        concurrency: Calls at the same time; further ones wait their turn, inside their own deadline.
    """

    def __init__(self, client: Client, *, concurrency: int = CONCURRENCY) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="graphpipe-fn")

    async def metadata(self) -> Metadata:
        """See Client.metadata."""
        return await self._in_thread(self._client.metadata)

    async def infer(self, request: InferRequest) -> InferResponse:
        """See Client.infer."""
        # The deadline begins now and not when a thread is free.
        request = request.replace(call=self._client.begin(request.call))
        return await self._in_thread(partial(self._client.infer, request))

    async def run(
        self,
        *inputs: Any,
        input_names: Sequence[str] | str = (),
        output_names: Sequence[str] | str = (),
        config: str = "",
        call: Call = Call(),
    ) -> tuple[Tensor, ...]:
        """See Client.run."""
        call = self._client.begin(call)
        names = {"input_names": input_names, "output_names": output_names}
        return await self._in_thread(partial(self._client.run, *inputs, **names, config=config, call=call))

    async def aclose(self) -> None:
        """Wait for the calls under way, then close the connections."""
        # Not in one of the pool's own threads: it would wait for itself.
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def connect(uri: str, *, concurrency: int = CONCURRENCY, **options: Any) -> AsyncClient:
    """
    Return the model behind a URI.

    Args:
        options: As transports.connect's; it keeps as many connections as there are calls at the same time.
    """
    return AsyncClient(connect_client(uri, **{"connections": concurrency, **options}), concurrency=concurrency)
