"""Following the float network's predictions p: less KL(p || softmax(logits)), without labels."""

import dataclasses
from functools import reduce
from math import isqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tritbench.models import weight_layers
from tritbench.quantize.progress import progress
from tritbench.quantize.ternary import TernaryWeight

IMAGES = 8192  # that scales, biases and second derivatives are fitted on, at most
BATCH = 512
ROUNDS = 600  # of trit changes in the last layer, at most
HESSIANS = 2**24  # values in the last layer's, one a class: 64 MB, and some seconds to take
CHANGES = 8  # of one trit or two that a class makes in a round, at first
REFIT = 50  # changes between two fits of scales and bias
PAIRED = 128  # most promising changes that are tried in pairs


def descend_on_predictions(
    inputs: Tensor, ternary: TernaryWeight, bias: Tensor, predictions: Tensor
) -> TernaryWeight:
    """Change trits of a last Linear while the predictions come closer to p.

    Each round takes for every class the most promising changes by the second-order expansion of
    the cross-entropy, and keeps them if the cross-entropy falls; if it does not, fewer classes
    change at once, then fewer trits. Scales and bias are fitted in between.

    Args:
        inputs: float32 [n, in].
        ternary: weight [classes, in].
        bias: float32 [classes].
        predictions: p, float32 [n, classes].
    """
    few, variance = inputs[:IMAGES], (predictions * (1 - predictions))[:IMAGES]
    across = inputs.T.contiguous()  # the images of an input side by side: a round changes few
    columns: Tensor | None = None
    changes, since_fit = CHANGES, REFIT
    for _ in progress(range(ROUNDS), "descent on predictions", "round"):
        if since_fit >= REFIT:
            since_fit = 0
            ternary, bias = _fit_last(inputs, ternary, bias, predictions)
            trits, scales = ternary.trits.float(), ternary.scales()
            logits = F.linear(inputs, trits * scales, bias)
            best = _cross_entropy(logits, predictions)
        slope = (across @ (logits.softmax(1) - predictions)).T / len(inputs)
        if columns is None:
            columns = _promising(few, variance, trits, scales, slope)
            hessians = _hessians(few, variance, columns)
        part, sizes, slope = (m.gather(1, columns) for m in (trits, scales, slope))
        promised = torch.zeros(len(trits))
        for _ in range(changes):
            promised += _change_best(part, sizes, slope, hessians)
        changed = trits.scatter(1, columns, part)
        chosen = (changed != trits).any(0)
        moved = across[chosen].T @ ((changed - trits) * scales)[:, chosen].T
        order = promised.argsort(stable=True)
        count = int((promised < 0).sum())
        while count > 0:
            rows = order[:count]
            tried = logits.clone()
            tried[:, rows] += moved[:, rows]
            loss = _cross_entropy(tried, predictions)
            if loss < best:
                break
            count //= 2
        if count > 0:
            trits[rows] = changed[rows]
            ternary = dataclasses.replace(ternary, trits=trits.to(torch.int8))
            logits, best = tried, loss
            since_fit += changes
        elif changes > 1:
            changes //= 2
        elif since_fit > 0:
            since_fit = REFIT
        else:
            break
    return ternary


