"""Post-training quantization: no labels, no training, some calibration images."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.models import InputSpec, check_layers, weight_layers
from tritbench.params import LEAST_CALIBRATION, PtqParams, QuantizeParams
from tritbench.quantize import rounding
from tritbench.quantize.gptq import descend, exhaustive, gptq, least_squares, output_error
from tritbench.quantize.layer import BATCH, Layer
from tritbench.quantize.predictions import descend_on_predictions, match_predictions
from tritbench.quantize.progress import progress
from tritbench.quantize.ternary import (
    QuantizedChain,
    TernaryWeight,
    references,
    require_alive,
    require_finite,
    spread,
)
from tritbench.quantize.trits import check_backend

# Scales that gptq and descent try where the threshold is `auto`, in mean magnitudes.
MULTIPLIERS = (0.5, 0.65, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
EXHAUSTIVE_INPUTS = 9  # 3^9 candidates


@dataclass(frozen=True)
class Method:
    """How a layer becomes ternary, and whether the network is matched to FP32's predictions."""

    quantize: Callable[[Layer, QuantizeParams], TernaryWeight]
    match_predictions: bool = False


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
        candidates = _descended(weight, hessian, candidates, sweeps=3)
        (best,) = _descended(weight, hessian, [_best(weight, hessian, candidates)], sweeps=20)
    if layer.predictions is not None:
        bias = layer.bias(best.dequantize())
        best = descend_on_predictions(layer.inputs, best, bias, layer.predictions)
    return best


METHODS: dict[str, Method] = {
    "threshold": Method(_threshold),
    "raw": Method(_raw),
    "absmean": Method(_absmean),
    "optimal": Method(_optimal),
    "gptq": Method(_gptq),
    "descent": Method(_descent, match_predictions=True),
}


@torch.no_grad()
def quantize_ptq(
    model: nn.Sequential,
    calibration: Tensor,
    spec: InputSpec,
    settings: QuantizeParams,
    ptq: PtqParams,
) -> QuantizedChain:
    """Make every Linear and Conv2d of a trained network ternary, in order; `model` stays as it is.

    Args:
        model: float network.
        calibration: uint8 images [n, c, h, w] from the training split, without labels; at least
            LEAST_CALIBRATION.
        spec: how they are normalized.
        settings: threshold, reference, granularity, backend.
        ptq: method, and which corrections follow it.

    Raises:
        TritbenchError: naming a layer that cannot be packed or became all zero, a weight that is
            not finite, a backend that the method does not use, or too few images.
    """
    check_layers(model)
    check_backend(settings.backend, {"ptq.method": ptq.method})
    if (count := len(calibration)) < LEAST_CALIBRATION:
        raise TritbenchError(
            f"ptq.calibration: {count} images, expected at least {LEAST_CALIBRATION}"
        )
    float_model = copy.deepcopy(model).eval()
    model = copy.deepcopy(float_model)
    layers = weight_layers(model)
    for name, module in layers.items():
        require_finite(module.weight, f"{name}.weight")
    method = METHODS[ptq.method]
    images = spec.normalize(calibration)
    if isinstance(model[int(next(iter(layers)))], nn.Conv2d):  # a third faster on CPU
        images = images.contiguous(memory_format=torch.channels_last)
        for network in (model, float_model):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    predictions = _run(float_model, images).softmax(1) if method.match_predictions else None
    positions = [int(name) for name in layers]
    inputs = float_inputs = _run(_part(model, 0, positions[0]), images)
    last_convolution = max(
        (int(n) for n, m in layers.items() if isinstance(m, nn.Conv2d)), default=-1
    )
    dense: tuple[int, Tensor] | None = None
    weights = {}
    spans = list(pairwise([*positions, len(model)]))
    for position, following in progress(spans, ptq.method, "layer"):
        if dense is None and position > last_convolution:
            dense = position, inputs
        last = position == len(model) - 1
        module = layers[str(position)]
        float_module = weight_layers(float_model)[str(position)]
        layer = Layer.of_module(float_module, inputs, float_inputs)
        if last and isinstance(module, nn.Linear):
            layer.predictions = predictions
        ternary = method.quantize(layer, settings)
        require_alive(str(position), layer.weight, ternary, settings)
        ternary = dataclasses.replace(ternary, trits=ternary.trits.reshape(module.weight.shape))
        weights[str(position)] = ternary
        module.weight.copy_(ternary.dequantize())
        if ptq.bias_correction and module.bias is not None:
            module.bias.copy_(layer.bias(module.weight.flatten(1)))
        if ptq.batchnorm:
            reestimate_batchnorm(_part(model, position, following), inputs)
        if following < len(model):
            inputs = _run(_part(model, position, following), inputs)
            float_inputs = _run(_part(float_model, position, following), float_inputs)
    if predictions is not None and dense is not None:
        start, inputs = dense
        tail = {name: w for name, w in weights.items() if int(name) >= start}
        weights |= match_predictions(_part(model, start), tail, inputs, predictions)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return QuantizedChain(model, weights, spec)


@torch.no_grad()
def search_layer(
    model: nn.Sequential, position: int, images: Tensor, settings: QuantizeParams
) -> TernaryWeight:
    """One layer by `descent`: the trits and scales with the least output error on `images`.

    Args:
        model: float network; stays as it is.
        position: of the Linear or Conv2d.
        images: normalized [n, c, h, w].
        settings: granularity and threshold.
    """
    module = weight_layers(model)[str(position)]
    inputs = _run(_part(model, 0, position), images)
    ternary = _descent(Layer.of_module(module, inputs, inputs), settings)
    return dataclasses.replace(ternary, trits=ternary.trits.reshape(module.weight.shape))


@torch.no_grad()
def reestimate_batchnorm(model: nn.Sequential, images: Tensor) -> None:
    """Replace BatchNorm's running statistics by those of `images`, normalized [n, ...]."""
    norms = [m for m in model if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    last = max(i for i, module in enumerate(model) if module in norms)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    # Whole batches only: a short last one would weigh as much as the others.
    batch = min(BATCH, len(images))
    for start in range(0, len(images) - batch + 1, batch):
        _part(model, 0, last + 1)(images[start : start + batch])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _part(model: nn.Sequential, start: int, stop: int | None = None) -> nn.Sequential:
    part = model[start:stop]
    assert isinstance(part, nn.Sequential)
    return part


def _scales(weight: Tensor, settings: QuantizeParams) -> list[Tensor]:
    """Scales [rows, groups] to start from; a weight from half its scale on rounds to ±1."""
    if settings.threshold != "auto":
        return [2 * settings.threshold * references(weight, settings)]
    absmean = references(weight, settings.model_copy(update={"reference": "absmean"}))
    return [absmean * multiplier for multiplier in MULTIPLIERS]


def _run(model: nn.Sequential, images: Tensor) -> Tensor:
    return torch.cat([model(batch) for batch in images.split(BATCH)])


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
    weight: Tensor, hessian: Tensor, candidates: list[TernaryWeight], sweeps: int
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
    found = descend(many, hessian, trits, scales, sweeps).to(torch.int8).split(len(weight))
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
