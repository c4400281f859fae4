"""Small quantized networks for the tests of files, exports and commands."""

import dataclasses

import torch
from torch import nn

from tritbench.graph import capture, run
from tritbench.graph.interpret import tensors
from tritbench.models import InputSpec, build
from tritbench.params import QuantizeParams
from tritbench.quantize import Quantized, quantize_ptq
from tritbench.quantize.ternary import ternarize

CLASSES = ["a", "b", "c"]
SETTINGS = {
    "linear": {},
    "mlp": {"hidden": [21, 9]},
    "cnn": {"channels": [4, 6], "hidden": 11},
}


def spec(size=8):
    return InputSpec((1, size, size), (0.28612709,), (0.35315054,))


def images(count, size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, size, size), generator=generator).to(torch.uint8)


def odd():
    """Every type of layer, in an order that no built-in network has."""
    return nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 6, (3, 2), padding=(1, 0), stride=(2, 1)),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d((2, 3)),
        nn.Flatten(),
        nn.BatchNorm1d(24),
        nn.Linear(24, 7, bias=False),
        nn.Dropout(0.5),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )


def network(name, size=8):
    """A network with BatchNorms that do something."""
    torch.manual_seed(0)
    model = odd() if name == "odd" else build(name, SETTINGS[name], spec(size).shape, 3, 0)
    for module in model:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def two_sided(ternary):
    """With scales of their own for trits of -1, as TTQ has them."""
    weights = {
        name: dataclasses.replace(weight, negative_scale=weight.scale * 1.5)
        for name, weight in ternary.weights.items()
    }
    return with_weights(ternary.graph, weights)


def with_weights(graph, weights):
    """A graph whose weights are these ternary ones."""
    held = {name: weight.dequantize().numpy() for name, weight in weights.items()}
    return Quantized(dataclasses.replace(graph, parameters=graph.parameters | held), weights)


def quantized(name="odd", granularity="channel", size=8):
    settings = QuantizeParams(
        threshold=0.5, reference="absmean", granularity=granularity, backend="native"
    )
    graph = capture(network(name, size), spec(size).normalize(images(2, size)))
    floats = tensors(graph)
    return with_weights(graph, {n: ternarize(floats[n], settings, 0.5) for n in graph.weights()})


def by_ptq(model, pixels, spec, settings, ptq):
    """A module's graph, made ternary after training."""
    return quantize_ptq(capture(model, spec.normalize(pixels[:2])), pixels, spec, settings, ptq)


def logits(quantized, spec, pixels):
    return run(quantized.graph, spec.normalize(pixels))
