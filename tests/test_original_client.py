"""The original Python package beside this library: its client at our servers, our client at its server."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from original_package import Original, OriginalRaised, original_client, original_identity_server
from roads import waitress_server, wsgiref_server

from graphpipe_fn import DType, InferRequest, InferResponse, IOMetadata, Metadata, StringTensor, answerer, remote
from graphpipe_fn.adapters import wsgi
from graphpipe_fn.adapters.endpoints import Endpoints
from graphpipe_fn.adapters.http import HttpServer, Listen
from graphpipe_fn.codec import encode_request
from graphpipe_fn.errors import BadTensor, TransportFailed, UnknownName
from graphpipe_fn.messages import Call, MetadataRequest
from graphpipe_fn.model import Answer, Buffer, Reply

NUMBERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
DTYPES = [*NUMBERS, "string"]


def edges(dtype: str) -> np.ndarray:
    """Return a dtype's least, greatest and special values, in a (2, 3) array; for strings, of bytes."""
    if dtype == "string":
        return np.array([[b"", b"cat.jpg", "é".encode()], [b"nul\x00inside", b"\xff\xd8\xff", b"x" * 300]], object)
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        return np.array([[info.min, info.max, info.tiny], [np.nan, np.inf, -0.0]], dtype)
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max, 0], [1, 2, 100]], dtype)


ARRAYS: dict[str, np.ndarray] = {
    **{dtype: edges(dtype) for dtype in NUMBERS},
    "0-d": np.array(4.5, "float64"),
    "empty": np.zeros((0, 3), "float32"),
    "odd bytes": np.arange(7, dtype="uint8"),
    "5-d": np.arange(120, dtype="int16").reshape(1, 2, 3, 4, 5),
    "transposed": np.arange(12, dtype="float32").reshape(3, 4).T,
    "every second": np.arange(20, dtype="int64")[::2],
    "600 kB": np.arange(3 * 224 * 224, dtype="float32").reshape(1, 3, 224, 224),
    "6 MB": np.arange(10 * 3 * 224 * 224, dtype="float32").reshape(10, 3, 224, 224),
}
# What goes in, and what of it the original's own decoder leaves: numpy's S has no trailing NULs.
STRINGS: dict[str, tuple[np.ndarray, Any]] = {
    "bytes": (edges("string"), edges("string").tolist()),
    "numpy's S": (np.array([b"a", b"bcd"]), [b"a", b"bcd"]),
    "numpy's U": (np.array(["a", "猫"]), [b"a", "猫".encode()]),
    "text": (np.array(["https://example.org/猫.jpg"], object), ["https://example.org/猫.jpg".encode()]),
    "trailing NULs": (np.array([b"a\x00\x00", b"\x00"], object), [b"a", b""]),
    "one": (np.array(b"alone", object), b"alone"),
    "none": (np.array([], object), []),
    "a picture": (np.array([b"\xff\xd8" + bytes(range(256)) * 200 + b"\xff\xd9"], object), None),
}
SHAPES = [(-1, 3), (), (2,), (-1, -1, 5)]


