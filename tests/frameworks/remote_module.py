"""RemoteModule in real PyTorch; tests/test_torch.py runs this file in an environment that has it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from served import Computed, features, identity, lengths, served, sums

from graphpipe_fn import StringTensor, connect, strings
from graphpipe_fn.cache import Cached
from graphpipe_fn.errors import BadConfig, BadTensor, ConnectFailed, RemoteError, TimedOut
from graphpipe_fn.graph_node import NoGradient
from graphpipe_fn.stores import MemoryStore
from graphpipe_fn.torch import RemoteModule

DTYPES = [
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
]


@pytest.fixture(scope="module")
def model() -> Computed:
    """Return the feature extractor that `remote` asks."""
    return features()


@pytest.fixture(scope="module")
def remote(model: Computed) -> Iterator[RemoteModule]:
    """Return a module in front of the served feature extractor."""
    with served(model) as uri:
        module = RemoteModule(uri)
        yield module


def batch(rows: int = 5) -> torch.Tensor:
    """Return one batch for the feature extractor."""
    return torch.linspace(-2, 2, rows * 4).reshape(rows, 4)


def expected(x: torch.Tensor) -> torch.Tensor:
    """Return what the feature extractor makes of a batch, computed here."""
    return torch.from_numpy(features().compute(x.detach().numpy())["features"])


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_a_module_answers_as_its_model(remote: RemoteModule, rows: int) -> None:
    """Forward is the remote model's infer, batch by batch."""
    output = remote(batch(rows))
    assert torch.equal(output, expected(batch(rows)))
    assert (output.requires_grad, output.device.type) == (False, "cpu")


def test_it_has_its_place_in_a_sequential(remote: RemoteModule) -> None:
    """Between local layers, and in eval mode under no_grad and inference_mode."""
    net = torch.nn.Sequential(torch.nn.Identity(), remote, torch.nn.Linear(3, 2)).eval()
    with torch.no_grad():
        assert torch.equal(net(batch()), net[2](expected(batch())))
    with torch.inference_mode():
        assert torch.equal(net(batch()), net[2](expected(batch())))
    assert f"(1): RemoteModule({remote.node.uri})" in repr(net)
    assert list(remote.parameters()) == []
    assert "1." not in "".join(net.state_dict())


def test_what_comes_after_it_is_trained(remote: RemoteModule) -> None:
    """A head on frozen remote features learns: the loss falls far."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(remote, torch.nn.Linear(3, 1))
    x = torch.randn(64, 4)
    target = expected(x).sum(1, keepdim=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


def test_a_gradient_that_would_pass_through_is_refused(remote: RemoteModule) -> None:
    """Forward works where autograd follows, backward names the model and the remedy; no weight stays silent."""
    before = torch.nn.Linear(4, 4)
    output = torch.nn.Sequential(before, remote, torch.nn.ReLU())(batch())
    assert output.requires_grad
    with pytest.raises(NoGradient, match=r"no gradient passes through the remote model http://.*x\.detach\(\)"):
        output.sum().backward()
    assert before.weight.grad is None


def test_a_detached_input_lets_the_rest_be_trained(remote: RemoteModule) -> None:
    """The remedy that the error names works: the way around the remote model carries the gradient."""
    before = torch.nn.Linear(4, 4)
    hidden = before(batch())
    (remote(hidden.detach()).sum() + hidden.sum()).backward()
    assert torch.equal(before.weight.grad, batch().sum(0).expand(4, 4))


def test_outputs_that_autograd_can_not_follow_need_no_gradient() -> None:
    """Whole numbers come out plain, beside floats that are followed."""
    with served(sums()) as uri:
        module = RemoteModule(uri)
        x = batch().requires_grad_()
        total, top = module(x, torch.arange(5))
        assert (total.requires_grad, top.requires_grad) == (True, False)
        with pytest.raises(NoGradient):
            total.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(dtype: torch.dtype) -> None:
    """All eleven numeric dtypes of GraphPipe are torch's own."""
    x = torch.tensor([[0, 1, 2], [3, 100, 127]]).to(dtype)
    with served(identity()) as uri:
        module = RemoteModule(uri)
        output = module(x)
    assert output.dtype is dtype
    assert output.tolist() == x.tolist()


