"""Fake quantization: parametrizations that show a network the ternary weight it will have.

Each keeps the float (latent) weight and computes from it, at every step, the dequantized ternary
one; they differ in where scales come from and in the gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from tritbench.params import QuantizeParams
from tritbench.quantize.kept import integer_scale, to_integers
from tritbench.quantize.ternary import (
    TernaryWeight,
    per_group,
    spread,
    ternarize,
    two_sided,
)
from tritbench.registry import Registry

# TWN's threshold, in mean magnitudes (arXiv 1605.04711): what `threshold: auto` means in training.
TWN_THRESHOLD = 0.7


class FakeInteger(nn.Module):
    """A parametrization of a weight that is kept as int8; the gradient is passed on as it is."""

    def forward(self, weight: Tensor) -> Tensor:
        """The dequantized weight, with a scale for each output."""
        scale = integer_scale(weight)
        values = to_integers(weight, scale)
        shown = (values.flatten(1) * scale).reshape(weight.shape)
        return _Replace.apply(weight, shown)  # type: ignore[no-any-return,no-untyped-call]


class FakeQuantize(nn.Module):
    """A parametrization of `weight`: ternary forward, a surrogate gradient backward.

    Attributes:
        sides: how many scales a group has: one, or one for each sign.
        has_threshold: whether trits are a threshold's, which `quantize.backend` applies.
        threshold: the present one; the training loop raises it during warm-up.
        gain: what scales are multiplied with, learned: float32 [1 or 2, rows, groups], the second
            for negative trits. Near 1, so that an optimizer's step is a relative one.
        frozen: the trits in a row, once `freeze` was called; then only scales go on learning. In
            the weight's shape, DDP would copy them onto themselves in two orders.
    """

    sides = 1
    has_threshold = True

    def __init__(self, weight: Tensor, settings: QuantizeParams, stochastic: bool = False) -> None:
        super().__init__()
        if settings.threshold == "auto":
            auto = {"threshold": TWN_THRESHOLD, "reference": "absmean"}
            settings = settings.model_copy(update=auto)
        assert settings.threshold != "auto"
        self.settings = settings
        self.full_threshold = self.threshold = settings.threshold
        self.stochastic = stochastic
        self.register_buffer("frozen", None)
        start = ternarize(weight.detach(), settings, self.threshold)
        self.group_size = start.group_size
        self.register_buffer("base", _above_zero(self._start(weight.detach(), start), weight))
        self.gain = nn.Parameter(torch.ones_like(self.base))

    base: Tensor
    frozen: Tensor | None

    def _start(self, weight: Tensor, ternary: TernaryWeight) -> Tensor:
        """The scales at the start, [sides, rows, groups]."""
        return ternary.scale[None]

    def forward(self, weight: Tensor) -> Tensor:
        """The dequantized weight, in the weight's shape and strides."""
        quantized = self.quantized(weight)
        if quantized.stride() == weight.stride():
            return quantized
        # Convolutions look at strides: in others than channels_last they take twice as long.
        return torch.empty_like(weight).copy_(quantized)

    def quantized(self, weight: Tensor) -> Tensor:
        """The dequantized weight, with the method's gradient."""
        raise NotImplementedError

    def noise(self, weight: Tensor) -> Tensor | None:
        """Uniform in [0, 1), in the weight's shape, where rounding is stochastic at present."""
        return torch.rand_like(weight) if self.stochastic and self.training else None

    def trits(self, weight: Tensor, noise: Tensor | None = None) -> Tensor:
        """int8 trits of the latent weight, as they are now."""
        if self.frozen is not None:
            return self.frozen.view(weight.shape)
        return ternarize(weight, self.settings, self.threshold, noise).trits

    def ternary(self, weight: Tensor) -> TernaryWeight:
        """The ternary weight that will be packed."""
        scale = (self.base * self.gain).detach()
        negative = scale[1] if self.sides == 2 else None
        return TernaryWeight(self.trits(weight), scale[0], self.group_size, negative)

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Keep the trits as they are from here on."""
        self.frozen = self.trits(weight).flatten()

    def freeze_at(self, ternary: TernaryWeight) -> None:
        """Take these trits from here on, and their scales as those to go on from."""
        self.frozen = ternary.trits.flatten()
        self.base = torch.stack([ternary.scale] * self.sides)

    def scales(self, shape: torch.Size) -> list[Tensor]:
        """For each side the scale of each weight, with a gradient to `gain`, in the shape."""
        return [
            spread(scale, self.group_size, shape).reshape(shape) for scale in self.base * self.gain
        ]

    def frozen_forward(self, trits: Tensor) -> Tensor:
        """The dequantized weight of fixed trits."""
        positive, *negative = self.scales(trits.shape)
        return trits * (two_sided(trits, positive, negative[0]) if negative else positive)


class StraightThrough(FakeQuantize):
    """`ste`: least-squares scales at every step, the gradient passed on as it is (TWN)."""

    def ternary(self, weight: Tensor) -> TernaryWeight:
        """The ternary weight that will be packed."""
        if self.frozen is not None:
            return super().ternary(weight)
        return ternarize(weight, self.settings, self.threshold)

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Keep trits and take the present scales as those to go on from."""
        self.freeze_at(self.ternary(weight))

    def quantized(self, weight: Tensor) -> Tensor:
        """The dequantized weight, with the method's gradient."""
        if self.frozen is not None:
            return self.frozen_forward(self.trits(weight))
        with torch.no_grad():
            noise = self.noise(weight)
            quantized = ternarize(weight, self.settings, self.threshold, noise).dequantize()
        return _Replace.apply(weight, quantized)  # type: ignore[no-any-return,no-untyped-call]


