"""Handover: messages over Lambda's limits wait elsewhere, and nobody is asked for one by a stranger."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_model import ContractModel
from lambda_runtime.emulator import Emulator, ministack
from lambda_runtime.road import access_to
from lambda_runtime.runtime import LambdaRuntime
from scripted_server import Peer, scripted_server
from scripted_server import response as http_response

from graphpipe_fn.adapters.aws_lambda import HandedOnFailed, handler
from graphpipe_fn.codec import decode_response, encode_request
from graphpipe_fn.errors import Busy, NotFound, RemoteError, TooLarge
from graphpipe_fn.handover import HANDED_ON, HEADER
from graphpipe_fn.messages import Call, InferRequest
from graphpipe_fn.model import Buffer
from graphpipe_fn.server import answerer
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.aws_lambda import EVENT_MAX, LambdaTransport
from graphpipe_fn.transports.aws_lambda_event import decode_answer, encode_event

LARGE = np.random.default_rng(11).random((14, 3, 224, 224), dtype="float32")  # 8.4 MB
SMALL = np.ones((1, 3), "float32")


class Folder:
    """A folder that both ends can read, as object storage would be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, buffers: Sequence[Buffer]) -> str:
        name = uuid.uuid4().hex
        (self.path / name).write_bytes(b"".join(buffers))
        return name

    def take(self, name: str, *, limit_bytes: int) -> bytes:
        file = self.path / name
        if not file.is_file():
            raise NotFound(f"no message {name} waits here")
        if file.stat().st_size > limit_bytes:
            raise TooLarge(f"the message {name} is over {limit_bytes} bytes")
        return file.read_bytes()


FUNC = f"""
import sys
from pathlib import Path

sys.path[:0] = {sys.path!r}
from contract_model import ContractModel
from test_handover import Folder

from graphpipe_fn.adapters.aws_lambda import handler as lambda_handler
from graphpipe_fn.server import answerer

WAITING = Path(__file__).parent / "waiting"
handler = lambda_handler(answerer(ContractModel(), name="contract"), handover=Folder(WAITING))
alone = lambda_handler(answerer(ContractModel(), name="contract"))
"""


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    """Where both ends leave large messages, and a func.py beside it."""
    (tmp_path / "waiting").mkdir()
    (tmp_path / "func.py").write_text(FUNC)
    return Folder(tmp_path / "waiting")


def test_what_is_too_large_both_ways_arrives_whole(place: Folder) -> None:
    """8.4 MB go to a function and come back, byte for byte, by the real runtime client and its limits."""
    with (
        LambdaRuntime(place.path.parent, "func.handler") as runtime,
        connect("lambda:function", aws=access_to(runtime.url), handover=place) as client,
    ):
        (answer,) = client.infer(InferRequest((LARGE,))).outputs
    assert isinstance(answer, np.ndarray)
    np.testing.assert_array_equal(answer, LARGE)
    assert len(list(place.path.iterdir())) == 2  # one each way


def test_what_fits_travels_by_itself(place: Folder) -> None:
    """Small messages never touch the place."""
    with (
        LambdaRuntime(place.path.parent, "func.handler") as runtime,
        connect("lambda:function", aws=access_to(runtime.url), handover=place) as client,
    ):
        client.infer(InferRequest((SMALL,)))
    assert list(place.path.iterdir()) == []


def test_an_answer_is_handed_over_only_to_callers_who_can_fetch_it(place: Folder) -> None:
    """A caller without the place is told that the answer is too large, as before."""
    serve = handler(answerer(ContractModel(), name="contract"), handover=place, answer_limit_bytes=2_000)
    body = encode_request(InferRequest((np.ones((100, 3, 5), "float32"),)))
    stranger = serve(json.loads(b"".join(encode_event(body, Call()))), None)
    friend = serve(json.loads(b"".join(encode_event(body, Call(), {"graphpipe-takes-handover": "1"}))), None)
    assert (stranger["statusCode"], friend["statusCode"]) == (413, 200)
    assert len(friend["body"]) == 0
    taken = decode_answer(json.dumps(friend).encode(), take=lambda name: place.take(name, limit_bytes=1 << 30))
    assert np.shape(decode_response(taken.body()).outputs[0]) == (100, 3, 5)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        pytest.param("0" * 32, 404, "no message 0000", id="not-there"),
        pytest.param("../func.py", 400, "was handed over as '../func.py'", id="a-path"),
        pytest.param("s3://bucket/key", 400, "was handed over as", id="a-uri"),
    ],
)
def test_a_name_leads_nowhere_else(place: Folder, name: str, status: int, words: str) -> None:
    """Only names of messages that wait in this place are fetched."""
    serve = handler(answerer(ContractModel(), name="contract"), handover=place)
    answer = serve(json.loads(b"".join(encode_event([], Call(), {HEADER: name}))), None)
    assert answer["statusCode"] == status
    assert words in str(_error(answer))


