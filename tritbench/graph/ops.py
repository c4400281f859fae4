"""The operations of a graph: one row each. Names, inputs and attributes are ATen's.

What a row says is enough for all that works on graphs: the shape rule checks a file, the PyTorch
function is `torch.ops.aten.NAME` with the same names of arguments, `onnx` is its form in ONNX, and
`products` counts multiplications.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritbench.errors import TritbenchError
from tritbench.graph import onnx_forms as onnx
from tritbench.graph import shapes
from tritbench.graph.onnx_forms import Form
from tritbench.graph.shapes import Attributes, Rule, Shape, count

Products = Callable[[Sequence[Any], Attributes, Shape], int]

_REQUIRED = object()
LARGEST_INTEGER = 2**40


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be.

    Attributes:
        kind: bool, int, number (int or float), ints (a list), or one of the texts in `choices`.
        default: what it is where it is left out; without one it must be there.
        choices: the texts it may be.
    """

    kind: str
    default: Any = _REQUIRED
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is _REQUIRED

    def allows(self, value: Any) -> bool:
        """Whether `value`, plain JSON, is of the kind."""
        if value is None:
            return self.default is None
        match self.kind:
            case "bool":
                return isinstance(value, bool)
            case "int":
                return _is_int(value)
            case "number":
                return _is_int(value) or (isinstance(value, float) and abs(value) < float("inf"))
            case "ints":
                return isinstance(value, list) and len(value) <= 16 and all(map(_is_int, value))
        return value in self.choices


@dataclass(frozen=True)
class Op:
    """A row of `OPS`.

    Attributes:
        inputs: names of the tensors it takes; one that ends in `?` may be missing, one that ends
            in `*` is a list of them.
        shape: of its result.
        onnx: how ONNX says it.
        attributes: by name.
        products: multiplications for one image, where they are worth counting.
        fixed: further arguments of the PyTorch function.
    """

    inputs: tuple[str, ...]
    shape: Rule
    onnx: Form
    attributes: dict[str, Attribute] = field(default_factory=dict)
    products: Products = lambda _shapes, _attributes, _result: 0
    fixed: dict[str, Any] = field(default_factory=dict)

    def complete(self, attributes: Attributes) -> dict[str, Any]:
        """All attributes, those left out at their defaults.

        Raises:
            TritbenchError: naming one that is missing, unknown, or of another kind.
        """
        if unknown := sorted(set(attributes) - set(self.attributes)):
            raise TritbenchError(f"unknown attribute {unknown[0]!r:.80}")
        result = {}
        for name, attribute in self.attributes.items():
            value = attributes.get(name, attribute.default)
            if value is _REQUIRED:
                raise TritbenchError(f"attribute {name} is missing")
            if not attribute.allows(value):
                expected = " or ".join(attribute.choices) or attribute.kind
                raise TritbenchError(f"attribute {name} = {value!r:.80}, expected {expected}")
            result[name] = value
        return result

    def shortest(self, attributes: Attributes) -> dict[str, Any]:
        """Without what is at its default."""
        defaults = {name: attribute.default for name, attribute in self.attributes.items()}
        return {name: v for name, v in attributes.items() if v != defaults[name]}


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST_INTEGER


def _weighted(inputs: Sequence[Any], _: Attributes, result: Shape) -> int:
    """Each output element takes as many products as a row of the weight has elements."""
    return count(result) * count(inputs[1][1:])


def _matmul(inputs: Sequence[Any], _: Attributes, result: Shape) -> int:
    return count(result) * int(inputs[0][-1])


def _attention(inputs: Sequence[Any], _: Attributes, __: Shape) -> int:
    query, key, value, _mask = inputs
    return count(query[:-1]) * int(key[-2]) * int(query[-1] + value[-1])


_INT, _INTS = Attribute("int"), Attribute("ints")
_FALSE = Attribute("bool", False)
_EPS = Attribute("number", 1e-5)
_OTHER = {"other": Attribute("number", None)}
_DIM = {"dim": Attribute("int", -1)}
_REDUCED = {"dim": Attribute("ints", []), "keepdim": _FALSE}


def _convolution(rank: int) -> Op:
    ones, zeros = Attribute("ints", [1] * rank), Attribute("ints", [0] * rank)
    attributes = {"stride": ones, "padding": zeros, "dilation": ones, "groups": Attribute("int", 1)}
    inputs = ("input", "weight", "bias?")
    return Op(inputs, shapes.convolution(rank), onnx.convolution, attributes, _weighted)


def _pool(rank: int, form: Form, **more: Attribute) -> Op:
    zeros = Attribute("ints", [0] * rank)
    windows = {"kernel_size": _INTS, "stride": _INTS, "padding": zeros, "ceil_mode": _FALSE}
    return Op(("self",), shapes.pool(rank), form, windows | more)


def _adaptive(rank: int, form: Form) -> Op:
    return Op(("self",), shapes.adaptive_pool(rank), form, {"output_size": _INTS})


def _elementwise(form: Form | str, **attributes: Attribute) -> Op:
    form = onnx.unary(form) if isinstance(form, str) else form
    return Op(("self",), shapes.same, form, attributes)


def _binary(operator: str, **attributes: Attribute) -> Op:
    """Of two tensors, or of a tensor and the number in the attribute."""
    return Op(("self", "other?"), shapes.operands, onnx.binary(operator), attributes)


def _reduction(operator: str) -> Op:
    return Op(("self",), shapes.reduce, onnx.reduce(operator), _REDUCED)


def _number(value: float) -> Attribute:
    return Attribute("number", value)


