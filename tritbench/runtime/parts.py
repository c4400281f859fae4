"""What steps are made of: views of buffers, elementwise functions, rows of a product, levels."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

# Elementwise functions of a `Post`, in the order of native/elementwise.h.
FUNCTIONS = (
    *("add", "sub", "rsub", "mul", "div", "rdiv", "maximum", "minimum"),
    *("relu", "leaky_relu", "clamp", "hardswish", "hardsigmoid", "abs", "neg", "reciprocal"),
    *("sqrt", "rsqrt", "exp", "log", "pow", "sigmoid", "silu", "tanh", "gelu", "gelu_tanh"),
    *("erf", "elu", "selu", "mish", "softplus", "prelu"),
)
REDUCTIONS = ("mean", "sum", "amax", "amin", "norm")


@dataclass(frozen=True)
class View:
    """Elements of a buffer, of 4 bytes each: `offset` + Σ index × stride."""

    buffer: int
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Post:
    """An elementwise function of what a step gives, before it is written.

    Attributes:
        function: one of FUNCTIONS.
        operand: the other operand, in the sizes of the result; None where it is the number `a`, or
            where there is none.
        a: a number of the function.
        b: another.
        c: another.
    """

    function: str
    operand: View | None = None
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0


@dataclass(frozen=True)
class Windows:
    """Where the rows of a product lie: one for each output position of padded maps.

    Attributes:
        base: of the first, elements.
        maps: how many.
        map_size: elements from one to the next.
        height: output positions.
        width: the same.
        line: elements from one line of positions to the next.
        pixel: elements from one position to the next.
        groups: of channels (of a grouped convolution).
        group: elements from one group's inputs to the next's.
    """

    base: int
    maps: int
    map_size: int
    height: int
    width: int
    line: int
    pixel: int
    groups: int
    group: int


@dataclass(frozen=True)
class Levels:
    """8 bits with a range that is known before: q = clamp(round(x × inverse) + zero, 0, 255).

    Attributes:
        zero: the zero point, 0 to 255.
        inverse: of the scale, finite and above 0.
    """

    zero: int
    inverse: float


@dataclass(frozen=True)
class Requantize:
    """A result as 8 bits, with zero points around, for the products that take it.

    Attributes:
        data: uint8 maps.
        padding: top, left, bottom, right.
        levels: of all maps.
    """

    data: int
    padding: tuple[int, ...]
    levels: Levels
