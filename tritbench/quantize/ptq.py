"""Post-training quantization of a graph: no labels, no training, some calibration images."""

import dataclasses
import sys
from collections import ChainMap, Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.graph.interpret import execute, last_uses, run, tensors
from tritbench.params import LEAST_CALIBRATION, PtqParams, QuantizeParams
from tritbench.quantize.kept import kept_weights
from tritbench.quantize.layer import BATCH, Layer, fast_layout, node_layers
from tritbench.quantize.methods import METHODS, quantize_weight
from tritbench.quantize.predictions import dense_end, match_predictions
from tritbench.quantize.progress import progress
from tritbench.quantize.reconstruct import reconstruct, views
from tritbench.quantize.ternary import (
    Quantized,
    QuantizedWeight,
    TernaryWeight,
    require_finite,
)
from tritbench.quantize.trits import check_backend
from tritbench.shapes import InputSpec
from tritbench.values import Kept

VALUES = 2**23  # of images in a batch, at most: what operations make of them is many times as large
Batches = Sequence[Tensor]


def quantize_ptq(
    graph: Graph,
    images: Tensor,
    spec: InputSpec,
    settings: QuantizeParams,
    ptq: PtqParams,
    augmentations: Collection[str] = (),
    device: str = "cpu",
) -> Quantized:
    """Make every weight of a linear or a convolution ternary, in the order of the graph.

    Args:
        graph: float network, with one input.
        images: uint8 [n, c, h, w] from the training split, without labels; at least
            LEAST_CALIBRATION.
        spec: how they are normalized.
        settings: threshold, reference, granularity, backend.
        ptq: method, and which corrections follow it.
        augmentations: of the images that reconstruction sees, by name.
        device: that its steps run on, cpu or cuda; all else is done on CPU.

    Raises:
        TritbenchError: naming too few images, or as `quantize_graph`.
    """
    if (count := len(images)) < LEAST_CALIBRATION:
        raise TritbenchError(
            f"ptq.calibration: {count} images, expected at least {LEAST_CALIBRATION}"
        )
    size = max(1, min(BATCH, VALUES // images[0].numel()))
    inputs = [spec.normalize(batch) for batch in images.split(size)]
    if not ptq.reconstruct:
        return quantize_graph(graph, inputs, settings, ptq)
    kept = _checked(graph, settings, ptq)
    seen = views(images, spec, augmentations)
    method = METHODS[ptq.method]
    return reconstruct(graph, inputs, seen, ptq.reconstruct, method, settings, kept, device)


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
    kept, floats = _checked(graph, settings, ptq), tensors(graph)
    if next(iter(graph.weights().values())).op == "conv2d":  # a third faster on CPU
        floats = fast_layout(floats)
        inputs = [
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
        ]
    return _Walk(graph, settings, ptq, kept, floats, inputs).run()


def _checked(graph: Graph, settings: QuantizeParams, ptq: PtqParams) -> dict[str, Kept]:
    """Which weights stay in more bits; raises as `quantize_graph`."""
    check_backend(settings.backend, {"ptq.method": ptq.method})
    weights, floats = graph.weights(), tensors(graph)
    if not weights:
        raise TritbenchError("the network has no linear or convolution to make ternary")
    kept = kept_weights(weights, settings.keep)
    for name in weights:
        require_finite(floats[name], name)
    return kept


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
    found = quantize_weight(name, floats[name].shape, layers, METHODS["descent"], settings)
    assert isinstance(found, TernaryWeight)
    return found


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
        found: dict[str, QuantizedWeight] = {}
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

    def _quantize(self, node: Node, name: str, layers: list[Layer]) -> QuantizedWeight:
        """One weight, and the bias that goes with it."""
        weight, bias = self.floats[name], node.inputs[2]
        quantized = quantize_weight(
            name, weight.shape, layers, self.method, self.settings, self.kept.get(name)
        )
        dequantized = quantized.dequantize()
        self.parameters[name] = torch.empty_like(weight).copy_(dequantized)  # in its memory format
        if self.ptq.bias_correction and bias in self.floats and self.uses[bias] == 1:
            rows = dequantized.flatten(1).chunk(len(layers))
            self.parameters[str(bias)] = torch.cat(
                [layer.bias(part) for layer, part in zip(layers, rows, strict=True)]
            )
        return quantized

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
