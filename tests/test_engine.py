"""The native engine against its integer reference, bit for bit, on every instruction set."""

import threading

import numpy as np
import pytest
import torch
from calibrated_networks import calibrated
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packed_networks import (
    FLATTEN,
    RELU,
    affine,
    conv,
    dense,
    network,
    pixels,
    pool,
    two_sided,
)

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.graph.interpret import execute
from tritbench.runtime.fallback import NumpyModel

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")

ISAS = runtime.available_isas()
NETWORKS = {
    "softmax": lambda r: network(FLATTEN, dense(r, 64, 10)),
    "mlp": lambda r: network(
        FLATTEN, dense(r, 64, 33), RELU, dense(r, 33, 130), RELU, dense(r, 130, 3)
    ),
    "without relu": lambda r: network(FLATTEN, dense(r, 64, 20), dense(r, 20, 7)),
    "groups": lambda r: network(FLATTEN, dense(r, 64, 37, 10), RELU, dense(r, 37, 5, 16)),
    "a scale for all": lambda r: network(FLATTEN, dense(r, 64, 9, rows=1)),
    "cnn": lambda r: network(
        conv(r, 1, 6, padding=(1, 1)),
        RELU,
        pool("max"),
        conv(r, 6, 18, padding=(1, 1)),
        RELU,
        pool("max"),
        FLATTEN,
        dense(r, 72, 21),
        RELU,
        dense(r, 21, 10),
    ),
    "strides": lambda r: network(
        conv(r, 1, 5, (3, 2), (2, 1), (2, 1)),
        RELU,
        conv(r, 5, 40, (2, 3), (1, 2), (0, 1)),
        pool("avg", (2, 1), (1, 1)),
        FLATTEN,
        affine(r, 40 * 3 * 5),
        dense(r, 40 * 3 * 5, 4),
    ),
    "grouped convolution": lambda r: network(
        conv(r, 1, 7, padding=(1, 1), group_size=4),
        RELU,
        conv(r, 7, 8, padding=(1, 1), group_size=10),
        FLATTEN,
        dense(r, 8 * 64, 2, 100),
    ),
    "colours": lambda r: network(
        conv(r, 3, 16, padding=(1, 1)),
        RELU,
        pool("max", (3, 3), (2, 2)),
        FLATTEN,
        dense(r, 16 * 9, 6),
        shape=(3, 8, 8),
    ),
    "layers before weights": lambda r: network(
        affine(r, 3),
        RELU,
        pool("avg"),
        conv(r, 3, 4),
        pool("max", (2, 2), (1, 1)),
        RELU,
        FLATTEN,
        dense(r, 4, 4),
        RELU,
        shape=(3, 8, 8),
    ),
    "two-sided": lambda r: network(
        two_sided(r, conv(r, 1, 7, padding=(1, 1))),
        RELU,
        two_sided(r, conv(r, 7, 18, stride=(2, 1), group_size=10)),
        FLATTEN,
        two_sided(r, dense(r, 18 * 18, 21)),
        RELU,
        two_sided(r, dense(r, 21, 10, rows=1)),
    ),
    "a map of logits": lambda r: network(conv(r, 1, 3, (7, 7)), FLATTEN),
    "one pixel": lambda r: network(
        conv(r, 1, 17, (1, 1)), RELU, conv(r, 17, 5, (1, 1)), FLATTEN, shape=(1, 1, 1)
    ),
}


def same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


def engine(net, isa="auto", mode="int8", threads=1):
    from tritbench.runtime.engine import EngineModel

    return EngineModel(net, threads=threads, isa=isa, mode=mode)


@pytest.mark.isa
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mode", ["int8", "static"])
def test_int8_equals_the_integer_reference(name, isa, mode):
    random = np.random.default_rng(0)
    net = NETWORKS[name](random)
    net = calibrated(net, pixels(random, 3, net.input.shape))
    model = engine(net, isa, mode)
    for count in (1, 2, 3, 9, 131):
        images = pixels(random, count, net.input.shape)
        same_bits(model(images), NumpyModel(net, mode)(images))
        floats = random.normal(0.5, 1, images.shape).astype(np.float32)
        same_bits(model(floats), NumpyModel(net, mode)(floats))


def in_float64(net, x):
    found = net.packed.dequantized()
    values = {name: torch.from_numpy(a.astype(np.float64)) for name, a in found.parameters.items()}
    values["input"] = x
    for node in found.nodes:
        values[node.name] = execute(node, [values[name] for name in node.inputs], len(x))
    return values[found.output]


