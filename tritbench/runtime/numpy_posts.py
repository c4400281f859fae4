"""The elementwise functions of `Post` in NumPy, bit for bit as the engine computes them.

All is float32 and rounded on its own, but for what is rare: computed in float64 and rounded once.
"""

from collections.abc import Callable

import numpy as np

from tritbench.runtime.float_reference import UNARY, Floats, clamp
from tritbench.runtime.parts import Post

f32 = np.float32
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def greater(a: Floats, b: Floats) -> Floats:
    """NaN where one is."""
    return np.where((a != a) | (a > b), a, b)


def less(a: Floats, b: Floats) -> Floats:
    """NaN where one is."""
    return np.where((a != a) | (a < b), a, b)


BINARY: dict[str, Callable[[Floats, Floats], Floats]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "rsub": lambda x, y: y - x,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "rdiv": lambda x, y: y / x,
    "maximum": greater,
    "minimum": less,
    "prelu": lambda x, y: np.where(x < 0, x * y, x),
}


def relu(x: Floats) -> Floats:
    """NaN stays."""
    return np.where(x < 0, f32(0), x)


def apply(post: Post, x: Floats, operand: Floats | None) -> Floats:
    """The function of x and of an operand in its shape."""
    a, b, c = (float(f32(n)) for n in (post.a, post.b, post.c))
    if post.function in BINARY:
        return BINARY[post.function](x, np.full_like(x, a) if operand is None else operand)
    if post.function in UNARY:
        return UNARY[post.function](x)
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        match post.function:
            case "relu":
                return relu(x)
            case "leaky_relu":
                return np.where(x < 0, x * f32(a), x)
            case "clamp":
                return clamp(x, a, b)
            case "abs":
                return np.abs(x)
            case "neg":
                return -x
            case "reciprocal":
                return np.asarray(f32(1) / x, f32)
            case "sqrt":
                return np.sqrt(x)
            case "rsqrt":
                return np.asarray(f32(1) / np.sqrt(x), f32)
            case "log":
                return np.log(wide).astype(f32)
            case "pow":
                return np.power(wide, a).astype(f32)
            case "elu":
                return (b * np.where(wide > 0, wide, a * np.expm1(wide * c))).astype(f32)
            case "selu":
                low = _SELU_ALPHA * np.expm1(wide)
                return (_SELU_SCALE * np.where(wide > 0, wide, low)).astype(f32)
            case "mish":
                soft = np.where(wide > 40, wide, np.log1p(np.exp(wide)))
                return (wide * np.tanh(soft)).astype(f32)
            case "softplus":
                soft = np.log1p(np.exp(wide * a)) / a
                return np.where(wide * a > b, wide, soft).astype(f32)
    raise AssertionError(post.function)