OPS: dict[str, Op] = {
    # With weights
    "linear": Op(("input", "weight", "bias?"), shapes.linear, onnx.linear, {}, _weighted),
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "embedding": Op(("weight", "indices"), shapes.embedding, onnx.embedding),
    # Normalization
    "batch_norm": Op(
        ("input", "weight?", "bias?", "running_mean", "running_var"),
        shapes.per_channel,
        onnx.batch_norm,
        {"eps": _EPS},
        fixed={"training": False, "momentum": 0.0, "cudnn_enabled": False},
    ),
    "layer_norm": Op(
        ("input", "weight?", "bias?"),
        shapes.layer_norm,
        onnx.layer_norm,
        {"normalized_shape": _INTS, "eps": _EPS},
        fixed={"cudnn_enable": False},
    ),
    "group_norm": Op(
        ("input", "weight?", "bias?"),
        shapes.group_norm,
        onnx.group_norm,
        {"num_groups": _INT, "eps": _EPS},
        fixed={"cudnn_enabled": False},
    ),
    "linalg_vector_norm": Op(
        ("self",), shapes.reduce, onnx.vector_norm, _REDUCED | {"ord": _number(2)}
    ),
    # Activations
    "relu": _elementwise("Relu"),
    "leaky_relu": _elementwise(
        onnx.unary("LeakyRelu", alpha="negative_slope"), negative_slope=_number(0.01)
    ),
    "prelu": Op(("self", "weight"), shapes.prelu, onnx.prelu),
    "elu": _elementwise(onnx.elu, alpha=_number(1), scale=_number(1), input_scale=_number(1)),
    "selu": _elementwise("Selu"),
    "gelu": _elementwise(
        onnx.unary("Gelu", approximate="approximate"),
        approximate=Attribute("text", "none", ("none", "tanh")),
    ),
    "silu": _elementwise(onnx.silu),
    "mish": _elementwise("Mish"),
    "hardswish": _elementwise("HardSwish"),
    "hardsigmoid": _elementwise(onnx.hardsigmoid),
    "sigmoid": _elementwise("Sigmoid"),
    "tanh": _elementwise("Tanh"),
    "softplus": _elementwise(onnx.softplus, beta=_number(1), threshold=_number(20)),
    "clamp": Op(
        ("self",),
        shapes.clamp,
        onnx.clamp,
        {"min": Attribute("number", None), "max": Attribute("number", None)},
    ),
    "softmax": Op(("self",), shapes.same_along_dim, onnx.along("Softmax"), _DIM),
    "log_softmax": Op(("self",), shapes.same_along_dim, onnx.along("LogSoftmax"), _DIM),
    # Arithmetic
    "add": _binary("Add", **_OTHER),
    "sub": _binary("Sub", **_OTHER),
    "mul": _binary("Mul", **_OTHER),
    "div": _binary("Div", **_OTHER),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "exp": _elementwise("Exp"),
    "log": _elementwise("Log"),
    "sqrt": _elementwise("Sqrt"),
    "rsqrt": _elementwise(onnx.chain("Sqrt", "Reciprocal")),
    "reciprocal": _elementwise("Reciprocal"),
    "abs": _elementwise("Abs"),
    "neg": _elementwise("Neg"),
    "erf": _elementwise("Erf"),
    "pow": _elementwise(onnx.power, exponent=Attribute("number")),
    "matmul": Op(("self", "other"), shapes.matmul, onnx.matmul, {}, _matmul),
    "scaled_dot_product_attention": Op(
        ("query", "key", "value", "attn_mask?"),
        shapes.attention,
        onnx.attention,
        {"is_causal": _FALSE, "scale": Attribute("number", None), "enable_gqa": _FALSE},
        _attention,
    ),
    # Pooling and reduction
    "max_pool1d": _pool(1, onnx.max_pool, dilation=Attribute("ints", [1])),
    "max_pool2d": _pool(2, onnx.max_pool, dilation=Attribute("ints", [1, 1])),
    "avg_pool1d": _pool(1, onnx.avg_pool, count_include_pad=Attribute("bool", True)),
    "avg_pool2d": _pool(
        2,
        onnx.avg_pool,
        count_include_pad=Attribute("bool", True),
        divisor_override=Attribute("int", None),
    ),
    "adaptive_avg_pool1d": _adaptive(1, onnx.adaptive_avg_pool),
    "adaptive_avg_pool2d": _adaptive(2, onnx.adaptive_avg_pool),
    "adaptive_max_pool2d": _adaptive(2, onnx.adaptive_max_pool),
    "mean": _reduction("ReduceMean"),
    "sum": _reduction("ReduceSum"),
    "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"),
    # Shapes
    "reshape": Op(("self",), shapes.reshape, onnx.reshape, {"shape": _INTS}),
    "permute": Op(("self",), shapes.permute, onnx.permute, {"dims": _INTS}),
    "expand": Op(("self",), shapes.expand, onnx.expand, {"size": _INTS}),
    "cat": Op(("tensors*",), shapes.cat, onnx.cat, {"dim": Attribute("int", 0)}),
    "slice": Op(
        ("self",),
        shapes.slice_,
        onnx.slice_,
        {"dim": _INT, "start": Attribute("int", 0), "end": _INT, "step": Attribute("int", 1)},
    ),
    "index_select": Op(("self", "index"), shapes.index_select, onnx.index_select, {"dim": _INT}),
    "roll": Op(("self",), shapes.roll, onnx.roll, {"shifts": _INTS, "dims": _INTS}),
    "pad": Op(
        ("self",),
        shapes.pad,
        onnx.pad,
        {
            "pad": _INTS,
            "mode": Attribute("text", "constant", ("constant", "reflect", "replicate", "circular")),
            "value": Attribute("number", None),
        },
    ),
}
