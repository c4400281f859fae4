"""Graphs of random operations and shapes, with packed weights; and packed weights of any graph."""

import numpy as np

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph, Node, Value, add_node
from tritbench.graph.ops import OPS
from tritbench.packing import Network, Normalization
from tritbench.packing.weights import IntegerArray, PackedGraph, TernaryArray

UNARY = (
    *("relu", "leaky_relu", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "clamp"),
    *("abs", "neg", "erf", "elu", "selu", "mish", "softplus", "exp", "softmax", "log_softmax"),
)
ATTRIBUTES = {
    "clamp": {"min": -1.0, "max": 1.5},
    "gelu": {"approximate": "tanh"},
    "exp": {},
}


def ternary(random, shape, group_size=None, two_sided=False, one_row=False):
    """Random trits with random scales."""
    inputs = int(np.prod(shape[1:]))
    size = min(group_size or inputs, inputs)
    trits = random.integers(-1, 2, (shape[0], inputs), np.int8)
    sizes = (1 if one_row else shape[0], -(-inputs // size))
    scale = random.normal(0, 0.3, sizes).astype(np.float32)
    negative = random.normal(0, 0.3, sizes).astype(np.float32) if two_sided else None
    return TernaryArray(trits, scale, size, tuple(shape), negative)


def integer(random, shape):
    """Random 8-bit weights."""
    values = random.integers(-127, 128, (shape[0], int(np.prod(shape[1:]))), np.int8)
    return IntegerArray(
        values, random.uniform(0.001, 0.01, (shape[0], 1)).astype(np.float32), shape
    )


KINDS = {
    "float": lambda random, shape: None,
    "ternary": ternary,
    "groups": lambda random, shape: ternary(random, shape, 5),
    "two-sided": lambda random, shape: ternary(random, shape, 7, two_sided=True),
    "a scale for all": lambda random, shape: ternary(random, shape, one_row=True),
    "integer": integer,
}


def packed(graph: Graph, random, kinds, normalization=None) -> Network:
    """A network whose weights are each of one of `kinds`, keys of KINDS."""
    weights = {}
    for name in graph.weights():
        kind = str(random.choice(list(kinds)))
        made = KINDS[kind](random, graph.parameters[name].shape)
        if made is not None:
            weights[name] = made
    return Network(PackedGraph(graph, weights), normalization, [], "base3", {}, {})


class Maker:
    """Adds nodes to a graph of maps [-1, channels, height, width], or of tokens [-1, rows, n]."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.parameters = {}
        self.nodes = []
        self.known = {}

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def parameter(self, *shape):
        name = f"p{len(self.parameters)}"
        self.parameters[name] = self.random.normal(0, 0.5, shape).astype(np.float32)
        self.known[name] = shape
        return name

    def add(self, op, *inputs, **attributes):
        """The name of a new node; a TritbenchError where it does not fit."""
        node = Node(f"n{len(self.nodes)}", op, inputs, attributes, ())
        node = add_node(self.known, node)
        self.known[node.name] = node.shape
        self.nodes.append(node)
        return node.name

    def step(self, x):
        """One operation more on a value, or none."""
        shape = self.known[x]
        moves = [self.unary, self.binary, self.shuffle, self.norm]
        moves += [self.conv, self.conv, self.pool] if len(shape) == 4 else [self.tokens] * 3
        return self.pick(*moves)(x, shape)

    def unary(self, x, shape):
        op = self.pick(*UNARY)
        attributes = dict(ATTRIBUTES.get(op, {}))
        if "softmax" in op:
            attributes["dim"] = int(self.random.integers(1, len(shape)))
        return self.add(op, self.add("tanh", x) if op == "exp" else x, **attributes)

    def binary(self, x, shape):
        op = self.pick("add", "sub", "mul", "maximum", "minimum")
        same = [n for n, s in self.known.items() if s == shape and n not in self.parameters]
        if self.random.random() < 0.5 and same:
            other = self.pick(*same)
            return self.add(op, *((x, other) if self.random.random() < 0.5 else (other, x)))
        sizes = [self.pick(1, n) for n in shape[1:]]
        return self.add(op, x, self.parameter(*sizes))

    def conv(self, x, shape):
        channels = shape[1]
        groups = self.pick(*(g for g in range(1, channels + 1) if channels % g == 0))
        outputs = groups * self.pick(1, 1, 2, 5) if groups > 1 else self.pick(3, 16, 17, 24)
        if groups == channels and self.random.random() < 0.7:
            outputs = channels
        kernel = [self.pick(1, 2, 3), self.pick(1, 3)]
        weight = self.parameter(outputs, channels // groups, *kernel)
        return self.add(
            "conv2d",
            x,
            weight,
            self.pick(None, self.parameter(outputs)),
            stride=[self.pick(1, 1, 2), self.pick(1, 2)],
            padding=[self.pick(0, 1), self.pick(0, 1, 2)],
            dilation=[self.pick(1, 1, 2), 1],
            groups=groups,
        )

    def pool(self, x, shape):
        kind = self.pick("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "flatten")
        if kind == "flatten":
            return self.add("reshape", x, shape=[-1, shape[2] * shape[3], shape[1]])
        if kind == "mean":
            return self.add(self.pick("mean", "amax", "sum"), x, dim=[2, 3], keepdim=True)
        if kind == "adaptive_avg_pool2d":
            return self.add(kind, x, output_size=[2, 3])
        size = [self.pick(1, 2, 3), self.pick(1, 2)]
        return self.add(
            kind,
            x,
            kernel_size=size,
            stride=[self.pick(1, 2), self.pick(1, 2)],
            padding=[self.pick(0, n // 2) for n in size],
            ceil_mode=bool(self.pick(0, 1)),
        )

    def norm(self, x, shape):
        if len(shape) == 4 and self.random.random() < 0.5:
            return self.add(
                "group_norm", x, *(self.parameter(shape[1]) for _ in "ab"), num_groups=1
            )
        sizes = shape[-self.pick(1, 2) :]
        if any(n < 0 for n in sizes):
            sizes = shape[-1:]
        return self.add("layer_norm", x, self.parameter(*sizes), normalized_shape=list(sizes))

    def shuffle(self, x, shape):
        kind = self.pick("permute", "slice", "cat", "roll", "pad")
        dim = int(self.random.integers(1, len(shape)))
        if kind == "permute":
            order = [0, *(1 + self.random.permutation(len(shape) - 1)).tolist()]
            return self.add("permute", x, dims=order)
        if kind == "slice":
            end = max(1, shape[dim] - self.pick(0, 1))
            return self.add("slice", x, dim=dim, start=0, end=end, step=self.pick(1, 2))
        if kind == "cat":
            return self.add("cat", x, x, dim=dim)
        if kind == "roll":
            return self.add("roll", x, shifts=[self.pick(1, 2)], dims=[dim])
        pad = [self.pick(0, 1) for _ in range(4)]
        return self.add("pad", x, pad=pad, mode="constant", value=0.5)

    def tokens(self, x, shape):
        kind = self.pick("linear", "linear", "attention", "matmul", "maps")
        if len(shape) != 3:
            return x
        if kind == "linear":
            outputs = self.pick(4, 12, 33)
            weight = self.parameter(outputs, shape[2])
            return self.add("linear", x, weight, self.pick(None, self.parameter(outputs)))
        if kind == "matmul":
            turned = self.add("permute", x, dims=[0, 2, 1])
            return self.add("matmul", self.add("matmul", x, turned), x)
        heads = self.pick(*(h for h in (1, 2, 3, 4) if shape[2] % h == 0))
        if kind == "attention":
            split = self.add("reshape", x, shape=[-1, shape[1], heads, shape[2] // heads])
            split = self.add("permute", split, dims=[0, 2, 1, 3])
            seen = self.add("tanh", split)
            mixed = self.add(
                "scaled_dot_product_attention", seen, split, seen, is_causal=bool(self.pick(0, 1))
            )
            return self.add(
                "reshape", self.add("permute", mixed, dims=[0, 2, 1, 3]), shape=list(shape)
            )
        return self.add(
            "reshape", self.add("permute", x, dims=[0, 2, 1]), shape=[-1, shape[2], 1, shape[1]]
        )


MOST = 6000  # elements of a value


def random_graph(seed, count) -> Graph:
    """A graph of about `count` nodes from images [-1, 3, 8, 7]."""
    maker = Maker(seed)
    maker.known["input"] = (-1, 3, 8, 7)
    recent = ["input"]
    for _ in range(8 * count):
        if len(maker.nodes) >= count:
            break
        before = (len(maker.nodes), dict(maker.known), dict(maker.parameters))
        try:
            x = maker.step(maker.pick(*recent[-3:]))
            if abs(np.prod(maker.known[x])) > MOST:
                raise TritbenchError("large")
            recent.append(x)
        except TritbenchError:
            maker.nodes = maker.nodes[: before[0]]
            maker.known, maker.parameters = before[1], before[2]
    # Everything that nothing reads goes into the result.
    used = {name for node in maker.nodes for name in node.inputs}
    ends = [node.name for node in maker.nodes if node.name not in used]
    flat = [
        maker.add("reshape", name, shape=[-1, abs(int(np.prod(maker.known[name])))])
        for name in ends
    ]
    output = maker.add("cat", *flat, dim=1)
    used = {name for node in maker.nodes for name in node.inputs}
    parameters = {name: array for name, array in maker.parameters.items() if name in used}
    return Graph({"input": Value((-1, 3, 8, 7))}, tuple(maker.nodes), output, parameters)


NORMALIZATION = Normalization((0.3, 0.4, 0.5), (0.2, 0.25, 0.2))
assert set(UNARY) <= set(OPS)
