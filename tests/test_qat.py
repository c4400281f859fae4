"""Quantization-aware training: each fake quantizer against its definition."""

import pytest
import torch
from networks import by_ptq
from torch import nn
from toys import toy_images

from tritbench.graph import capture
from tritbench.models import InputSpec
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize import train_qat
from tritbench.quantize.fake import LearnedStep, StraightThrough, TrainedScales
from tritbench.quantize.ptq import search_layer
from tritbench.quantize.qat import METHODS, Place, fake_quantize
from tritbench.quantize.ternary import ternarize
from tritbench.train import Recipe

SPEC = InputSpec((1, 4, 4), (0.5,), (0.25,))
GRANULARITIES = ["tensor", "channel", "group:4"]


def settings(threshold=0.5, granularity="channel"):
    return QuantizeParams(
        threshold=threshold, reference="absmean", granularity=granularity, backend="native"
    )


def qat(**changes):
    values = {"method": "ste", "start": "fp32", "epochs": 2, "learning_rate": 0.01}
    values |= {"distill": 0.0, "threshold_warmup": 0, "stochastic_rounding": False}
    return QatParams(**(values | {"frozen_epochs": 0, "frozen_first": True} | changes))


def weight_and_gradient(shape=(6, 10)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def groups(tensor, granularity):
    """Slices of a weight [6, 10] that share a scale, with the scale's index."""
    if granularity == "tensor":
        return [((0, 0), tensor)]
    size = 4 if granularity == "group:4" else 10
    return [
        ((row, group), piece)
        for row, values in enumerate(tensor)
        for group, piece in enumerate(values.split(size))
    ]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_ste_passes_the_gradient_on_and_has_least_squares_scales(granularity):
    weight, gradient = weight_and_gradient()
    quantizer = StraightThrough(weight, settings(granularity=granularity))
    latent = weight.clone().requires_grad_()
    quantized = quantizer(latent)
    torch.testing.assert_close(
        quantized, ternarize(weight, settings(granularity=granularity), 0.5).dequantize()
    )
    quantized.backward(gradient)
    assert torch.equal(latent.grad, gradient)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_ttq_has_two_scales_and_the_gradients_of_its_paper(granularity):
    weight, gradient = weight_and_gradient()
    quantizer = TrainedScales(weight, settings(granularity=granularity))
    latent = weight.clone().requires_grad_()
    quantized = quantizer(latent)
    trits = ternarize(weight, settings(granularity=granularity), 0.5).trits
    quantized.backward(gradient)
    by_group = zip(
        *(groups(t, granularity) for t in (weight, gradient, trits, quantized, latent.grad)),
        strict=True,
    )
    for (where, w), (_, g), (_, t), (_, q), (_, latent_gradient) in by_group:
        positive, negative = w[t > 0].abs().mean(), w[t < 0].abs().mean()
        expected_latent = g.clone()
        if (t > 0).any():
            torch.testing.assert_close(q[t > 0], positive.expand_as(q[t > 0]))
            found = quantizer.gain.grad[0][where] / quantizer.base[0][where]
            torch.testing.assert_close(found, g[t > 0].sum(), rtol=1e-4, atol=1e-5)
            expected_latent[t > 0] *= positive
        if (t < 0).any():
            torch.testing.assert_close(q[t < 0], -negative.expand_as(q[t < 0]))
            found = quantizer.gain.grad[1][where] / quantizer.base[1][where]
            torch.testing.assert_close(found, -g[t < 0].sum(), rtol=1e-4, atol=1e-5)
            expected_latent[t < 0] *= negative
        assert (q[t == 0] == 0).all()
        torch.testing.assert_close(latent_gradient, expected_latent)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_lsq_rounds_to_its_step_with_the_gradients_of_its_paper(granularity):
    weight, gradient = weight_and_gradient()
    quantizer = LearnedStep(weight, settings(granularity=granularity))
    latent = weight.clone().requires_grad_()
    quantized = quantizer(latent)
    quantized.backward(gradient)
    by_group = zip(
        *(groups(t, granularity) for t in (weight, gradient, quantized, latent.grad)), strict=True
    )
    share = (quantizer.base[0].numel() / weight.numel()) ** 0.5
    for (where, w), (_, g), (_, q), (_, latent_gradient) in by_group:
        step = quantizer.base[0][where]
        relative = w / step
        torch.testing.assert_close(q, relative.clamp(-1, 1).round() * step)
        inside = relative.abs() <= 1
        torch.testing.assert_close(latent_gradient, g * inside)
        slope = torch.where(inside, relative.round() - relative, relative.sign())
        found = quantizer.gain.grad[0][where] / quantizer.base[0][where]
        torch.testing.assert_close(found, (g * slope).sum() * share, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_is_seen_in_evaluation_is_what_will_be_packed(name, granularity):
    layer = nn.Linear(10, 6)
    quantizer = fake_quantize(
        [Place(layer, "weight")],
        settings(granularity=granularity),
        qat(method=name, stochastic_rounding=True),
    )
    with torch.no_grad():
        quantizer.gain += 0.1 * torch.randn_like(quantizer.gain)
    layer.eval()
    ternary = quantizer.ternary(layer.parametrizations.weight.original)
    torch.testing.assert_close(layer.weight, ternary.dequantize())
    assert set(ternary.trits.unique().tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize("name", METHODS)
def test_frozen_trits_stay_while_scales_learn(name):
    layer = nn.Linear(10, 6)
    quantizer = fake_quantize([Place(layer, "weight")], settings(), qat(method=name))
    latent = layer.parametrizations.weight.original
    before = layer.weight.detach().clone()
    quantizer.freeze(latent)
    torch.testing.assert_close(layer.weight, before)
    with torch.no_grad():
        latent.neg_()
    torch.testing.assert_close(layer.weight, before)
    layer.weight.backward(torch.ones(6, 10))
    assert quantizer.gain.grad.abs().sum() > 0
    assert latent.grad is None or not latent.grad.any()
    with torch.no_grad():
        quantizer.gain *= 2
    torch.testing.assert_close(quantizer.ternary(latent).dequantize(), 2 * before)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.isa
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_gives_the_same_bits_again(name):
    images = toy_images()
    runs = [
        train_qat(
            network(),
            images,
            images,
            SPEC,
            settings("auto"),
            qat(method=name),
            Recipe(8, 0.01, batch_size=32),
        )
        for _ in range(2)
    ]
    (first, curve), (again, _) = runs
    assert curve[-1].val_accuracy > 0.95
    for key, weight in first.weights.items():
        for run in (first, again):
            held = torch.from_numpy(run.graph.parameters[key])
            assert torch.equal(held, weight.dequantize())


def test_training_may_start_from_the_result_of_a_ptq_method_and_keep_its_trits():
    images = toy_images()
    started, _ = train_qat(
        network(),
        images,
        images,
        SPEC,
        settings(0.4),
        qat(start="optimal", frozen_epochs=1),
        Recipe(1, 0.01, batch_size=32),
    )
    ptq = by_ptq(
        network(),
        images.pixels,
        SPEC,
        settings(0.4),
        PtqParams(method="optimal", calibration=256, bias_correction=True, batchnorm=True),
    )
    for key, weight in started.weights.items():
        assert torch.equal(weight.trits, ptq.weights[key].trits)
        assert not torch.equal(weight.scale, ptq.weights[key].scale)


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


@pytest.mark.isa
@pytest.mark.parametrize("name", METHODS)
def test_a_first_convolution_keeps_the_trits_of_ptqs_search_while_its_scales_learn(name):
    images, model = toy_images(), convolution()
    x = SPEC.normalize(images.pixels)
    searched = search_layer(capture(model, x[:2]), "0.weight", [x], settings("auto"))
    recipe = Recipe(2, 0.01, batch_size=32)

    def train(frozen_first):
        given = qat(method=name, frozen_first=frozen_first, frozen_epochs=1)
        trained, _ = train_qat(model, images, images, SPEC, settings("auto"), given, recipe)
        return trained.weights["0.weight"]

    kept = train(frozen_first=True)
    assert torch.equal(kept.trits, searched.trits)
    assert not torch.equal(kept.scale, searched.scale)
    torch.testing.assert_close(kept.scale, searched.scale, rtol=0.5, atol=0)
    assert not torch.equal(train(frozen_first=False).trits, searched.trits)


@pytest.mark.parametrize("name", METHODS)
def test_a_last_layer_that_starts_from_zeros_learns(name):
    images, model = toy_images(), network()
    with torch.no_grad():
        model[3].weight.zero_()
    recipe, given = Recipe(8, 0.05, batch_size=32), qat(method=name, start="scratch")
    trained, curve = train_qat(model, images, images, SPEC, settings("auto"), given, recipe)
    assert trained.weights["3.weight"].trits.any()
    assert curve[-1].val_accuracy > 0.95


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_row_of_zeros_is_no_division(name, granularity):
    images, model = toy_images(), network()
    with torch.no_grad():
        model[1].weight[3] = 0
        model[3].weight[:, :4] = 0
    chosen, recipe = settings("auto", granularity), Recipe(4, 0.01, batch_size=32)
    trained, curve = train_qat(model, images, images, SPEC, chosen, qat(method=name), recipe)
    assert all(weight.dequantize().isfinite().all() for weight in trained.weights.values())
    assert curve[-1].val_accuracy > 0.9
