"""Graphs become ternary weight by weight, each for the inputs that the ones before leave it."""

import numpy as np
import pytest
import torch
from graph_networks import networks
from torch import nn
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.graph import capture, run
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import quantize_graph
from tritbench.quantize.layer import Geometry

NETWORKS = networks()


def settings(threshold="auto", granularity="channel"):
    return QuantizeParams(
        threshold=threshold, reference="absmean", granularity=granularity, backend="native"
    )


def method(name="descent", **changes):
    given = {"calibration": 256, "bias_correction": True, "batchnorm": True}
    return PtqParams(method=name, **given | changes)


def batches(name, count=64):
    example = NETWORKS[name][1]
    if not example.is_floating_point():
        return list(torch.randint(0, 50, (count, *example.shape[1:])).split(16))
    torch.manual_seed(1)
    return list(torch.randn(count, *example.shape[1:]).split(16))


@pytest.mark.parametrize("name", ["residual", "squeeze_shuffle", "tokens", "signals"])
@pytest.mark.parametrize("how", ["threshold", "descent"])
def test_every_weight_becomes_ternary_and_the_graph_holds_it(name, how):
    graph = capture(*NETWORKS[name])
    inputs = batches(name)
    quantized = quantize_graph(graph, inputs, settings(), method(how))
    assert set(quantized.weights) == set(graph.weights())
    for weight, ternary in quantized.weights.items():
        assert set(ternary.trits.unique().tolist()) <= {-1, 0, 1}
        found = quantized.graph.parameters[weight]
        np.testing.assert_array_equal(found, ternary.dequantize().numpy())
    x = torch.cat(inputs)
    expected = run(graph, x)
    error = (run(quantized.graph, x) - expected).square().mean()
    assert error < expected.var()


def test_descent_predicts_more_alike_than_a_threshold_through_residuals_and_groups():
    graph, inputs = capture(*NETWORKS["residual"]), batches("residual", 256)
    x = torch.cat(inputs)
    wanted = run(graph, x).softmax(1)
    # Of the predictions: what moves all logits alike changes nothing, and is nowhere held.
    plain, searched = (
        F.kl_div(
            run(quantize_graph(graph, inputs, settings(t), method(m)).graph, x).log_softmax(1),
            wanted,
            reduction="batchmean",
        )
        for t, m in ((0.7, "threshold"), ("auto", "descent"))
    )
    assert searched < 0.7 * plain


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2, groups=2), (4, 9, 8)),
        (nn.Conv1d(4, 4, 3, stride=2, padding=1, groups=4), (4, 11)),
        (nn.Linear(8, 5), (3, 8)),
    ],
)
def test_rows_times_weights_are_the_layers_outputs(module, shape):
    x = torch.randn(3, *shape)
    graph = capture(module, x)
    (node,) = graph.nodes
    weight = module.weight.detach()
    geometry = Geometry.of_node(node, tuple(weight.shape))
    grouped = weight.flatten(1).unflatten(0, (geometry.groups, -1))
    products = geometry.rows(x) @ grouped.mT  # [groups, rows, outputs]
    outputs = products.transpose(0, 1).flatten(1) + module.bias.detach()
    expected = module(x).detach()
    if not isinstance(module, nn.Linear):
        expected = expected.movedim(1, -1)
    torch.testing.assert_close(outputs, expected.reshape(-1, expected.shape[-1]))


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(F.relu(self.conv(x)) * 2).mean((2, 3))


def test_statistics_are_estimated_again_where_normalization_does_not_follow_directly():
    graph = capture(Normalized(), torch.zeros(2, 3, 8, 8))
    inputs = list(torch.randn(32, 3, 8, 8).split(8))
    kept = quantize_graph(graph, inputs, settings(0.7), method("threshold", batchnorm=False))
    again = quantize_graph(graph, inputs, settings(0.7), method("threshold"))
    assert (kept.graph.parameters["norm.running_mean"] == 0).all()
    x = torch.cat(inputs)
    torch.testing.assert_close(run(again.graph, x).mean(0), torch.zeros(4), rtol=0, atol=1e-5)


def test_wrong_weights_are_refused_by_name():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight[0, 0] = float("nan")
    x = torch.randn(4, 1, 2, 2)
    graph = capture(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), x)
    broken = dict(graph.parameters) | {"1.weight": module[1].weight.detach().numpy()}
    graph = type(graph)(graph.inputs, graph.nodes, graph.output, broken)
    with pytest.raises(TritbenchError, match=r"1\.weight: 1 of 8 values"):
        quantize_graph(graph, [x], settings(), method())
    bare = capture(nn.Sequential(nn.Flatten(), nn.ReLU()), x)
    with pytest.raises(TritbenchError, match="no linear or convolution"):
        quantize_graph(bare, [x], settings(), method())


def test_a_backend_that_the_method_does_not_use_is_refused():
    graph = capture(nn.Linear(4, 2), torch.zeros(2, 4))
    other = settings().model_copy(update={"backend": "t81lib"})
    with pytest.raises(TritbenchError, match=r"native, since ptq\.method = descent does not"):
        quantize_graph(graph, [torch.randn(16, 4)], other, method("descent"))
