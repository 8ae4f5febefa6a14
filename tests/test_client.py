"""A Transport as a Model: deadlines, retries, and a peer's answer as our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from contract_model import ContractModel
from scripted_server import Peer, response, scripted_server

from graphpipe_fn.chain import Chain
from graphpipe_fn.client import HOP, Client
from graphpipe_fn.codec import encode_metadata, encode_response
from graphpipe_fn.errors import (
    BadTensor,
    ConnectFailed,
    GraphPipeError,
    RemoteError,
    TimedOut,
    TransportFailed,
)
from graphpipe_fn.messages import Call, Error, InferRequest, InferResponse, StringTensor, Timing, strings
from graphpipe_fn.model import Buffer, Reply
from graphpipe_fn.server import answerer
from graphpipe_fn.transports import connect
from graphpipe_fn.transports.local import local

GOOD = b"".join(encode_response(InferResponse((np.arange(3),))))


def failed(code: int, message: str = "no") -> bytes:
    """Return an encoded response with one error."""
    return b"".join(encode_response(InferResponse(errors=(Error(code, message),))))


@dataclass
class Line:
    """A transport that answers with one thing after the other, then with the last for ever; notes the calls."""

    answers: Sequence[Reply | GraphPipeError]
    calls: list[Call] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def __call__(self, buffers: Sequence[Buffer], call: Call) -> Reply:
        self.at.append(time.monotonic())
        self.calls.append(call)
        self.sent.append(b"".join(buffers))
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        if isinstance(answer, GraphPipeError):
            raise answer
        return answer


def request(call: Call = Call()) -> InferRequest:
    """Return a request."""
    return InferRequest((np.ones(2, "float32"),), call=call)


@dataclass(frozen=True)
class Refusal:
    """An answer, and the error that it becomes."""

    reply: Reply
    code: int
    message: str
    retry_after_s: float | None = None
    kind: type[GraphPipeError] = RemoteError


HTML = b"<html>\r\n<body>\x00\x1b[31mNot\tfound</body></html>"

REFUSALS = {
    "our error": Refusal(Reply([failed(42207, "bad")], 422), 42207, "bad"),
    "our error under a 200": Refusal(Reply([failed(42207, "bad")], 200), 42207, "bad"),
    "foreign code": Refusal(Reply([failed(17, "odd")], 500), 17, "odd"),
    "our error in pieces": Refusal(Reply([failed(42207)[:20], failed(42207)[20:]], 422), 42207, "no"),
    "several errors": Refusal(
        Reply([b"".join(encode_response(InferResponse(errors=(Error(40001, "a"), Error(40002, "b")))))], 400),
        40001,
        "a (and 1 more errors)",
    ),
    "Go's text": Refusal(
        Reply([b"Failed to call apply: bad\n"], 400, "text/plain"), 40000, "Failed to call apply: bad"
    ),
    "Fn's JSON": Refusal(Reply([b'{"message":"Timed out"}'], 504), 50400, "Timed out"),
    "other JSON": Refusal(Reply([b'{"code": 5}'], 500), 50000, '{"code": 5}'),
    "bottomless JSON": Refusal(Reply([b'{"a":' + b"[" * 9_000], 500), 50000, '{"a":' + "[" * 495),
    "a page": Refusal(Reply([HTML], 404), 40400, "<html> <body> [31mNot found</body></html>"),
    "a long page": Refusal(Reply([b"x" * 10_000], 500), 50000, "x" * 500),
    "binary": Refusal(Reply([b"\xff\xfe\x00"], 500), 50000, "\ufffd\ufffd"),
    "nothing": Refusal(Reply([b""], 502), 50200, "status 502 without a word"),
    "empty response": Refusal(Reply([b"".join(encode_response(InferResponse()))], 500), 50000, ""),
    "redirect": Refusal(
        Reply([b""], 302, headers=(("location", "http://elsewhere/"),)),
        30200,
        "status 302 without a word (it points to 'http://elsewhere/'; redirects are not followed, use that address)",
    ),
    "busy": Refusal(Reply([failed(42900)], 429, headers=(("retry-after", "7"),)), 42900, "no", 7.0),
    "no GraphPipe": Refusal(Reply([b"hello, world, this is no message"], 200), 50200, "", None, TransportFailed),
    "empty body": Refusal(Reply([b""], 200), 50200, "", None, TransportFailed),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_peers_refusal_keeps_its_code_and_words(name: str) -> None:
    """Whatever a server answers instead of a result becomes one of our errors, readable and in one line."""
    case = REFUSALS[name]
    with pytest.raises(case.kind) as caught:
        Client(Line([case.reply]), retries=0).infer(request())
    assert caught.value.code == case.code
    assert caught.value.retry_after_s == case.retry_after_s
    if case.message:
        assert caught.value.message == case.message


def test_an_unreadable_answer_says_what_it_was() -> None:
    """The error quotes the peer and the answer's first bytes, so that a wrong address is seen at once."""
    with pytest.raises(TransportFailed, match=r"vgg answered 13 bytes .*b'<html></html>'"):
        Client(Line([Reply([b"<html></html>"])]), name="vgg").infer(request())