@pytest.mark.isa
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_equals_float64(name, isa):
    random = np.random.default_rng(1)
    net = NETWORKS[name](random)
    images = torch.from_numpy(pixels(random, 9, net.input.shape))
    for given_images in (images, images.float() / 255):
        pixels64 = given_images.double() / (255 if given_images.dtype == torch.uint8 else 1)
        mean, std = net.input.shared
        expected = in_float64(net, (pixels64 - mean) / std)
        found = engine(net, isa, "exact")(given_images).double()
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


sizes = st.integers(1, 1025)


@settings(max_examples=60, deadline=None)
@given(
    inputs=sizes,
    outputs=st.one_of(st.integers(1, 80), sizes),
    count=st.integers(1, 13),
    group=st.one_of(st.none(), sizes),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(
        ["normal", "positive", "zero", "saturated", "tiny", "pixels", "huge", "widest"]
    ),
)
@example(inputs=1025, outputs=1025, count=13, group=None, seed=0, kind="saturated")
@example(inputs=1025, outputs=40, count=1, group=None, seed=0, kind="widest")
@example(inputs=1025, outputs=40, count=13, group=None, seed=0, kind="widest")
@example(inputs=1, outputs=1, count=1, group=1, seed=0, kind="zero")
@example(inputs=784, outputs=10, count=6, group=64, seed=0, kind="pixels")
def test_a_dense_layer_of_any_size(inputs, outputs, count, group, seed, kind):
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (count, inputs)).astype(np.float32)
    match kind:
        case "positive":
            x = np.abs(x)
        case "zero":
            x[:] = 0
        case "saturated":
            x = np.where(x > 0, np.float32(1), np.float32(-1))
        case "tiny":
            x *= np.float32(1e-32)
        case "huge":
            x *= np.float32(1e30)
        case "pixels":
            x = pixels(random, count, (inputs,))
        case "widest":
            x = np.full((count, inputs), 255, np.uint8)
    size = min(group or inputs, inputs)
    layer = dense(random, inputs, outputs, size)
    if kind == "saturated":
        layer.arrays["trits"][:] = 1
    if kind == "widest":
        layer.arrays["trits"][:] = random.choice([-1, 1], (outputs, 1))
    net = network(FLATTEN, layer, dense(random, outputs, 3), shape=(1, 1, inputs))
    net = calibrated(net, x.reshape(count, 1, 1, inputs))
    for mode in ("int8", "static") if net.packed.ranges else ("int8",):
        expected = NumpyModel(net, mode)(x)
        for isa in ISAS:
            same_bits(engine(net, isa, mode)(x), expected)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 40),
    outputs=st.integers(1, 70),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_convolution_of_any_shape(
    channels, outputs, height, width, kernel, stride, padding, seed
):
    random = np.random.default_rng(seed)
    height, width = max(height, kernel[0]), max(width, kernel[1])
    net = network(
        conv(random, 2, channels, (1, 1)),
        conv(random, channels, outputs, kernel, stride, padding),
        FLATTEN,
        shape=(2, height, width),
    )
    images = pixels(random, 3, net.input.shape)
    net = calibrated(net, images)
    for mode in ("int8", "static"):
        expected = NumpyModel(net, mode)(images)
        for isa in ISAS:
            same_bits(engine(net, isa, mode)(images), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_longer_than_32_bits_allow_is_summed_in_pieces(isa):
    inputs = 300_000
    layer = dense(np.random.default_rng(0), inputs, 2)
    layer.arrays["trits"][:] = 1
    net = network(FLATTEN, layer, shape=(1, 1, inputs))
    images = np.full((1, inputs), 255, np.uint8)
    same_bits(engine(net, isa)(images), NumpyModel(net, "int8")(images))


@pytest.mark.isa
def test_threads_give_the_same_bits():
    random = np.random.default_rng(0)
    net = network(
        FLATTEN, dense(random, 2048, 1024), RELU, dense(random, 1024, 10), shape=(1, 32, 64)
    )
    images = pixels(random, 203, (1, 32, 64))
    expected = engine(net)(images)
    for threads in (2, 3):
        same_bits(engine(net, threads=threads)(images), expected)


def test_one_model_serves_several_threads():
    random = np.random.default_rng(0)
    net = NETWORKS["cnn"](random)
    model, images = engine(net), pixels(random, 200, (1, 8, 8))
    expected, found = model(images), {}

    def serve(key):
        found[key] = [model(images) for _ in range(20)]

    threads = [threading.Thread(target=serve, args=(key,)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results in found.values():
        for result in results:
            same_bits(result, expected)


@pytest.mark.isa
def test_what_comes_in_decides_what_comes_out():
    random = np.random.default_rng(0)
    model = engine(NETWORKS["mlp"](random))
    images = pixels(random, 5, (1, 8, 8))
    expected = model(images)
    assert isinstance(expected, np.ndarray)
    tensor = model(torch.from_numpy(images))
    assert isinstance(tensor, torch.Tensor)
    same_bits(tensor.numpy(), expected)
    for other in (images.reshape(5, 8, 8), images.reshape(5, 64), memoryview(images)):
        same_bits(model(other), expected)
    for one in (images[0], images[0, 0], images[0].ravel()):
        same_bits(model(one), expected[:1])
    assert model(images[:0]).shape == (0, 3)
    assert model(torch.from_numpy(images)[2:4]).shape == (2, 3)
    read_only = images.copy()
    read_only.flags.writeable = False
    same_bits(model(read_only), expected)


def test_results_do_not_share_memory():
    random = np.random.default_rng(0)
    model = engine(NETWORKS["mlp"](random))
    images = torch.from_numpy(pixels(random, 4, (1, 8, 8)))
    first = model(images)
    kept = first.clone()
    model(255 - images)
    assert torch.equal(first, kept)
    first += 1  # and may be written to


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 9, 9), np.uint8), ValueError, r"uint8 \[2, 9, 9\], expected \[n, 1, 8, 8\]"),
        (torch.zeros(3, 65), ValueError, r"float32 \[3, 65\], expected .* \[n, 64\]"),
        (np.zeros((2, 64)), TypeError, "format 'd'"),
        (np.zeros((2, 64), np.int8), TypeError, "format 'b'"),
        (torch.zeros(2, 64, dtype=torch.float64), TypeError, "expected uint8 or float32"),
        (np.zeros((64, 2), np.uint8).T, ValueError, "ascontiguousarray"),
        (torch.zeros(64, 2).T, ValueError, r"images\.contiguous\(\)"),
        (torch._neg_view(torch.ones(2, 64)), ValueError, r"images\.resolve_neg\(\)"),
        (torch.zeros(2, 64, device="meta"), TypeError, "without memory to lend"),
        ([[0] * 64], TypeError, "images are list"),
        (None, TypeError, "images are NoneType"),
        (np.zeros((), np.uint8), ValueError, r"uint8 \[\]"),
    ],
)
def test_a_wrong_input_is_an_error_with_its_shape(images, error, message):
    model = engine(NETWORKS["softmax"](np.random.default_rng(0)))
    with pytest.raises(error, match=message):
        model(images)


