"""Timing the engine beside others."""

import numpy as np
import pytest
import torch

from tritbench import runtime
from tritbench.measure.kernels import (
    COLUMNS,
    Case,
    cases,
    float_and_ternary,
    limit_seconds,
    measure,
)
from tritbench.measure.peers import UnavailableError, kernel_peers, ort
from tritbench.measure.peers.tq2_0 import multiply
from tritbench.models import InputSpec, build
from tritbench.packing.version1 import PackedLayer, chain_graph

SPEC = InputSpec((1, 8, 8), (0.3,), (0.4,))

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")


def case():
    model = build("mlp", {"hidden": [16]}, SPEC.shape, 3, seed=0).eval()
    x = torch.zeros(2, *SPEC.shape, dtype=torch.uint8)
    return Case("small", *float_and_ternary(model, SPEC), x, SPEC.normalize(x))


def test_engines_are_timed_beside_each_other_and_the_limit():
    rows, unavailable = measure(case(), min_run_time=0.0, min_runs=3)
    assert [row["engine"] for row in rows[:2]] == ["native", "torch fp32"]
    assert "ggml" in unavailable["ggml tq2_0"] or "single" in unavailable["ggml tq2_0"]
    assert set(COLUMNS) - set(rows[0]) == {"machine", "timestamp"}
    native, eager = rows[:2]
    assert native["native_speedup"] == 1
    assert eager["native_speedup"] == eager["latency_s"] / native["latency_s"]
    assert 0 < native["reached"] < 1
    assert eager["limit_s"] is None


def test_more_images_need_more_products():
    network, isa = case().network, runtime.available_isas()[0]
    assert limit_seconds(network, 1000, isa)[0] > limit_seconds(network, 10, isa)[0] > 0
    assert limit_seconds(network, 1000, isa)[1] == "products"


def test_every_case_is_a_network_and_its_input():
    found = [(c.name, len(c.x)) for c in cases()]
    assert len(found) == len(set(found)) == 18
    assert [c.name for c in cases(["1024×1024", "mlp"])] == ["mlp"] * 2 + ["1024×1024"] * 2


def ternary_layer(outputs, inputs):
    random = np.random.default_rng(0)
    scale = 2.0 ** random.integers(-6, 0, (outputs, 1))  # float16 holds it
    return (random.integers(-1, 2, (outputs, inputs)) * scale).astype(np.float32), random


def test_ggml_multiplies_by_the_same_weights():
    pytest.importorskip("ggml", reason="pip install -e '.[peers]'")
    weight, random = ternary_layer(24, 512)
    x = random.integers(-127, 128, (5, 512)).astype(np.float32)
    x[:, ::256] = 127  # the greatest of each block, so that 8 bits hold all of it
    np.testing.assert_array_equal(multiply(weight, x)(None), x @ weight.T)


def test_ggml_is_as_near_as_8_bit_activations():
    pytest.importorskip("ggml", reason="pip install -e '.[peers]'")
    weight, random = ternary_layer(24, 768)
    x = random.normal(size=(5, 768)).astype(np.float32)
    found, exact = multiply(weight, x)(None), x.astype(np.float64) @ weight.T
    steps = np.abs(x.reshape(5, 3, 256)).max(2).repeat(256, 1) / 127
    assert (np.abs(found - exact) <= steps / 2 @ np.abs(weight).T * (1 + 1e-4)).all()
    assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)


def two_bit(trits, scale, x, group=None):
    """x by ONNX Runtime's 2-bit product, with a bias for each output."""
    pytest.importorskip("onnxruntime", reason="pip install -e '.[peers]'")
    outputs, inputs = trits.shape
    about = {"type": "linear", "in": inputs, "out": outputs, "group_size": group or inputs}
    bias = np.arange(outputs, dtype=np.float32)
    layer = PackedLayer(about, {"trits": trits, "scale": scale, "bias": bias})
    network = chain_graph([PackedLayer({"type": "flatten"}), layer], (1, 1, inputs))
    return ort.two_bit(network, torch.from_numpy(x.astype(np.float32)))[1](None).numpy() - bias


@pytest.mark.isa
@pytest.mark.parametrize(("inputs", "group"), [(512, None), (784, None), (1024, 256), (130, None)])
def test_onnxruntime_multiplies_by_the_same_trits(inputs, group):
    random = np.random.default_rng(0)
    trits = random.integers(-1, 2, (24, inputs)).astype(np.int8)
    groups = inputs // group if group else 1
    scale = (2.0 ** random.integers(-4, 1, (24, groups))).astype(np.float32)
    x = random.integers(-127, 128, (5, inputs))
    x[:, ::128] = 127  # the greatest of each block, so that 8 bits hold all of it
    weight = trits * scale.repeat(group or inputs, 1)
    np.testing.assert_allclose(two_bit(trits, scale, x, group), x @ weight.T, rtol=1e-6, atol=1e-2)


def test_what_has_no_2_bit_form_is_named():
    with pytest.raises(UnavailableError, match="groups of 64 weights"):
        two_bit(np.ones((2, 128), np.int8), np.ones((2, 2), np.float32), np.ones((1, 128)), 64)
    cnn = build("cnn", {"channels": [2], "hidden": 3}, SPEC.shape, 3, seed=0).eval()
    _, network = float_and_ternary(cnn, SPEC)
    with pytest.raises(UnavailableError, match="conv2d has no 2-bit form"):
        ort.two_bit(network.packed, torch.zeros(1, *SPEC.shape))


def test_ggml_runs_single_layers_whatever_their_length():
    pytest.importorskip("ggml", reason="pip install -e '.[peers]'")
    names = {}
    for found in cases():
        if len(found.x) == 1 and found.name in ("mlp", "512×784", "1024×1024"):
            engines, _ = kernel_peers(found.model, found.network, found.normalized)
            names[found.name] = [name for name in engines if "ggml" in name]
    assert names == {"mlp": [], "512×784": ["ggml tq2_0 (K=768)"], "1024×1024": ["ggml tq2_0"]}