@pytest.mark.parametrize(
    "refusal",
    [
        ConnectFailed("closed"),
        Reply([failed(42900)], 429),
        Reply([failed(50300)], 503),
        Reply([failed(50312)], 200),
        Reply([b"wait"], 503),
    ],
    ids=["connect", "429", "503", "503 under a 200", "text"],
)
def test_what_may_pass_is_asked_again_with_the_same_id(refusal: Reply | GraphPipeError) -> None:
    """A refusal that is about now, not about the request, is answered by patience."""
    line = Line([refusal, refusal, Reply([GOOD])])
    response = Client(line, retries=2).infer(request())
    assert [output.tolist() for output in response.outputs if not isinstance(output, StringTensor)] == [[0, 1, 2]]
    assert len(line.calls) == 3
    assert len({call.id for call in line.calls}) == 1
    assert len({call.deadline_s for call in line.calls}) == 1
    assert len(set(line.sent)) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        TransportFailed("cut"),
        TimedOut("late"),
        Reply([failed(42200)], 422),
        Reply([failed(50000)], 500),
        Reply([failed(50400)], 504),
        Reply([b"bad gateway"], 502),
    ],
    ids=["cut", "timed out", "422", "500", "504", "502"],
)
def test_what_will_not_pass_is_asked_once(refusal: Reply | GraphPipeError) -> None:
    """A second attempt would cost the peer the same and change nothing."""
    line = Line([refusal])
    with pytest.raises(GraphPipeError):
        Client(line, retries=5).infer(request())
    assert len(line.calls) == 1


def test_patience_has_an_end() -> None:
    """After the last retry the peer's own error is raised."""
    line = Line([Reply([failed(42900, "full")], 429)])
    with pytest.raises(RemoteError, match="full"):
        Client(line, retries=2).infer(request())
    assert len(line.calls) == 3


def test_the_peers_own_time_to_retry_is_kept() -> None:
    """Who says when to come back is not asked sooner."""
    line = Line([Reply([failed(42900)], 429, headers=(("retry-after", "1"),)), Reply([GOOD])])
    Client(line).infer(request())
    assert 1.0 <= line.at[1] - line.at[0] < 1.3


def test_no_pause_outlasts_the_deadline() -> None:
    """A pause that ends after the deadline is not begun: the error comes at once, with its time to retry."""
    line = Line([Reply([failed(50300)], 503, headers=(("retry-after", "60"),))])
    started = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        Client(line, timeout_s=5).infer(request())
    assert time.monotonic() - started < 0.5
    assert (len(line.calls), caught.value.retry_after_s) == (1, 60.0)


def test_every_request_has_an_id_and_a_deadline() -> None:
    """Given ones are kept; the others are made."""
    line = Line([Reply([GOOD])])
    client = Client(line, timeout_s=12)
    now = time.monotonic()
    client.infer(request(Call("mine", now + 3, "trace")))
    client.infer(request())
    client.infer(request())
    given, made, other = line.calls
    assert given == Call("mine", now + 3, "trace")
    assert len(made.id) == 32
    assert made.id != other.id
    assert made.deadline_s is not None
    assert 11.5 < made.deadline_s - now < 12.5
    Client(line, timeout_s=None).infer(request())
    assert line.calls[-1].deadline_s is None


