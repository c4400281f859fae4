"""What is fused into the step before it: elementwise functions whose operands are known by then."""

import math
from collections.abc import Callable
from typing import Any

from tritbench.graph.graph import Node
from tritbench.runtime import views
from tritbench.runtime.builder import Builder, image_shape
from tritbench.runtime.parts import Post, View
from tritbench.runtime.views import Value

BINARY = {
    "add": ("add", "add"),
    "sub": ("sub", "rsub"),
    "mul": ("mul", "mul"),
    "div": ("div", "rdiv"),
    "maximum": ("maximum", "maximum"),
    "minimum": ("minimum", "minimum"),
}
INFINITY = math.inf
# The numbers of a function, from a node's attributes.
UNARY: dict[str, Callable[[Any], tuple[str, tuple[float, ...]]]] = {
    **{
        name: lambda a, name=name: (name, ())  # type: ignore[misc]
        for name in (
            *("relu", "silu", "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh", "selu"),
            *("exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "neg", "erf"),
        )
    },
    "leaky_relu": lambda a: ("leaky_relu", (a["negative_slope"],)),
    "elu": lambda a: ("elu", (a["alpha"], a["scale"], a["input_scale"])),
    "gelu": lambda a: ("gelu" if a["approximate"] == "none" else "gelu_tanh", ()),
    "softplus": lambda a: ("softplus", (a["beta"], a["threshold"])),
    "clamp": lambda a: (
        "clamp",
        (
            -INFINITY if a["min"] is None else a["min"],
            INFINITY if a["max"] is None else a["max"],
        ),
    ),
    "pow": lambda a: ("pow", (a["exponent"],)),
}
ELEMENTWISE = {*BINARY, *UNARY, "prelu"}

AsView = Callable[[Value], View | None]


def following(builder: Builder, node: Node) -> Node | None:
    """The one node that reads a result, where there is no other."""
    found = builder.users.get(node.name, [])
    return found[0] if len(found) == 1 and node.name != builder.graph.output else None


def fuse(
    builder: Builder, node: Node, result: Value, as_view: AsView
) -> tuple[tuple[Post, ...], Node]:
    """The functions after a node that can be part of its step, and the last node that they are.

    Args:
        builder: where values are known.
        node: the first; `result` is where its result will lie.
        result: in the layout of the step.
        as_view: of an operand in the result's shape, as the step reads it; None where it cannot.
    """
    posts = []
    while True:
        after = following(builder, node)
        if after is None or after.op not in ELEMENTWISE or after.shape != node.shape:
            break
        if any(n is not None and n != node.name and not known(builder, n) for n in after.inputs):
            break
        posts.append(post(builder, after, node.name, result, as_view))
        builder.done.add(after.name)
        node = after
    return tuple(posts), node


def known(builder: Builder, name: str) -> bool:
    """Whether a value is there already."""
    graph = builder.graph
    return name in builder.values or name in graph.parameters or name in graph.inputs


def post(builder: Builder, node: Node, taken: str, result: Value, as_view: AsView) -> Post:
    """An elementwise node as a function of `taken`, one of its inputs."""
    if node.op in UNARY:
        function, numbers = UNARY[node.op](node.attributes)
        return Post(function, None, *(float(n) for n in numbers))
    first, second = node.inputs[0], node.inputs[1]
    function = "prelu" if node.op == "prelu" else BINARY[node.op][0 if first == taken else 1]
    if second is None:
        return Post(function, None, float(node.attributes["other"]))
    operand = builder.take(second if first == taken else first)
    shape = image_shape(node.shape)
    if node.op == "prelu" and operand.size > 1:
        operand = builder.reshaped(operand, (operand.size, *(1,) * (len(shape) - 2)))
    wide = views.expanded(operand, shape)
    view = as_view(wide)
    if view is None:
        view = as_view(builder.copied(wide, views.dense_like(result)))
    assert view is not None
    return Post(function, view)


def elementwise(builder: Builder, node: Node) -> None:
    """A node of ELEMENTWISE that nothing before it took, and those after it, as one step."""
    from tritbench.runtime.steps import Elementwise

    shape = image_shape(node.shape)
    names = [name for name in node.inputs if name is not None]
    sizes = [builder.take(name).size for name in names]
    taken = names[0] if node.op == "prelu" else names[sizes.index(max(sizes))]
    x = views.expanded(builder.take(taken), shape)
    result = builder.make(shape, views.dense_like(x))
    operands: list[Value] = []

    def as_view(value: Value) -> View:
        operands.append(value)
        return View(len(operands) - 1, 0, (), ())

    first = post(builder, node, taken, result, as_view)
    builder.done.add(node.name)
    posts, last = fuse(builder, node, result, as_view)
    found = views.aligned([result, x, *operands])
    if found is None:
        plain = [builder.copied(value, result.dims) for value in (x, *operands)]
        found = views.aligned([result, *plain])
    assert found is not None
    out, given, *others = found
    chain = tuple(
        Post(p.function, None if p.operand is None else others[p.operand.buffer], p.a, p.b, p.c)
        for p in (first, *posts)
    )
    builder.add(Elementwise(given, chain, out))
    builder.values[last.name] = result
