"""Quantization-aware training of any module: by qualified name, tied weights stay tied."""

import pytest
import torch
from graph_networks import networks
from torch import nn
from torch.nn.utils import parametrizations

from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.graph import run
from tritbench.models import InputSpec
from tritbench.packing import graph_trit_bytes, read_trit
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.params import QatParams, QuantizeParams
from tritbench.quantize import train_qat
from tritbench.train import Recipe

NETWORKS = networks()
SETTINGS = QuantizeParams(
    threshold="auto", reference="absmean", granularity="channel", backend="native"
)


def qat(**changes):
    values = {"method": "ste", "start": "fp32", "epochs": 1, "learning_rate": 0.01}
    values |= {"distill": 0.0, "threshold_warmup": 0, "stochastic_rounding": False}
    return QatParams(**(values | {"frozen_epochs": 0, "frozen_first": True} | changes))


def trained(module, shape, settings=SETTINGS, **changes):
    spec = InputSpec(shape, (0.5,) * shape[0], (0.25,) * shape[0])
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, *shape), generator=generator).to(torch.uint8)
    images = Images(pixels, torch.arange(64) % 3)
    recipe = Recipe(1, 0.01, batch_size=16)
    quantized, _ = train_qat(module, images, images, spec, settings, qat(**changes), recipe)
    return quantized, spec.normalize(pixels)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(48, 48), nn.Linear(48, 48)
        self.up.weight = self.down.weight
        self.head = nn.Linear(48, 3)

    def forward(self, x):
        return self.head(self.up(self.down(x.flatten(1)).relu()))


class Signals(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(12, 12, 3, groups=4)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.conv(x.flatten(1, 2)).view(x.shape[0], -1))


def depthwise():
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, eps=0.1, momentum=None), nn.ReLU6()),
        *(nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    )


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (lambda: NETWORKS["residual"][0], (3, 8, 8)),
        (depthwise, (3, 8, 8)),
        (Attention, (3, 8, 8)),
        (Signals, (3, 4, 4)),
        (Tied, (3, 4, 4)),
    ],
)
@pytest.mark.parametrize("changes", [{}, {"method": "ttq", "start": "optimal"}, {"method": "lsq"}])
def test_what_was_trained_is_what_its_file_computes(module, shape, changes):
    torch.manual_seed(0)
    quantized, x = trained(module(), shape, **changes)
    assert set(quantized.weights) == set(quantized.graph.weights())
    packed = pack_graph(quantized.graph, packed_arrays(quantized.weights))
    given = quantized.graph.shapes()[quantized.graph.output][-1]
    file = graph_trit_bytes(packed, None, [str(k) for k in range(given)], {})
    found = run(read_trit(file, "it").packed.dequantized(), x)
    torch.testing.assert_close(found, run(quantized.graph, x), rtol=1e-4, atol=1e-4)
    for name, weight in quantized.weights.items():
        held = torch.from_numpy(quantized.graph.parameters[name])
        assert torch.equal(held, weight.dequantize())


def test_the_given_module_stays_as_it_is():
    module = depthwise()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trained(module, (3, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert type(module[0]) is nn.Conv2d


def test_tied_weights_are_one_ternary_weight():
    quantized, _ = trained(Tied(), (3, 4, 4))
    assert set(quantized.weights) == {"down.weight", "head.weight"}
    uses = [node for node in quantized.graph.nodes if "down.weight" in node.inputs]
    assert len(uses) == 2


def test_a_weight_that_is_computed_is_refused_by_name():
    module = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(48, 3)))
    with pytest.raises(TritbenchError, match=r"1\.weight.*computed from other parameters"):
        trained(module, (3, 4, 4))


def test_a_view_that_wants_contiguous_images_trains():
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

        def forward(self, x):
            return self.head(self.conv(x).view(x.shape[0], -1))

    quantized, x = trained(Viewed(), (3, 8, 8))
    assert run(quantized.graph, x).shape == (64, 3)


def test_kept_weights_train_in_the_bits_that_they_are_kept_in():
    keep = {"0": "int8", "8": "float16"}
    settings = SETTINGS.model_copy(update={"keep": keep})
    quantized, _ = trained(depthwise(), (3, 8, 8), settings=settings)
    kinds = {name: type(weight).__name__ for name, weight in quantized.weights.items()}
    assert kinds == {
        "0.weight": "IntegerWeight",
        "3.weight": "TernaryWeight",
        "8.weight": "HalfWeight",
    }
    for name, weight in quantized.weights.items():
        held = torch.from_numpy(quantized.graph.parameters[name])
        assert torch.equal(held, weight.dequantize())
