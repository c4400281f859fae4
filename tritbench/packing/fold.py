"""A quantized network as the layers that inference executes, BatchNorm and Dropout gone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tritbench.models import describe
from tritbench.packing.network import PackedLayer
from tritbench.quantize import QuantizedChain

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def fold(quantized: QuantizedChain) -> list[PackedLayer]:
    """Fold each BatchNorm into the scale and bias of the weights before it, in float64.

    A BatchNorm that does not follow Linear or Conv2d becomes an `affine` layer of its own.
    """
    steps = [
        (name, module, about)
        for (name, module), about in zip(
            quantized.model.named_children(), describe(quantized.model), strict=True
        )
        if about["type"] != "dropout"
    ]
    layers: list[PackedLayer] = []
    folded_into: nn.Module | None = None
    for position, (name, module, about) in enumerate(steps):
        following = steps[position + 1][1] if position + 1 < len(steps) else None
        if isinstance(module, nn.Linear | nn.Conv2d):
            norm = following if isinstance(following, BatchNorm) else None
            layers.append(_weight_layer(quantized, name, module, about, norm))
            folded_into = norm
        elif isinstance(module, BatchNorm):
            if module is not folded_into:
                scale, shift = _affine(module)
                about = {"type": "affine", "features": module.num_features}
                arrays = {"scale": _float32(scale), "bias": _float32(shift)}
                layers.append(PackedLayer(about, arrays))
        else:
            layers.append(PackedLayer(about))
    return layers


def folded_weights(model: nn.Sequential) -> list[NDArray[np.float64]]:
    """The weights of each Linear and Conv2d, `[out, ...]`, times the BatchNorm that follows it."""
    modules = list(model)
    found = []
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight = module.weight.detach().double().numpy()
            gain = _affine(following)[0] if isinstance(following, BatchNorm) else np.ones(1)
            found.append(weight * gain.reshape(-1, *[1] * (weight.ndim - 1)))
    return found


def _weight_layer(
    quantized: QuantizedChain,
    name: str,
    module: nn.Linear | nn.Conv2d,
    about: dict[str, Any],
    norm: BatchNorm | None,
) -> PackedLayer:
    weight = quantized.weights[name]
    scales = {"scale": weight.scale.double().numpy()}
    if weight.negative_scale is not None:
        scales["negative_scale"] = weight.negative_scale.double().numpy()
    outputs = len(weight.trits)
    bias = np.zeros(outputs) if module.bias is None else module.bias.detach().double().numpy()
    if norm is not None:
        gain, shift = _affine(norm)
        scales = {key: scale * gain[:, None] for key, scale in scales.items()}
        bias = bias * gain + shift
    about = {key: value for key, value in about.items() if key != "bias"}
    about["group_size"] = weight.group_size
    trits = weight.trits.flatten(1).numpy()
    floats = {key: _float32(values) for key, values in (scales | {"bias": bias}).items()}
    return PackedLayer(about, {"trits": trits} | floats)


def _affine(norm: BatchNorm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """BatchNorm in evaluation as x × gain + shift."""
    weight, bias, mean, variance = (
        t.detach().double().numpy()
        for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        if isinstance(t, Tensor)
    )
    gain = weight / np.sqrt(variance + norm.eps)
    return gain, bias - mean * gain


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
