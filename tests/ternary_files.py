"""Files of version 2 with every weight by the plain threshold, for tests of what reads them."""

import dataclasses

import numpy as np
import torch
from networks import network, spec

from tritbench.graph import capture
from tritbench.models import InputSpec
from tritbench.models.networks import ResNet, ViT, dscnn
from tritbench.packing import Normalization, graph_trit_bytes
from tritbench.packing.calibration import calibrated
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.packing.weights import IntegerArray
from tritbench.params import QuantizeParams
from tritbench.quantize.ternary import ternarize

RGB = InputSpec((3, 8, 8), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def module(name):
    """A small network of the name, and what it takes."""
    torch.manual_seed(0)
    match name:
        case "resnet":
            return ResNet(3, 3, depth=8), RGB
        case "dscnn":
            return dscnn(3, 3, width=4), RGB
        case "vit":
            return ViT(RGB.shape, 3, width=12, depth=1, heads=3), RGB
    return network(name), spec()


def ternary_file(
    module, example, spec=None, granularity="channel", codec="base3", int8=(), half=(), sides=1
):
    """Bytes of `module`; `int8` and `half` name arrays, two `sides` have scales of their own."""
    graph = capture(module, example)
    settings = QuantizeParams(
        threshold=0.7, reference="absmean", granularity=granularity, backend="native"
    )
    weights = packed_arrays(
        {
            name: ternarize(torch.from_numpy(graph.parameters[name]), settings, 0.7)
            for name in graph.weights()
        }
    )
    if sides == 2:
        weights = {
            name: dataclasses.replace(weight, negative_scale=weight.scale * np.float32(1.5))
            for name, weight in weights.items()
        }
    weights |= {name: _eight_bits(graph.parameters[name]) for name in int8}
    classes = [str(index) for index in range(graph.shapes()[graph.output][-1])]
    normalization = spec and Normalization(spec.mean, spec.std)
    packed = calibrated(pack_graph(graph, weights), [example], spec is not None)
    return graph_trit_bytes(packed, normalization, classes, {"seed": 0}, codec, half)


def _eight_bits(weight):
    rows = weight.reshape(len(weight), -1)
    scale = (np.abs(rows).max(1, keepdims=True) / 127).astype(np.float32)
    return IntegerArray(np.rint(rows / scale).astype(np.int8), scale, weight.shape)
