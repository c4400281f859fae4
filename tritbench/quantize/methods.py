"""The methods of post-training quantization: how one layer's weight becomes ternary."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tritbench.params import QuantizeParams
from tritbench.quantize import rounding
from tritbench.quantize.gptq import descend, exhaustive, gptq, least_squares, output_error
from tritbench.quantize.kept import IntegerWeight, by_half, by_integers
from tritbench.quantize.layer import Layer
from tritbench.quantize.predictions import descend_on_predictions
from tritbench.quantize.ternary import (
    QuantizedWeight,
    TernaryWeight,
    references,
    require_alive,
    spread,
)
from tritbench.registry import Registry
from tritbench.values import Kept

# Scales that gptq and descent try where the threshold is `auto`, in mean magnitudes.
MULTIPLIERS = (0.5, 0.65, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
EXHAUSTIVE_INPUTS = 9  # 3^9 candidates


@dataclass(frozen=True)
class Method:
    """How a layer becomes ternary.

    Attributes:
        quantize: a layer's weight [out, inputs] to trits and scales.
        match_predictions: whether the network is matched to FP32's predictions afterwards.
        has_threshold: whether trits are a threshold's, which `quantize.backend` applies; other
            methods round themselves.
    """

    quantize: Callable[[Layer, QuantizeParams], TernaryWeight]
    match_predictions: bool = False
    has_threshold: bool = False


def _threshold(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    if settings.threshold != "auto":
        return rounding.by_threshold(layer.weight, settings, settings.threshold)
    absmean = settings.model_copy(update={"reference": "absmean"})
    candidates = []
    for threshold in rounding.AUTO_THRESHOLDS:
        ternary = rounding.by_threshold(layer.weight, absmean, threshold)
        for multiplier in rounding.AUTO_MULTIPLIERS:
            scaled = dataclasses.replace(ternary, scale=ternary.scale * multiplier)
            candidates.append(scaled)
    return _best(layer.weight, layer.moments.hessian, candidates)


def _raw(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    if settings.threshold != "auto":
        return rounding.by_raw_threshold(layer.weight, settings, settings.threshold)
    mean = float(layer.weight.abs().mean())
    thresholds = [min(1.0, t * mean) for t in rounding.AUTO_THRESHOLDS if t * mean > 0] or [1.0]
    candidates = [rounding.by_raw_threshold(layer.weight, settings, t) for t in thresholds]
    return _best(layer.weight, layer.moments.hessian, candidates)


def _absmean(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    return rounding.by_absmean(layer.weight, settings)


def _optimal(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    return rounding.by_optimum(layer.weight, settings)


def _gptq(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    weight, hessian = layer.weight, layer.moments.hessian
    plain = _threshold(layer, settings)
    if settings.threshold == "auto":
        starts = [(scale, scale / 2) for scale in _scales(weight, settings)]
    else:
        starts = [(plain.scale, settings.threshold * references(weight, settings))]
    found = _rounded(weight, hessian, plain, starts)
    candidates = [_with_best_scale(weight, hessian, ternary) for ternary in (plain, *found)]
    return _best(weight, hessian, [plain, *candidates])


def _descent(layer: Layer, settings: QuantizeParams) -> TernaryWeight:
    weight, hessian = layer.target, layer.moments.hessian
    plain = rounding.by_optimum(weight, settings)
    if weight.shape[1] <= EXHAUSTIVE_INPUTS and settings.granularity == "channel":
        trits, scale = exhaustive(weight, hessian)
        best = TernaryWeight(trits.to(torch.int8), scale, plain.group_size)
    else:
        starts = [(scale, scale / 2) for scale in _scales(weight, settings)]
        candidates = _rounded(weight, hessian, plain, starts)
        candidates = _descended(weight, hessian, candidates, passes=3)
        (best,) = _descended(weight, hessian, [_best(weight, hessian, candidates)], passes=20)
    if layer.predictions is not None:
        bias = layer.bias(best.dequantize())
        best = descend_on_predictions(layer.inputs, best, bias, layer.predictions)
    return best


METHODS: Registry[Method] = Registry(
    "ptq_methods",
    Method,
    {
        "threshold": Method(_threshold, has_threshold=True),
        "raw": Method(_raw, has_threshold=True),
        "absmean": Method(_absmean, has_threshold=True),
        "optimal": Method(_optimal),
        "gptq": Method(_gptq),
        "descent": Method(_descent, match_predictions=True),
    },
)


def quantize_weight(
    name: str,
    shape: torch.Size,
    layers: Sequence[Layer],
    method: Method,
    settings: QuantizeParams,
    kept: Kept | None = None,
) -> QuantizedWeight:
    """A weight by a method, or as it is kept: its groups one after another, each output for itself.

    Args:
        name: of the weight.
        shape: of the weight.
        layers: its groups.
        method: of those that become ternary.
        settings: threshold, reference, granularity, backend.
        kept: what it is kept as instead.

    Raises:
        TritbenchError: naming a weight that became all zero, or that float16 cannot hold.
    """
    weight = torch.cat([layer.weight for layer in layers]).reshape(shape)
    match kept:
        case "float16":
            return by_half(weight, name)
        case "int8":
            integers = [by_integers(layer) for layer in layers]
            values = torch.cat([part.values for part in integers]).reshape(shape)
            return IntegerWeight(values, torch.cat([part.scale for part in integers]))
    parts = [method.quantize(layer, settings) for layer in layers]
    trits = torch.cat([part.trits for part in parts]).reshape(shape)
    ternary = dataclasses.replace(parts[0], trits=trits)
    if len(parts) > 1:
        scale = torch.cat([part.scale.expand(len(part.trits), -1) for part in parts])
        ternary = dataclasses.replace(ternary, scale=scale)
    require_alive(name.removesuffix(".weight"), weight, ternary, settings)
    return ternary


def _scales(weight: Tensor, settings: QuantizeParams) -> list[Tensor]:
    """Scales [rows, groups] to start from; a weight from half its scale on rounds to ±1."""
    if settings.threshold != "auto":
        return [2 * settings.threshold * references(weight, settings)]
    absmean = references(weight, settings.model_copy(update={"reference": "absmean"}))
    return [absmean * multiplier for multiplier in MULTIPLIERS]


def _with_best_scale(weight: Tensor, hessian: Tensor, ternary: TernaryWeight) -> TernaryWeight:
    """Least-squares scales in the metric of the layer's output error, none negative."""
    trits = ternary.trits.float()
    rows = len(ternary.scale)
    scale = least_squares(weight, hessian, trits, rows, ternary.group_size)
    signs = spread(scale, ternary.group_size, weight.shape).sign()
    trits = torch.where(signs < 0, -trits, trits).to(torch.int8)
    return dataclasses.replace(ternary, trits=trits, scale=scale.abs())


