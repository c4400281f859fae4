"""What runs where the engine was not built: it takes and gives what the engine does."""

import numpy as np
import pytest
import torch
from calibrated_networks import calibrated
from packed_networks import FLATTEN, RELU, conv, dense, network, pixels, pool

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.runtime.fallback import NumpyModel
from tritbench.runtime.reference import from_network


@pytest.fixture(scope="module")
def net():
    random = np.random.default_rng(0)
    layers = (conv(random, 1, 6, padding=(1, 1)), RELU, pool("max"), FLATTEN)
    return network(*layers, dense(random, 96, 21, 10), RELU, dense(random, 21, 4))


def test_it_is_built_as_the_engine_is_and_named(net, monkeypatch):
    monkeypatch.setattr(runtime, "NATIVE", False)
    with pytest.warns(RuntimeWarning, match="without its native engine"):
        model = runtime.from_packed(net, 1, "auto", "exact")
    assert model.engine == "NumPy reference (exact)"
    with pytest.raises(TritbenchError, match="mode 'fast'"):
        runtime.from_packed(net, 1, "auto", "fast")
    assert runtime.available_isas() == []
    assert runtime.engine_build() == "none"


def test_exact_mode_is_the_float_network(net):
    images = pixels(np.random.default_rng(1), 7, net.input.shape)
    expected = from_network(net)(images)
    for given in (images, images.astype(np.float32) / np.float32(255)):
        found = NumpyModel(net, "exact")(given)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")
@pytest.mark.parametrize("mode", ["int8", "static", "exact"])
def test_it_answers_as_the_engine_does(net, mode):
    random = np.random.default_rng(2)
    images = pixels(random, 130, (1, 8, 8))
    wrong = images.astype(np.float32) / np.float32(255)
    wrong[3, 0, 0, 0], wrong[128, 0, 7, 7] = np.nan, np.inf
    net = calibrated(net, images[:9])
    engine, reference = runtime.from_packed(net, 1, "auto", mode), NumpyModel(net, mode)
    for given in (images, images.reshape(130, 64), images[0], images[:0], wrong):
        expected, found = engine(given), reference(given)
        assert found.dtype == np.float32
        if mode != "exact":
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    tensor = reference(torch.from_numpy(images))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), reference(images))
    for bad in (images[:, :, 1:], images.astype(np.float64), [0] * 64, np.zeros((), np.uint8)):
        with pytest.raises((TypeError, ValueError)) as expected_error:
            engine(bad)
        with pytest.raises(expected_error.type, match=r"images are .*expected"):
            reference(bad)