def test_an_image_that_is_not_finite_gives_nan_and_spoils_no_other():
    random = np.random.default_rng(0)
    images = random.random((6, 64)).astype(np.float32)
    for mode in ("int8", "exact"):
        model = engine(NETWORKS["mlp"](random), mode=mode)
        expected = model(images)
        wrong = images.copy()
        wrong[1, 3], wrong[4, 63] = np.nan, -np.inf
        found = model(wrong)
        assert np.isnan(found[[1, 4]]).all()
        same_bits(found[[0, 2, 3, 5]], expected[[0, 2, 3, 5]])


def test_an_instruction_set_is_chosen_by_name_or_environment(monkeypatch):
    net = NETWORKS["softmax"](np.random.default_rng(0))
    assert engine(net).engine == f"tritbench native ({ISAS[0]}, int8)"
    monkeypatch.setenv("TRITBENCH_ISA", "generic")
    assert engine(net, mode="exact").engine == "tritbench native (generic, exact)"
    monkeypatch.setenv("TRITBENCH_ISA", "mmx")
    with pytest.raises(TritbenchError, match=f"isa 'mmx': this machine has {', '.join(ISAS)}"):
        engine(net)
    with pytest.raises(TritbenchError, match="mode 'fast'"):
        engine(net, mode="fast", isa=ISAS[0])


def test_ternary_linear_is_one_layer():
    random = np.random.default_rng(0)
    trits = random.integers(-1, 2, (20, 50), np.int8)
    scale = random.random((20, 1)).astype(np.float32)
    x = random.normal(0, 1, (4, 50)).astype(np.float32)
    expected = x @ (trits * scale).T
    packed = runtime.pack_linear(trits, scale)
    close = runtime.ternary_linear(packed, x)
    assert np.abs(close - expected).max() < 0.05 * np.abs(expected).max()
    exact = runtime.pack_linear(trits, scale, np.ones(20, np.float32), mode="exact")
    np.testing.assert_allclose(exact(torch.from_numpy(x)), expected + 1, rtol=1e-4, atol=1e-5)
    with pytest.raises(TritbenchError, match=r"scale is \[20, 1\], expected \[20, 5\]"):
        runtime.pack_linear(trits, scale, group_size=10)
