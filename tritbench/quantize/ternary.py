"""A ternary weight: trits with a scale for each tensor, output channel or group of inputs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph
from tritbench.params import QuantizeParams
from tritbench.quantize.kept import HalfWeight, IntegerWeight
from tritbench.quantize.trits import BACKENDS


@dataclass(frozen=True)
class TernaryWeight:
    """`weight ≈ scale × trits`.

    Attributes:
        trits: int8 in {-1, 0, +1}, the weight's shape [out, ...].
        scale: float32 [rows, groups]; rows is 1 (one scale for the tensor) or `out`.
        group_size: input weights of a row that share a scale; the last group may be shorter.
        negative_scale: of the trits -1, where it is another one (TTQ); else None.
    """

    trits: Tensor
    scale: Tensor
    group_size: int
    negative_scale: Tensor | None = None

    def scales(self) -> Tensor:
        """The scale of each weight, float32 [out, inputs]."""
        scales = spread(self.scale, self.group_size, self.trits.shape)
        if self.negative_scale is None:
            return scales
        negative = spread(self.negative_scale, self.group_size, self.trits.shape)
        return two_sided(self.trits.flatten(1), scales, negative)

    def dequantize(self) -> Tensor:
        """float32 in the weight's shape."""
        return (self.trits.flatten(1) * self.scales()).reshape(self.trits.shape)


QuantizedWeight = TernaryWeight | IntegerWeight | HalfWeight


@dataclass(frozen=True)
class Quantized:
    """A network whose weights are quantized.

    Attributes:
        graph: with the dequantized weights, and biases and statistics that fit them.
        weights: by parameter name; ternary, but for those that are kept in more bits.
    """

    graph: Graph
    weights: dict[str, QuantizedWeight]

    @property
    def ternary(self) -> dict[str, TernaryWeight]:
        """The weights that are ternary."""
        return {n: w for n, w in self.weights.items() if isinstance(w, TernaryWeight)}