def test_a_function_without_a_place_says_so(place: Folder) -> None:
    """The two ends were set up differently: the error names that."""
    serve = handler(answerer(ContractModel(), name="contract"))
    answer = serve(json.loads(b"".join(encode_event([], Call(), {HEADER: "0" * 32}))), None)
    assert answer["statusCode"] == 400
    assert "give both ends of the road the same place" in _error(answer)


def test_without_a_place_a_large_message_is_refused_unsent() -> None:
    """As Lambda would, but before the 8 MB are on their way."""
    with pytest.raises(TooLarge, match="hand large ones over"):
        LambdaTransport("lambda:function")(encode_request(InferRequest((LARGE,))), Call())


def _error(answer: dict[str, Any]) -> str:
    return decode_response(decode_answer(json.dumps(answer).encode()).body()).errors[0].message


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[LambdaTransport, Callable[..., LambdaTransport], list[bytes]]]:
    """Serve Lambda's API with one answer; yield a transport to it, how others are made, and the requests' heads."""
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.request()[0])
            peer.send(answer)

    with scripted_server(script) as server:
        transports: list[LambdaTransport] = []

        def made(**options: Any) -> LambdaTransport:
            transports.append(LambdaTransport("lambda:function", access=access_to(server.url), **options))
            return transports[-1]

        try:
            yield made(), made, heads
        finally:
            for transport in transports:
                transport.close()


ACCEPTED = http_response(b"", status="202 Accepted")


def test_a_message_that_nobody_waits_for_is_queued_by_lambda() -> None:
    """It is an Event invocation, and 202 is all there is to hear."""
    with answering(ACCEPTED) as (transport, _, heads):
        transport.hand_on(encode_request(InferRequest((SMALL,))), Call(id="c1"))
    assert b"x-amz-invocation-type: event" in heads[0].lower()


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        ("429 Too Many Requests", "TooManyRequestsException", Busy),
        ("403 Forbidden", "AccessDeniedException", RemoteError),
    ],
)
def test_a_message_that_lambda_does_not_take_is_not_lost_in_silence(
    status: str, error: str, kind: type[Exception]
) -> None:
    """Whoever hands on is told, and can keep its own event in its queue."""
    refused = http_response(b"{}", headers=f"X-Amzn-ErrorType: {error}\r\n", status=status)
    with answering(refused) as (transport, _, _), pytest.raises(kind):
        transport.hand_on(encode_request(InferRequest((SMALL,))), Call())


def test_an_events_limit_is_lower(place: Folder) -> None:
    """Two pictures as float32 are over 1 MB in base64 and wait elsewhere; one travels."""
    sent: list[int] = []
    with answering(ACCEPTED) as (_, made, _):
        transport = made(handover=place)
        for rows in (1, 2):
            transport.hand_on(encode_request(InferRequest((LARGE[:rows],))), Call())
            sent.append(len(list(place.path.iterdir())))
    assert sent == [0, 1]
    assert EVENT_MAX == 1 << 20


def test_a_stage_fails_where_nobody_waits_so_that_lambda_tries_again() -> None:
    """The exception's text is what the dead-letter queue keeps: the error's own."""
    serve = handler(answerer(ContractModel(), name="contract"))
    unreadable = json.loads(b"".join(encode_event([b"rubbish" * 9], Call(), {HANDED_ON: "1"})))
    with pytest.raises(HandedOnFailed, match=r"^4000"):
        serve(unreadable, None)
    fine = json.loads(b"".join(encode_event(encode_request(InferRequest((SMALL,))), Call(), {HANDED_ON: "1"})))
    assert serve(fine, None)["statusCode"] == 200


@pytest.mark.parametrize("key", ["apiId", "elb"])
def test_a_gateways_caller_can_not_pretend_to_be_a_stage(key: str) -> None:
    """What gateways add to a request says that it came from outside."""
    serve = handler(answerer(ContractModel(), name="contract"))
    event = json.loads(b"".join(encode_event([b"rubbish" * 9], Call(), {HANDED_ON: "1"})))
    event["requestContext"][key] = "abcdef" if key == "apiId" else {}
    assert serve(event, None)["statusCode"] == 400


WRITES = """
import os


def handler(event, context):
    name = event["headers"]["x-request-id"]
    with open(os.path.join(SEEN, name), "ab") as file:
        file.write(b"x")
    if name == "fails":
        raise ValueError("not now")
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An AWS with nothing in it."""
    with ministack() as running:
        yield running


def test_a_queued_message_is_tried_three_times(emulator: Emulator, tmp_path: Path) -> None:
    """A function that fails gets it again, one that does not gets it once."""
    emulator.deploy("writes", f"SEEN = {str(tmp_path)!r}\n{WRITES}")
    transport = LambdaTransport("lambda:writes", access=emulator.access())
    for name in ("fails", "goes-well"):
        transport.hand_on(encode_request(InferRequest((SMALL,))), Call(id=name))
    transport.close()
    give_up = time.monotonic() + 60
    while (seen := sorted(file.stat().st_size for file in tmp_path.iterdir())) != [1, 3]:
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
