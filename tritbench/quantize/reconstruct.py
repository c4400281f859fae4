"""PTQ that goes on following the float network: images without labels, no layer by itself.

Rounding weight by weight leaves errors that no layer sees alone. Here, after each weight that is
rounded, those that are still float, the scales so far, biases, and the gains and shifts of
normalizations follow the float network's predictions for some steps (distillation, arXiv
1503.02531, both networks on one view of each image, as in arXiv 2106.05237): what a weight loses
the later ones make up for, as in incremental quantization (arXiv 1702.03044). At the end, with all
weights rounded, the rest settles.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.augment import augment, draw
from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.graph.interpret import execute, run, tensors
from tritbench.params import QuantizeParams
from tritbench.precision import choose
from tritbench.quantize.kept import HalfWeight
from tritbench.quantize.layer import fast_layout, node_layers
from tritbench.quantize.methods import Method, quantize_weight
from tritbench.quantize.predictions import affine_names
from tritbench.quantize.progress import progress
from tritbench.quantize.ternary import Quantized, QuantizedWeight
from tritbench.shapes import InputSpec
from tritbench.values import Kept

VIEWS = 128  # images of a step
LEARNING_RATE = 0.003  # of Adam, with weights in units of their output's mean magnitude
SETTLING = 0.2  # share of the steps that come after the last weight, at a falling rate
TEMPERATURE = 2.0  # of both predictions
STATISTICS = 2048  # images that the statistics of a layer's inputs are taken over, at most
MOMENTUM = 0.1  # of a batch in the statistics of normalizations


class _Reconstruction:
    """A network on its way from float to ternary, on the device that its steps run on.

    Attributes:
        found: the quantized weights so far.
        gains: of their scales.
        units: the weights in units of their outputs' `sizes`, mean magnitudes.
        affine: biases, and gains and shifts of normalizations.
        statistics: of normalizations, averages over batches.
    """

    def __init__(self, graph: Graph, device: str) -> None:
        self.graph, self.device = graph, device
        self.floats = {n: t.to(device) for n, t in fast_layout(tensors(graph)).items()}
        self.found: dict[str, QuantizedWeight] = {}
        self.gains: dict[str, Tensor] = {}
        self.sizes, self.units = {}, {}
        for name in graph.weights():
            weight = self.floats[name]
            size = weight.flatten(1).abs().mean(1).clamp(min=1e-30)
            self.sizes[name] = size.view(-1, *[1] * (weight.dim() - 1))
            self.units[name] = (weight / self.sizes[name]).requires_grad_()
        self.affine = {n: self.floats[n].clone().requires_grad_() for n in affine_names(graph)}
        norms = [node for node in graph.nodes if node.op == "batch_norm"]
        names = [str(name) for node in norms for name in node.inputs[3:]]
        self.statistics = {name: self.floats[name].clone() for name in names}
        self.momentum = MOMENTUM
        variables = [*self.units.values(), *self.affine.values()]
        self.optimizer = torch.optim.Adam(variables, betas=(0.9, 0.99))
        precision = choose("auto", device)
        self.half = torch.autocast(device, torch.bfloat16, precision == "bfloat16")

    def parameters(self) -> dict[str, Tensor]:
        """What the graph computes with now."""
        weights = {n: units * self.sizes[n] for n, units in self.units.items()}
        weights |= {name: weight.dequantize() for name, weight in self.quantized().items()}
        return self.floats | self.statistics | self.affine | weights

    def quantized(self) -> dict[str, QuantizedWeight]:
        """The quantized weights so far, with their scales as they are now."""
        return {
            name: dataclasses.replace(weight, scale=weight.scale * self.gains[name])
            if not isinstance(weight, HalfWeight)
            else weight
            for name, weight in self.found.items()
        }

    def keep(self, name: str, weight: QuantizedWeight) -> None:
        """A weight is this one from now on, but for its scales."""
        self.found[name] = weight = on(self.device, weight)
        del self.units[name]
        if not isinstance(weight, HalfWeight):
            self.gains[name] = torch.ones_like(weight.scale).requires_grad_()
            self.optimizer.add_param_group({"params": [self.gains[name]]})

    def follow(self, inputs: Tensor, rate: float) -> None:
        """One step towards the float network's predictions."""
        inputs = inputs.to(self.device)
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self.half:
            with torch.no_grad():
                wanted = run(self.graph, inputs, parameters=self.floats).float()
            parameters = self.parameters()
            found = run(self.graph, inputs, parameters=parameters, operation=self._train).float()
        wanted, found = wanted / TEMPERATURE, found / TEMPERATURE
        loss = F.kl_div(found.log_softmax(1), wanted.softmax(1), reduction="batchmean")
        self.optimizer.zero_grad()
        (loss * TEMPERATURE**2).backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def _train(self, node: Node, taken: Sequence[Tensor | None], batch: int) -> Tensor:
        """Normalizations take the batch's own statistics, and average them."""
        if node.op != "batch_norm":
            return execute(node, taken, batch)
        x, weight, bias, mean, variance = taken
        assert x is not None
        eps = node.attributes["eps"]
        return F.batch_norm(x, mean, variance, weight, bias, True, self.momentum, eps)

    @torch.no_grad()
    def inputs(self, node: Node, batches: Sequence[Tensor]) -> list[Tensor]:
        """What an operation is given first, on CPU, where weights are rounded."""
        before = self.graph.nodes[: self.graph.nodes.index(node)]
        to_node = dataclasses.replace(self.graph, nodes=before, output=str(node.inputs[0]))
        parameters = self.parameters()
        moved = (batch.to(self.device) for batch in batches)
        return [run(to_node, batch, parameters=parameters).cpu() for batch in moved]

    @torch.no_grad()
    def result(self) -> Quantized:
        """The network, all weights quantized."""
        weights = {name: on("cpu", weight) for name, weight in self.quantized().items()}
        changed = self.affine | self.statistics
        changed |= {name: weight.dequantize() for name, weight in weights.items()}
        arrays = {n: np.ascontiguousarray(t.detach().cpu().numpy()) for n, t in changed.items()}
        parameters = dict(self.graph.parameters) | arrays
        return Quantized(dataclasses.replace(self.graph, parameters=parameters), weights)


