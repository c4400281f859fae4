"""A layer as post-training quantization sees it: its weight, and its inputs on the images."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 256
ROWS = 2**18  # inputs that moments are taken over, at most: a convolution has one for each position
DAMPING = 0.01  # of the Hessian's mean diagonal (GPTQ)


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
    """One Linear or Conv2d to be quantized.

    Attributes:
        module: with its float weight and bias.
        inputs: of the module in the network whose earlier layers are ternary, [n, ...].
        float_inputs: in the float network; the same tensor for the first layer.
        predictions: of the float network, probabilities [n, classes], where the module's outputs
            are the logits; else None.
    """

    module: nn.Linear | nn.Conv2d
    inputs: Tensor
    float_inputs: Tensor
    predictions: Tensor | None = field(default=None)

    @property
    def weight(self) -> Tensor:
        """float32 [out, inputs]."""
        return self.module.weight.detach().flatten(1)

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """Mean inputs [inputs] in the ternary and in the float network."""
        pair = []
        for inputs in (self.inputs, self.float_inputs):
            total, count = torch.zeros(self.weight.shape[1]), 0
            for batch in self._few(inputs).split(BATCH):
                rows = patches(self.module, batch)
                total += rows.sum(0)
                count += len(rows)
            pair.append(total / count)
        return pair[0], pair[1]

    @cached_property
    def moments(self) -> Moments:
        """Means and covariances of the inputs."""
        mean, float_mean = self.means
        hessian = torch.zeros(len(mean), len(mean))
        cross = torch.zeros_like(hessian)
        count = 0
        same = self.inputs is self.float_inputs
        pairs = zip(
            self._few(self.inputs).split(BATCH),
            self._few(self.float_inputs).split(BATCH),
            strict=True,
        )
        for batch, float_batch in pairs:
            rows = patches(self.module, batch) - mean
            hessian.addmm_(rows.T, rows)
            if not same:
                cross.addmm_((patches(self.module, float_batch) - float_mean).T, rows)
            count += len(rows)
        hessian /= count
        return Moments(mean, float_mean, hessian, hessian if same else cross / count)

    @cached_property
    def target(self) -> Tensor:
        """The weight [out, inputs] that best gives the float outputs from the ternary inputs.

        Ridge regression, drawn towards the float weight: errors of earlier layers are corrected as
        far as a linear layer can (as GPTAQ, arXiv 2504.02692, does).
        """
        if self.inputs is self.float_inputs:
            return self.weight
        hessian, cross = self.moments.hessian, self.moments.cross
        damping = DAMPING * hessian.diagonal().mean()
        damped = hessian + damping * torch.eye(len(hessian))
        wanted = self.weight @ cross + damping * self.weight
        return torch.cholesky_solve(wanted.T, torch.linalg.cholesky(damped)).T

    def bias(self, dequantized: Tensor) -> Tensor:
        """The bias [out] that keeps the mean output where the float network has it.

        Args:
            dequantized: the ternary weight, float32 [out, inputs].
        """
        mean, float_mean = self.means
        bias = self.module.bias
        start = torch.zeros(len(dequantized)) if bias is None else bias.detach()
        return start + self.weight @ float_mean - dequantized @ mean

    def _few(self, inputs: Tensor) -> Tensor:
        """As many of the images as give `ROWS` rows."""
        return inputs[: max(1, ROWS // len(patches(self.module, inputs[:1])))]


def patches(module: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """What one row of the weight is multiplied with: [n, inputs], or [n × positions, inputs]."""
    if isinstance(module, nn.Linear):
        return inputs
    padding = module.padding
    assert not isinstance(padding, str)
    unfolded = F.unfold(
        inputs,
        module.kernel_size,
        padding=padding,
        stride=module.stride,
    )
    return unfolded.transpose(1, 2).flatten(0, 1)
