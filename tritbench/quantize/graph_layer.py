"""A weight of a graph as post-training quantization sees it: statistics of its inputs on images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.graph.graph import Node
from tritbench.quantize.layer import DAMPING, ROWS, Moments

CHUNK = 2**24  # inputs that are laid out in rows at once, which bounds the memory


@dataclass
class Statistics:
    """Of the inputs of one linear, conv1d or conv2d, each group of channels by itself.

    Attributes:
        node: the operation.
        shape: of its weight.
        inputs: in the network whose earlier weights are ternary, in batches [n, ...].
        float_inputs: in the float network; the same list before the first ternary weight.
    """

    node: Node
    shape: tuple[int, ...]
    inputs: Sequence[Tensor]
    float_inputs: Sequence[Tensor]

    @property
    def groups(self) -> int:
        """That share no inputs."""
        return int(self.node.attributes.get("groups", 1))

    @property
    def same(self) -> bool:
        """Whether both networks are still one."""
        return self.inputs is self.float_inputs

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """Mean inputs [groups, inputs] in the ternary and in the float network."""
        pair = []
        for inputs in (self.inputs,) if self.same else (self.inputs, self.float_inputs):
            total, count = torch.zeros(()), 0
            for batch in self._some(inputs):
                rows = patches(self.node, self.shape, batch)
                total = total + rows.sum(1)
                count += rows.shape[1]
            pair.append(total / count)
        return pair[0], pair[-1]

    @cached_property
    def covariances(self) -> tuple[Tensor, Tensor]:
        """Of x with itself and of y with x, [groups, inputs, inputs]: see `Moments`."""
        mean, float_mean = (m[:, None] for m in self.means)
        hessian = torch.zeros(())
        cross, count = hessian, 0
        pairs = zip(self._some(self.inputs), self._some(self.float_inputs), strict=True)
        for batch, float_batch in pairs:
            rows = patches(self.node, self.shape, batch) - mean
            hessian = hessian + rows.mT @ rows
            if not self.same:
                float_rows = patches(self.node, self.shape, float_batch) - float_mean
                cross = cross + float_rows.mT @ rows
            count += rows.shape[1]
        hessian = hessian / count
        return hessian, hessian if self.same else cross / count

    def _some(self, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """As many images as give `ROWS` rows, in batches whose rows take bounded memory."""
        one = patches(self.node, self.shape, inputs[0][:1])
        images = max(1, ROWS // one.shape[1])
        size = max(1, CHUNK // one.numel())
        for batch in inputs:
            batch = batch[:images]
            images -= len(batch)
            yield from batch.split(size)
            if images <= 0:
                return


@dataclass
class GraphLayer:
    """One group of a weight's outputs; what the methods of `ptq.py` work on.

    Attributes:
        weight: float32 [out, inputs].
        start_bias: float32 [out]; zeros where there is none.
        statistics: of the operation.
        group: which one.
        inputs: [n, inputs], where predictions are given.
        predictions: of the float network, probabilities [n, classes], where the outputs are the
            logits; else None.
    """

    weight: Tensor
    start_bias: Tensor
    statistics: Statistics
    group: int = 0
    inputs: Tensor = field(default_factory=lambda: torch.zeros(0))
    predictions: Tensor | None = None

    @cached_property
    def moments(self) -> Moments:
        """Means and covariances of the inputs."""
        means = [m[self.group] for m in self.statistics.means]
        hessian, cross = (c[self.group] for c in self.statistics.covariances)
        return Moments(means[0], means[1], hessian, cross)

    @cached_property
    def target(self) -> Tensor:
        """The weight that best gives the float outputs from the ternary inputs.

        Ridge regression, drawn towards the float weight: errors of earlier layers are corrected as
        far as a linear layer can (as GPTAQ, arXiv 2504.02692, does).
        """
        if self.statistics.same:
            return self.weight
        hessian, cross = self.moments.hessian, self.moments.cross
        damping = DAMPING * hessian.diagonal().mean()
        if damping <= 0:
            return self.weight
        damped = hessian + damping * torch.eye(len(hessian))
        wanted = self.weight @ cross + damping * self.weight
        return torch.cholesky_solve(wanted.T, torch.linalg.cholesky(damped)).T

    def bias(self, dequantized: Tensor) -> Tensor:
        """The bias [out] that keeps the mean output where the float network has it.

        Args:
            dequantized: the ternary weight, float32 [out, inputs].
        """
        mean, float_mean = (m[self.group] for m in self.statistics.means)
        return self.start_bias + self.weight @ float_mean - dequantized @ mean


def patches(node: Node, shape: tuple[int, ...], inputs: Tensor) -> Tensor:
    """What one row of each group's weight is multiplied with: [groups, rows, inputs]."""
    if node.op == "linear":
        return inputs.reshape(1, -1, shape[1])
    a, flat = node.attributes, node.op == "conv1d"
    unfolded = F.unfold(
        inputs[:, :, None] if flat else inputs,
        (1, shape[2]) if flat else shape[2:],
        dilation=(1, *a["dilation"]) if flat else a["dilation"],
        padding=(0, *a["padding"]) if flat else a["padding"],
        stride=(1, *a["stride"]) if flat else a["stride"],
    )
    grouped = unfolded.unflatten(1, (a["groups"], -1))  # [n, groups, inputs, positions]
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)
