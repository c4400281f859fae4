"""A Program's steps in NumPy, slow and plain: what the engine gives bit for bit in int8 mode.

Floats are float32 and every operation is rounded on its own, in this order:

- Pixels are integers. Where the first weights take them, the row has scale 1 and zero point 0, and
  the normalization is in the scales and bias (`terms.py`). Else x = (pixel / 255 - mean) / std.
- Other activations are quantized for each map, or row of a linear layer: low = min(0, least x),
  high = max(0, greatest x), range = high - low, inverse = 255 / range,
  zero = round(-low × inverse), q = clamp(round(x × inverse) + zero, 0, 255), scale = range / 255,
  with round half to even; where range < 2^-100, inverse and scale are 0. So
  x ≈ scale × (q - zero); after ReLU, zero is 0. In static mode low and high are the file's, and
  x × inverse is clamped to -zero..255 - zero before it is rounded.
- For each scale of a row, in order: sum = Σ weight × (q - zero) in int32, part = float(sum) ×
  weight scale; y = 0 plus the parts in order; y × scale + bias; ReLU: 0 where y < 0.
- What is not a product of integers is in `float_reference.py` and `numpy_posts.py`; sums over
  dimensions go from first to last.

Exact mode differs in its products with ternary weights: sums are float64.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.runtime import float_reference as floats
from tritbench.runtime import numpy_posts as posts
from tritbench.runtime import steps as s
from tritbench.runtime.float_reference import Floats
from tritbench.runtime.numpy_quantize import padded, padded_maps, quantize, to_levels
from tritbench.runtime.panels import LANES, unpack_bytes, unpack_codes
from tritbench.runtime.parts import View, Windows
from tritbench.runtime.program import Lowered

f32 = np.float32


@dataclass
class Memory:
    """The buffers of some images.

    Attributes:
        program: whose buffers they are.
        images: how many.
        arrays: by number, [images, elements]; constants have no images.
        spoiled: images that are not finite, bool [images].
    """

    program: Lowered
    images: int
    arrays: dict[int, NDArray[Any]]
    spoiled: NDArray[np.bool_]
    done: set[int] = field(default_factory=set)

    def buffer(self, number: int, dtype: Any = f32) -> NDArray[Any]:
        """[images, elements] of a type."""
        described = self.program.buffers[number]
        if number not in self.arrays:
            if described.array is not None:
                flat = described.array.reshape(1, -1)
                self.arrays[number] = np.broadcast_to(flat, (self.images, flat.size))
            else:
                kind = np.uint8 if described.size == 1 else f32
                self.arrays[number] = np.zeros((self.images, described.count), kind)
        return self.arrays[number] if dtype is None else self.arrays[number].view(dtype)

    def view(self, view: View) -> Floats:
        """[images, *sizes], sharing memory."""
        array = self.buffer(view.buffer)
        return np.lib.stride_tricks.as_strided(
            array[:, view.offset :],
            (self.images, *view.sizes),
            (array.strides[0], *(4 * stride for stride in view.strides)),
        )


def run(program: Lowered, images: NDArray[Any]) -> Floats:
    """float32 [n, elements] of images [n, elements]; NaN for those that are not finite."""
    kind = "pixels" if images.dtype == np.uint8 else "floats"
    memory = Memory(program, len(images), {0: images}, np.zeros(len(images), bool))
    for step, when in program.steps:
        if when in ("always", kind):
            _STEPS[type(step)](memory, step)
    (output,) = (n for n, buffer in enumerate(program.buffers) if buffer.place == "output")
    result = memory.buffer(output).copy()
    result[memory.spoiled] = np.nan
    return result


def _spoil(memory: Memory, x: NDArray[Any]) -> NDArray[Any]:
    """x with zeros for what is not finite, whose images are marked."""
    finite = np.isfinite(x)
    memory.spoiled |= ~finite.reshape(memory.images, -1).all(1)
    return np.where(finite, x, x.dtype.type(0))


def _check(memory: Memory, step: s.Check) -> None:
    memory.arrays[step.x] = _spoil(memory, memory.buffer(step.x))


def _normalize(memory: Memory, step: s.Normalize) -> None:
    x = memory.buffer(step.x, None)
    if step.pixels:
        x = x.astype(f32) / f32(255)
    wide = _spoil(memory, x).reshape(memory.images, -1, step.area)
    result = (wide - step.mean[:, None]) / step.std[:, None]
    memory.buffer(step.out)[:] = result.reshape(memory.images, -1)


def _indices(memory: Memory, step: s.Indices) -> None:
    x = memory.buffer(step.x, None)
    fits = (x >= 0) & (x <= np.iinfo(np.int32).max)
    memory.buffer(step.out, np.int32)[:] = np.where(fits, x, -1)


def _place_pixels(memory: Memory, step: s.PlacePixels) -> None:
    x = memory.buffer(step.x, None).reshape(-1, step.channels, step.height, step.width)
    memory.buffer(step.out, None)[:] = padded(x, step.padding).reshape(memory.images, -1)


def _quantize(memory: Memory, step: s.Quantize) -> None:
    x = _spoil(memory, memory.view(step.x))
    if step.levels is not None:
        data = padded_maps(to_levels(x, step.levels), step.padding, step.levels.zero)
        memory.buffer(step.data, None)[:] = data.reshape(memory.images, -1)
        return
    q, zero, scale = quantize(x)
    wide = zero[..., None, None, None]
    data = padded_maps(q - wide, step.padding) + wide
    memory.buffer(step.data, None)[:] = data.reshape(memory.images, -1)
    assert step.scale is not None
    assert step.zero is not None
    memory.buffer(step.scale)[:] = scale
    memory.buffer(step.zero, np.int32)[:] = zero


def _pad(memory: Memory, step: s.Pad) -> None:
    x = padded_maps(memory.view(step.x), step.padding)
    memory.buffer(step.out)[:] = x.reshape(memory.images, -1)


def _places(windows: Windows) -> NDArray[np.int64]:
    """Where each row begins, [maps, height, width]."""
    w = windows
    maps, lines, pixels = np.ogrid[: w.maps, : w.height, : w.width]
    return np.asarray(w.base + maps * w.map_size + lines * w.line + pixels * w.pixel, np.int64)


def _product(memory: Memory, step: s.Product) -> None:
    w, panels = step.windows, -(-step.outputs // LANES)
    data = memory.buffer(step.data, None).astype(np.float64)
    if step.zero is not None:  # padding is the zero point itself
        zero = memory.buffer(step.zero, np.int32).astype(np.float64)
    codes = step.codes.reshape(w.groups, panels, -1, step.codes.shape[-1])
    place = (step.offsets.reshape(-1, 1) + np.arange(4)).ravel()
    shape = (w.groups, -1, panels * LANES)
    scales, bias = step.scales.reshape(shape), step.bias.reshape(-1, w.groups, panels * LANES)
    classes = step.row_class[:, None] + step.column_class  # [height, width]
    results = []
    for g in range(w.groups):
        weight = (unpack_bytes if step.integer else unpack_codes)(codes[g]).astype(np.float64)
        at = (_places(w) + g * w.group)[..., None] + place
        taken = data[:, at.clip(max=data.shape[1] - 1)]  # [n, maps, height, width, terms]
        if step.zero is not None:
            taken = taken - zero[:, :, None, None, None]
        y, block = np.zeros((*taken.shape[:-1], panels * LANES), f32), 0
        for part, end in enumerate(step.group_blocks.tolist()):
            terms = slice(16 * block, 16 * end)
            total = taken[..., terms] @ weight[:, terms].T
            y = y + total.astype(f32) * scales[g, part]
            block = end
        results.append((y, bias[classes, g]))
    y, shift = (np.concatenate([r[i][..., : step.outputs] for r in results], -1) for i in (0, 1))
    if step.scale is not None:
        y = y * memory.buffer(step.scale)[:, :, None, None, None]
    y = y + shift
    y = floats.clamp(y, *step.bounds)
    if step.pool[0]:
        y = _pooled(y, step.pool)
    _give(memory, step, y)


def _pooled(y: Floats, steps: tuple[int, ...]) -> Floats:
    """The greatest of each 2×2."""
    height, width = y.shape[2] - 1, y.shape[3] - 1
    corners = [y[:, :, i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)]
    return np.asarray(np.maximum.reduce(corners)[:, :, :: steps[0], :: steps[1]])


def _give(memory: Memory, step: Any, y: Floats) -> None:
    """What a step gives, after its posts."""
    for post in step.posts:
        y = posts.apply(post, y, None if post.operand is None else memory.view(post.operand))
    requantize = getattr(step, "requantize", None)
    if requantize is not None:
        q = to_levels(_spoil(memory, y), requantize.levels)
        data = padded_maps(q, requantize.padding, requantize.levels.zero)
        memory.buffer(requantize.data, None)[:] = data.reshape(memory.images, -1)
    if step.out.buffer >= 0:
        memory.view(step.out)[:] = y


def _float_product(memory: Memory, step: s.FloatProduct) -> None:
    data, w = memory.buffer(step.data), step.windows
    results = []
    bias = step.bias.reshape(w.groups, -1)
    for g in range(w.groups):
        at = (_places(w) + g * w.group)[..., None] + (
            step.offsets[:, None] + np.arange(step.inputs)
        ).ravel()
        weight = np.moveaxis(step.weights[g], 0, 2)  # [taps, inputs, panels, 16]
        weight = weight.reshape(-1, bias.shape[1])
        y = floats.matmul(data[:, at], weight) + bias[g]
        results.append(floats.clamp(y, *step.bounds)[..., : step.outputs])
    _give(memory, step, np.concatenate(results, -1))


def _depthwise(memory: Memory, step: s.Depthwise) -> None:
    height, width, channels, *size = step.size
    kernel = (step.kernel[0], step.kernel[1])
    window = floats.Window(
        kernel,
        (size[0], size[1]),
        (step.stride[0], step.stride[1]),
        (step.padding[0], step.padding[1]),
        (step.dilation[0], step.dilation[1]),
    )
    count = height * width * channels
    data = memory.buffer(step.data, None)
    results = np.zeros((memory.images, step.maps, *size, channels), f32)
    if step.scale is None:
        weight = np.moveaxis(step.weights, 0, 2).reshape(*kernel, -1)[..., :channels]
    else:
        taps = step.weights.transpose(1, 4, 2, 0, 3)  # [quads, 4, width, panels, 16]
        weight = taps.reshape(-1, kernel[1], step.bias.size)[: kernel[0], :, :channels]
        scale, zero = memory.buffer(step.scale), memory.buffer(step.zero or 0, np.int32)
    for i, m in np.ndindex(memory.images, step.maps):
        flat = data[i, step.base + m * count :][:count]
        x = np.pad(flat, (0, count - flat.size)).reshape(height, width, channels)
        if step.scale is None:
            results[i, m] = floats.depthwise(x, weight, window)
        else:
            results[i, m] = floats.depthwise_bytes(
                x, int(zero[i, m]), float(scale[i, m]), weight, step.scales[:channels], window
            )
    _give(memory, step, floats.clamp(results + step.bias[:channels], *step.bounds))


def _elementwise(memory: Memory, step: s.Elementwise) -> None:
    _give(memory, step, memory.view(step.x).copy())


def _reduce(memory: Memory, step: s.Reduce) -> None:
    x = memory.view(step.x)
    kept = x.ndim - step.dims
    count, order = math.prod(x.shape[kept:]), float(f32(step.order))
    parts = np.moveaxis(x.reshape(*x.shape[:kept], count), -1, 0)
    combine: Callable[[Floats, Floats], Floats] = lambda a, v: a + v  # noqa: E731
    start = 0.0
    match step.how, order:
        case "amax", _:
            start, combine = -math.inf, posts.greater
        case "amin", _:
            start, combine = math.inf, posts.less
        case "norm", 2:
            parts = parts * parts
        case "norm", 1 | math.inf:
            parts = np.abs(parts)
            combine = posts.greater if order == math.inf else combine
        case "norm", _:
            parts = np.power(np.abs(parts).astype(np.float64), order).astype(f32)
    y = np.full(parts.shape[1:], start, f32)
    for part in parts:
        y = combine(y, part)
    if step.how == "mean":
        y = y / f32(count)
    elif step.how == "norm" and order == 2:
        y = np.sqrt(y)
    elif step.how == "norm" and order not in (1, math.inf):
        y = np.power(y.astype(np.float64), 1 / order).astype(f32)
    memory.view(step.out)[:] = y


def _pool(memory: Memory, step: s.Pool) -> None:
    x, out = memory.view(step.x), memory.view(step.out)
    window = floats.Window(
        (step.kernel[0], step.kernel[1]),
        (out.shape[2], out.shape[3]),
        (step.stride[0], step.stride[1]),
        (step.padding[0], step.padding[1]),
        (step.dilation[0], step.dilation[1]),
    )
    for i in np.ndindex(x.shape[:2]):
        if step.average:
            out[i] = floats.average_pool(x[i], window, step.include_padding, step.divisor)
        else:
            out[i] = floats.max_pool(x[i], window)


def _adaptive_pool(memory: Memory, step: s.AdaptivePool) -> None:
    x, out = memory.view(step.x), memory.view(step.out)
    for row, column in np.ndindex(len(step.top), len(step.left)):
        rows = slice(step.top[row], step.bottom[row])
        part = x[:, :, rows, step.left[column] : step.right[column]]
        parts = np.moveaxis(part.reshape(*x.shape[:2], -1, x.shape[4]), 2, 0)
        if step.average:
            out[:, :, row, column] = floats.sum_first(parts) / f32(len(parts))
        else:
            out[:, :, row, column] = functools.reduce(posts.greater, parts)


def _some(array: NDArray[Any]) -> NDArray[Any] | None:
    return array if array.size else None


def _layer_norm(memory: Memory, step: s.LayerNorm) -> None:
    x = memory.view(step.x)
    y = floats.layer_norm(x, _some(step.weight), _some(step.bias), step.eps)
    memory.view(step.out)[:] = y


def _group_norm(memory: Memory, step: s.GroupNorm) -> None:
    x, out = memory.view(step.x), memory.view(step.out)
    for i in np.ndindex(x.shape[:2]):
        out[i] = floats.group_norm(
            x[i], step.groups, _some(step.weight), _some(step.bias), step.eps
        )


def _softmax(memory: Memory, step: s.Softmax) -> None:
    memory.view(step.out)[:] = floats.softmax(memory.view(step.x), step.log)


def _attention(memory: Memory, step: s.Attention) -> None:
    query, key, value = (memory.view(v) for v in (step.query, step.key, step.value))
    out = memory.view(step.out)
    for i in np.ndindex(query.shape[:4]):
        mask = None if step.mask is None else memory.view(step.mask)[i]
        out[i] = floats.attention(query[i], key[i], value[i], mask, step.causal, step.scale)


def _matmul(memory: Memory, step: s.MatMul) -> None:
    x, y, out = (memory.view(v) for v in (step.x, step.y, step.out))
    for i in np.ndindex(x.shape[:4]):
        out[i] = floats.matmul(x[i], y[i])


def _copy(memory: Memory, step: s.Copy) -> None:
    memory.view(step.out)[:] = memory.view(step.x)


def _gather(memory: Memory, step: s.Gather) -> None:
    taken = memory.view(step.x)[:, :, step.table.clip(min=0)]
    memory.view(step.out)[:] = np.where(step.table[:, None] < 0, f32(step.fill), taken)


def _embedding(memory: Memory, step: s.Embedding) -> None:
    index = memory.view(step.indices).view(np.int32)
    known = (index >= 0) & (index < len(step.weights))
    memory.spoiled |= ~known.all(1)
    rows = step.weights[np.where(known, index, 0)]
    memory.view(step.out)[:] = np.where(known[..., None], rows, f32(0))


_STEPS: dict[type, Callable[[Memory, Any], None]] = {
    s.Check: _check,
    s.Normalize: _normalize,
    s.Indices: _indices,
    s.PlacePixels: _place_pixels,
    s.Quantize: _quantize,
    s.Pad: _pad,
    s.Product: _product,
    s.FloatProduct: _float_product,
    s.Depthwise: _depthwise,
    s.Elementwise: _elementwise,
    s.Reduce: _reduce,
    s.Pool: _pool,
    s.AdaptivePool: _adaptive_pool,
    s.Softmax: _softmax,
    s.LayerNorm: _layer_norm,
    s.GroupNorm: _group_norm,
    s.Attention: _attention,
    s.MatMul: _matmul,
    s.Copy: _copy,
    s.Gather: _gather,
    s.Embedding: _embedding,
}
