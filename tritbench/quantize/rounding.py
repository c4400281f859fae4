"""Ternary rounding of a weight by itself: no images, each function trits and scale at once."""

import dataclasses

import torch
from torch import Tensor

from tritbench.params import QuantizeParams
from tritbench.quantize.ternary import TernaryWeight, grouped, ternarize, ungrouped

# What `threshold: auto` tries, in mean magnitudes; least-squares scales times these.
AUTO_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
AUTO_MULTIPLIERS = (0.9, 1.0, 1.1)


def by_threshold(weight: Tensor, settings: QuantizeParams, threshold: float) -> TernaryWeight:
    """Threshold × reference with least-squares scales (TWN, arXiv 1605.04711)."""
    return ternarize(weight, settings, threshold)


def by_raw_threshold(weight: Tensor, settings: QuantizeParams, threshold: float) -> TernaryWeight:
    """Threshold on the weights as they are, and no scale: what t81lib 0.1.0 does."""
    raw = settings.model_copy(update={"reference": "raw", "granularity": "tensor"})
    ternary = ternarize(weight, raw, threshold)
    return dataclasses.replace(ternary, scale=torch.ones_like(ternary.scale))


def by_absmean(weight: Tensor, settings: QuantizeParams) -> TernaryWeight:
    """round(w / mean |w|) clipped to ±1, times mean |w| (BitNet b1.58, arXiv 2402.17764)."""
    absmean = settings.model_copy(update={"reference": "absmean"})
    ternary = ternarize(weight, absmean, 0.5)
    groups, lengths, _ = grouped(weight, settings)
    return dataclasses.replace(ternary, scale=groups.abs().sum(2) / lengths)


def by_optimum(weight: Tensor, settings: QuantizeParams) -> TernaryWeight:
    """The trits and scale of each group that minimize ||w - scale × trits||², exactly.

    With the magnitudes in descending order a, the best k trits that are not zero are those of the
    k largest, their best scale is the mean of a_1 … a_k, and the error falls by
    (a_1 + … + a_k)² / k: sorting finds the best k in O(n log n).

    >>> settings = QuantizeParams(
    ...     threshold=0.5, reference="absmean", granularity="channel", backend="native"
    ... )
    >>> by_optimum(torch.tensor([[0.9, -1.1, 0.2, 0.0]]), settings).dequantize()
    tensor([[ 1., -1.,  0.,  0.]])
    """
    groups, _, size = grouped(weight, settings)
    peak = groups.abs().amax(2, keepdim=True)
    unit = groups / torch.where(peak > 0, peak, 1)
    descending, order = unit.abs().sort(dim=2, descending=True, stable=True)
    sums = descending.double().cumsum(2)
    counts = torch.arange(1, groups.shape[2] + 1, device=weight.device)
    best = (sums**2 / counts).argmax(2, keepdim=True)
    scale = sums.gather(2, best) / (best + 1)
    chosen = torch.zeros_like(unit).scatter(2, order, (counts <= best + 1).to(unit.dtype))
    trits = (chosen * unit.sign()).to(torch.int8)
    return TernaryWeight(ungrouped(trits, weight.shape), (scale * peak).float()[..., 0], size)