def _rounded(
    weight: Tensor, hessian: Tensor, plain: TernaryWeight, starts: list[tuple[Tensor, Tensor]]
) -> list[TernaryWeight]:
    """By gptq at each pair of scales and bounds [rows, groups], grouped as `plain`."""
    many = weight.repeat(len(starts), 1)
    scales, bounds = (
        torch.cat([spread(m, plain.group_size, weight.shape) for m in matrices])
        for matrices in zip(*starts, strict=True)
    )
    trits = gptq(many, hessian, scales, bounds).to(torch.int8).split(len(weight))
    return [
        dataclasses.replace(plain, trits=t, scale=scale)
        for t, (scale, _) in zip(trits, starts, strict=True)
    ]


def _descended(
    weight: Tensor, hessian: Tensor, candidates: list[TernaryWeight], passes: int
) -> list[TernaryWeight]:
    """Scales, then trits, then scales again, each the best for the other.

    The rows of all candidates descend together: a step in Python costs as much as its arithmetic.
    """
    candidates = [_with_best_scale(weight, hessian, ternary) for ternary in candidates]
    many = weight.repeat(len(candidates), 1)
    trits, scales = (
        torch.cat(matrices)
        for matrices in zip(*((c.trits.float(), c.scales()) for c in candidates), strict=True)
    )
    found = descend(many, hessian, trits, scales, passes).to(torch.int8).split(len(weight))
    return [
        _with_best_scale(weight, hessian, dataclasses.replace(ternary, trits=t))
        for ternary, t in zip(candidates, found, strict=True)
    ]


def _best(weight: Tensor, hessian: Tensor, candidates: list[TernaryWeight]) -> TernaryWeight:
    """Of each output the candidate with the least output error; where scales are shared, of all."""
    errors = torch.stack([output_error(weight, hessian, c.dequantize()) for c in candidates])
    if len(candidates[0].scale) == 1:
        return candidates[int(errors.sum(1).argmin())]
    chosen, outputs = errors.argmin(0), torch.arange(len(weight))
    trits = torch.stack([c.trits for c in candidates])[chosen, outputs]
    scale = torch.stack([c.scale for c in candidates])[chosen, outputs]
    return dataclasses.replace(candidates[0], trits=trits, scale=scale)
