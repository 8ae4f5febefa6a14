"""The client for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from contract_model import ContractModel
from scripted_server import Peer, response, scripted_server

from graphpipe_fn.aio import AsyncClient, connect
from graphpipe_fn.client import Client
from graphpipe_fn.codec import decode_request, encode_response
from graphpipe_fn.errors import RemoteError, TimedOut
from graphpipe_fn.messages import Call, InferRequest, InferResponse, strings
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.transports.local import local


def echo(body: bytes) -> bytes:
    """Return the identity's answer."""
    request = decode_request(body)
    assert isinstance(request, InferRequest)
    return b"".join(encode_response(InferResponse(request.inputs)))


def test_the_methods_are_the_clients_own() -> None:
    """Answers, metadata and errors are those of the Client."""

    async def main() -> None:
        async with AsyncClient(Client(local(ContractModel()))) as client:
            assert await client.run(["a"], input_names="x") == (strings(["a"]),)
            assert (await client.infer(InferRequest((strings(["b"]),)))).outputs == (strings(["b"]),)
            assert await client.metadata() == ContractModel().metadata()
            with pytest.raises(RemoteError) as caught:
                await client.run([1], config="raise BadTensor")
            assert caught.value.code == 42200

    asyncio.run(main())


def test_calls_wait_side_by_side() -> None:
    """Thirty-two calls of 0.2 s take one wait, not thirty-two; every answer belongs to its question."""
    arrived = threading.Barrier(32)

    def script(peer: Peer) -> None:
        while True:
            _, body = peer.request()
            arrived.wait(10)  # nobody is answered before all have asked
            peer.send(response(echo(body)))

    async def main(url: str) -> list[int]:
        async with connect(url, concurrency=32) as client:
            outputs = await asyncio.gather(*(client.run([number]) for number in range(32)))
            again = await asyncio.gather(*(client.run([number]) for number in range(32)))
        return [int(np.asarray(output)[0]) for (output,) in [*outputs, *again]]

    with scripted_server(script) as server:
        assert asyncio.run(main(server.url)) == [*range(32), *range(32)]
        assert server.connections == 32


def test_a_cancelled_call_lets_go_at_once_and_leaks_nothing() -> None:
    """The caller goes on immediately; the connection serves the next call, and all are closed in the end."""
    go, asked = threading.Event(), threading.Event()
    ended = []

    def script(peer: Peer) -> None:
        try:
            while True:
                _, body = peer.request()
                asked.set()
                go.wait(10)
                peer.send(response(echo(body)))
        finally:
            ended.append(peer.number)

    async def main(url: str) -> float:
        async with connect(url, concurrency=2) as client:
            task = asyncio.create_task(client.run([1]))
            await asyncio.to_thread(asked.wait, 5)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took_s = time.monotonic() - started
            go.set()
            for number in range(20):
                (output,) = await client.run([number])
                assert np.asarray(output).tolist() == [number]
        return took_s

    with scripted_server(script) as server:
        assert asyncio.run(main(server.url)) < 0.1
        assert server.connections <= 2
    assert len(ended) == server.connections


def test_a_call_that_waits_for_its_turn_can_be_cancelled() -> None:
    """Beyond the concurrency calls queue; a cancelled one is never sent."""
    go = threading.Event()
    sent = []

    def slow(buffers: Sequence[Buffer], call: Call) -> Reply:
        sent.append(call.id)
        go.wait(10)
        return Reply([echo(b"".join(buffers))])

    async def main() -> None:
        async with AsyncClient(Client(slow), concurrency=1) as client:
            first = asyncio.create_task(client.run([1]))
            second = asyncio.create_task(client.run([2]))
            while not sent:
                await asyncio.sleep(0.001)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go.set()
            await first

    asyncio.run(main())
    assert len(sent) == 1


def test_waiting_for_a_turn_counts_against_the_deadline() -> None:
    """A call's time begins when it is made: one whose turn comes too late is not sent."""
    sent = []

    def slow(buffers: Sequence[Buffer], call: Call) -> Reply:
        sent.append(call)
        time.sleep(0.3)
        return Reply([echo(b"".join(buffers))])

    async def main() -> list[object]:
        async with AsyncClient(Client(slow, timeout_s=0.2), concurrency=1) as client:
            request = InferRequest((np.ones(1),))
            calls = [client.infer(request), client.run([2]), client.infer(request)]
            return list(await asyncio.gather(*calls, return_exceptions=True))

    first, *others = asyncio.run(main())
    assert isinstance(first, InferResponse)
    assert [type(other) for other in others] == [TimedOut, TimedOut]
    assert len(sent) == 1
