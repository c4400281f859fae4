"""What the engine's kernels of floats give bit for bit, in NumPy (`native/float_kernels.h`).

All is float32, and each operation is rounded on its own. A sum in 16 lanes adds its i-th value to
lane i % 16, and then halves of the lanes to each other; other sums go from first to last. Maps are
channels-last: [height, width, channels].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Floats = NDArray[np.float32]
f32 = np.float32
LANES = 16


def clamp(x: Floats, low: float = -np.inf, high: float = np.inf) -> Floats:
    """x within low..high; NaN stays."""
    x = np.where(x < f32(low), f32(low), x)
    return np.where(x > f32(high), f32(high), x)


def _polynomial(x: Floats, *coefficients: float) -> Floats:
    """The greatest power's coefficient first."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + f32(coefficient)
    return y


def exp(x: Floats) -> Floats:
    """Cephes' polynomial; what would be denormal is 0."""
    least, greatest = f32(-87.33654), f32(88.72283)
    bounded = clamp(x, float(least), float(greatest))
    n = np.rint(bounded * f32(1.44269504))
    r = bounded - n * f32(0.693359375) - n * f32(-2.12194440e-4)
    p = _polynomial(
        r,
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
    y = p * (r * r) + r + f32(1)
    y = np.ldexp(y, np.where(np.isnan(n), 0, n).astype(np.int32))
    return np.where(x < least, f32(0), np.where(x > greatest, f32(np.inf), y))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    return f32(1) / (exp(-x) + f32(1))


def silu(x: Floats) -> Floats:
    """x × sigmoid(x)."""
    return x / (exp(-x) + f32(1))


def tanh(x: Floats) -> Floats:
    """A polynomial below 0.625 (Cephes), 1 - 2 / (exp(2x) + 1) above."""
    size, square = np.abs(x), x * x
    p = _polynomial(
        square,
        -5.70498872745e-3,
        2.06390887954e-2,
        -5.37397155531e-2,
        1.33314422036e-1,
        -3.33332819422e-1,
    )
    large = f32(1) - f32(2) / (exp(size + size) + f32(1))
    return np.where(size < f32(0.625), p * square * x + x, np.copysign(large, x))


def erf(x: Floats) -> Floats:
    """Eigen's quotient of polynomials, for |x| up to 4."""
    x = clamp(x, -4, 4)
    square = x * x
    top = _polynomial(
        square,
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    )
    bottom = _polynomial(
        square,
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    )
    return x * top / bottom


def gelu(x: Floats) -> Floats:
    """x/2 × (1 + erf(x / √2))."""
    return x * f32(0.5) * (erf(x * f32(0.70710678)) + f32(1))


def gelu_tanh(x: Floats) -> Floats:
    """x/2 × (1 + tanh(u)), which is x × sigmoid(2u); u = √(2/π) (x + 0.044715 x³)."""
    return x / (exp((x * x * x * f32(0.044715) + x) * f32(-1.59576912)) + f32(1))


def hardsigmoid(x: Floats) -> Floats:
    """clamp(x + 3, 0, 6) / 6."""
    return clamp(x + f32(3), 0, 6) * f32(0.16666667)


def hardswish(x: Floats) -> Floats:
    """x × hardsigmoid(x)."""
    return x * hardsigmoid(x)


UNARY: dict[str, Callable[[Floats], Floats]] = {
    f.__name__: f for f in (exp, sigmoid, silu, tanh, erf, gelu, gelu_tanh, hardsigmoid, hardswish)
}  # in the order of the engine's enumeration


def sum_lanes(x: Floats) -> Floats:
    """Over the last axis, in 16 lanes."""
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % LANES)]
    parts = np.pad(x, padding).reshape(*x.shape[:-1], -1, LANES)
    sums = sum_first(np.moveaxis(parts, -2, 0))
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]


def sum_first(x: Floats) -> Floats:
    """Over the first axis, from first to last."""
    total = np.zeros(x.shape[1:], f32)
    for part in x:
        total = total + part
    return total


def _affine(x: Floats, weight: Floats | None, bias: Floats | None) -> Floats:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm(x: Floats, weight: Floats | None, bias: Floats | None, eps: float) -> Floats:
    """Over the last axis of [..., count]."""
    count = f32(x.shape[-1])
    centered = x - (sum_lanes(x) / count)[..., None]
    variance = sum_lanes(centered * centered) / count
    inverse = f32(1) / np.sqrt(variance + f32(eps))
    return _affine(centered * inverse[..., None], weight, bias)


