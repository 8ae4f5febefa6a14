"""
RemoteLayer in real Keras 3, on the backend that KERAS_BACKEND names; tests/test_keras.py runs this file in
environments that have them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from served import Computed, features, identity, io, lengths, served, sums

from graphpipe_fn import connect
from graphpipe_fn.cache import Cached
from graphpipe_fn.errors import BadConfig, BadTensor, ConnectFailed, RemoteError, TimedOut, UnknownName
from graphpipe_fn.graph_node import NoGradient
from graphpipe_fn.keras import RemoteLayer
from graphpipe_fn.messages import DType
from graphpipe_fn.stores import MemoryStore

pytestmark = [
    # Keras's own way to numpy on some backends, and its float64 and int64 on jax.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype"),
]
BACKEND = keras.backend.backend()
TRAINS = pytest.mark.skipif(BACKEND == "numpy", reason="Keras's numpy backend does not train")
NUMBERS = [dtype for dtype in DType if dtype not in (DType.NULL, DType.STRING)]
# jax has no wider types than 32 bits unless told so.
NARROWED = {"uint64": "uint32", "int64": "int32", "float64": "float32"} if BACKEND == "jax" else {}


@pytest.fixture(scope="module")
def model() -> Computed:
    """Return the feature extractor that `uri` serves."""
    return features()


@pytest.fixture(scope="module")
def uri(model: Computed) -> Iterator[str]:
    """Serve the feature extractor."""
    with served(model) as found:
        yield found


def batch(rows: int = 5) -> np.ndarray:
    """Return one batch for the feature extractor."""
    return np.linspace(-2, 2, rows * 4, dtype="float32").reshape(rows, 4)


def expected(x: np.ndarray) -> np.ndarray:
    """Return what the feature extractor makes of a batch, computed here."""
    found = features().compute(x)["features"]
    assert isinstance(found, np.ndarray)
    return found


def values(tensor: Any) -> np.ndarray:
    """Return a backend's tensor as numpy."""
    return keras.ops.convert_to_numpy(tensor)


def same(tensor: Any, array: np.ndarray) -> bool:
    """Compare dtype, shape and values."""
    found = values(tensor)
    return found.dtype == array.dtype and np.array_equal(found, array)


def test_a_layer_answers_as_its_model(uri: str) -> None:
    """Called with numpy or with the backend's tensor, for batches of any size."""
    layer = RemoteLayer(uri)
    for rows in (1, 5, 100):
        assert same(layer(batch(rows)), expected(batch(rows)))
        assert same(layer(keras.ops.convert_to_tensor(batch(rows))), expected(batch(rows)))
    assert layer.weights == []


@pytest.mark.parametrize("rows", [5, 32, 70])
def test_it_has_its_place_in_a_sequential(uri: str, rows: int) -> None:
    """Its output's shape is known before anything is computed, and predict() goes through it batch by batch."""
    net = keras.Sequential([keras.Input((4,)), keras.layers.Identity(), RemoteLayer(uri), keras.layers.Dense(2)])
    assert net.output_shape == (None, 2)
    head = net.layers[-1]
    found = net.predict(batch(rows), verbose=0)
    np.testing.assert_allclose(
        found, expected(batch(rows)) @ values(head.kernel) + values(head.bias), rtol=1e-5, atol=1e-6
    )


def test_it_has_its_place_in_a_functional_model() -> None:
    """Several inputs, several outputs, each of its own shape and dtype."""
    model = sums()
    with served(model) as uri:
        x, offset = keras.Input((4,), name="x"), keras.Input((), dtype="int64", name="offset")
        layer = RemoteLayer(uri, input_names=["offset", "x"], config="次")
        total, top = layer([offset, x])
        assert (total.shape, total.dtype, top.shape, top.dtype) == ((None, 4), "float32", (None,), "int64")
        net = keras.Model([x, offset], [total, top])
        found, found_top = net.predict([batch(), np.arange(5)], verbose=0)
    assert same(found, batch() + np.arange(5, dtype="float32")[:, None])
    assert found_top.tolist() == batch().argmax(1).tolist()
    assert {(seen.input_names, seen.output_names, seen.config) for seen in model.seen} == {
        (("offset", "x"), ("sum", "top"), "次")
    }


