"""ONNX forms of the operations in `OPS`: from a node to ONNX nodes.

A form takes the builder, the node, the names of its inputs (empty where one is missing) and their
shapes, and returns the name of the result.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.shapes import Attributes, Shape


class Builder(Protocol):
    """What a form may ask of the builder."""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """One ONNX node; returns the name of its result."""

    def constant(self, array: NDArray[Any] | Sequence[int] | float) -> str:
        """Integers as int64, all else as float32."""

    def sizes(self, shape: Shape) -> str:
        """A shape as int64, the batch taken from the model's input."""


Form = Callable[[Builder, Attributes, list[str], list[Any], Shape], str]


def unary(operator: str, **renamed: str) -> Form:
    """One ONNX operator; `renamed` are ONNX's names of attributes, with ATen's."""

    def form(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
        return b.add(
            operator, x[0], **{ours: _number(a[theirs]) for ours, theirs in renamed.items()}
        )

    return form


def binary(operator: str) -> Form:
    """Of two tensors, or of a tensor and the number in the attribute `other`."""

    def form(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
        return b.add(operator, x[0], x[1] or b.constant(float(a["other"])))

    return form


def chain(*operators: str) -> Form:
    """One operator after the other."""

    def form(b: Builder, _: Attributes, x: list[str], __: list[Any], ___: Shape) -> str:
        value = x[0]
        for operator in operators:
            value = b.add(operator, value)
        return value

    return form


def linear(b: Builder, _: Attributes, x: list[str], shapes: list[Any], __: Shape) -> str:
    """Gemm of rows; MatMul and Add of what has more dimensions."""
    value, weight, bias = x
    if len(shapes[0]) == 2:
        return b.add("Gemm", value, weight, *([bias] if bias else []), transB=1)
    product = b.add("MatMul", value, b.add("Transpose", weight, perm=[1, 0]))
    return b.add("Add", product, bias) if bias else product


def convolution(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Conv with symmetric padding."""
    return b.add(
        "Conv",
        *(name for name in x if name),
        strides=a["stride"],
        pads=a["padding"] * 2,
        dilations=a["dilation"],
        group=a["groups"],
    )


def embedding(b: Builder, _: Attributes, x: list[str], __: list[Any], ___: Shape) -> str:
    """Gather of rows."""
    return b.add("Gather", *x, axis=0)


def index_select(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Gather along `dim`."""
    return b.add("Gather", *x, axis=a["dim"])


def batch_norm(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """BatchNormalization, which wants scale and bias."""
    channels = shapes[0][1]
    weight = x[1] or b.constant(np.ones(channels, np.float32))
    bias = x[2] or b.constant(np.zeros(channels, np.float32))
    return b.add("BatchNormalization", x[0], weight, bias, x[3], x[4], epsilon=a["eps"])


def layer_norm(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """LayerNormalization, which wants a scale."""
    normalized = a["normalized_shape"]
    weight = x[1] or b.constant(np.ones(normalized, np.float32))
    inputs = [x[0], weight, *([x[2]] if x[2] else [])]
    return b.add("LayerNormalization", *inputs, axis=-len(normalized), epsilon=a["eps"])


def group_norm(b: Builder, a: Attributes, x: list[str], shapes: list[Any], result: Shape) -> str:
    """InstanceNormalization of the groups, then weight and bias."""
    groups = a["num_groups"]
    grouped = b.add("Reshape", x[0], b.constant([0, groups, -1]))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    value = b.add(
        "InstanceNormalization", grouped, b.constant(ones), b.constant(zeros), epsilon=a["eps"]
    )
    value = b.add("Reshape", value, b.sizes(result))
    wide = b.constant([-1] + [1] * (len(result) - 2))
    for operator, name in (("Mul", x[1]), ("Add", x[2])):
        if name:
            value = b.add(operator, value, b.add("Reshape", name, wide))
    return value


def vector_norm(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """ReduceL1, ReduceL2, or powers."""
    order = float(a["ord"])
    axes, keep = b.constant(_axes(a, shapes)), int(a["keepdim"])
    if order in (1.0, 2.0):
        return b.add(f"ReduceL{int(order)}", x[0], axes, keepdims=keep)
    powers = b.add("Pow", b.add("Abs", x[0]), b.constant(order))
    return b.add("Pow", b.add("ReduceSum", powers, axes, keepdims=keep), b.constant(1 / order))


def reduce(operator: str) -> Form:
    """Along `dim`, or along all."""

    def form(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
        axes = b.constant(_axes(a, shapes))
        return b.add(operator, x[0], axes, keepdims=int(a["keepdim"]))

    return form


def silu(b: Builder, _: Attributes, x: list[str], __: list[Any], ___: Shape) -> str:
    """x × sigmoid(x)."""
    return b.add("Mul", x[0], b.add("Sigmoid", x[0]))


def hardsigmoid(b: Builder, _: Attributes, x: list[str], __: list[Any], ___: Shape) -> str:
    """clip(x / 6 + 1/2, 0, 1)."""
    return b.add("HardSigmoid", x[0], alpha=1 / 6, beta=0.5)


def elu(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """scale × (x where positive, else alpha × (exp(input_scale × x) - 1))."""
    scaled = b.add("Mul", x[0], b.constant(float(a["input_scale"])))
    negative = b.add("Elu", scaled, alpha=_number(a["alpha"]))
    zero = b.constant(0.0)
    value = b.add("Add", b.add("Max", x[0], zero), b.add("Min", negative, zero))
    return b.add("Mul", value, b.constant(float(a["scale"])))


def softplus(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """log(1 + exp(beta × x)) / beta; beyond PyTorch's threshold it is x to the last bits."""
    beta = b.constant(float(a["beta"]))
    return b.add("Div", b.add("Softplus", b.add("Mul", x[0], beta)), beta)


def clamp(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Clip."""
    bounds = ["" if a[k] is None else b.constant(float(a[k])) for k in ("min", "max")]
    return b.add("Clip", x[0], *bounds)


def prelu(b: Builder, _: Attributes, x: list[str], shapes: list[Any], __: Shape) -> str:
    """PRelu, whose slope broadcasts from the last dimension."""
    wide = b.constant([-1] + [1] * (len(shapes[0]) - 2))
    return b.add("PRelu", x[0], b.add("Reshape", x[1], wide))


def along(operator: str) -> Form:
    """Along `dim`."""

    def form(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
        return b.add(operator, x[0], axis=a["dim"])

    return form


def power(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Pow."""
    return b.add("Pow", x[0], b.constant(float(a["exponent"])))


def matmul(b: Builder, _: Attributes, x: list[str], __: list[Any], ___: Shape) -> str:
    """MatMul."""
    return b.add("MatMul", *x)


def attention(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """softmax(query × keyᵀ × scale + mask) × value."""
    query, key, value, mask = x
    rank = len(shapes[0])
    if shapes[0][:-2] != shapes[1][:-2]:  # queries in groups share keys and values
        times = shapes[0][-3] // shapes[1][-3]
        heads = b.constant(np.arange(shapes[1][-3]).repeat(times))
        key, value = (b.add("Gather", name, heads, axis=rank - 3) for name in (key, value))
    scale = a["scale"] if a["scale"] is not None else shapes[0][-1] ** -0.5
    turned = b.add("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = b.add("MatMul", b.add("Mul", query, b.constant(float(scale))), turned)
    if a["is_causal"]:
        causal = np.triu(np.full((shapes[0][-2], shapes[1][-2]), -np.inf, np.float32), 1)
        mask = b.constant(causal)
    if mask:
        scores = b.add("Add", scores, mask)
    return b.add("MatMul", b.add("Softmax", scores, axis=-1), value)


def max_pool(b: Builder, a: Attributes, x: list[str], shapes: list[Any], result: Shape) -> str:
    """MaxPool, padded behind as far as `ceil_mode` reaches."""
    return b.add(
        "MaxPool",
        x[0],
        kernel_shape=a["kernel_size"],
        strides=a["stride"],
        dilations=a["dilation"],
        pads=a["padding"] + _behind(a, shapes[0], result, a["padding"]),
    )


def avg_pool(b: Builder, a: Attributes, x: list[str], shapes: list[Any], result: Shape) -> str:
    """AveragePool. Padding counts only where it says so; what `ceil_mode` adds never does."""
    value, padding = x[0], a["padding"]
    before = padding
    if a.get("divisor_override") is not None:
        window = int(np.prod(a["kernel_size"]))
        value = b.add("Mul", value, b.constant(window / a["divisor_override"]))
        pads = padding + _behind(a, shapes[0], result, padding)
        value, before = _padded(b, value, len(shapes[0]), pads), [0] * len(padding)
        behind = [0] * len(padding)
    elif a["count_include_pad"] and any(padding):
        value, before = _padded(b, value, len(shapes[0]), padding * 2), [0] * len(padding)
        behind = [
            n - p for n, p in zip(_behind(a, shapes[0], result, padding), padding, strict=True)
        ]
        behind = [max(n, 0) for n in behind]
    else:
        behind = _behind(a, shapes[0], result, padding)
    return b.add(
        "AveragePool",
        value,
        kernel_shape=a["kernel_size"],
        strides=a["stride"],
        pads=before + behind,
        count_include_pad=0,
    )


def adaptive_avg_pool(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """A product with a matrix of means along each dimension."""
    sizes, wanted = shapes[0][2:], a["output_size"]
    if set(wanted) == {1}:
        axes = b.constant(list(range(2, len(shapes[0]))))
        return b.add("ReduceMean", x[0], axes, keepdims=1)
    value = b.add("MatMul", x[0], b.constant(_means(sizes[-1], wanted[-1]).T))
    if len(sizes) == 2:
        value = b.add("MatMul", b.constant(_means(sizes[0], wanted[0])), value)
    return value


def adaptive_max_pool(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """The greatest of each part, along one dimension after the other."""
    value = x[0]
    for at, (size, wanted) in enumerate(zip(shapes[0][2:], a["output_size"], strict=True), 2):
        axes = b.constant([at])
        parts = [
            b.add("ReduceMax", b.add("Slice", value, *map(b.constant, ([s], [e], [at]))), axes)
            for s, e in _parts(size, wanted)
        ]
        value = b.add("Concat", *parts, axis=at)
    return value


def reshape(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Reshape, the batch left to ONNX."""
    return b.add("Reshape", x[0], b.constant([-1 if n < 0 else n for n in a["shape"]]))


def permute(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Transpose."""
    return b.add("Transpose", x[0], perm=a["dims"])


def expand(b: Builder, _: Attributes, x: list[str], __: list[Any], result: Shape) -> str:
    """Expand."""
    return b.add("Expand", x[0], b.sizes(result))


def cat(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Concat."""
    return b.add("Concat", *x, axis=a["dim"])


def slice_(b: Builder, a: Attributes, x: list[str], _: list[Any], __: Shape) -> str:
    """Slice."""
    numbers = (a["start"], a["end"], a["dim"], a["step"])
    return b.add("Slice", x[0], *(b.constant([n]) for n in numbers))


def roll(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """The end before the beginning, along each dimension."""
    value = x[0]
    for shift, dim in zip(a["shifts"], a["dims"], strict=True):
        size = shapes[0][dim]
        if cut := -shift % size:
            spans = ((cut, size), (0, cut))
            parts = [b.add("Slice", value, *map(b.constant, ([s], [e], [dim]))) for s, e in spans]
            value = b.add("Concat", *parts, axis=dim)
    return value


def pad(b: Builder, a: Attributes, x: list[str], shapes: list[Any], _: Shape) -> str:
    """Pad, whose order of numbers is another."""
    rank, amounts = len(shapes[0]), a["pad"]
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i : 2 * i + 2]
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    filling = [] if a["mode"] != "constant" else [b.constant(float(a["value"] or 0))]
    return b.add("Pad", x[0], b.constant(before + after), *filling, mode=modes[a["mode"]])


def _axes(a: Attributes, shapes: list[Any]) -> list[int]:
    return list(a["dim"]) or list(range(len(shapes[0])))


def _number(value: Any) -> Any:
    return value if isinstance(value, str | bool) else float(value)


def _behind(a: Attributes, shape: Shape, result: Shape, padding: list[int]) -> list[int]:
    """Padding behind each dimension, so that rounding down gives the result's size."""
    dilation = a.get("dilation", [1] * len(padding))
    sizes = zip(
        shape[2:], result[2:], a["kernel_size"], a["stride"], padding, dilation, strict=True
    )
    return [max(p, (out - 1) * s + d * (k - 1) + 1 - n - p) for n, out, k, s, p, d in sizes]


def _padded(b: Builder, value: str, rank: int, pads: list[int]) -> str:
    half = len(pads) // 2
    fill = [0] * (rank - half)
    return b.add("Pad", value, b.constant([*fill, *pads[:half], *fill, *pads[half:]]))


def _parts(size: int, wanted: int) -> list[tuple[int, int]]:
    """PyTorch's adaptive windows."""
    return [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]


def _means(size: int, wanted: int) -> NDArray[np.float32]:
    matrix = np.zeros((wanted, size), np.float32)
    for row, (start, end) in zip(matrix, _parts(size, wanted), strict=True):
        row[start:end] = 1 / (end - start)
    return matrix
