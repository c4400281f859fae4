"""The kernels of floats give the bits of their reference, with every instruction set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_kernels import (
    Attention,
    DepthwiseBytes,
    DepthwiseFloats,
    FloatPanels,
    Rows,
    Sliding,
    aligned,
    call,
    in_panels,
)

from tritbench import runtime
from tritbench.runtime import float_reference as reference
from tritbench.runtime.float_reference import Window

pytestmark = [
    pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built"),
    pytest.mark.isa,
]
ISAS = runtime.available_isas()
f32 = np.float32
INFINITY = float("inf")
seeds = st.integers(0, 2**32 - 1)
examples = settings(max_examples=40, deadline=None)


def normal(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(f32)


def same_bits(found, expected):
    expected = np.ascontiguousarray(expected, f32)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def pointer(array):
    return None if array is None else array.ctypes.data


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", reference.UNARY)
def test_functions_of_one_value(isa, name):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 88.7, 88.8, -87.3, -87.4, 1e38, -1e38]
    x = np.concatenate([f32(special), np.linspace(-100, 100, 10007, dtype=f32), normal(0, 1000)])
    found = np.empty_like(x)
    call(isa, "unary", list(reference.UNARY).index(name), x, x.size, found)
    with np.errstate(all="ignore"):
        expected = reference.UNARY[name](x)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    same_bits(found[~nan], expected[~nan])


FLOAT64 = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "hardsigmoid": torch.nn.functional.hardsigmoid,
    "hardswish": torch.nn.functional.hardswish,
}
# The greatest errors, relative to the result; of gelu, a difference near -∞, to its argument.
ERRORS = {
    "exp": 0.9e-7,
    "sigmoid": 1.6e-7,
    "silu": 1.8e-7,
    "tanh": 1.4e-7,
    "erf": 4.3e-7,
    "gelu": 2.6e-7,
    "gelu_tanh": 1.3e-7,
    "hardsigmoid": 1.3e-7,
    "hardswish": 1.8e-7,
}


@pytest.mark.parametrize("name", ERRORS)
def test_functions_are_as_near_as_their_error_says(name):
    x = np.concatenate([np.linspace(-20, 20, 400_001), np.linspace(-87, 88, 300_001)]).astype(f32)
    exact = FLOAT64[name](torch.from_numpy(x.astype(np.float64))).numpy()
    size = np.abs(x) if name.startswith("gelu") else np.abs(exact)
    normal = size > 1e-37
    error = np.abs(reference.UNARY[name](x) - exact)[normal] / size[normal]
    assert ERRORS[name] / 1.2 <= error.max() <= ERRORS[name]


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(rows=st.integers(1, 5), count=st.integers(1, 200), more=st.integers(0, 5), seed=seeds)
def test_layer_norm_and_softmax(isa, rows, count, more, seed):
    x = normal(seed, rows, count + more, scale=3)
    weight, bias = normal(seed + 1, count), normal(seed + 2, count)
    rows_of = (rows, count, count + more)
    inner = x[:, :count]
    for w, b in [(weight, bias), (weight, None), (None, None)]:
        found = np.zeros((rows, count), f32)
        call(isa, "layer_norm", x, *rows_of, pointer(w), pointer(b), 1e-5, found, count)
        same_bits(found, reference.layer_norm(inner, w, b, 1e-5))
    for logarithm in (False, True):
        call(isa, "softmax", x, *rows_of, logarithm, found, count)
        same_bits(found, reference.softmax(inner, logarithm))


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(pixels=st.integers(1, 20), groups=st.integers(1, 5), size=st.integers(1, 40), seed=seeds)
def test_group_norm_and_mean(isa, pixels, groups, size, seed):
    channels = groups * size
    x, weight, bias = normal(seed, pixels, channels), normal(1, channels), normal(2, channels)
    found = np.zeros_like(x)
    call(
        isa,
        "group_norm",
        x,
        pixels,
        channels,
        groups,
        channels,
        weight,
        bias,
        1e-5,
        found,
        channels,
    )
    same_bits(found, reference.group_norm(x, groups, weight, bias, 1e-5))
    call(isa, "mean", x, pixels, channels, channels, found)
    same_bits(found[0], reference.sum_first(x) / f32(pixels))


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(
    rows=st.integers(1, 20),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 150),
    transposed=st.booleans(),
    seed=seeds,
)
def test_matmul(isa, rows, inputs, outputs, transposed, seed):
    x, bias = normal(seed, rows, inputs), normal(seed + 1, outputs)
    weight = normal(seed + 2, inputs, outputs)
    stored = np.ascontiguousarray(weight.T) if transposed else weight
    packed = aligned(np.zeros((-(-outputs // 16), inputs, 16), f32))
    strides = (1, inputs) if transposed else (outputs, 1)
    call(isa, "pack_panels", stored, inputs, outputs, *strides, packed)
    np.testing.assert_array_equal(packed, in_panels(weight))
    found = np.zeros((rows, outputs), f32)
    weights = (outputs, 1, inputs, None, pointer(packed))
    call(
        isa,
        "matmul",
        FloatPanels(*weights, None, -INFINITY, INFINITY),
        x,
        inputs,
        rows,
        found,
        outputs,
    )
    same_bits(found, reference.matmul(x, weight))
    panels = in_panels(bias)
    call(
        isa, "matmul", FloatPanels(*weights, pointer(panels), 0, 1), x, inputs, rows, found, outputs
    )
    same_bits(found, reference.clamp(reference.matmul(x, weight) + bias, 0, 1))


@pytest.mark.parametrize("isa", ISAS)
def test_convolution_is_a_product_with_taps(isa):
    x = normal(0, 9, 8, 5)
    weight = normal(1, 3, 2, 5, 20)  # kernel, inputs, outputs
    packed = in_panels(weight.reshape(-1, 20))
    offsets = np.array([(ky * 8 + kx) * 5 for ky in range(3) for kx in range(2)], np.int64)
    found = np.zeros((7, 7, 20), f32)
    panels = FloatPanels(20, 6, 5, pointer(offsets), pointer(packed), None, -INFINITY, INFINITY)
    for y in range(7):
        call(isa, "matmul", panels, x[y], 5, 7, found[y], 20)
    taps = np.concatenate(list(Window((3, 2), (7, 7)).taps(x)), -1)
    same_bits(found, reference.matmul(taps, weight.reshape(-1, 20)))


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(
    queries=st.integers(1, 30),
    keys=st.integers(1, 70),
    size=st.integers(1, 20),
    value_size=st.integers(1, 40),
    masked=st.booleans(),
    causal=st.booleans(),
    seed=seeds,
)
def test_attention(isa, queries, keys, size, value_size, masked, causal, seed):
    query, key, value = (
        normal(seed + i, *shape, scale=2)
        for i, shape in enumerate([(queries, size), (keys, size), (keys, value_size)])
    )
    mask = normal(seed + 3, queries, keys) if masked else None
    if mask is not None:
        mask[np.random.default_rng(seed).random(mask.shape) < 0.3] = -np.inf
        mask[0] = -np.inf
    head = Attention(
        *(queries, keys, size, value_size),
        *(pointer(query), pointer(key), pointer(value), size, size, value_size),
        *(pointer(mask), keys, causal, 0.3),
    )
    lanes, value_lanes = -(-keys // 16) * 16, -(-value_size // 16) * 16
    room = np.zeros(lanes * size + keys * value_lanes + 24 * (lanes + value_lanes), f32)
    found = np.zeros((queries, value_size), f32)
    middle = queries // 2
    call(isa, "attention", head, 0, middle, room, found, value_size)
    call(isa, "attention", head, middle, queries, room, found, value_size)
    expected = reference.attention(query, key, value, mask, causal, 0.3)
    same_bits(found, expected)
    torch_mask = None if mask is None else torch.from_numpy(mask)
    if causal:
        hidden = torch.ones(queries, keys, dtype=torch.bool).tril().logical_not()
        torch_mask = torch.zeros(queries, keys) if mask is None else torch_mask
        torch_mask = torch_mask.masked_fill(hidden, -torch.inf)
    exact = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (query, key, value)), attn_mask=torch_mask, scale=0.3
    )
    np.testing.assert_allclose(found, exact.numpy(), rtol=1e-4, atol=1e-5)


OPERATORS = (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(
    kind=st.integers(0, 5),
    rows=st.integers(1, 4),
    count=st.integers(1, 50),
    shape=st.sampled_from(["full", "row", "column", "one"]),
    seed=seeds,
)
def test_two_operands_broadcast_along_rows_or_columns(isa, kind, rows, count, shape, seed):
    sizes = {"full": (rows, count), "row": (1, count), "column": (rows, 1), "one": (1, 1)}[shape]
    a, b = normal(seed, rows, count), normal(seed + 1, *sizes)
    a[0, 0] = np.nan
    stride = sizes[1] if sizes[0] > 1 else 0
    found = np.zeros_like(a)
    step = int(sizes[1] > 1 or count == 1)
    other = Rows(pointer(b), stride, step)
    call(isa, "binary", kind, Rows(pointer(a), count, 1), other, rows, count, found, count)
    np.testing.assert_array_equal(found, OPERATORS[kind](a, b))


@st.composite
def sliding(draw, channels, padded=True):
    """A window, and the map that it slides over."""
    pair = lambda low, high: st.tuples(*[st.integers(low, high)] * 2)  # noqa: E731
    kernel, stride, dilation = draw(pair(1, 7)), draw(pair(1, 3)), draw(pair(1, 2))
    size = draw(pair(1, 9))
    reach = [
        s * (n - 1) + d * (k - 1) + 1
        for k, n, s, d in zip(kernel, size, stride, dilation, strict=True)
    ]
    padding = tuple(min(k // 2, (r - 1) // 2) * padded for k, r in zip(kernel, reach, strict=True))
    height, width = (
        r - 2 * p + draw(st.integers(0, 1)) for r, p in zip(reach, padding, strict=True)
    )
    window = Window(kernel, size, stride, padding, dilation)
    pixel = draw(channels)
    fields = (*kernel, *stride, *padding, *dilation)
    return window, Sliding(height, width, pixel, *fields, size[1]), (height, width, pixel)


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(case=sliding(st.integers(1, 40)), include=st.booleans(), seed=seeds)
def test_pools(isa, case, include, seed):
    window, fields, shape = case
    x = normal(seed, *shape)
    found = np.zeros((*window.size, shape[2]), f32)
    middle = window.size[0] // 2
    for y0, y1 in [(0, middle), (middle, window.size[0])]:
        call(isa, "max_pool", fields, x, y0, y1, found)
    same_bits(found, reference.max_pool(x, window))
    for divisor in (0, 7):
        call(isa, "average_pool", fields, include, divisor, x, 0, window.size[0], found)
        same_bits(found, reference.average_pool(x, window, include, divisor))


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(case=sliding(st.integers(1, 40)), seed=seeds)
def test_depthwise_convolution_of_floats(isa, case, seed):
    window, fields, shape = case
    channels = shape[2]
    x = np.concatenate([normal(seed, *shape).ravel(), np.zeros(16, f32)])
    weight, bias = normal(seed + 1, *window.kernel, channels), normal(seed + 2, channels)
    packed, biases = in_panels(weight), in_panels(bias)
    weights = DepthwiseFloats(len(packed), pointer(packed), pointer(biases), -1, 6)
    found = np.zeros((*window.size, 16 * len(packed)), f32)
    middle = window.size[0] // 2
    for y0, y1 in [(0, middle), (middle, window.size[0])]:
        call(isa, "depthwise_floats", weights, fields, x, y0, y1, found, 16 * len(packed))
    expected = reference.depthwise(x[:-16].reshape(shape), weight, window) + bias
    same_bits(found[..., :channels], reference.clamp(expected, -1, 6))


@pytest.mark.parametrize("isa", ISAS)
@examples
@given(
    case=sliding(st.integers(1, 70), padded=False),
    zero=st.integers(0, 255),
    extreme=st.booleans(),
    seed=seeds,
)
def test_depthwise_convolution_of_bytes(isa, case, zero, extreme, seed):
    window, fields, shape = case
    channels, random = shape[2], np.random.default_rng(seed)
    x = random.integers(255 if extreme else 0, 256, np.prod(shape) + 64).astype(np.uint8)
    weight = random.integers(-127, -126 if extreme else 128, (*window.kernel, channels))
    scales, bias = normal(seed + 1, channels), normal(seed + 2, channels)
    lines = -window.kernel[0] % 4
    quads = np.pad(weight, ((0, lines), (0, 0), (0, 0)))
    quads = quads.reshape(-1, 4, window.kernel[1], channels).transpose(0, 2, 1, 3)
    packed = aligned(np.moveaxis(in_panels(quads), -2, -1).astype(np.int8))
    sums, scale_panels, biases = (
        in_panels(values) for values in (weight.sum((0, 1)).astype(np.int32), scales, bias)
    )
    weights = DepthwiseBytes(
        len(packed), *map(pointer, (packed, scale_panels, sums, biases)), -INFINITY, INFINITY
    )
    found = np.zeros((*window.size, 16 * len(packed)), f32)
    middle = window.size[0] // 2
    for y0, y1 in [(0, middle), (middle, window.size[0])]:
        lines_of = (y0, y1, found, 16 * len(packed))
        call(isa, "depthwise_bytes", weights, fields, x, 0.01, zero, *lines_of)
    inside = x[:-64].reshape(shape)
    expected = reference.depthwise_bytes(inside, zero, 0.01, weight, scales, window) + bias
    same_bits(found[..., :channels], expected)