class TrainedScales(FakeQuantize):
    """`ttq`: one learned scale for positive, one for negative trits (arXiv 1612.01064).

    The latent weight's gradient is scaled by the scale of its trit, 1 for a trit of 0.
    """

    sides = 2

    def _start(self, weight: Tensor, ternary: TernaryWeight) -> Tensor:
        means = []
        for side in (1, -1):
            chosen = (ternary.trits == side).to(weight.dtype)
            count = per_group(chosen, self.settings)
            mean = per_group(weight.abs() * chosen, self.settings) / count.clamp(min=1)
            means.append(torch.where(count > 0, mean, ternary.scale))
        return torch.stack(means)

    def quantized(self, weight: Tensor) -> Tensor:
        """The dequantized weight, with the method's gradient."""
        with torch.no_grad():
            trits = self.trits(weight, self.noise(weight))
        if self.frozen is not None:
            return self.frozen_forward(trits)
        return _Trained.apply(weight, trits, *self.scales(weight.shape))  # type: ignore[no-any-return,no-untyped-call]


class LearnedStep(FakeQuantize):
    """`lsq`: a learned step between the levels -1, 0 and 1 (arXiv 1902.08153).

    Weights round to the nearest level, so the step takes the threshold's place.
    """

    has_threshold = False

    def trits(self, weight: Tensor, noise: Tensor | None = None) -> Tensor:
        """int8 trits of the latent weight, as they are now."""
        if self.frozen is not None:
            return self.frozen.view(weight.shape)
        relative = weight / self.scales(weight.shape)[0]
        if noise is not None:
            relative = relative + noise - 0.5
        return relative.round().clamp(-1, 1).to(torch.int8)

    def quantized(self, weight: Tensor) -> Tensor:
        """The dequantized weight, with the method's gradient."""
        with torch.no_grad():
            trits = self.trits(weight, self.noise(weight))
        if self.frozen is not None:
            return self.frozen_forward(trits)
        step = self.scales(weight.shape)[0]
        share = (self.gain[0].numel() / weight.numel()) ** 0.5  # 1 / √(weights of a step)
        return _Learned.apply(weight, trits, step, share)  # type: ignore[no-any-return,no-untyped-call]


METHODS: Registry[type[FakeQuantize]] = Registry(
    "qat_methods",
    type,
    {
        "ste": StraightThrough,
        "ttq": TrainedScales,
        "lsq": LearnedStep,
    },
)


def _above_zero(scales: Tensor, weight: Tensor) -> Tensor:
    """Scales to learn from: one of 0, as of a row of zeros, would stay 0, and `lsq` divides by it.

    It becomes the mean of the others; where there is none, the deviation of a usual initialization.
    """
    positive = scales[scales > 0]
    usual = positive.mean() if len(positive) else weight.new_tensor(weight[0].numel() ** -0.5)
    return torch.where(scales > 0, scales, usual)


class _Replace(Function):
    """The second argument forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, quantized: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


# In the two below, t² is 1 for a trit of ±1 and 0 for one of 0: arithmetic is faster than masks.


class _Trained(Function):
    """TTQ's weight and its gradients to weight, positive and negative scale."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, trits: Tensor, positive: Tensor, negative: Tensor
    ) -> Tensor:
        t = trits.to(weight.dtype)
        quantized = t * two_sided(t, positive, negative)
        ctx.save_for_backward(t, quantized)
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        t, quantized = ctx.saved_tensors
        square = t.square()
        latent = gradient * (1 - square + t * quantized)
        return latent, None, gradient * (square + t) / 2, gradient * (t - square) / 2


class _Learned(Function):
    """LSQ's weight and its gradients to weight and step."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, trits: Tensor, step: Tensor, share: float) -> Tensor:
        t = trits.to(weight.dtype)
        ctx.save_for_backward(weight / step, t)
        ctx.share = share
        return t * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        relative, t = ctx.saved_tensors
        inside = 1 - F.hardshrink(relative, 1.0).sign().abs()
        step = gradient * (t - inside * relative) * ctx.share
        return gradient * inside, None, step, None
