"""Post-training quantization of a graph: no labels, no training, some calibration images."""

import dataclasses
import sys
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.graph.interpret import execute, last_uses, run, tensors
from tritbench.params import LEAST_CALIBRATION, Kept, PtqParams, QuantizeParams
from tritbench.quantize.kept import IntegerWeight, by_half, by_integers, kept_weights
from tritbench.quantize.layer import BATCH, Geometry, Layer, Statistics
from tritbench.quantize.methods import METHODS, Method
from tritbench.quantize.predictions import dense_end, match_predictions
from tritbench.quantize.progress import progress
from tritbench.quantize.ternary import (
    Quantized,
    TernaryWeight,
    Weight,
    require_alive,
    require_finite,
)
from tritbench.quantize.trits import check_backend
from tritbench.shapes import InputSpec

VALUES = 2**23  # of images in a batch, at most: what operations make of them is many times as large

Batches = Sequence[Tensor]


def quantize_ptq(
    graph: Graph, images: Tensor, spec: InputSpec, settings: QuantizeParams, ptq: PtqParams
) -> Quantized:
    """Make every weight of a linear or a convolution ternary, in the order of the graph.

    Args:
        graph: float network, with one input.
        images: uint8 [n, c, h, w] from the training split, without labels; at least
            LEAST_CALIBRATION.
        spec: how they are normalized.
        settings: threshold, reference, granularity, backend.
        ptq: method, and which corrections follow it.

    Raises:
        TritbenchError: naming too few images, or as `quantize_graph`.
    """
    if (count := len(images)) < LEAST_CALIBRATION:
        raise TritbenchError(
            f"ptq.calibration: {count} images, expected at least {LEAST_CALIBRATION}"
        )
    size = max(1, min(BATCH, VALUES // images[0].numel()))
    inputs = [spec.normalize(batch) for batch in images.split(size)]
    return quantize_graph(graph, inputs, settings, ptq)


@torch.no_grad()
def quantize_graph(
    graph: Graph, inputs: Batches, settings: QuantizeParams, ptq: PtqParams
) -> Quantized:
    """`quantize_ptq` for any input, as the graph takes it.

    Each weight is quantized for the inputs that it gets from the network so far. What no later
    operation needs is freed: memory is bounded by what is alive.

    Args:
        graph: float network, with one input.
        inputs: in batches [n, ...], without labels.
        settings: threshold, reference, granularity, backend.
        ptq: method, and which corrections follow it.

    Raises:
        TritbenchError: naming a weight that is not finite or became all zero, or a backend that the
            method does not use, or a pattern of `quantize.keep` that no weight has.
    """
    check_backend(settings.backend, {"ptq.method": ptq.method})
    weights = graph.weights()
    if not weights:
        raise TritbenchError("the network has no linear or convolution to make ternary")
    floats = tensors(graph)
    kept = kept_weights(weights, settings.keep)
    for name in weights:
        require_finite(floats[name], name)
    if next(iter(weights.values())).op == "conv2d":  # a third faster on CPU
        layout = torch.channels_last
        floats = {
            name: t.contiguous(memory_format=layout) if t.dim() == 4 else t
            for name, t in floats.items()
        }
        inputs = [x.contiguous(memory_format=layout) if x.dim() == 4 else x for x in inputs]
    return _Walk(graph, settings, ptq, kept, floats, inputs).run()


@torch.no_grad()
def search_layer(
    graph: Graph, name: str, inputs: Batches, settings: QuantizeParams
) -> TernaryWeight:
    """One weight by `descent`: the trits and scales with the least output error.

    Args:
        graph: float network.
        name: of the weight, one of `graph.weights()`.
        inputs: of the network, in batches [n, ...].
        settings: granularity and threshold.
    """
    node = graph.weights()[name]
    before = graph.nodes[: graph.nodes.index(node)]
    to_layer = dataclasses.replace(graph, nodes=before, output=str(node.inputs[0]))
    taken = [run(to_layer, batch) for batch in inputs]
    floats = tensors(graph)
    layers = node_layers(node, floats, taken, taken)
    return _ternary(METHODS["descent"], layers, settings, floats[name].shape)


class _Walk:
    """The float and the ternary network side by side, batch by batch from weight to weight."""

    def __init__(
        self,
        graph: Graph,
        settings: QuantizeParams,
        ptq: PtqParams,
        kept: dict[str, Kept],
        floats: dict[str, Tensor],
        inputs: Batches,
    ) -> None:
        (name,) = graph.inputs
        self.graph, self.settings, self.ptq = graph, settings, ptq
        self.method, self.kept = METHODS[ptq.method], kept
        self.floats, self.parameters = floats, dict(floats)
        self.uses = Counter(n for node in graph.nodes for n in node.inputs)
        self.batches = [len(batch) for batch in inputs]
        self.values = [{name: batch} for batch in inputs]  # of the ternary network so far
        self.float_values: list[dict[str, Tensor]] = [{} for _ in inputs]  # only what differs
        self.differing: set[str] = set()
        self.waiting: list[tuple[Node, list[str]]] = []  # operations that nothing had to wait for

    def run(self) -> Quantized:
        weights = self.graph.weights()
        found: dict[str, Weight] = {}
        end = self._end()
        end_inputs = predictions = None
        nodes = list(last_uses(self.graph))
        for index, (node, finished) in enumerate(progress(nodes, self.ptq.method, "operation")):
            name = str(node.inputs[1]) if len(node.inputs) > 1 else ""
            if name in weights and weights[name] is node:
                self._catch_up()
                layers = self._layers(node)
                if index == end:
                    end_inputs = layers[0].inputs
                if end is not None and node.name == self.graph.output:
                    predictions = layers[0].predictions = self._float_logits(node)
                found[name] = self._quantize(node, name, layers)
            elif node.op == "batch_norm" and self.ptq.batchnorm and found:
                self._catch_up()
                if node.inputs[0] in self.differing:
                    self._reestimate(node)
            self.waiting.append((node, finished))
        parameters = {n: np.ascontiguousarray(t.numpy()) for n, t in self.parameters.items()}
        quantized = Quantized(dataclasses.replace(self.graph, parameters=parameters), found)
        if end is None or end_inputs is None or predictions is None:
            return quantized
        return match_predictions(quantized, end, end_inputs, predictions)

    def _end(self) -> int | None:
        """Where the dense layers begin that are matched to the predictions."""
        if not self.method.match_predictions:
            return None
        if (end := dense_end(self.graph)) is None:
            print(
                f"{self.ptq.method}: predictions are not followed, for the graph does not end in a "
                "linear layer of its own that gives [n, classes]",
                file=sys.stderr,
            )
        return end

    def _catch_up(self) -> None:
        """Run the operations that wait, each batch through all of them."""
        for node, _ in self.waiting:
            changed = any(
                n in self.differing or self.parameters.get(n) is not self.floats.get(n)
                for n in node.inputs
                if n is not None
            )
            if changed:
                self.differing.add(node.name)
        for size, values, floats in zip(self.batches, self.values, self.float_values, strict=True):
            for node, finished in self.waiting:
                if node.name in self.differing:
                    known = ChainMap(floats, values, self.floats)
                    floats[node.name] = _execute(node, known, size)
                values[node.name] = _execute(node, ChainMap(values, self.parameters), size)
                for done in finished:
                    values.pop(done)
                    floats.pop(done, None)
        self.waiting.clear()

    def _inputs(self, node: Node) -> tuple[Batches, Batches]:
        """The first input of an operation in both networks, the same object where it is equal."""
        name = str(node.inputs[0])
        inputs = [values[name] for values in self.values]
        if name not in self.differing:
            return inputs, inputs
        return inputs, [values[name] for values in self.float_values]

    def _layers(self, node: Node) -> list[Layer]:
        return node_layers(node, self.floats, *self._inputs(node))

    def _float_logits(self, node: Node) -> Tensor:
        """The float network's probabilities [n, classes], where `node` gives its logits."""
        _, inputs = self._inputs(node)
        name = str(node.inputs[0])
        logits = [
            _execute(node, self.floats | {name: x}, size)
            for x, size in zip(inputs, self.batches, strict=True)
        ]
        return torch.cat(logits).softmax(1)

    def _quantize(self, node: Node, name: str, layers: list[Layer]) -> Weight:
        """One weight, and the bias that goes with it."""
        weight, bias = self.floats[name], node.inputs[2]
        quantized = self._rounded(name, weight, layers)
        dequantized = quantized.dequantize()
        self.parameters[name] = torch.empty_like(weight).copy_(dequantized)  # in its memory format
        if self.ptq.bias_correction and bias in self.floats and self.uses[bias] == 1:
            rows = dequantized.flatten(1).chunk(len(layers))
            self.parameters[str(bias)] = torch.cat(
                [layer.bias(part) for layer, part in zip(layers, rows, strict=True)]
            )
        return quantized

    def _rounded(self, name: str, weight: Tensor, layers: list[Layer]) -> Weight:
        match self.kept.get(name):
            case "float16":
                return by_half(weight, name)
            case "int8":
                parts = [by_integers(layer) for layer in layers]
                values = torch.cat([part.values for part in parts]).reshape(weight.shape)
                return IntegerWeight(values, torch.cat([part.scale for part in parts]))
        ternary = _ternary(self.method, layers, self.settings, weight.shape)
        require_alive(name.removesuffix(".weight"), weight, ternary, self.settings)
        return ternary

    def _reestimate(self, node: Node) -> None:
        """The statistics of a normalization that only this operation uses, on the images."""
        inputs, _ = self._inputs(node)
        names = str(node.inputs[3]), str(node.inputs[4])
        if any(self.uses[name] > 1 for name in names):
            return
        channels = self.floats[names[0]]
        means, variances = torch.zeros(2, len(inputs), len(channels), dtype=torch.float64)
        counts = torch.tensor([x.numel() // len(channels) for x in inputs])[:, None]
        for index, batch in enumerate(inputs):
            mean, variance = torch.zeros_like(channels), torch.zeros_like(channels)
            torch.ops.aten.batch_norm_update_stats(batch, mean, variance, 1.0)
            means[index], variances[index] = mean, variance
        mean = (counts * means).sum(0) / counts.sum()
        within = torch.where(counts > 1, (counts - 1) * variances, 0)  # NaN of a single value
        squares = (within + counts * (means - mean).square()).sum(0)
        self.parameters[names[0]] = mean.float()
        self.parameters[names[1]] = (squares / (counts.sum() - 1).clamp(min=1)).float()


def _execute(node: Node, known: Mapping[str, Tensor], batch: int) -> Tensor:
    return execute(node, [None if n is None else known[n] for n in node.inputs], batch)


def node_layers(
    node: Node, parameters: dict[str, Tensor], inputs: Batches, float_inputs: Batches
) -> list[Layer]:
    """What becomes ternary by itself: the weight of `node`, or each group of its outputs."""
    weight = parameters[str(node.inputs[1])]
    bias = torch.zeros(len(weight)) if node.inputs[2] is None else parameters[node.inputs[2]]
    geometry = Geometry.of_node(node, tuple(weight.shape))
    statistics = Statistics(geometry, inputs, float_inputs)
    parts = zip(weight.flatten(1).chunk(geometry.groups), bias.chunk(geometry.groups), strict=True)
    return [Layer(rows, start, statistics, group) for group, (rows, start) in enumerate(parts)]


def _ternary(
    method: Method, layers: list[Layer], settings: QuantizeParams, shape: torch.Size
) -> TernaryWeight:
    """The groups one after another in the weight's shape, each output with its own scales."""
    parts = [method.quantize(layer, settings) for layer in layers]
    trits = torch.cat([part.trits for part in parts]).reshape(shape)
    if len(parts) == 1:
        return dataclasses.replace(parts[0], trits=trits)
    scale = torch.cat([part.scale.expand(len(part.trits), -1) for part in parts])
    return dataclasses.replace(parts[0], trits=trits, scale=scale)
