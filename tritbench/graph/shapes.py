"""Shapes with a symbolic batch, and how operations change them. No PyTorch here.

A size is a positive integer, or -k for k × batch: an image batch is (-1, 3, 224, 224), its windows
(-64, 49, 96). So products of sizes, and JSON, need nothing more than integers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tritbench.errors import TritbenchError

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
# From the shapes of the inputs (None where an optional one is missing) and the attributes.
Rule = Callable[[Sequence[Any], Attributes], Shape]

LARGEST = 2**28  # elements of a value for one image


def count(shape: Shape) -> int:
    """Elements for one image.

    >>> count((-64, 49, 96))
    301056
    """
    return abs(math.prod(shape))


def has_batch(shape: Shape) -> bool:
    """Whether a size is a multiple of the batch."""
    return any(size < 0 for size in shape)


def with_batch(shape: Shape, batch: int) -> Shape:
    """The sizes for a batch of so many.

    >>> with_batch((-64, 49), 2)
    (128, 49)
    """
    return tuple(-size * batch if size < 0 else size for size in shape)


def axis(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    if not -rank <= dim < rank:
        raise TritbenchError(f"dimension {dim} of {rank}")
    return dim % rank


def same(shapes: Sequence[Any], _: Attributes) -> Shape:
    """The first input's."""
    return tuple(shapes[0])


def same_along_dim(shapes: Sequence[Any], attributes: Attributes) -> Shape:
    """The first input's, which has the dimension `dim`."""
    at = axis(attributes["dim"], len(shapes[0]))
    if shapes[0][at] < 0:
        raise TritbenchError(f"dimension {at} of {list(shapes[0])} is the batch")
    return tuple(shapes[0])


def clamp(shapes: Sequence[Any], a: Attributes) -> Shape:
    """The input's, with a bound at least."""
    if a["min"] is None and a["max"] is None:
        raise TritbenchError("expected min or max")
    return tuple(shapes[0])


def broadcast(shapes: Sequence[Any], _: Attributes) -> Shape:
    """PyTorch's broadcasting of one or more shapes.

    >>> broadcast([(-1, 3, 1), (4,)], {})
    (-1, 3, 4)
    """
    rank = max(len(shape) for shape in shapes)
    result = []
    for sizes in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True):
        different = {size for size in sizes if size != 1}
        if len(different) > 1:
            raise TritbenchError(f"{_texts(shapes)} do not broadcast")
        result.append(different.pop() if different else 1)
    return tuple(result)


def operands(shapes: Sequence[Any], attributes: Attributes) -> Shape:
    """Broadcasting of two tensors; or the first's shape, the other operand being a number."""
    if (shapes[1] is None) == (attributes.get("other") is None):
        raise TritbenchError("expected one other operand, a tensor or a number")
    return broadcast([shape for shape in shapes if shape is not None], attributes)


def linear(shapes: Sequence[Any], _: Attributes) -> Shape:
    """[..., in] × [out, in] (+ [out]) → [..., out]."""
    x, weight, bias = shapes
    _require(len(weight) == 2 and len(x) >= 1 and x[-1] == weight[1], x, weight)
    _require_vector(bias, weight[0])
    return (*x[:-1], weight[0])


def convolution(rank: int) -> Rule:
    """[n, in, ...] × [out, in / groups, ...] (+ [out]) → [n, out, ...]."""

    def rule(shapes: Sequence[Any], a: Attributes) -> Shape:
        x, weight, bias = shapes
        groups = a["groups"]
        _require(len(x) == len(weight) == rank + 2, x, weight)
        fits = groups >= 1 and x[1] == weight[1] * groups and weight[0] % groups == 0
        _require(fits, x, weight, f" in {groups} groups")
        _require_vector(bias, weight[0])
        return (x[0], weight[0], *_slide(x[2:], weight[2:], a, a["dilation"], ceil=False))

    return rule


def pool(rank: int) -> Rule:
    """[n, channels, ...] → the same with fewer positions."""

    def rule(shapes: Sequence[Any], a: Attributes) -> Shape:
        (x,) = shapes
        _require(len(x) == rank + 2, x)
        kernel, padding = a["kernel_size"], a["padding"]
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise TritbenchError(f"padding {padding} is more than half of the kernel {kernel}")
        if a.get("divisor_override") == 0:
            raise TritbenchError("divisor_override = 0, expected another number")
        dilation = a.get("dilation", [1] * rank)
        return (*x[:2], *_slide(x[2:], kernel, a, dilation, ceil=a["ceil_mode"]))

    return rule