def test_one_output_alone_is_no_list() -> None:
    """Chosen by name, and known by its own shape."""
    with served(sums()) as uri:
        layer = RemoteLayer(uri, output_names="top")
        assert layer.compute_output_shape([(None, 4), (None,)]) == (None,)
        assert values(layer([batch(), np.arange(5)])).tolist() == batch().argmax(1).tolist()


@pytest.mark.parametrize(
    ("given", "shape"), [((None, 4), (None, 3)), ((7, 4), (7, 3)), ([(7, 4)], (7, 3))], ids=["open", "batch", "list"]
)
def test_the_output_shape_comes_from_the_metadata(uri: str, given: Any, shape: tuple[int | None, ...]) -> None:
    """Where it leaves the batch open, the input's batch is the output's."""
    assert RemoteLayer(uri).compute_output_shape(given) == shape


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name.lower())
def test_every_dtype_goes_and_comes_back(dtype: DType) -> None:
    """A model gets the dtype that it takes, those too that a backend does not have; jax narrows what comes back."""
    name = dtype.name.lower()
    x = np.array([[0, 1, 2], [3, 100, 127]], "float32" if "float" in name else "int64")
    model = identity(dtype, (-1, 3))
    with served(model) as uri:
        assert same(RemoteLayer(uri)(x), x.astype(NARROWED.get(name, name)))
    (seen,) = model.seen[0].inputs
    assert seen.dtype == name  # type: ignore[union-attr]


