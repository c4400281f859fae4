"""A ternary weight: trits with a scale for each tensor, output channel or group of inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.params import QuantizeParams
from tritbench.quantize.trits import BACKENDS


@dataclass(frozen=True)
class TernaryWeight:
    """`weight ≈ scale × trits`.

    Attributes:
        trits: int8 in {-1, 0, +1}, the weight's shape [out, ...].
        scale: float32 [rows, groups]; rows is 1 (one scale for the tensor) or `out`.
        group_size: input weights of a row that share a scale; the last group may be shorter.
    """

    trits: Tensor
    scale: Tensor
    group_size: int

    def dequantize(self) -> Tensor:
        """float32 in the weight's shape."""
        flat = self.trits.flatten(1)
        scale = self.scale.repeat_interleave(self.group_size, 1)[:, : flat.shape[1]]
        return (flat * scale).reshape(self.trits.shape)


@dataclass(frozen=True)
class Quantized:
    """A network whose Linear and Conv2d weights are ternary.

    Attributes:
        model: the float network holding the dequantized weights, in evaluation mode.
        weights: the ternary weights by layer name.
    """

    model: nn.Sequential
    weights: dict[str, TernaryWeight]


def grouped(weight: Tensor, settings: QuantizeParams) -> tuple[Tensor, Tensor, int]:
    """Cut a weight [out, ...] into the pieces that share a scale.

    Returns:
        pieces [rows, groups, size], zero-padded; their true lengths [groups]; the group size in
        input weights (of the whole row for `tensor` and `channel`).
    """
    flat = weight.flatten(1)
    inputs = flat.shape[1]
    if settings.granularity == "tensor":
        return flat.reshape(1, 1, -1), torch.tensor([flat.numel()]), inputs
    size = min(settings.group_size or inputs, inputs)
    groups = -(-inputs // size)
    padded = F.pad(flat, (0, groups * size - inputs)).reshape(len(flat), groups, size)
    lengths = torch.full((groups,), size)
    lengths[-1] = inputs - (groups - 1) * size
    return padded, lengths, size


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
    pieces, lengths, size = grouped(weight, settings)
    # Sums are taken of weights relative to their peak: huge ones would overflow, tiny ones vanish.
    peak = pieces.abs().amax(2, keepdim=True)
    unit = pieces / torch.where(peak > 0, peak, 1)
    match settings.reference:
        case "raw":
            relative = pieces
        case "absmax":
            relative = unit
        case "absmean":
            mean = unit.abs().sum(2, keepdim=True) / lengths.to(weight.device)[:, None]
            relative = unit / torch.where(mean > 0, mean, 1)
    if noise is not None:
        chance = relative.abs() / (2 * threshold)
        likely = chance > grouped(noise, settings)[0]
        trits = torch.where(likely, relative.sign(), 0).to(torch.int8)
    else:
        trits = BACKENDS[settings.backend](relative, threshold)
    count = (trits != 0).sum(2)
    scale = (unit * trits).sum(2) / count.clamp(min=1) * peak[..., 0]
    rows = trits.reshape(len(weight), -1)[:, : weight[0].numel()]
    return TernaryWeight(rows.reshape(weight.shape), scale, size)


def require_finite(weight: Tensor, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        TritbenchError: naming the tensor and how many of its values are not finite.
    """
    wrong = int((~torch.isfinite(weight)).sum())
    if wrong:
        raise TritbenchError(f"{name}: {wrong} of {weight.numel()} values are NaN or infinite")