def adaptive_pool(rank: int) -> Rule:
    """[n, channels, ...] → [n, channels, *output_size]."""

    def rule(shapes: Sequence[Any], a: Attributes) -> Shape:
        (x,) = shapes
        _require(len(x) == rank + 2 and len(a["output_size"]) == rank, x)
        _require(not has_batch(x[1:]) and min(a["output_size"]) >= 1, x)
        return (*x[:2], *a["output_size"])

    return rule


def per_channel(shapes: Sequence[Any], _: Attributes) -> Shape:
    """[n, channels, ...] with parameters [channels]."""
    x = shapes[0]
    _require(len(x) >= 2, x)
    for vector in shapes[1:]:
        _require_vector(vector, x[1])
    return tuple(x)


def layer_norm(shapes: Sequence[Any], a: Attributes) -> Shape:
    """[..., *normalized_shape] with parameters [*normalized_shape]."""
    x = shapes[0]
    normalized = tuple(a["normalized_shape"])
    fits = bool(normalized) and tuple(x[-len(normalized) :]) == normalized
    _require(fits and not has_batch(normalized), x, normalized)
    for parameter in shapes[1:]:
        _require(parameter is None or tuple(parameter) == normalized, parameter, normalized)
    return tuple(x)


def group_norm(shapes: Sequence[Any], a: Attributes) -> Shape:
    """[n, channels, ...] in `num_groups` equal groups of channels."""
    x = shapes[0]
    groups = a["num_groups"]
    fits = len(x) >= 2 and groups >= 1 and x[1] > 0 and x[1] % groups == 0
    _require(fits, x, f" in {groups} groups")
    return per_channel(shapes, a)


def prelu(shapes: Sequence[Any], a: Attributes) -> Shape:
    """[n, channels, ...] with a slope each channel, or one."""
    x, weight = shapes
    return tuple(x) if tuple(weight) == (1,) else per_channel(shapes, a)


def embedding(shapes: Sequence[Any], _: Attributes) -> Shape:
    """[entries, features] at indices [...] → [..., features]."""
    weight, indices = shapes
    _require(len(weight) == 2, weight)
    return (*indices, weight[1])


def reduce(shapes: Sequence[Any], a: Attributes) -> Shape:
    """The dimensions `dim` become 1, or go; none are all."""
    (x,) = shapes
    chosen = {axis(d, len(x)) for d in a["dim"]} or set(range(len(x)))
    if any(x[d] < 0 for d in chosen):
        raise TritbenchError(f"dimensions {sorted(chosen)} of {list(x)} include the batch")
    if a["keepdim"]:
        return tuple(1 if d in chosen else size for d, size in enumerate(x))
    return tuple(size for d, size in enumerate(x) if d not in chosen)


def cat(shapes: Sequence[Any], a: Attributes) -> Shape:
    """Sizes along `dim` are added; the others are equal."""
    first = shapes[0]
    at = axis(a["dim"], len(first))
    for other in shapes:
        rest = [s for d, s in enumerate(other) if d != at]
        fits = len(other) == len(first) and rest == [s for d, s in enumerate(first) if d != at]
        _require(fits and other[at] > 0, first, other)
    return (*first[:at], sum(shape[at] for shape in shapes), *first[at + 1 :])