def _promising(
    inputs: Tensor, variance: Tensor, trits: Tensor, scales: Tensor, slope: Tensor
) -> Tensor:
    """Each class's inputs to change the trits of, [classes, at most in], in ascending order.

    All of them, where the classes' Hessians are then within `HESSIANS` values; else those at which
    one trit more or less promises most.
    """
    classes, width = trits.shape
    count = max(1, isqrt(HESSIANS // classes))
    if count >= width:
        return torch.arange(width).expand(classes, -1)
    curvature = variance.T @ inputs.square() / len(inputs)
    return _gains(curvature, trits, scales, slope).amin(1).topk(count, largest=False)[1].sort()[0]


def _hessians(inputs: Tensor, variance: Tensor, columns: Tensor) -> Tensor:
    """Of the loss for the weights of each class at its columns: [classes, columns, columns]."""
    found = torch.empty(*columns.shape, columns.shape[1])
    for hessian, chosen, share in zip(found, columns, variance.T, strict=True):
        some = inputs[:, chosen]
        torch.mm((some * share[:, None]).T, some, out=hessian)
    return found.div_(len(inputs))


def _gains(curvature: Tensor, trits: Tensor, scales: Tensor, slope: Tensor) -> Tensor:
    """What one trit more, and one less, changes in the loss: [classes, 2, in]."""
    bend = curvature * scales.square() / 2
    gains = torch.stack([bend + slope * scales, bend - slope * scales], 1)
    gains[torch.stack([trits > 0, trits < 0], 1)] = torch.inf
    return gains


def _change_best(trits: Tensor, scales: Tensor, slope: Tensor, hessians: Tensor) -> Tensor:
    """Change in every class the one or two trits that promise most, and `slope` with them.

    Args:
        trits, scales: float32 [classes, in]; the trits change in place.
        slope: of the loss for each weight [classes, in]; changes in place.
        hessians: of the loss for each class's weights [classes, in, in].

    Returns:
        the change of the loss for each class, at most 0.
    """
    classes, width = trits.shape
    every = torch.arange(classes)
    gains = _gains(hessians.diagonal(dim1=1, dim2=2), trits, scales, slope).flatten(1)
    gain, move = gains.topk(min(PAIRED, 2 * width), 1, largest=False)
    column, sign = move % width, torch.where(move < width, 1.0, -1.0)
    step = sign * scales.gather(1, column)
    mixed = hessians[every[:, None, None], column[:, :, None], column[:, None, :]]
    both = gain[:, :, None] + gain[:, None, :] + step[:, :, None] * step[:, None, :] * mixed
    both[column[:, :, None] == column[:, None, :]] = torch.inf
    both.diagonal(dim1=1, dim2=2).copy_(gain)  # a pair of one with itself is the one
    promised, pair = both.flatten(1).min(1)
    first, second = pair // both.shape[2], pair % both.shape[2]
    for chosen, takes_part in ((first, promised < 0), (second, (promised < 0) & (first != second))):
        at = column[every, chosen]
        trits[every, at] += sign[every, chosen] * takes_part
        slope += hessians[every, at] * (step[every, chosen] * takes_part)[:, None]
    return promised.clamp(max=0)


def _fit_last(
    inputs: Tensor, ternary: TernaryWeight, bias: Tensor, predictions: Tensor
) -> tuple[TernaryWeight, Tensor]:
    """Scales and bias of a last Linear."""
    layer = nn.Linear(inputs.shape[1], len(bias))
    layer.bias.copy_(bias)
    weights = {"0": ternary}
    weights = match_predictions(nn.Sequential(layer), weights, inputs, predictions, steps=10)
    return weights["0"], layer.bias.detach().clone()


def match_predictions(
    model: nn.Sequential,
    weights: dict[str, TernaryWeight],
    inputs: Tensor,
    predictions: Tensor,
    steps: int = 25,
) -> dict[str, TernaryWeight]:
    """Fit scales, biases and BatchNorm's affine parameters to the predictions, by L-BFGS.

    Args:
        model: ends in logits; its biases and BatchNorm parameters change in place, and its weights
            become the dequantized ones.
        weights: of its Linear and Conv2d layers, by name; the trits stay.
        inputs: of the model, float32 [n, ...].
        predictions: p, float32 [n, classes].
        steps: of L-BFGS, at most.

    Returns:
        the weights with their new scales.
    """
    inputs, predictions = inputs[:IMAGES], predictions[:IMAGES]
    gains = {name: torch.ones_like(weight.scale) for name, weight in weights.items()}
    layers = weight_layers(model)
    kept = {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if name not in {f"{layer}.weight" for layer in layers}
    }
    for name, layer in layers.items():
        layer.weight.copy_(weights[name].dequantize())
    modules = dict(zip(model._modules, model, strict=True))  # also one that occurs twice
    first = next(iter(modules))
    start = inputs
    if first in weights and gains[first].shape[1] == 1:  # what its weight gives never changes
        start = torch.cat([_product(modules[first], batch) for batch in inputs.split(BATCH)])
    variables = [v.requires_grad_() for v in (*gains.values(), *kept.values())]
    optimizer = torch.optim.LBFGS(variables, max_iter=steps, line_search_fn="strong_wolfe")

    def output(x: Tensor, name: str) -> Tensor:
        own = {key.rpartition(".")[2]: v for key, v in kept.items() if key.startswith(f"{name}.")}
        if name not in weights:
            return functional_call(modules[name], own, (x,))  # type: ignore[no-any-return]
        product = x if name == first and start is not inputs else None
        return _scaled_output(modules[name], own, weights[name], gains[name], x, product)

    def loss() -> float:
        optimizer.zero_grad()
        total = 0.0
        for batch, wanted in zip(start.split(BATCH), predictions.split(BATCH), strict=True):
            with torch.enable_grad():
                logits = reduce(output, modules, batch)
                part = F.cross_entropy(logits, wanted, reduction="sum") / len(inputs)
                part.backward()
            total += part.item()
        return total

    optimizer.step(loss)
    fitted = {
        name: dataclasses.replace(weight, scale=(weight.scale * gains[name]).detach())
        for name, weight in weights.items()
    }
    for name, value in kept.items():
        model.get_parameter(name).copy_(value)
    for name, layer in layers.items():
        layer.weight.copy_(fitted[name].dequantize())
    return fitted


def _scaled_output(
    module: nn.Module,
    own: dict[str, Tensor],
    weight: TernaryWeight,
    gain: Tensor,
    x: Tensor,
    product: Tensor | None,
) -> Tensor:
    """Of a Linear or Conv2d whose scales are multiplied with `gain`, float32 [rows, groups].

    Where a row has one scale, its gain is one of the output, and the weight needs no gradient.

    Args:
        module: holds the dequantized weight.
        own: its bias, where it has one.
        weight: the ternary one.
        gain: of its scales.
        x: the input.
        product: the output for a gain of 1 and without bias, where it is known.
    """
    if gain.shape[1] > 1:
        scaled = dataclasses.replace(weight, scale=weight.scale * gain)
        own = own | {"weight": scaled.dequantize()}
        return functional_call(module, own, (x,))  # type: ignore[no-any-return]
    product = _product(module, x) if product is None else product
    channels = [-1, *[1] * (product.dim() - 2)]
    product = product * gain.view(channels)
    return product + own["bias"].view(channels) if "bias" in own else product


def _product(module: nn.Module, x: Tensor) -> Tensor:
    """What a Linear or Conv2d gives without its bias."""
    assert isinstance(module, nn.Linear | nn.Conv2d)
    weight = module.weight.detach()
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    product: Tensor = module._conv_forward(x, weight, None)
    return product


def _cross_entropy(logits: Tensor, predictions: Tensor) -> float:
    return float(F.cross_entropy(logits, predictions))