def test_the_hops_own_time_comes_before_the_peers() -> None:
    """The first timing is what the peer's timings leave unexplained."""

    def slow(buffers: Sequence[Buffer], call: Call) -> Reply:
        time.sleep(0.05)
        return Reply([GOOD], timings=(Timing("vgg", 0.02, True),))

    hop, vgg = Client(slow).infer(request()).timings
    assert vgg == Timing("vgg", 0.02, True)
    assert (hop.name, hop.cold) == (HOP, None)
    assert 0.03 <= hop.seconds < 0.1


def test_timings_that_can_not_be_right_do_not_make_a_negative_hop() -> None:
    """A peer that says it took longer than the call did is not believed below zero."""
    hop, _ = Client(Line([Reply([GOOD], timings=(Timing("vgg", 99.0),))])).infer(request()).timings
    assert hop.seconds == 0.0


def test_metadata_is_asked_for_once() -> None:
    """A model does not change under its address; a failure is not remembered."""
    metadata = ContractModel().metadata()
    line = Line([Reply([failed(50300)], 503), Reply(encode_metadata(metadata))])
    client = Client(line, retries=0)
    with pytest.raises(RemoteError):
        client.metadata()
    assert client.metadata() == metadata
    assert client.metadata() is client.metadata()
    assert len(line.calls) == 2


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([[1.5, 2.5]], "float64", (1, 2)),
        (7, "int64", ()),
        (np.ones((2, 3), ">f4"), "float32", (2, 3)),
        (np.array([True, False]), "uint8", (2,)),
        (np.ones((4, 4), "int16").T[::2], "int16", (2, 4)),
        ("text", "strings", ()),
        (["a", b"b\x00"], "strings", (2,)),
    ],
    ids=["list", "number", "big-endian", "booleans", "strided", "text", "texts"],
)
def test_run_takes_what_can_be_a_tensor(value: object, dtype: str, shape: tuple[int, ...]) -> None:
    """Lists, numbers, text and any array go in, and come back from the identity as tensors."""
    (output,) = Client(local(ContractModel())).run(value)
    assert tuple(output.shape) == shape
    if isinstance(output, StringTensor):
        assert dtype == "strings"
    else:
        assert output.dtype == dtype
        np.testing.assert_array_equal(output, np.asarray(value))


def test_run_passes_names_and_config_on() -> None:
    """A single name needs no list around it."""
    client = Client(local(ContractModel()))
    assert client.run("a", input_names="x", output_names="y") == client.run(
        "a", input_names=["x"], output_names=("y",)
    )
    with pytest.raises(RemoteError, match="refused with BadConfig"):
        client.run("a", config="raise BadConfig")


def test_what_can_not_be_sent_is_not_sent() -> None:
    """A bad input is refused here, before the peer hears of it."""
    line = Line([Reply([GOOD])])
    with pytest.raises(BadTensor):
        Client(line).run(1j)
    assert line.calls == []


@pytest.mark.parametrize("served", [ContractModel(), answerer(ContractModel())], ids=["model", "answer"])
def test_the_local_road_serves_models_and_answers(served: ContractModel | Callable[[Buffer, Call], Reply]) -> None:
    """In process, through the codec: the same errors as over a network."""
    client = Client(local(served))
    assert client.run("a") == (strings(["a"], ()),)
    with pytest.raises(RemoteError, match="internal error"):
        client.run("a", config="bug")


def test_remote_models_chain_like_local_ones() -> None:
    """Where the network runs changes neither answer nor errors, and the timings tell of each hop."""
    chain = Chain(
        Client(local(answerer(ContractModel(), name="one"))), Client(local(answerer(ContractModel(), name="two")))
    )
    response = chain.infer(InferRequest((strings(["a"]),)))
    assert response.outputs == (strings(["a"]),)
    assert [timing.name for timing in response.timings] == ["hop", "one", "inner", "hop", "two", "inner"]


def test_a_client_closes_its_connections() -> None:
    """Leaving the block closes what the transport kept."""
    ended = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(GOOD))
        with pytest.raises(ConnectionError):
            peer.request()
        ended.append(True)

    with scripted_server(script) as server, connect(server.url) as client:
        client.run(1)
        assert ended == []
    assert ended == [True]
    with Client(local(ContractModel())) as client:  # a transport that keeps nothing
        client.run(1)