def slice_(shapes: Sequence[Any], a: Attributes) -> Shape:
    """`start:end:step` along `dim`, with 0 <= start < end <= size."""
    (x,) = shapes
    at = axis(a["dim"], len(x))
    start, end, step = a["start"], a["end"], a["step"]
    if not (0 <= start < end <= x[at] and step >= 1):
        raise TritbenchError(f"{start}:{end}:{step} of {x[at]} along dimension {at}")
    return (*x[:at], -(-(end - start) // step), *x[at + 1 :])


def index_select(shapes: Sequence[Any], a: Attributes) -> Shape:
    """Indices [n] along `dim`."""
    x, index = shapes
    at = axis(a["dim"], len(x))
    _require(len(index) == 1 and x[at] > 0 and index[0] > 0, x, index)
    return (*x[:at], index[0], *x[at + 1 :])


def reshape(shapes: Sequence[Any], a: Attributes) -> Shape:
    """The same elements as `shape`."""
    (x,), shape = shapes, tuple(a["shape"])
    _require(
        count(shape) == count(x) and has_batch(shape) == has_batch(x) and 0 not in shape, x, shape
    )
    return shape


def expand(shapes: Sequence[Any], a: Attributes) -> Shape:
    """Sizes of 1 are repeated up to `size`; it may have more dimensions in front."""
    (x,), size = shapes, tuple(a["size"])
    _require(broadcast([x, size], a) == size, x, size)
    return size


def permute(shapes: Sequence[Any], a: Attributes) -> Shape:
    """`dims`, each once."""
    (x,), dims = shapes, a["dims"]
    _require(sorted(axis(d, len(x)) for d in dims) == list(range(len(x))), x, f" to {dims}")
    return tuple(x[d] for d in dims)


def roll(shapes: Sequence[Any], a: Attributes) -> Shape:
    """By `shifts` along `dims`."""
    (x,) = shapes
    _require(len(a["shifts"]) == len(a["dims"]) > 0, x, f" by {a['shifts']} along {a['dims']}")
    if any(x[axis(d, len(x))] < 0 for d in a["dims"]):
        raise TritbenchError(f"roll along the batch of {list(x)}")
    return tuple(x)


def pad(shapes: Sequence[Any], a: Attributes) -> Shape:
    """`pad` has two numbers a dimension, the last dimension first, as in PyTorch."""
    (x,), amounts = shapes, a["pad"]
    _require(len(amounts) % 2 == 0 and len(amounts) <= 2 * len(x), x, f" by {amounts}")
    result = list(x)
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        at = len(x) - 1 - i
        if before or after:
            inside = before > -x[at] and after > -x[at]
            if a["mode"] != "constant":
                _require(len(x) - len(amounts) // 2 in (1, 2), x, f" by {amounts}")
                most = x[at] - 1 if a["mode"] == "reflect" else x[at]
                inside = min(before, after) >= 0 and max(before, after) <= most
                inside = inside or (a["mode"] == "replicate" and min(before, after) >= 0)
            _require(x[at] > 0 and inside and x[at] + before + after > 0, x, f" by {amounts}")
        result[at] += before + after
    return tuple(result)


def matmul(shapes: Sequence[Any], _: Attributes) -> Shape:
    """[..., rows, inner] × [..., inner, columns] → [..., rows, columns]."""
    x, y = shapes
    _require(len(x) >= 2 and len(y) >= 2 and x[-1] == y[-2] > 0, x, y)
    return (*broadcast([x[:-2], y[:-2]], {}), x[-2], y[-1])


def attention(shapes: Sequence[Any], a: Attributes) -> Shape:
    """Queries [..., l, e], keys [..., s, e], values [..., s, v] (+ mask) → [..., l, v]."""
    query, key, value, mask = shapes
    _require(len(query) == len(key) == len(value) >= 3, query, key)
    fits = (
        query[-1] == key[-1] > 0
        and key[-2] > 0
        and value[-1] > 0
        and key[:-1] == value[:-1]
        and query[:-3] == key[:-3]
    )
    heads = query[-3] == key[-3] or (a["enable_gqa"] and query[-3] % key[-3] == 0)
    _require(fits and (heads or len(query) == 3), query, key)
    scores = (*query[:-1], key[-2])
    _require(mask is None or broadcast([scores, mask], {}) == scores, scores, mask)
    if mask is not None and a["is_causal"]:
        raise TritbenchError("expected a mask or is_causal, not both")
    return (*query[:-1], value[-1])


def _slide(
    sizes: Sequence[int], kernel: Sequence[int], a: Attributes, dilation: Sequence[int], ceil: bool
) -> Shape:
    stride, padding = a["stride"], a["padding"]
    if not len(sizes) == len(kernel) == len(stride) == len(padding) == len(dilation):
        raise TritbenchError(f"kernel {list(kernel)}, stride {stride}, padding {padding}")
    result = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        fits = n > 0 and k > 0 and 0 < s <= LARGEST and p >= 0 and d > 0
        if not (fits and n + 2 * p >= d * (k - 1) + 1):
            raise TritbenchError(
                f"kernel {list(kernel)}, stride {stride}, padding {padding} and dilation "
                f"{list(dilation)} over {list(sizes)}"
            )
        steps = n + 2 * p - d * (k - 1) - 1
        out = (-(-steps // s) if ceil else steps // s) + 1
        if ceil and (out - 1) * s >= n + p:  # the last window would start in the padding
            out -= 1
        result.append(out)
    return tuple(result)


def _require(holds: bool, *shapes: Any) -> None:
    if not holds:
        raise TritbenchError(_texts(shapes) + " do not fit")


def _require_vector(vector: Any, size: int) -> None:
    _require(vector is None or tuple(vector) == (size,), vector, (size,))


def _texts(shapes: Sequence[Any]) -> str:
    texts = [s if isinstance(s, str) else str(list(s)) for s in shapes if s is not None]
    return " and ".join(t for t in texts if not t.startswith(" ")) + "".join(
        t for t in texts if t.startswith(" ")
    )