def same(one: object, other: object) -> bool:
    """Compare two arrays' dtype, shape and every bit."""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return False
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@dataclass
class Everything:
    """Be the identity with an input and an output of each dtype; remembers the last request."""

    seen: list[InferRequest] = field(default_factory=list)

    def metadata(self) -> Metadata:
        """Describe them with shapes of several kinds."""
        described = [(name, SHAPES[place % len(SHAPES)], DType[name.upper()]) for place, name in enumerate(DTYPES)]
        return Metadata(
            "everything",
            "1.2",
            "graphpipe_fn",
            "Gives back what it gets; é.",
            tuple(IOMetadata(name, f"takes {name}", shape, dtype) for name, shape, dtype in described),
            tuple(IOMetadata(f"same {name}", "", shape, dtype) for name, shape, dtype in described),
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """Return the inputs whose outputs are wanted; all of them, in order, without output names."""
        self.seen = [request]
        if request.config == "refuse":
            raise BadTensor("this tensor is refused")
        if request.config == "bug":
            raise ZeroDivisionError
        given = dict(zip(request.input_names or DTYPES, request.inputs, strict=False))
        wanted = [name.removeprefix("same ") for name in request.output_names] or list(given)
        for name in wanted:
            if name not in given:
                raise UnknownName(f'unknown output "{name}"')
        return InferResponse(tuple(given[name] for name in wanted))


@contextmanager
def stand_alone_server(answer: Answer) -> Iterator[str]:
    """Serve with the stand-alone server; yield the URL."""
    with HttpServer(Endpoints(answer), Listen(port=0)) as server:
        yield server.uri


SERVERS: dict[str, Callable[[Answer], AbstractContextManager[str]]] = {
    "wsgiref": lambda answer: wsgiref_server(wsgi.app(answer)),
    "waitress": lambda answer: waitress_server(wsgi.app(answer)),
    "stand-alone": stand_alone_server,
}


@pytest.fixture(scope="module")
def original() -> Iterator[Original]:
    """Start the original client once."""
    with original_client() as client:
        yield client


@dataclass(frozen=True)
class Served:
    """One of our servers, and the model behind it."""

    url: str
    model: Everything


@pytest.fixture(scope="module", params=SERVERS)
def ours(request: pytest.FixtureRequest) -> Iterator[Served]:
    """One of our servers after the other."""
    model = Everything()
    with SERVERS[request.param](answerer(model)) as url:
        yield Served(url, model)


@pytest.fixture(scope="module")
def theirs() -> Iterator[str]:
    """Serve the original's identity; yield its URL."""
    with original_identity_server() as url:
        yield url
        remote.close()


# The original client, our servers.


@pytest.mark.parametrize("name", ARRAYS)
def test_the_original_gets_back_what_it_sends(original: Original, ours: Served, name: str) -> None:
    """Every numeric dtype and kind of shape arrives bit by bit and comes back so."""
    given = ARRAYS[name]
    assert same(original.call("execute", ours.url, given), given)
    (seen,) = ours.model.seen[0].inputs
    assert same(seen, given)


@pytest.mark.parametrize("name", STRINGS)
def test_the_originals_strings_arrive_whole(original: Original, ours: Served, name: str) -> None:
    """Strings are any bytes; what the original's own decoder drops is dropped on its side alone."""
    given, expected = STRINGS[name]
    output = original.call("execute", ours.url, given)
    (seen,) = ours.model.seen[0].inputs
    assert isinstance(seen, StringTensor)
    assert list(seen) == [value.encode() if isinstance(value, str) else bytes(value) for value in given.ravel()]
    assert seen.shape == output.shape == given.shape
    assert output.tolist() == (given.tolist() if expected is None else expected)


def test_the_originals_names_and_config_arrive(original: Original, ours: Served) -> None:
    """All dtypes in one request, its outputs asked for by name and in another order."""
    names, wanted = DTYPES[::-1], [*DTYPES[5:], *DTYPES[:5]]
    outputs = original.call(
        "execute_multi",
        ours.url,
        [edges(name) for name in names],
        names,
        [f"same {name}" for name in wanted],
        "https://example.org/次",
    )
    (seen,) = ours.model.seen
    assert (seen.input_names, seen.config) == (tuple(names), "https://example.org/次")
    for name, output in zip(wanted, outputs, strict=True):
        assert (output.tolist() == edges(name).tolist()) if name == "string" else same(output, edges(name))


def test_one_input_by_name(original: Original, ours: Served) -> None:
    """The original's execute() takes one name for each side."""
    given = edges("int64")
    assert same(original.call("execute", ours.url, given, "int64", "same int64"), given)


def test_the_original_reads_our_metadata(original: Original, ours: Served) -> None:
    """The message itself, field by field, through the original's own accessors."""
    told = ours.model.metadata()
    assert original.call("metadata", ours.url) == {
        "name": told.name.encode(),
        "version": told.version.encode(),
        "server": told.server.encode(),
        "description": told.description.encode(),
        "inputs": [(io.name.encode(), io.description.encode(), list(io.shape), io.dtype) for io in told.inputs],
        "outputs": [(io.name.encode(), b"", list(io.shape), io.dtype) for io in told.outputs],
    }


@pytest.mark.parametrize("side", ["input", "output"])
def test_the_originals_metadata_functions_work(original: Original, ours: Served, side: str) -> None:
    """Names as text, numpy's dtypes, None for any size: the same as this library's functions of these names."""
    names = original.call(f"get_{side}_names", ours.url)
    types = original.call(f"get_{side}_types", ours.url)
    shapes = original.call(f"get_{side}_shapes", ours.url)
    assert names == [name if side == "input" else f"same {name}" for name in DTYPES]
    assert types == [np.dtype(object if name == "string" else name) for name in DTYPES]
    assert shapes[: len(SHAPES)] == [[None, 3], [], [2], [None, None, 5]]
    found = [getattr(remote, f"get_{side}_{what}")(ours.url) for what in ("names", "types", "shapes")]
    assert found == [names, types, shapes]
    remote.close()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((["x"], ["nope"]), "400 Client Error: "),
        ((["x"], ["x"], "refuse"), "422 Client Error: "),
        ((["x"], ["x"], "bug"), "500 Server Error: "),
    ],
    ids=["unknown output", "refused tensor", "bug"],
)
def test_the_original_raises_our_refusals(
    original: Original, ours: Served, arguments: tuple[Any, ...], status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As its raise_for_status() words them; and the next request is answered."""
    with pytest.raises(OriginalRaised) as raised:
        original.call("execute_multi", ours.url, [edges("float32")], *arguments)
    assert raised.value.kind == "HTTPError"
    assert raised.value.arguments[0].startswith(status)
    test_one_input_by_name(original, ours)


def test_the_original_reads_our_errors_behind_a_200(original: Original) -> None:
    """Fn's direct invoke makes a 200 of every refusal; the original then raises the server's own words."""
    answer = answerer(Everything())

    def invoked(body: Buffer, call: Call) -> Reply:
        return Reply(answer(body, call).buffers)

    with wsgiref_server(wsgi.app(invoked)) as url, pytest.raises(OriginalRaised) as raised:
        original.call("execute_multi", url, [edges("float32")], None, None, "refuse")
    assert (raised.value.kind, raised.value.arguments) == ("Exception", (b"this tensor is refused",))


# Our client, the original's server.


def test_the_originals_server_answers_as_http_1_0(theirs: str) -> None:
    """What our client must live with: no Content-Length, no Content-Type, the connection's end is the answer's."""
    connection = http.client.HTTPConnection(theirs.removeprefix("http://").rstrip("/"), timeout=10)
    connection.request("POST", "/", b"".join(encode_request(MetadataRequest())))
    response = connection.getresponse()
    assert (response.version, response.headers.get("content-length"), response.headers.get("content-type")) == (
        10,
        None,
        None,
    )
    assert response.read()
    connection.close()


@pytest.mark.parametrize("name", ARRAYS)
def test_the_originals_server_gives_back_what_we_send(theirs: str, name: str) -> None:
    """Every numeric dtype and kind of shape."""
    given = ARRAYS[name]
    assert same(remote.execute(theirs, given), given)


# Of no strings its decoder makes float64.
@pytest.mark.parametrize("name", [name for name in STRINGS if name != "none"])
def test_the_originals_server_gives_strings_back(theirs: str, name: str) -> None:
    """All but trailing NULs, which its decoder drops."""
    given, expected = STRINGS[name]
    output = remote.execute(theirs, given)
    assert isinstance(output, np.ndarray)
    assert (output.dtype, output.shape) == (np.dtype(object), given.shape)
    assert output.tolist() == (given.tolist() if expected is None else expected)


def test_the_originals_server_gets_our_names_and_config(theirs: str) -> None:
    """Several inputs of all dtypes, every name and the config."""
    outputs = remote.execute_multi(theirs, [edges(name) for name in DTYPES], DTYPES, ["a", "b"], "次")
    assert len(outputs) == len(DTYPES) + 1
    for name, output in zip(DTYPES, outputs, strict=False):
        assert (output.tolist() == edges(name).tolist()) if name == "string" else same(output, edges(name))
    assert outputs[-1].tolist() == [name.encode() for name in [*DTYPES, "a", "b", "次"]]


def test_we_read_the_originals_metadata(theirs: str) -> None:
    """As it is sent: the original's encoder turns the order of inputs and of outputs round."""
    assert remote.metadata(theirs) == Metadata(
        "identity",
        "1.0",
        "the original's",
        "Gives back what it gets.",
        (
            IOMetadata("urls", "", (-1,), DType.STRING),
            IOMetadata("x", "pixels", (-1, 3), DType.FLOAT32),
        ),
        (IOMetadata("y", "", (-1, 3, 2), DType.INT64),),
    )
    assert remote.get_input_names(theirs) == ["urls", "x"]
    assert remote.get_input_types(theirs) == [np.dtype(object), np.dtype("float32")]
    assert remote.get_input_shapes(theirs) == [[None], [None, 3]]
    assert (remote.get_output_names(theirs), remote.get_output_shapes(theirs)) == (["y"], [[None, 3, 2]])


def test_the_originals_failure_is_a_dropped_connection(theirs: str) -> None:
    """No original server can send an error; ours is raised at once, and the next call works."""
    with pytest.raises(TransportFailed):
        remote.execute_multi(theirs, [edges("float32")], config="fail")
    assert same(remote.execute(theirs, edges("int8")), edges("int8"))
