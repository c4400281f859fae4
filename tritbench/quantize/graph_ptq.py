"""Post-training quantization of a graph: no labels, no training, some calibration images."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node
from tritbench.graph.interpret import execute, last_uses, tensors
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize.layer import Geometry, Layer, Statistics
from tritbench.quantize.ptq import METHODS, Method
from tritbench.quantize.ternary import Quantized, TernaryWeight, require_alive, require_finite
from tritbench.quantize.trits import check_backend

Batches = list[Tensor]


@torch.no_grad()
def quantize_graph(
    graph: Graph, inputs: Batches, settings: QuantizeParams, ptq: PtqParams
) -> Quantized:
    """Make every weight of a linear or a convolution ternary, in the order of the graph.

    Each is quantized for the inputs that it gets from the network so far. What no later operation
    needs is freed: memory is bounded by what is alive.

    Args:
        graph: float network, with one input.
        inputs: calibration images as the graph takes them, in batches [n, ...], without labels.
        settings: threshold, reference, granularity, backend.
        ptq: method, and which corrections follow it.

    Raises:
        TritbenchError: naming a weight that is not finite, or a backend that the method does not
            use.
    """
    check_backend(settings.backend, {"ptq.method": ptq.method})
    weights = graph.weights()
    if not weights:
        raise TritbenchError("the network has no linear or convolution to make ternary")
    floats = tensors(graph)
    for name in weights:
        require_finite(floats[name], name)
    walk = _Walk(graph, METHODS[ptq.method], settings, ptq, floats, dict(floats))
    found = walk.run(inputs)
    parameters = {name: np.ascontiguousarray(t.numpy()) for name, t in walk.parameters.items()}
    return Quantized(dataclasses.replace(graph, parameters=parameters), found)


@dataclass
class _Walk:
    """The float and the ternary network side by side, operation by operation."""

    graph: Graph
    method: Method
    settings: QuantizeParams
    ptq: PtqParams
    floats: dict[str, Tensor]
    parameters: dict[str, Tensor]

    def run(self, inputs: Batches) -> dict[str, TernaryWeight]:
        (name,) = self.graph.inputs
        self.uses = Counter(n for node in self.graph.nodes for n in node.inputs)
        self.batches = [len(batch) for batch in inputs]
        values: dict[str, Batches] = {name: inputs}
        float_values: dict[str, Batches] = {name: inputs}
        found: dict[str, TernaryWeight] = {}
        weights = self.graph.weights()
        for node, finished in last_uses(self.graph):
            name = str(node.inputs[1]) if len(node.inputs) > 1 else ""
            if name in weights and name not in found and weights[name] is node:
                taken = str(node.inputs[0])
                found[name] = self._quantize(node, name, values[taken], float_values[taken])
            same = all(
                self.parameters[n] is self.floats[n]
                if n in self.floats
                else values[n] is float_values[n]
                for n in node.inputs
                if n is not None
            )
            if not same and node.op == "batch_norm" and self.ptq.batchnorm:
                self._reestimate(node, values[str(node.inputs[0])])
            values[node.name] = self._execute(node, values, self.parameters)
            float_values[node.name] = (
                values[node.name] if same else self._execute(node, float_values, self.floats)
            )
            for done in finished:
                del values[done], float_values[done]
        return found

    def _execute(
        self, node: Node, values: dict[str, Batches], parameters: dict[str, Tensor]
    ) -> Batches:
        results = []
        for index, size in enumerate(self.batches):
            taken = [
                None if n is None else parameters[n] if n in parameters else values[n][index]
                for n in node.inputs
            ]
            results.append(execute(node, taken, size))
        return results

    def _quantize(
        self, node: Node, name: str, inputs: Batches, float_inputs: Batches
    ) -> TernaryWeight:
        """One weight, and the bias that goes with it."""
        weight = self.floats[name]
        geometry = Geometry.of_node(node, tuple(weight.shape))
        statistics = Statistics(geometry, inputs, float_inputs)
        bias_name = node.inputs[2]
        bias = self.floats[bias_name] if bias_name in self.floats else torch.zeros(len(weight))
        layers = [
            Layer(rows, start, statistics, group)
            for group, (rows, start) in enumerate(
                zip(
                    weight.flatten(1).chunk(geometry.groups),
                    bias.chunk(geometry.groups),
                    strict=True,
                )
            )
        ]
        ternary = _joined([self.method.quantize(layer, self.settings) for layer in layers])
        require_alive(name, weight, ternary, self.settings)
        ternary = dataclasses.replace(ternary, trits=ternary.trits.reshape(weight.shape))
        dequantized = ternary.dequantize()
        self.parameters[name] = dequantized
        if self.ptq.bias_correction and bias_name in self.floats and self.uses[bias_name] == 1:
            rows = dequantized.flatten(1).chunk(geometry.groups)
            self.parameters[bias_name] = torch.cat(
                [layer.bias(part) for layer, part in zip(layers, rows, strict=True)]
            )
        return ternary

    def _reestimate(self, node: Node, inputs: Batches) -> None:
        """The statistics of a normalization that only this operation uses, on the images."""
        mean_name, variance_name = str(node.inputs[3]), str(node.inputs[4])
        if self.uses[mean_name] > 1 or self.uses[variance_name] > 1:
            return
        count = 0
        total = square = torch.zeros((), dtype=torch.float64)
        for batch in inputs:
            rows = batch.transpose(0, 1).flatten(1).double()
            total = total + rows.sum(1)
            square = square + rows.square().sum(1)
            count += rows.shape[1]
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0) * (count / max(1, count - 1))
        self.parameters[mean_name] = mean.float()
        self.parameters[variance_name] = variance.float()


def _joined(parts: Sequence[TernaryWeight]) -> TernaryWeight:
    """The groups of a convolution one after another, each output with its own scales."""
    if len(parts) == 1:
        return parts[0]
    scales = [part.scale.expand(len(part.trits), -1) for part in parts]
    return dataclasses.replace(
        parts[0], trits=torch.cat([part.trits for part in parts]), scale=torch.cat(scales)
    )
