"""A layer as post-training quantization sees it: its weight, and statistics of its inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.graph.graph import Node

BATCH = 256
ROWS = 2**18  # inputs that moments are taken over, at most: a convolution has one for each position
CHUNK = 2**24  # inputs that are laid out in rows at once, which bounds the memory
DAMPING = 0.01  # of the Hessian's mean diagonal (GPTQ)


@dataclass(frozen=True)
class Geometry:
    """Which inputs meet a row of a weight.

    Attributes:
        kernel, stride, padding, dilation: of a convolution in two dimensions; none are a dense
            layer's.
        groups: of channels that share no weights.
        flat: the convolution has one dimension, the second here.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    flat: bool = False

    @classmethod
    def of_node(cls, node: Node, shape: tuple[int, ...]) -> "Geometry":
        """Of an operation whose weight has this shape."""
        if node.op == "linear":
            return cls()
        a, flat = node.attributes, node.op == "conv1d"
        one, none = ((1,), (0,)) if flat else ((), ())
        return cls(
            (*one, *shape[2:]),
            (*one, *a["stride"]),
            (*none, *a["padding"]),
            (*one, *a["dilation"]),
            a["groups"],
            flat,
        )

    def rows(self, inputs: Tensor) -> Tensor:
        """What a row of each group's weight is multiplied with: [groups, rows, inputs]."""
        if not self.kernel:
            return inputs.reshape(1, -1, inputs.shape[-1])
        unfolded = F.unfold(
            inputs[:, :, None] if self.flat else inputs,
            self.kernel,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )
        n, width, positions = unfolded.shape
        grouped = unfolded.view(n, self.groups, width // self.groups, positions)
        return grouped.permute(1, 0, 3, 2).flatten(1, 2)


@dataclass
class Statistics:
    """Of the inputs of one layer, each group of channels by itself.

    Attributes:
        geometry: of the layer.
        inputs: in the network whose earlier layers are ternary, in batches [n, ...].
        float_inputs: in the float network; the same object for the first layer.
    """

    geometry: Geometry
    inputs: Sequence[Tensor]
    float_inputs: Sequence[Tensor]

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
                rows = self.geometry.rows(batch)
                total = total + rows.sum(1)
                count += rows.shape[1]
            pair.append(total / count)
        return pair[0], pair[-1]

    @cached_property
    def covariances(self) -> tuple[Tensor, Tensor]:
        """Of x with itself and of y with x, [groups, inputs, inputs]: see `Moments`."""
        mean, float_mean = (m[:, None] for m in self.means)
        groups, width = self.means[0].shape
        hessian = torch.zeros(groups, width, width)
        cross = torch.zeros_like(hessian)
        count = 0
        for batch, float_batch in zip(
            self._some(self.inputs), self._some(self.float_inputs), strict=True
        ):
            rows = self.geometry.rows(batch) - mean
            hessian.baddbmm_(rows.mT, rows)
            if not self.same:
                cross.baddbmm_((self.geometry.rows(float_batch) - float_mean).mT, rows)
            count += rows.shape[1]
        hessian /= count
        return hessian, hessian if self.same else cross / count

    def _some(self, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """As many images as give `ROWS` rows, in batches whose rows take bounded memory."""
        one = self.geometry.rows(inputs[0][:1])
        images = max(1, ROWS // one.shape[1])
        for batch in inputs:
            yield from batch[:images].split(max(1, CHUNK // one.numel()))
            images -= len(batch)
            if images <= 0:
                return


@dataclass(frozen=True)
class Moments:
    """Statistics of a layer's inputs x (ternary network) and y (float network), both [inputs].

    Attributes:
        mean, float_mean: of x and of y.
        hessian: covariance of x, [inputs, inputs]; the Hessian of the layer's squared output
            error, up to a factor, when the bias absorbs the mean error.
        cross: covariance of y with x, [inputs of y, inputs of x].
    """

    mean: Tensor
    float_mean: Tensor
    hessian: Tensor
    cross: Tensor


@dataclass
class Layer:
    """What becomes ternary at once: a weight, or one group of a grouped convolution's outputs.

    Attributes:
        weight: float32 [out, inputs].
        start_bias: float32 [out]; zeros where the layer has none.
        statistics: of the layer's inputs.
        group: which one.
        predictions: of the float network, probabilities [n, classes], where the layer is dense and
            its outputs are the logits; else None.
    """

    weight: Tensor
    start_bias: Tensor
    statistics: Statistics
    group: int = 0
    predictions: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """Of a dense layer in the ternary network, [n, inputs]."""
        return torch.cat(list(self.statistics.inputs))

    @cached_property
    def moments(self) -> Moments:
        """Means and covariances of the inputs."""
        mean, float_mean = (m[self.group] for m in self.statistics.means)
        hessian, cross = (c[self.group] for c in self.statistics.covariances)
        return Moments(mean, float_mean, hessian, cross)

    @cached_property
    def target(self) -> Tensor:
        """The weight [out, inputs] that best gives the float outputs from the ternary inputs.

        Ridge regression, drawn towards the float weight: errors of earlier layers are corrected as
        far as a linear layer can (as GPTAQ, arXiv 2504.02692, does).
        """
        if self.statistics.same:
            return self.weight
        hessian, cross = self.moments.hessian, self.moments.cross
        damping = DAMPING * hessian.diagonal().mean()
        if damping <= 0:
            return self.weight  # inputs that never vary tell nothing
        damped = hessian + damping * torch.eye(len(hessian))
        wanted = self.weight @ cross + damping * self.weight
        target: Tensor = torch.cholesky_solve(wanted.T, torch.linalg.cholesky(damped)).T
        return target

    def bias(self, dequantized: Tensor) -> Tensor:
        """The bias [out] that keeps the mean output where the float network has it.

        Args:
            dequantized: the ternary weight, float32 [out, inputs].
        """
        mean, float_mean = (m[self.group] for m in self.statistics.means)
        return self.start_bias + self.weight @ float_mean - dequantized @ mean


def node_layers(
    node: Node,
    parameters: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    float_inputs: Sequence[Tensor],
) -> list[Layer]:
    """What becomes ternary by itself: the weight of `node`, or each group of its outputs."""
    weight = parameters[str(node.inputs[1])]
    bias = torch.zeros(len(weight)) if node.inputs[2] is None else parameters[node.inputs[2]]
    geometry = Geometry.of_node(node, tuple(weight.shape))
    statistics = Statistics(geometry, inputs, float_inputs)
    parts = zip(weight.flatten(1).chunk(geometry.groups), bias.chunk(geometry.groups), strict=True)
    return [Layer(rows, start, statistics, group) for group, (rows, start) in enumerate(parts)]


def fast_layout(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of convolutions in the memory format that is a third faster on CPU."""
    layout = torch.channels_last
    return {
        name: t.contiguous(memory_format=layout) if t.dim() == 4 else t
        for name, t in parameters.items()
    }