@pytest.mark.parametrize("wanted", ["float16", "float32", "float64"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_floats_are_cast_to_what_the_metadata_says(wanted: str, policy: str) -> None:
    """Whatever the dtype policy makes of the layers before, the model gets the dtype that it takes."""
    x = np.arange(20, dtype="float32").reshape(5, 4)
    model = Computed(
        (io("x", (-1, 4), DType[wanted.upper()]),), (io("y", (-1, 4)),), lambda x: {"y": x.astype("float32")}
    )
    with served(model) as uri:
        assert same(keras.Sequential([keras.Input((4,)), keras.layers.ReLU(dtype=policy), RemoteLayer(uri)])(x), x)


def test_whole_numbers_stay_whole() -> None:
    """To floats or from them, or to integers that can't hold them: that is refused, and not rounded."""
    with served(sums()) as uri, pytest.raises(RemoteError, match='input "offset" takes int64, not float32'):
        RemoteLayer(uri)([batch(), batch()[:, 0]])
    small = identity(DType.INT8, (-1,))
    with served(small) as uri, pytest.raises(BadTensor, match="values from -1 to 128, where the model takes int8"):
        RemoteLayer(uri)(np.array([-1, 128]))


@TRAINS
def test_what_comes_after_it_is_trained(uri: str) -> None:
    """fit() on frozen remote features learns: the loss falls far."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((64, 4), "float32")
    net = keras.Sequential([keras.Input((4,)), RemoteLayer(uri), keras.layers.Dense(1)])
    net.compile(keras.optimizers.SGD(0.3), "mse")
    losses = net.fit(x, expected(x).sum(1), epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 20


@TRAINS
def test_training_asks_once_for_a_batch() -> None:
    """Nothing is asked with made-up numbers, as to learn a shape."""
    model = features()
    with served(model) as uri:
        net = keras.Sequential([keras.Input((4,)), RemoteLayer(uri), keras.layers.Dense(1)])
        net.compile("sgd", "mse")
        net.fit(batch(40), np.zeros(40), epochs=2, batch_size=20, verbose=0)
    assert [seen.inputs[0].shape for seen in model.seen] == [(20, 4)] * 4


@TRAINS
def test_a_gradient_that_would_pass_through_is_refused(uri: str) -> None:
    """fit() fails, and names the model and the remedy, where layers before it would stay untrained."""
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), RemoteLayer(uri), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    assert net.predict(batch(), verbose=0).shape == (5, 1)
    with pytest.raises(NoGradient, match=r"remote model http://.*keras\.ops\.stop_gradient\(x\)"):
        net.fit(batch(), np.zeros(5), epochs=1, verbose=0)


@TRAINS
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")  # Keras's own word on what is stopped
def test_a_stopped_gradient_lets_the_rest_be_trained(uri: str) -> None:
    """The remedy that the error names works: the way around the remote model carries the gradient."""
    x = keras.Input((4,))
    around, before = keras.layers.Dense(3), keras.layers.Dense(4)
    remote = RemoteLayer(uri)(keras.layers.Lambda(keras.ops.stop_gradient)(before(x)))
    net = keras.Model(x, keras.layers.Add()([around(x), remote]))
    net.compile("sgd", "mse")
    kernels = [values(layer.kernel).copy() for layer in (around, before)]
    net.fit(batch(), np.zeros((5, 3)), epochs=1, verbose=0)
    assert not np.array_equal(kernels[0], values(around.kernel))
    assert np.array_equal(kernels[1], values(before.kernel))


def test_a_saved_model_asks_the_same_question(uri: str, tmp_path: Path) -> None:
    """By way of its config: in a .keras file, and cloned."""
    net = keras.Sequential([keras.Input((4,)), RemoteLayer(uri, name="remote", timeout_s=9), keras.layers.Dense(2)])
    wanted = net.predict(batch(), verbose=0)
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert isinstance(loaded.get_layer("remote"), RemoteLayer)
    assert loaded.get_layer("remote").node.timeout_s == 9
    np.testing.assert_allclose(loaded.predict(batch(), verbose=0), wanted, rtol=1e-5, atol=1e-6)
    cloned = keras.models.clone_model(net)
    assert cloned.get_layer("remote").node.uri == uri


def test_the_config_is_the_whole_layer() -> None:
    """Every argument comes back, and the copy has a config that is equal."""
    described = [io("y", (-1, 2), DType.INT8), io("z", (), DType.NULL)]
    layer = RemoteLayer(
        "http://127.0.0.1:9/", input_names=["a", "b"], config="c", timeout_s=None, outputs=described, name="n"
    )
    copied = RemoteLayer.from_config(layer.get_config())
    assert copied.get_config() == layer.get_config()
    assert copied.described == tuple(described)
    named = RemoteLayer("http://127.0.0.1:9/", output_names=["y", "z"])
    assert RemoteLayer.from_config(named.get_config()).node.output_names == ("y", "z")
    arguments = set(inspect.signature(RemoteLayer.__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(layer.get_config())


def test_a_layer_around_a_model_of_this_process_can_not_be_saved() -> None:
    """It says so, instead of saving half of itself."""
    with pytest.raises(ValueError, match="Computed can't be saved"):
        RemoteLayer(features()).get_config()


def test_any_model_can_stand_behind_it() -> None:
    """A row cache, for one: what was asked once is not asked again."""
    model = features()
    with served(model) as uri, connect(uri) as client:
        layer = RemoteLayer(Cached(client, MemoryStore(limit_bytes=1 << 20), model_id="features@1"))
        for _ in range(3):
            assert same(layer(batch()), expected(batch()))
    assert len(model.seen) == 1


def test_a_model_that_describes_itself_wrongly_can_be_described() -> None:
    """Original Go servers describe int64 of shape [rank]; with `outputs` nobody asks them."""
    model = Computed((io("x", (2,), DType.NULL),), (io("y", (2,), DType.INT64),), lambda x: {"y": x})
    model.inputs = (io("x", ()),)
    with served(model) as uri:
        wrong = RemoteLayer(uri)
        with pytest.raises(Exception, match=r"outputs=\[…\]"):
            wrong(batch())
        right = RemoteLayer(uri, outputs=[io("y", (-1, 4))])
        assert right.compute_output_shape((None, 4)) == (None, 4)
        assert same(right(batch()), batch())
        assert right.node._model._metadata is None


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (identity(), {}, BadTensor, 'does not tell the shape of its output "y"'),
        (features(), {"output_names": ["inner"]}, UnknownName, 'describes no output "inner"'),
        (Computed((), (), dict), {}, BadTensor, "describes no outputs"),
    ],
    ids=["no shape", "inner node", "no outputs"],
)
def test_what_is_not_described_is_asked_for(
    model: Computed, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """With the argument that tells it."""
    with served(model) as uri, pytest.raises(error, match=words) as raised:
        RemoteLayer(uri, **options).compute_output_shape((None, 4))
    assert "outputs=[…]" in str(raised.value)


def test_a_network_can_not_be_built_without_its_server() -> None:
    """Its outputs' shapes are the server's to tell; the error is the client's own."""
    with served(identity()) as uri:
        pass
    with pytest.raises((ConnectFailed, TimedOut)):
        keras.Sequential([keras.Input((4,)), RemoteLayer(uri, timeout_s=2)])
    described = RemoteLayer(uri, outputs=[io("y", (-1, 4))])
    assert keras.Sequential([keras.Input((4,)), described]).output_shape == (None, 4)


def test_names_and_descriptions_are_not_given_both() -> None:
    """Descriptions have names."""
    with pytest.raises(ValueError, match="not both"):
        RemoteLayer(features(), output_names="y", outputs=[io("y")])
    with pytest.raises(BadConfig):
        RemoteLayer("localhost:9000")


def test_an_answer_that_is_not_as_described_is_refused() -> None:
    """Before it reaches compiled code, which would take it for what was described."""
    model = Computed((io("x"),), (io("y", (-1, 3)),), lambda x: {"y": x})
    with served(model) as uri:
        layer = RemoteLayer(uri)
        with pytest.raises(BadTensor, match=r'float32 of shape \[5, 4\] for "y", described as float32 of \[5, 3\]'):
            layer(batch())
        net = keras.Sequential([keras.Input((4,)), layer])
        with pytest.raises(Exception, match=r'float32 of shape \[5, 4\] for "y"'):
            net.predict(batch(), verbose=0)


def test_a_refusal_is_the_servers_own(uri: str) -> None:
    """As our own error where nothing is compiled, and with its words where it is."""
    layer = RemoteLayer(uri)
    with pytest.raises(RemoteError, match=r"takes shape \[-1, 4\]") as raised:
        layer(np.zeros((2, 7), "float32"))
    assert raised.value.code == 42200
    net = keras.Sequential([keras.Input((7,)), layer])
    with pytest.raises(Exception, match=r"takes shape \[-1, 4\] \(-1 is any\), not \[2, 7\]"):
        net.predict(np.zeros((2, 7), "float32"), verbose=0)


@pytest.mark.skipif(BACKEND != "jax", reason="only jax compiles for one size")
def test_jax_compiles_no_open_sizes() -> None:
    """It says which output, and what to do."""
    with served(identity(shape=(-1, -1))) as uri:
        layer = RemoteLayer(uri)
        net = keras.Sequential([keras.Input((4,)), layer])
        assert same(net(batch()), batch())
        with pytest.raises(BadTensor, match=r"no open size but the batch's"):
            net.predict(batch(), verbose=0)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="tensorflow has strings")
def test_strings_are_refused_where_the_backend_has_none() -> None:
    """Other outputs of the same model can be had."""
    with served(lengths()) as uri, pytest.raises(BadTensor, match='the output "turned" is strings'):
        RemoteLayer(uri).compute_output_shape((None,))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="no other backend has strings")
def test_strings_go_in_and_come_out() -> None:
    """Eagerly and compiled, NULs and all."""
    import tensorflow as tf

    text = tf.constant([b"abc", b"\x00\xff\x00"])
    with served(lengths()) as uri:
        layer = RemoteLayer(uri)
        for call in (layer, tf.function(layer)):
            length, turned = call(text)
            assert length.numpy().tolist() == [3, 3]
            assert turned.numpy().tolist() == [b"cba", b"\x00\xff\x00"]


@pytest.mark.skipif(BACKEND != "torch", reason="torch's own")
def test_on_torch_it_is_a_module_too(uri: str) -> None:
    """Inside nn.Sequential, under no_grad."""
    import torch

    layer = RemoteLayer(uri)
    with torch.no_grad():
        assert same(torch.nn.Sequential(torch.nn.Identity(), layer)(torch.from_numpy(batch())), expected(batch()))
