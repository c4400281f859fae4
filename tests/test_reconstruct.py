"""Reconstruction: what is left after each weight follows the float network's predictions."""

import numpy as np
import pytest
import torch
from networks import by_ptq
from torch import nn
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.graph import capture, run
from tritbench.models import InputSpec
from tritbench.models.networks import ResNet
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize.reconstruct import VIEWS, views

SPEC = InputSpec((3, 8, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def pixels(count, seed=0):
    """Images that differ in the colour of their middle."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 100, (count, 3, 8, 8), generator=generator)
    noise[:, :, 2:6, 2:6] += torch.randint(0, 156, (count, 3, 1, 1), generator=generator)
    return noise.to(torch.uint8)


@pytest.fixture(scope="module")
def residual():
    """A residual network of seven convolutions that is sure of what it says."""
    torch.manual_seed(0)
    model = ResNet(5, 3, 8)
    x = SPEC.normalize(pixels(256))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(x)
        model.eval().linear.weight *= 8
        model.linear.bias -= model(x).mean(0)
    return model


def ptq(model, steps, granularity="channel", keep=None, images=256):
    settings = QuantizeParams(
        threshold="auto",
        reference="absmean",
        granularity=granularity,
        backend="native",
        keep=keep or {},
    )
    method = PtqParams(
        method="gptq", calibration=images, bias_correction=True, batchnorm=True, reconstruct=steps
    )
    return by_ptq(model, pixels(images), SPEC, settings, method)


def divergence(quantized, model):
    """Of the predictions from the float network's, on images that neither has seen."""
    x = SPEC.normalize(pixels(512, seed=1))
    found, wanted = run(quantized.graph, x).log_softmax(1), model(x).detach().softmax(1)
    return float(F.kl_div(found, wanted, reduction="batchmean"))


@pytest.mark.parametrize("granularity", ["channel", "group:20"])
def test_predictions_come_closer_and_every_weight_is_ternary(residual, granularity):
    plain, together = (ptq(residual, steps, granularity, images=1024) for steps in (0, 60))
    assert divergence(together, residual) < 0.85 * divergence(plain, residual)
    assert together.weights.keys() == capture(residual, torch.zeros(2, 3, 8, 8)).weights().keys()
    for name, weight in together.weights.items():
        assert weight.trits.dtype == torch.int8
        assert set(weight.trits.unique().tolist()) <= {-1, 0, 1}
        np.testing.assert_array_equal(together.graph.parameters[name], weight.dequantize())


def test_the_same_images_give_the_same_network(residual):
    first, again = (ptq(residual, 12).graph.parameters for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_the_float_network_stays_as_it_is(residual):
    before = {name: value.clone() for name, value in residual.state_dict().items()}
    ptq(residual, 12)
    for name, value in residual.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_may_be_kept_and_normalizations_be_missing():
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 12), nn.ReLU(), nn.Linear(12, 4)
    ).eval()
    quantized = ptq(chain, 30, keep={"0": "int8", "5": "float16"})
    assert {name: type(w).__name__ for name, w in quantized.weights.items()} == {
        "0.weight": "IntegerWeight",
        "3.weight": "TernaryWeight",
        "5.weight": "HalfWeight",
    }
    for name, weight in quantized.weights.items():
        np.testing.assert_array_equal(quantized.graph.parameters[name], weight.dequantize())


def test_a_network_without_logits_is_refused():
    with pytest.raises(
        TritbenchError, match=r"ptq\.reconstruct = 9: .*\[n, classes\].*'n', 4, 6, 6"
    ):
        ptq(nn.Conv2d(3, 4, 3), 9)


def test_every_image_is_seen_before_any_comes_again_and_may_be_mirrored_or_moved():
    images = pixels(200)
    normalized = {image.numpy().tobytes() for image in SPEC.normalize(images)}
    plain = views(images, SPEC, ())
    seen = torch.cat([next(plain) for _ in range(2)])[:200]
    assert {image.numpy().tobytes() for image in seen} == normalized
    moved = next(views(images, SPEC, ("flip", "crop")))
    assert sum(image.numpy().tobytes() in normalized for image in moved) < VIEWS / 4
