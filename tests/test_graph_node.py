"""What a remote model is inside any framework's graph; the frameworks themselves are in test_torch and test_keras."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest
from contract_model import ContractModel
from scripted_server import Peer, response, scripted_server
from test_architecture import imports, modules, within

from graphpipe_fn.codec import encode_response
from graphpipe_fn.errors import BadConfig
from graphpipe_fn.graph_node import GraphNode
from graphpipe_fn.messages import InferRequest, InferResponse, strings

FRAMEWORKS = ("torch", "keras", "tensorflow", "jax")


class Told(ContractModel):
    """Remember the last request."""

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer nothing."""
        self.request = request
        return InferResponse()


def test_a_node_asks_its_own_question() -> None:
    """Names and config are the node's, and what makes a tensor the caller's; names can be told for one request."""
    model = Told()
    node = GraphNode(model, input_names="x", output_names=["y", "z"], config="c")
    assert node.infer([["a"]]) == ()
    assert model.request == InferRequest((strings(["a"]),), ("x",), ("y", "z"), "c")
    node.infer([["a"]], ["errors"])
    assert model.request.output_names == ("errors",)
    assert (node.uri, node.name, node.metadata()) == ("", "Told", model.metadata())
    node.close()  # of what can't be closed, nothing


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))], ids=["copy", "pickle"]
)
def test_a_copy_of_an_address_has_a_connection_of_its_own(again: object) -> None:
    """After the first was used, too; and both let go of it when they are thrown away."""
    assert callable(again)
    answer = b"".join(encode_response(InferResponse((np.ones(2),))))
    ended = [threading.Event(), threading.Event()]

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.request()
                peer.send(response(answer))
        finally:
            ended[peer.number - 1].set()

    with scripted_server(script) as server:
        node = GraphNode(server.url, input_names=["x"], config="c", timeout_s=5)
        node.infer([1])
        copied = again(node)
        copied.infer([1])
        node.infer([1])
        assert server.connections == 2
        assert (copied.uri, copied.input_names, copied.config, copied.timeout_s) == (server.url, ("x",), "c", 5)
        del node, copied
        gc.collect()
        assert [each.wait(5) for each in ended] == [True, True]


def test_an_address_that_is_none_is_refused_at_once() -> None:
    """Before the first batch, when the network is built."""
    with pytest.raises(BadConfig, match="no scheme"):
        GraphNode("localhost")


@pytest.mark.parametrize("name", modules())
def test_nobody_else_imports_a_framework(name: str) -> None:
    """They are seconds of cold start; only the modules that are named for them may."""
    ours = ("graphpipe_fn.torch", "graphpipe_fn.keras", "graphpipe_fn.keras_backends")
    if name not in ours:
        assert [found.name for found in imports(modules()[name]) if within(found.name, *FRAMEWORKS, *ours)] == []
