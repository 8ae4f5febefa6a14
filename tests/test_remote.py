"""The original client's names, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from contract_model import ContractModel
from roads import wsgiref_server
from scripted_server import Peer, response, scripted_server

import graphpipe_fn
from graphpipe_fn import remote, remote_multi
from graphpipe_fn.adapters import wsgi
from graphpipe_fn.codec import encode_response
from graphpipe_fn.errors import RemoteError
from graphpipe_fn.messages import DType, InferRequest, InferResponse, IOMetadata, Metadata, strings
from graphpipe_fn.remote import CLIENTS_MAX
from graphpipe_fn.server import answerer


class Sums:
    """Be a model of two inputs and two outputs, with metadata of several kinds."""

    def metadata(self) -> Metadata:
        """Describe numbers, strings and what is not said."""
        return Metadata(
            "sums",
            inputs=(IOMetadata("a", "", (-1, 3), DType.FLOAT32), IOMetadata("b", "", (), DType.NULL)),
            outputs=(IOMetadata("sum", "", (-1,), DType.INT64), IOMetadata("text", "", (2,), DType.STRING)),
        )

    def infer(self, request: InferRequest) -> InferResponse:
        """Return the sum of all inputs, and what was asked for by name."""
        total = np.array([sum(float(np.sum(np.asarray(tensor))) for tensor in request.inputs)])
        told = strings([*request.input_names, *request.output_names, request.config, b"nul\x00"])
        return InferResponse((total, told))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    remote.close()


@pytest.fixture(scope="module")
def identity() -> Iterator[str]:
    """Serve the identity; yield its URL."""
    with wsgiref_server(wsgi.app(answerer(ContractModel()))) as url:
        yield url


@pytest.fixture(scope="module")
def sums() -> Iterator[str]:
    """Serve Sums; yield its URL."""
    with wsgiref_server(wsgi.app(answerer(Sums()))) as url:
        yield url


def test_execute_returns_the_one_output(identity: str) -> None:
    """As in the original: an array in, an array out."""
    given = np.arange(6, dtype="float32").reshape(2, 3)
    output = remote.execute(identity, given)
    assert isinstance(output, np.ndarray)
    assert output.dtype == given.dtype
    np.testing.assert_array_equal(output, given)
    np.testing.assert_array_equal(remote.execute(identity, given, "x", "y"), given)


def test_the_module_can_be_called(identity: str) -> None:
    """remote(uri, x) and remote.execute(uri, x) are the same, wherever `remote` was imported from."""
    np.testing.assert_array_equal(remote(identity, [1, 2]), [1, 2])
    np.testing.assert_array_equal(graphpipe_fn.remote(identity, [1, 2]), [1, 2])
    assert graphpipe_fn.remote_multi is remote.execute_multi


def test_strings_come_back_as_an_array_of_bytes(identity: str) -> None:
    """Trailing NULs, which the original lost, included."""
    output = remote(identity, ["a", b"b\x00\x00"])
    assert isinstance(output, np.ndarray)
    assert (output.dtype, output.tolist()) == (np.dtype(object), [b"a", b"b\x00\x00"])


def test_execute_multi_keeps_names_and_config(sums: str) -> None:
    """Several inputs by name, and one array for each output."""
    total, told = remote_multi(sums, [np.ones(3), [1, 2]], ["a", "b"], ["sum", "text"], "as asked")
    assert total.tolist() == [6.0]
    assert told.tolist() == [b"a", b"b", b"sum", b"text", b"as asked", b"nul\x00"]


def test_several_outputs_of_one_input_are_a_list(sums: str) -> None:
    """As in the original."""
    outputs = remote.execute(sums, [1, 2])
    assert isinstance(outputs, list)
    assert len(outputs) == 2


def test_the_metadata_functions_answer_as_the_original_meant(sums: str) -> None:
    """Names as text, numpy's dtypes, None for what is open or not said."""
    assert remote.metadata(sums) == Sums().metadata()
    assert remote.get_input_names(sums) == ["a", "b"]
    assert remote.get_output_names(sums) == ["sum", "text"]
    assert remote.get_input_types(sums) == [np.dtype("float32"), None]
    assert remote.get_output_types(sums) == [np.dtype("int64"), np.dtype(object)]
    assert remote.get_input_shapes(sums) == [[None, 3], []]
    assert remote.get_output_shapes(sums) == [[None], [2]]


def test_a_refusal_is_raised_with_the_servers_words(identity: str) -> None:
    """The original threw the body of a refusal away."""
    with pytest.raises(RemoteError, match='unknown output "nope"'):
        remote.execute(identity, [1], None, "nope")


def test_connections_are_kept_for_the_last_uris_only() -> None:
    """Calls to one URI share a connection; of many URIs the oldest ones are closed, none is leaked."""
    answer = b"".join(encode_response(InferResponse((np.ones(1),))))
    ended = []

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.request()
                peer.send(response(answer))
        finally:
            ended.append(peer.number)

    with scripted_server(script) as server:
        for _ in range(3):
            remote(server.url, [1])
        assert server.connections == 1
        for number in range(CLIENTS_MAX):
            remote(f"{server.url}{number}", [1])
        assert server.connections == 1 + CLIENTS_MAX
        remote.close()
    assert len(ended) == 1 + CLIENTS_MAX
