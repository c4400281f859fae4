"""`quantize.keep`: weights that stay 8-bit integers or float16, by qualified name."""

import numpy as np
import pytest
import torch
from graph_networks import networks
from networks import by_ptq
from torch import nn

from tritbench import runtime
from tritbench.commands.inspect import describe
from tritbench.errors import TritbenchError
from tritbench.graph import capture, run
from tritbench.measure.storage import ternary_storage
from tritbench.models import InputSpec
from tritbench.packing import load_trit, save_trit
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import TernaryWeight, quantize_graph
from tritbench.quantize.gptq import output_error
from tritbench.quantize.kept import IntegerWeight, by_integers, integer_scale
from tritbench.quantize.layer import node_layers

NETWORKS = networks()
SPEC = InputSpec((3, 8, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLASSES = list("abcde")


def settings(keep):
    return QuantizeParams(
        threshold="auto", reference="absmean", granularity="channel", backend="native", keep=keep
    )


def method(name="gptq", batchnorm=False):
    return PtqParams(method=name, calibration=256, bias_correction=True, batchnorm=batchnorm)


def pixels(count=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)


def kept(keep, how="gptq"):
    """The residual network, with weights conv, down (in two groups) and head."""
    return by_ptq(NETWORKS["residual"][0], pixels(), SPEC, settings(keep), method(how))


def error(quantized):
    x = SPEC.normalize(pixels())
    expected = NETWORKS["residual"][0].eval()(x).detach()
    return float((run(quantized.graph, x) - expected).norm() / expected.norm())


def kinds(quantized):
    return {name: type(weight).__name__ for name, weight in quantized.weights.items()}


@pytest.mark.parametrize("how", ["threshold", "descent"])
def test_the_first_pattern_that_names_a_weight_says_what_it_is(how):
    quantized = kept({"head": "float16", "down.weight": "int8", "*a*": "int8"}, how)
    assert kinds(quantized) == {
        "conv.weight": "TernaryWeight",
        "down.weight": "IntegerWeight",
        "head.weight": "HalfWeight",
    }
    for name, weight in quantized.weights.items():
        np.testing.assert_array_equal(quantized.graph.parameters[name], weight.dequantize())


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.02), ("float16", 0.001)])
def test_a_network_kept_as_a_whole_computes_what_it_did(kind, most):
    assert error(kept({"*": kind})) < most < error(kept({}))


def test_integers_are_symmetric_and_each_output_uses_the_whole_range():
    values = kept({"*": "int8"}).weights["down.weight"].values
    assert values.dtype == torch.int8
    assert torch.equal(values.flatten(1).abs().amax(1), torch.full((4,), 127, dtype=torch.int8))


def test_integers_follow_correlated_inputs_better_than_the_nearest_do():
    torch.manual_seed(0)
    inputs = torch.randn(500, 24) @ torch.randn(24, 24).cumsum(0)
    module = nn.Linear(24, 8)
    graph = capture(module, inputs[:2])
    parameters = {name: torch.from_numpy(array) for name, array in graph.parameters.items()}
    (layer,) = node_layers(graph.nodes[0], parameters, [inputs], [inputs])
    scale = integer_scale(layer.weight)
    nearest = (layer.weight / scale).round() * scale
    found = by_integers(layer).dequantize()
    hessian = layer.moments.hessian
    plain, better = (output_error(layer.weight, hessian, q).sum() for q in (nearest, found))
    assert better < 0.7 * plain


def test_a_pattern_that_names_no_weight_is_refused_with_the_weights_there_are():
    with pytest.raises(TritbenchError, match=r"no weight is called 'stem\.\*'.* conv, down, head"):
        kept({"conv": "int8", "stem.*": "int8"})


def test_a_weight_that_float16_cannot_hold_is_refused_by_name():
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight[0, 0] = 1e5
    x = torch.randn(32, 4)
    with pytest.raises(TritbenchError, match=r"weight: holds 1e\+05, expected at most 65504"):
        quantize_graph(capture(module, x[:2]), [x], settings({"*": "float16"}), method())


def test_the_file_holds_what_is_kept_and_inspect_names_it(tmp_path):
    quantized = kept({"conv": "int8", "head": "float16"})
    path = tmp_path / "kept.trit"
    save_trit(path, quantized, SPEC, CLASSES, {})
    network = load_trit(path)
    assert network.stored["conv.weight.int8"].dtype == np.int8
    assert network.stored["head.weight"].dtype == np.float16
    described = [o for o in describe(network, path.stat().st_size)["operations"] if "kind" in o]
    assert [(o["weight"], o["kind"]) for o in described] == [
        ("conv.weight", "int8"),
        ("down.weight", "ternary"),
        ("head.weight", "float16"),
    ]
    expected = run(quantized.graph, SPEC.normalize(pixels()))
    found = torch.as_tensor(runtime.load_reference(path)(pixels()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (
        torch.as_tensor(runtime.load(path)(pixels())).sub(expected).norm() < 0.01 * expected.norm()
    )


def test_storage_counts_all_weights_and_no_zeros_where_none_is_ternary(tmp_path):
    path = tmp_path / "kept.trit"
    save_trit(path, kept({"*": "int8"}), SPEC, CLASSES, {})
    storage = ternary_storage(path, load_trit(path))
    assert storage.zeros is storage.entropy_bits is None
    assert 8 < storage.bits_per_weight < 16  # with scales and biases
    save_trit(path, kept({"*": "float16"}), SPEC, CLASSES, {})
    assert 16 < ternary_storage(path, load_trit(path)).bits_per_weight < 24


def test_scales_of_integers_are_matched_to_the_predictions_as_those_of_trits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    quantized = by_ptq(model, pixels(256), SPEC, settings({"3": "int8"}), method("descent"))
    ternary, integers = quantized.weights.values()
    assert isinstance(ternary, TernaryWeight)
    assert isinstance(integers, IntegerWeight)
    found = torch.from_numpy(quantized.graph.parameters["3.weight"])
    assert torch.equal(found, integers.dequantize())
    x = SPEC.normalize(pixels(256))
    agreement = (run(quantized.graph, x).argmax(1) == model(x).argmax(1)).float().mean()
    assert agreement > 0.8
