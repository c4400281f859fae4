"""Timing the engine beside others."""

import numpy as np
import pytest
import torch
from torch import nn

from tritbench import runtime
from tritbench.measure.kernels import COLUMNS, Case, cases, limit_seconds, measure, ternary_network
from tritbench.measure.peers import to_onnx
from tritbench.models import InputSpec, build

SPEC = InputSpec((1, 8, 8), 0.3, 0.4)

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")


def case():
    model = build("mlp", {"hidden": [16]}, SPEC.shape, 3, seed=0).eval()
    x = torch.zeros(2, *SPEC.shape, dtype=torch.uint8)
    return Case("small", model, ternary_network(model, SPEC), x, SPEC.normalize(x))


def test_engines_are_timed_beside_each_other_and_the_limit():
    rows = measure(case(), min_run_time=0.0, min_runs=3)
    assert [row["engine"] for row in rows[:2]] == ["native", "torch fp32"]
    assert set(COLUMNS) - set(rows[0]) == {"machine", "timestamp"}
    native, eager = rows[:2]
    assert native["native_speedup"] == 1
    assert eager["native_speedup"] == eager["latency_s"] / native["latency_s"]
    assert 0 < native["reached"] < 1
    assert eager["limit_s"] is None


def test_more_images_need_more_products():
    network = case().network
    assert limit_seconds(network, 1000)[0] > limit_seconds(network, 10)[0] > 0
    assert limit_seconds(network, 1000)[1] == "products"


def test_every_case_is_a_network_and_its_input():
    found = [(c.name, len(c.x)) for c in cases()]
    assert len(found) == len(set(found)) == 12


def test_the_onnx_model_is_the_same_network():
    ort = pytest.importorskip("onnxruntime", reason="pip install -e '.[peers]'")
    model = build("cnn", {"channels": [4, 6], "hidden": 8}, SPEC.shape, 3, seed=0).eval()
    x = torch.randn(2, *SPEC.shape, generator=torch.Generator().manual_seed(0))
    session = ort.InferenceSession(to_onnx(model, list(x.shape)).SerializeToString())
    (found,) = session.run(None, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="Sigmoid"):
        to_onnx(nn.Sequential(nn.Sigmoid()), [1])