def reconstruct(
    graph: Graph,
    calibration: Sequence[Tensor],
    views: Iterator[Tensor],
    steps: int,
    method: Method,
    settings: QuantizeParams,
    kept: Mapping[str, Kept],
    device: str = "cpu",
) -> Quantized:
    """Quantize one weight after the other, and let all that is left follow the predictions.

    Args:
        graph: float network, which gives logits [n, classes].
        calibration: inputs in batches [n, ...], for the statistics of each layer's inputs.
        views: inputs in batches, one a step.
        steps: in all.
        method: that rounds a weight.
        settings: threshold, reference, granularity, backend.
        kept: weights that stay in more bits.
        device: that steps run on, cpu or cuda.

    Raises:
        TritbenchError: naming what the graph gives instead of logits, or a weight that became all
            zero.
    """
    given = graph.shapes()[graph.output]
    if len(given) != 2 or given[0] != -1:
        sizes = ["n" if size == -1 else size for size in given]
        raise TritbenchError(
            f"ptq.reconstruct = {steps}: expected 0, or a network that gives [n, classes] and not "
            f"{sizes}"
        )
    network = _Reconstruction(graph, device)
    weights = graph.weights()
    each = int(steps * (1 - SETTLING)) // len(weights)
    calibration = calibration[: -(-STATISTICS // len(calibration[0]))]
    for name, node in progress(list(weights.items()), "reconstruction", "weight"):
        taken = network.inputs(node, calibration)
        with torch.no_grad():
            parameters = {n: t.cpu() for n, t in network.parameters().items()}
            layers = node_layers(node, parameters, taken, taken)
            shape = network.floats[name].shape
            weight = quantize_weight(name, shape, layers, method, settings, kept.get(name))
        network.keep(name, weight)
        for _ in range(each):
            network.follow(next(views), LEARNING_RATE)
    rest = steps - each * len(weights)
    for step in progress(range(rest), "settling", "step"):
        network.momentum = min(MOMENTUM, 1 / (1 + max(0, step - rest // 2)))
        network.follow(next(views), LEARNING_RATE * (1 + math.cos(math.pi * step / rest)) / 2)
    return network.result()


def on(device: str, weight: QuantizedWeight) -> QuantizedWeight:
    """The weight with its tensors on a device."""
    fields = {f.name: getattr(weight, f.name) for f in dataclasses.fields(weight)}
    moved: dict[str, Any] = {n: v.to(device) for n, v in fields.items() if isinstance(v, Tensor)}
    return dataclasses.replace(weight, **moved)


def views(images: Tensor, spec: InputSpec, augmentations: Collection[str]) -> Iterator[Tensor]:
    """Batches of uint8 images without end, in random order, augmented and normalized."""
    generator = torch.Generator().manual_seed(0)
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < VIEWS:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        chosen, order = order[:VIEWS], order[VIEWS:]
        draws = draw(augmentations, len(chosen), generator)
        yield spec.normalize(augment(images[chosen], draws))
