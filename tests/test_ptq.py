"""Post-training quantization: each method against its definition."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import by_ptq
from torch import nn
from torch.nn import functional as F

from tritbench.graph import capture, run
from tritbench.graph.interpret import tensors
from tritbench.graph.passes import section
from tritbench.models import InputSpec
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import predictions as predictions_module
from tritbench.quantize.gptq import descend, exhaustive, gptq, least_squares, output_error
from tritbench.quantize.layer import node_layers
from tritbench.quantize.methods import METHODS
from tritbench.quantize.predictions import (
    _change_best,
    dense_end,
    descend_on_predictions,
    match_predictions,
)
from tritbench.quantize.rounding import by_absmean, by_optimum, by_raw_threshold, by_threshold
from tritbench.quantize.ternary import Quantized, TernaryWeight, references, spread, ternarize

SPEC = InputSpec((1, 4, 4), (0.5,), (0.25,))


def settings(threshold=0.5, granularity="channel", reference="absmean"):
    return QuantizeParams(
        threshold=threshold, reference=reference, granularity=granularity, backend="native"
    )


def method(name, **changes):
    values = {"calibration": 256, "bias_correction": True, "batchnorm": True} | changes
    return PtqParams(method=name, **values)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(count=400, width=24, seed=0):
    """Inputs whose covariance is far from a diagonal, as that of images is."""
    mix = torch.randn(width, width, generator=generator(seed)).cumsum(0) / width**0.5
    return torch.randn(count, width, generator=generator(seed + 1)) @ mix


def linear(outputs=6, width=24, seed=0):
    layer = nn.Linear(width, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, width, generator=generator(seed)) / 5)
        layer.bias.zero_()
    return layer


def layer_of(module, inputs, float_inputs=None, predictions=None):
    graph = capture(module, inputs[:2])
    batches = inputs.split(256)
    float_batches = batches if float_inputs is None else float_inputs.split(256)
    (made,) = node_layers(graph.nodes[0], tensors(graph), batches, float_batches)
    made.predictions = predictions
    return made


def error(layer, ternary):
    return output_error(layer.weight, layer.moments.hessian, ternary.dequantize())


@given(st.integers(1, 7), st.integers(0, 1000), st.sampled_from(["channel", "tensor", "group:3"]))
def test_optimal_equals_the_best_of_all_ternary_vectors(width, seed, granularity):
    weight = torch.randn(1, width, generator=generator(seed)).double().float()
    found = by_optimum(weight, settings(granularity=granularity))
    size = 3 if granularity == "group:3" else width
    for start in range(0, width, size):
        piece = weight[0, start : start + size].double()
        best = min(
            float((piece - scale * t).square().sum())
            for t in torch.tensor(list(itertools.product((-1.0, 0, 1), repeat=len(piece)))).double()
            for scale in [float(piece @ t / (t @ t).clamp(min=1))]
        )
        left = piece - found.dequantize()[0, start : start + size].double()
        assert float(left.square().sum()) == pytest.approx(best, abs=1e-6)


def test_absmean_and_raw_are_as_published():
    weight = torch.tensor([[0.2, -0.9, 0.5, 0.04]])
    mean = weight.abs().mean()
    expected = (weight / mean).round().clamp(-1, 1) * mean
    torch.testing.assert_close(by_absmean(weight, settings()).dequantize(), expected)
    raw = by_raw_threshold(weight, settings(), 0.45)
    assert raw.dequantize().tolist() == [[0.0, -1.0, 1.0, 0.0]]


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:5"])
def test_gptq_without_correlations_equals_threshold_at_the_same_scale(granularity):
    weight = torch.randn(5, 12, generator=generator())
    plain = by_threshold(weight, settings(0.6, granularity), 0.6)
    bound = 0.6 * references(weight, settings(0.6, granularity))
    scales, bounds = (spread(m, plain.group_size, weight.shape) for m in (plain.scale, bound))
    assert torch.equal(gptq(weight, torch.eye(12), scales, bounds).to(torch.int8), plain.trits)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:5"])
@pytest.mark.parametrize("threshold", [0.3, 0.7, "auto"])
def test_gptq_never_has_more_output_error_than_threshold(granularity, threshold):
    layer = layer_of(linear(), correlated())
    chosen = settings(threshold, granularity)
    plain = METHODS["threshold"].quantize(layer, chosen)
    better = METHODS["gptq"].quantize(layer, chosen)
    assert (
        (error(layer, better).sum() if granularity == "tensor" else error(layer, better))
        .le(error(layer, plain).sum() if granularity == "tensor" else error(layer, plain))
        .all()
    )
    assert error(layer, better).sum() < 0.7 * error(layer, plain).sum()


@pytest.mark.isa
def test_descent_has_less_output_error_than_gptq():
    layer = layer_of(linear(), correlated())
    gptq_error = error(layer, METHODS["gptq"].quantize(layer, settings("auto"))).sum()
    assert error(layer, METHODS["descent"].quantize(layer, settings("auto"))).sum() < gptq_error


def test_auto_threshold_has_the_least_output_error_of_all_it_tries():
    layer = layer_of(linear(), correlated())
    auto = error(layer, METHODS["threshold"].quantize(layer, settings("auto")))
    for threshold in (0.3, 0.5, 0.7, 1.0):
        assert (auto <= error(layer, by_threshold(layer.weight, settings(), threshold))).all()


def test_coordinate_descent_never_increases_the_output_error_and_ends_in_an_optimum():
    layer = layer_of(linear(), correlated())
    weight, hessian = layer.weight, layer.moments.hessian
    start = ternarize(weight, settings(), 0.5)
    scale = start.scales()
    trits = descend(weight, hessian, start.trits.float(), scale, passes=1)
    once = output_error(weight, hessian, trits * scale)
    assert (once <= output_error(weight, hessian, start.dequantize())).all()
    trits = descend(weight, hessian, trits, scale, passes=1000)
    least = output_error(weight, hessian, trits * scale)
    for column, value in itertools.product(range(24), (-1.0, 0.0, 1.0)):
        other = trits.clone()
        other[:, column] = value
        assert (output_error(weight, hessian, other * scale) >= least * (1 - 1e-4)).all()


def test_least_squares_scales_cannot_be_bettered():
    layer = layer_of(linear(), correlated())
    weight, hessian = layer.weight, layer.moments.hessian
    for granularity in ("tensor", "channel", "group:7"):
        ternary = ternarize(weight, settings(0.5, granularity), 0.5)
        rows, groups = ternary.scale.shape
        scale = least_squares(weight, hessian, ternary.trits.float(), rows, ternary.group_size)

        def total(scale, ternary=ternary):
            quantized = TernaryWeight(ternary.trits, scale, ternary.group_size).dequantize()
            return output_error(weight, hessian, quantized).sum()

        for row, group, factor in itertools.product(range(rows), range(groups), (0.98, 1.02)):
            other = scale.clone()
            other[row, group] *= factor
            assert total(other) > total(scale)


def test_exhaustive_search_finds_what_descent_may_miss():
    module = linear(4, 6)
    layer = layer_of(module, correlated(width=6))
    weight, hessian = layer.weight, layer.moments.hessian
    trits, scale = exhaustive(weight, hessian)
    least = output_error(weight, hessian, trits * scale)
    for candidate in torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=6))):
        every = candidate.expand(4, 6)
        best = least_squares(weight, hessian, every, 4, 6)
        assert (output_error(weight, hessian, every * best) >= least * (1 - 1e-4)).all()


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:5"])
def test_every_method_takes_degenerate_weights_and_dead_inputs(name, granularity):
    inputs = correlated()
    inputs[:, :3] = 0  # as the border pixels of Fashion-MNIST nearly are
    inputs[:, 3] = 7.0  # constant: its covariance is zero, too
    for fill in (0.0, 1e-30, -0.25, 1e30):
        module = linear()
        with torch.no_grad():
            module.weight[:2] = fill
        ternary = METHODS[name].quantize(layer_of(module, inputs), settings(0.5, granularity))
        assert ternary.dequantize().isfinite().all()
        assert set(ternary.trits.unique().tolist()) <= {-1, 0, 1}
    one = nn.Linear(1, 1)
    assert METHODS[name].quantize(layer_of(one, torch.randn(9, 1)), settings()).trits.numel()
    nothing = layer_of(linear(), torch.zeros(50, 24))
    assert METHODS[name].quantize(nothing, settings()).dequantize().isfinite().all()


def test_gptq_gives_dead_inputs_no_trit():
    inputs = correlated()
    inputs[:, :3] = 0
    layer = layer_of(linear(), inputs)
    scale = torch.full((1, 24), 0.1)
    assert (gptq(layer.weight, layer.moments.hessian, scale, scale / 2)[:, :3] == 0).all()


def test_the_target_corrects_errors_of_the_layers_before():
    inputs = correlated()
    disturbed = inputs + 0.3 * correlated(seed=5)
    layer = layer_of(linear(), disturbed, inputs)
    wanted = (inputs - inputs.mean(0)) @ layer.weight.T
    centred = disturbed - disturbed.mean(0)
    corrected = (centred @ layer.target.T - wanted).square().mean()
    assert corrected < 0.9 * (centred @ layer.weight.T - wanted).square().mean()
    assert torch.equal(layer_of(linear(), inputs).target, linear().weight)


def test_moments_of_a_convolution_are_those_of_its_patches():
    module = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    images = torch.randn(600, 2, 5, 5, generator=generator())
    moments = layer_of(module, images).moments
    outputs = module(images)
    predicted = module.weight.flatten(1) @ moments.mean
    torch.testing.assert_close(outputs.mean((0, 2, 3)), predicted, rtol=1e-4, atol=1e-5)
    variance = output_error(
        module.weight.flatten(1), moments.hessian, torch.zeros_like(module.weight.flatten(1))
    )
    torch.testing.assert_close(
        outputs.transpose(0, 1).flatten(1).var(1, correction=0), variance, rtol=1e-3, atol=1e-5
    )


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    ).eval()


def images(count=256):
    return torch.randint(0, 256, (count, 1, 4, 4), generator=generator(), dtype=torch.uint8)


@pytest.mark.isa
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_deterministic_and_holds_what_it_dequantizes(name):
    first = by_ptq(network(), images(), SPEC, settings(0.1), method(name))
    again = by_ptq(network(), images(), SPEC, settings(0.1), method(name))
    for key, weight in first.weights.items():
        assert torch.equal(weight.trits, again.weights[key].trits)
        assert torch.equal(weight.scale, again.weights[key].scale)
        np.testing.assert_array_equal(first.graph.parameters[key], weight.dequantize())
    for key, array in first.graph.parameters.items():
        np.testing.assert_array_equal(array, again.graph.parameters[key])


def test_bias_correction_keeps_the_mean_output():
    model, calibration = network(), images()
    x = SPEC.normalize(calibration)
    corrected, plain = (
        by_ptq(model, calibration, SPEC, settings(), method("threshold", bias_correction=given))
        for given in (True, False)
    )
    wanted = model(x).mean(0)
    torch.testing.assert_close(run(corrected.graph, x).mean(0), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run(plain.graph, x).mean(0), wanted, rtol=1e-2, atol=1e-2)


def cross_entropy(model, inputs, predictions):
    return F.cross_entropy(model(inputs), predictions)


def matched(quantized, inputs, predictions, **options):
    """By `match_predictions` from the first dense layer on, at index `start`."""
    start = dense_end(quantized.graph)
    to_end = section(quantized.graph, 0, start) if start else None
    with torch.no_grad():
        taken = inputs if to_end is None else run(to_end, inputs)
        return match_predictions(quantized, start, taken, predictions, **options)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:5"])
def test_matching_predictions_brings_them_closer_and_keeps_the_trits(granularity):
    model = network()
    inputs = SPEC.normalize(images())
    predictions = model(inputs).softmax(1).detach()
    quantized = by_ptq(
        model, images(), SPEC, settings(granularity=granularity), method("threshold")
    )
    found = matched(quantized, inputs, predictions)
    before, after = (
        cross_entropy(partial(run, q.graph), inputs, predictions) for q in (quantized, found)
    )
    floor = cross_entropy(model, inputs, predictions)
    assert after - floor < 0.6 * (before - floor)
    for key, weight in found.weights.items():
        assert torch.equal(weight.trits, quantized.weights[key].trits)
        np.testing.assert_array_equal(found.graph.parameters[key], weight.dequantize())


def test_only_dense_layers_that_nothing_passes_by_are_matched_to_the_predictions():
    dense = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    assert dense_end(capture(dense, torch.zeros(2, 8))) == 0

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.first(x.relu()) + x)

    graph = capture(Beside(), torch.zeros(2, 8))
    assert graph.nodes[dense_end(graph)].module == "head"
    graph = capture(network(), torch.zeros(2, 1, 4, 4))
    assert graph.nodes[dense_end(graph)].module == "4"
    assert dense_end(capture(nn.Sequential(*dense, nn.Softmax(1)), torch.zeros(2, 8))) is None
    assert dense_end(capture(nn.Conv1d(3, 2, 1), torch.zeros(2, 3, 4))) is None


@pytest.mark.parametrize("columns", [24, 12])  # all inputs, or the most promising of a large layer
def test_descent_on_predictions_brings_them_closer_than_scales_alone(monkeypatch, columns):
    monkeypatch.setattr(predictions_module, "HESSIANS", 3 * columns**2)
    module, inputs = linear(3), correlated()
    predictions = module(inputs).softmax(1).detach()
    start = ternarize(module.weight.detach(), settings(), 0.5)

    def fitted(ternary):
        quantized = Quantized(capture(module, inputs[:2]), {"weight": ternary})
        found = matched(quantized, inputs, predictions, steps=50)
        least = cross_entropy(module, inputs, predictions)
        return cross_entropy(partial(run, found.graph), inputs, predictions) - least

    with torch.no_grad():
        found = descend_on_predictions(inputs, start, torch.zeros(3), predictions)
    assert fitted(found) < 0.3 * fitted(start)


def test_the_promised_change_is_the_best_of_a_quadratic_by_two_trits_of_a_class():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    hessians = root @ root.transpose(1, 2)
    slope = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    trits = torch.tensor([[-1, 0, 1, 0, 1], [0, 0, -1, 1, 1]], dtype=torch.float64)
    scales = torch.full((2, 5), 0.4, dtype=torch.float64)

    def change(k, row):
        step = scales[k] * (row - trits[k])
        return slope[k] @ step + step @ hessians[k] @ step / 2

    changed, after = trits.clone(), slope.clone()
    promised = _change_best(changed, scales, after, hessians)
    for k in range(2):
        near = [
            torch.tensor(row, dtype=torch.float64)
            for row in itertools.product((-1, 0, 1), repeat=5)
            if (torch.tensor(row) - trits[k]).abs().max() <= 1
            and (torch.tensor(row) != trits[k]).sum() <= 2
        ]
        assert promised[k] == pytest.approx(float(min(change(k, row) for row in near)))
        assert change(k, changed[k]) == pytest.approx(float(promised[k]))
        step = scales[k] * (changed[k] - trits[k])
        assert torch.allclose(after[k], slope[k] + hessians[k] @ step)