def test_what_graphpipe_does_not_have_is_sent_as_what_holds_it() -> None:
    """bfloat16 as float32, bool as uint8; every value stays what it is."""
    module = RemoteModule(identity())
    x = torch.tensor([1.5, -3e38, 1e-40], dtype=torch.bfloat16)
    assert module(x).dtype is torch.float32
    assert torch.equal(module(x), x.float())
    assert torch.equal(module(torch.tensor([True, False])), torch.tensor([1, 0], dtype=torch.uint8))


@pytest.mark.parametrize(
    "x",
    [torch.zeros(2, dtype=torch.complex64), torch.eye(3).to_sparse(), torch.zeros(2, device="meta")],
    ids=["complex", "sparse", "meta"],
)
def test_what_can_not_be_sent_is_refused(x: torch.Tensor) -> None:
    """With our own error, before anything is sent."""
    with pytest.raises(BadTensor):
        RemoteModule(identity())(x)


def test_floating_point_inputs_are_cast_on_demand() -> None:
    """`dtype` makes a module take what autocast and double precision make; whole numbers stay."""
    with served(sums()) as uri:
        plain, cast = RemoteModule(uri), RemoteModule(uri, dtype=torch.float32)
        with pytest.raises(RemoteError, match='input "x" takes float32, not float64'):
            plain(batch().double(), torch.arange(5))
        total, _ = cast(batch().double(), torch.arange(5))
        assert torch.equal(total, batch() + torch.arange(5)[:, None])
        backbone = torch.nn.Linear(4, 4)
        with torch.autocast("cpu", torch.float16):
            assert backbone(batch()).dtype is torch.float16
            total, _ = cast(backbone(batch()), torch.arange(5))
        assert total.dtype is torch.float32


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(20.0)[::2],
        torch.zeros(0, 3),
        torch.tensor(4.5),
        torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        torch.ones(2, 3).expand(4, 2, 3),
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=["transposed", "every second", "empty", "0-d", "channels last", "expanded", "parameter"],
)
def test_any_layout_is_sent(x: torch.Tensor) -> None:
    """What counts is the values and the shape."""
    with served(identity()) as uri:
        module = RemoteModule(uri)
        output = module(x)
    assert torch.equal(output, x)


def test_an_output_is_ones_own() -> None:
    """Written to in place, it changes neither the input nor what the model keeps."""
    x = torch.ones(3)
    output = RemoteModule(identity())(x)
    output += 1
    torch.nn.functional.relu_(output)
    assert (x.tolist(), output.tolist()) == ([1, 1, 1], [2, 2, 2])


def test_inputs_and_outputs_have_names_and_the_request_a_config() -> None:
    """In the order of the module's own arguments; one output alone is no tuple."""
    model = sums()
    with served(model) as uri:
        module = RemoteModule(uri, input_names=["offset", "x"], output_names="top", config="次")
        assert torch.equal(module(torch.arange(5), batch()), batch().argmax(1))
    (seen,) = model.seen
    assert (seen.input_names, seen.output_names, seen.config) == (("offset", "x"), ("top",), "次")


def test_text_goes_in_and_comes_out() -> None:
    """A model of strings is a module too: URLs in, numbers out, or strings as GraphPipe has them."""
    with served(lengths()) as uri:
        module = RemoteModule(uri)
        length, turned = module(["abc", b"\x00\xff"])
    assert torch.equal(length, torch.tensor([3, 2]))
    assert isinstance(turned, StringTensor)
    assert turned == strings(["cba", b"\xff\x00"])