def group_norm(
    x: Floats, groups: int, weight: Floats | None, bias: Floats | None, eps: float
) -> Floats:
    """Of [..., channels], over all but groups of channels: first pixels, then channels."""
    pixels = x.reshape(-1, groups, x.shape[-1] // groups)
    count = f32(pixels.size // groups)
    total = sum_first(sum_first(pixels).T)
    centered = pixels - (total / count)[:, None]
    variance = sum_first(sum_first(centered * centered).T) / count
    inverse = f32(1) / np.sqrt(variance + f32(eps))
    return _affine((centered * inverse[:, None]).reshape(x.shape), weight, bias)


def softmax(x: Floats, logarithm: bool = False) -> Floats:
    """Over the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    exponentials = exp(shifted)
    total = sum_lanes(exponentials)[..., None]
    if logarithm:
        return np.asarray(shifted - np.log(total.astype(np.float64)).astype(f32))
    inverse: Floats = f32(1) / total
    return exponentials * inverse


def matmul(x: Floats, weight: Floats) -> Floats:
    """[..., inputs] by [inputs, outputs]."""
    total = np.zeros((*x.shape[:-1], weight.shape[-1]), f32)
    for i, row in enumerate(weight):
        total = total + x[..., i, None] * row
    return total


def attention(
    query: Floats,
    key: Floats,
    value: Floats,
    mask: Floats | None = None,
    causal: bool = False,
    scale: float = 1,
) -> Floats:
    """Of one head: [queries, size], [keys, size], [keys, value size] to [queries, value size].

    A query that sees no key gets zeros.
    """
    scores = matmul(query, key.T) * f32(scale)
    if mask is not None:
        scores = scores + mask
    if causal:
        later = np.arange(len(key)) > np.arange(len(query))[:, None]
        scores = np.where(later, f32(-np.inf), scores)
    most = scores.max(-1, keepdims=True)
    nothing = most == -np.inf
    weights = exp(np.where(nothing, f32(-np.inf), scores - np.where(nothing, f32(0), most)))
    total = np.where(nothing[..., 0], f32(np.inf), sum_lanes(weights))
    inverse = np.asarray(f32(1) / total, f32)
    return matmul(weights, value) * inverse[..., None]


@dataclass(frozen=True)
class Window:
    """What slides over a map; pairs are of lines and columns, `size` is that of the result."""

    kernel: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def taps(self, x: Values, outside: float = 0) -> Iterator[Values]:
        """For each line and column of the window, what of [height, width, channels] it meets."""
        reach = (
            (p, max(0, s * (n - 1) + d * (k - 1) + 1 - p - have))
            for k, n, s, p, d, have in zip(
                self.kernel,
                self.size,
                self.stride,
                self.padding,
                self.dilation,
                x.shape,
                strict=False,
            )
        )
        padded = np.pad(x, (*reach, (0, 0)), constant_values=outside)
        for tap in np.ndindex(self.kernel):
            lines, columns = (
                slice(k * d, k * d + s * (n - 1) + 1, s)
                for k, n, s, d in zip(tap, self.size, self.stride, self.dilation, strict=True)
            )
            yield padded[lines, columns]


def depthwise(x: Floats, weight: Floats, window: Window) -> Floats:
    """[height, width, channels] by [*kernel, channels], line after line of the window."""
    taps = zip(window.taps(x), weight.reshape(-1, x.shape[-1]), strict=True)
    return sum_first(np.stack([tap * w for tap, w in taps]))


def depthwise_bytes(
    x: NDArray[np.uint8],
    zero: int,
    scale: float,
    weight: NDArray[np.int8],
    scales: Floats,
    window: Window,
) -> Floats:
    """The same of 8 bits: float(Σ weight·(x - zero)) × the channel's scale × scale."""
    taps = window.taps(x.astype(np.int64) - zero)
    weights = weight.astype(np.int64).reshape(-1, x.shape[-1])
    sums = sum(tap * w for tap, w in zip(taps, weights, strict=True))
    return np.asarray(sums).astype(f32) * scales * f32(scale)


def max_pool(x: Floats, window: Window) -> Floats:
    """The greatest in each window; NaN where one is."""
    return np.asarray(np.maximum.reduce(list(window.taps(x, -np.inf))))


def average_pool(
    x: Floats, window: Window, include_padding: bool = True, divisor: int = 0
) -> Floats:
    """The sum of each window by `divisor`, or by the count of its values where that is 0.

    What is neither in the map nor in its padding never counts.
    """
    counts: Values = np.full((*window.size, 1), divisor)
    if divisor == 0:
        padding = window.padding if include_padding else (0, 0)
        inside = np.ones((*(n + 2 * p for n, p in zip(x.shape, padding, strict=False)), 1), int)
        margin = (0, 0) if include_padding else window.padding
        counts = np.sum(list(replace(window, padding=margin).taps(inside)), 0)
    return np.asarray(sum_first(np.stack(list(window.taps(x)))) / counts.astype(f32), f32)
