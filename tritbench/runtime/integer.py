"""The engine's modes in NumPy, slow and plain: in int8 mode, what every kernel gives bit for bit.

Floats are float32 and every operation is rounded on its own, in this order:

- Pixels are integers. Where the first weights take them (nothing but `flatten` before), the row
  has scale 1 and zero point 0, and the normalization is in the layer's scales and bias
  (`fold_pixels`). Else x = (pixel / 255 - mean) / std.
- Other activations are quantized for each image: low = min(0, least x), high = max(0, greatest x),
  range = high - low, inverse = 255 / range, zero = round(-low × inverse),
  q = clamp(round(x × inverse) + zero, 0, 255), scale = range / 255, with round half to even; where
  range < 2^-100, inverse and scale are 0. So x ≈ scale × (q - zero); after ReLU, zero is 0.
- For each scale, in order (where trits of -1 have their own: first those of +1): sum =
  Σ trit × (q - zero) in int32 (padding adds 0), part = float(sum) × weight scale; y = 0 plus the
  parts in order.
- y = y × scale + bias; ReLU: 0 where y < 0; affine: y × scale + bias; max-pooling: the greatest;
  average: the sum in rows, divided by the count.

Exact mode differs in two things: activations are not quantized, and sums are float64.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.packing import PackedLayer
from tritbench.runtime.chain import Chain
from tritbench.runtime.layers import Floats, Terms, fold_pixels, make_terms, pieces

LEAST_RANGE = np.float32(2.0**-100)


def logits(network: Chain, images: NDArray[np.uint8] | Floats, exact: bool = False) -> Floats:
    """float32 [n, classes] of uint8 pixels, or of floats in 0..1, [n, ...]."""
    spec = network.input
    (_, before), *rest = pieces(network.layers)
    pixels = images.dtype == np.uint8 and all(p.about["type"] == "flatten" for p in before)
    x: NDArray[Any] = images.reshape(-1, *spec.shape)
    if not pixels:
        scaled = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
        mean, std = spec.shared
        x = (scaled - np.float32(mean)) / np.float32(std)
    x = _apply(before, x)
    for layer, following in rest:
        assert layer is not None
        x = _weights(layer, x, network if pixels else None, exact)
        x, pixels = _apply(following, x), False
    return np.asarray(x, np.float32).reshape(len(x), -1)


def quantize(x: Floats) -> tuple[NDArray[np.int64], Floats]:
    """q - zero and the scale of each image of float32 [n, ...]; scales [n]."""
    flat = x.reshape(len(x), -1)
    low, high = np.minimum(flat.min(1), 0), np.maximum(flat.max(1), 0)
    span = high - low
    some = span >= LEAST_RANGE
    divisor = np.where(some, span, np.float32(1))
    inverse = np.where(some, np.float32(255) / divisor, np.float32(0))
    zero = np.rint(-low * inverse)
    q = np.clip(np.rint(flat * inverse[:, None]) + zero[:, None], 0, 255)
    scale = np.where(some, span / np.float32(255), np.float32(0))
    return (q - zero[:, None]).astype(np.int64).reshape(x.shape), scale


def _weights(layer: PackedLayer, x: NDArray[Any], pixels: Chain | None, exact: bool) -> Floats:
    """One linear or conv2d layer with its bias; `pixels` where x holds them."""
    bias, terms = layer.arrays["bias"], make_terms(layer)
    scales = terms.scales
    q: NDArray[Any]
    if pixels is None and not exact:
        q, scale = quantize(x.astype(np.float32))
    else:
        q, scale = x, np.ones(len(x), np.float32)
    sums = _sums(layer, q, terms)  # [n, groups, out, ...]
    trailing = (1,) * (sums.ndim - 3)
    if pixels is not None:
        ones = np.ones((1, *x.shape[1:]), np.int64)
        met = np.moveaxis(_sums(layer, ones, terms)[0], 0, -1)
        met = np.moveaxis(met, 0, -2)  # [..., out, groups]
        scales, shifted = fold_pixels(scales, bias, met, pixels.input)
        bias = np.moveaxis(shifted, -1, 0)  # [out, ...]
    else:
        bias = bias.reshape(-1, *trailing)
    y: NDArray[Any] = np.zeros_like(sums[:, 0], np.float32)
    for index in range(scales.shape[1]):
        part = sums[:, index].astype(np.float32) * scales[:, index].reshape(-1, *trailing)
        y = y + part
    return np.asarray(y * scale.reshape(-1, 1, *trailing) + bias, np.float32)


def _sums(layer: PackedLayer, q: NDArray[Any], terms: Terms) -> NDArray[np.float64]:
    """Σ trit × q of each group: [n, groups, out] or [n, groups, out, height, width].

    Those of integers are exact in float64, and fast.
    """
    if layer.about["type"] == "conv2d":
        (ky, kx), (sy, sx), (py, px) = (layer.about[k] for k in ("kernel", "stride", "padding"))
        padded = np.pad(q, ((0, 0), (0, 0), (py, py), (px, px)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (ky, kx), (2, 3))
        windows = windows[:, :, ::sy, ::sx]  # [n, in, height, width, ky, kx]
        columns = np.moveaxis(windows, 1, 3).reshape(*windows.shape[:1], *windows.shape[2:4], -1)
    else:
        columns = q
    parts = []
    for g in range(terms.scales.shape[1]):
        chosen = terms.group == g
        taken = columns[..., terms.inputs[chosen]].astype(np.float64)
        parts.append(taken @ terms.trits[:, chosen].T.astype(np.float64))
    return np.moveaxis(np.stack(parts, 1), -1, 2)


def _apply(layers: Iterable[PackedLayer], x: NDArray[Any]) -> NDArray[Any]:
    for layer in layers:
        match layer.about["type"]:
            case "flatten":
                x = x.reshape(len(x), -1)
            case "relu":
                x = np.where(x < 0, np.float32(0), x)
            case "affine":
                shape = (-1,) + (1,) * (x.ndim - 2)
                scale, bias = (layer.arrays[key].reshape(shape) for key in ("scale", "bias"))
                x = x.astype(np.float32) * scale + bias
            case "maxpool2d" | "avgpool2d" as kind:
                x = _pool(kind, layer, x.astype(np.float32))
    return x


def _pool(kind: str, layer: PackedLayer, x: Floats) -> Floats:
    kernel, stride = tuple(layer.about["kernel"]), layer.about["stride"]
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1]]
    windows = windows.reshape(*windows.shape[:4], -1)
    if kind == "maxpool2d":
        return np.asarray(windows.max(-1), np.float32)
    total = np.zeros(windows.shape[:-1], np.float32)
    for index in range(windows.shape[-1]):
        total = total + windows[..., index]
    return total / np.float32(windows.shape[-1])