def test_a_refusal_is_the_servers_own(remote: RemoteModule) -> None:
    """Its words and its code."""
    with pytest.raises(RemoteError, match=r"takes shape \[-1, 4\] \(-1 is any\), not \[2, 7\]") as raised:
        remote(torch.zeros(2, 7))
    assert raised.value.code == 42200


def test_a_server_that_is_not_there_is_told_by_its_address() -> None:
    """Like every other client's, and so is an address that is none."""
    with served(identity()) as uri:
        pass
    module = RemoteModule(uri, timeout_s=2)
    with pytest.raises((ConnectFailed, TimedOut)):
        module(torch.ones(2))
    with pytest.raises(BadConfig):
        RemoteModule("localhost:9000")


def saved_and_loaded(module: RemoteModule) -> RemoteModule:
    """Save and load as torch does."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: RemoteModule = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize(
    "again",
    [saved_and_loaded, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
    ids=["torch.save", "deepcopy", "pickle"],
)
def test_a_copy_asks_the_same_question_over_connections_of_its_own(again: object) -> None:
    """A module made of a URI can be saved, copied and sent to other processes, after it was used too."""
    assert callable(again)
    with served(sums()) as uri:
        module = RemoteModule(uri, input_names=["offset", "x"], output_names=["top"], config="c", dtype=torch.float32)
        module(torch.arange(5), batch())
        copied = again(module)
        assert torch.equal(copied(torch.arange(5), batch().double()), batch().argmax(1))
        assert copied.node.config == "c"
        assert copied.node._model is not module.node._model


def test_any_model_can_stand_behind_it() -> None:
    """A row cache, for one: epochs after the first ask for nothing."""
    model = features()
    with served(model) as uri, connect(uri) as client:
        module = RemoteModule(Cached(client, MemoryStore(limit_bytes=1 << 20), model_id="features@1"))
        for _ in range(3):
            assert torch.equal(module(batch()), expected(batch()))
    assert len(model.seen) == 1


class Rows(torch.utils.data.Dataset[torch.Tensor]):
    """Ask the remote model for each item."""

    def __init__(self, module: RemoteModule) -> None:
        self.module = module

    def __len__(self) -> int:
        return 16

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.module(batch(16)[place : place + 1])[0]


def test_forked_loader_workers_get_their_own_answers(remote: RemoteModule) -> None:
    """Processes forked off one that has a connection open do not read each other's answers from it."""
    remote(batch())
    loader = torch.utils.data.DataLoader(Rows(remote), batch_size=2, num_workers=2, multiprocessing_context="fork")
    for _ in range(3):
        torch.testing.assert_close(torch.cat(list(loader)), expected(batch(16)))  # of one row each: rounded otherwise


class Net(torch.nn.Module):
    """Have local layers before and after a remote model."""

    def __init__(self, remote: RemoteModule) -> None:
        super().__init__()
        self.before, self.remote, self.after = torch.nn.Linear(4, 4), remote, torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Go through all three."""
        return self.after(torch.relu(self.remote(self.before(x))))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's compiler's own
def test_it_is_a_break_in_a_compiled_graph(remote: RemoteModule) -> None:
    """torch.compile compiles what is before and after it, and answers and refusals stay the same."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    net = Net(remote)
    compiled = torch.compile(net, backend=backend)
    for rows in (5, 5, 9):
        assert torch.equal(compiled(batch(rows)), net(batch(rows)))
    assert len(graphs) >= 2
    with pytest.raises(NoGradient):
        compiled(batch()).sum().backward()


def test_importing_it_does_not_import_the_compiler() -> None:
    """torch's compiler takes longer to import than torch, and serving needs none."""
    code = "import sys, graphpipe_fn.torch; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_answers_come_to_the_inputs_device(remote: RemoteModule) -> None:
    """From the GPU and back to it."""
    output = remote(batch().cuda())
    assert output.device.type == "cuda"
    assert torch.equal(output.cpu(), expected(batch()))