def grouped(weight: Tensor, settings: QuantizeParams) -> tuple[Tensor, Tensor, int]:
    """Cut a weight [out, ...] into the groups that share a scale.

    Returns:
        groups [rows, groups, size], zero-padded; their true lengths [groups]; the group size in
        input weights (of the whole row for `tensor` and `channel`).
    """
    flat = weight.flatten(1)
    inputs = flat.shape[1]
    if settings.granularity == "tensor":
        return flat.reshape(1, 1, -1), torch.full((1,), flat.numel(), device=flat.device), inputs
    size = min(settings.group_size or inputs, inputs)
    groups = -(-inputs // size)
    padded = F.pad(flat, (0, groups * size - inputs)).reshape(len(flat), groups, size)
    lengths = torch.arange(inputs, 0, -size, device=flat.device).clamp(max=size)
    return padded, lengths, size


def ungrouped(groups: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `grouped`: groups [rows, groups, size] in a weight's shape, padding gone."""
    return groups.reshape(shape[0], -1)[:, : shape[1:].numel()].reshape(shape)


def ternarize(
    weight: Tensor, settings: QuantizeParams, threshold: float, noise: Tensor | None = None
) -> TernaryWeight:
    """Trits by threshold × reference, scales by least squares (TWN, arXiv 1605.04711).

    Args:
        weight: float [out, ...].
        settings: reference, granularity and backend.
        threshold: of the reference magnitude, in (0, 1].
        noise: for stochastic rounding, uniform in [0, 1) in the weight's shape: a weight then
            becomes ±1 with probability |w| / (2 × threshold × reference), so that the threshold
            is where both outcomes are equally likely.
    """
    factor = _power_of_two(weight.detach())
    scaled = weight if factor is None else weight / factor
    groups, _, size = grouped(scaled, settings)
    if settings.reference == "raw":
        relative = groups if factor is None else groups * factor
    else:
        reference = references(scaled, settings)[..., None]
        relative = groups / torch.where(reference > 0, reference, 1)
    if noise is not None:
        chance = relative.abs() / (2 * threshold)
        likely = chance > grouped(noise, settings)[0]
        trits = torch.where(likely, relative.sign(), 0).to(torch.int8)
    else:
        trits = BACKENDS[settings.backend](relative, threshold)
    signs = trits.to(groups.dtype)  # integer arithmetic is slower
    count = torch.linalg.vecdot(signs, signs).clamp(min=1)
    scale = torch.linalg.vecdot(groups, signs) / count
    if factor is not None:
        scale = scale * factor
    return TernaryWeight(ungrouped(trits, weight.shape), scale, size)


def _power_of_two(weight: Tensor) -> float | Tensor | None:
    """What keeps the sums of huge weights finite and those of tiny ones above zero, if anything has
    to: at usual magnitudes None, or 1 on a GPU, for which nothing waits there."""
    if weight.numel() == 0:
        return None
    least, greatest = torch.aminmax(weight)
    if weight.is_cuda:
        peak = torch.maximum(-least, greatest)
        usual = (peak == 0) | (peak > 1e-15) & (peak < 1e15)
        return torch.where(usual, 1.0, torch.ldexp(torch.ones_like(peak), peak.frexp()[1] - 1))
    largest = max(-float(least), float(greatest))
    if largest == 0 or 1e-15 < largest < 1e15:
        return None
    return 2.0 ** math.floor(math.log2(largest))


def references(weight: Tensor, settings: QuantizeParams) -> Tensor:
    """What a threshold is relative to, for each group [rows, groups]: 1, or the largest or mean
    magnitude."""
    groups, lengths, _ = grouped(weight, settings)
    match settings.reference:
        case "raw":
            return torch.ones_like(groups[..., 0])
        case "absmax":
            return groups.abs().amax(2)
        case "absmean":
            return groups.abs().sum(2) / lengths


def two_sided(trits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """The scale of each trit: `negative` for -1, `positive` for +1 and anything for 0."""
    # Arithmetic, because comparisons and torch.where are many times slower on CPU.
    return (positive + negative) / 2 + trits * ((positive - negative) / 2)


def per_group(values: Tensor, settings: QuantizeParams) -> Tensor:
    """The sum of a weight-shaped tensor over each group, [rows, groups]."""
    return grouped(values, settings)[0].sum(2)


def spread(scale: Tensor, group_size: int, shape: torch.Size) -> Tensor:
    """A value for each group, [rows, groups], as one for each weight, [out, inputs]."""
    outputs, inputs = shape[0], shape[1:].numel()
    if scale.shape[1] == 1:
        return scale.expand(outputs, inputs)
    return scale.repeat_interleave(group_size, 1)[:, :inputs].expand(outputs, inputs)


def require_finite(weight: Tensor, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        TritbenchError: naming the tensor and how many of its values are not finite.
    """
    wrong = int((~torch.isfinite(weight)).sum())
    if wrong:
        raise TritbenchError(f"{name}: {wrong} of {weight.numel()} values are NaN or infinite")


def require_alive(
    name: str, weight: Tensor, ternary: TernaryWeight, settings: QuantizeParams
) -> None:
    """Refuse a layer whose weights all became zero: nothing of the image passes it.

    Args:
        name: of the layer.
        weight: the float one.
        ternary: what became of it.
        settings: threshold and reference, for the error.

    Raises:
        TritbenchError: naming the layer, its largest weight, the threshold and what to do.
    """
    if ternary.dequantize().any():
        return
    peak = float(weight.detach().abs().max())
    if peak == 0:
        raise TritbenchError(f"layer {name}: all its float weights are 0; expected a trained layer")
    advice = "another method, or more images for PTQ"
    if settings.threshold != "auto":
        advice = "a lower quantize.threshold, or auto"
    raise TritbenchError(
        f"layer {name}: all its ternary weights are 0, so that nothing of the image passes it; its "
        f"largest float weight is {peak:.3g}, quantize.threshold = {settings.threshold} and "
        f"quantize.reference = {settings.reference}: try {advice}"
    )
