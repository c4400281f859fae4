"""A graph as ONNX, by the forms in `OPS`, for a batch of any size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.graph.graph import Graph
from tritbench.graph.ops import OPS
from tritbench.graph.shapes import Shape

OPSET = 20
IR_VERSION = 9  # what came with this opset, for older runtimes


class OnnxBuilder:
    """Nodes and constants so far; `batch` is the value whose first size is the batch."""

    def __init__(self, onnx: Any, batch: str) -> None:
        self.onnx = onnx
        self.batch = batch
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.batch_size = ""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """One ONNX node; returns the name of its result."""
        name = f"{len(self.nodes)}.{operator}"
        node = self.onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, array: NDArray[Any] | Sequence[int] | float, name: str = "") -> str:
        """Integers as int64, all else as float32."""
        values = np.asarray(array)
        dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
        name = name or f"constant.{len(self.initializers)}"
        made = self.onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype), name)
        # A copy of a scalar has one dimension.
        del made.dims[values.ndim :]
        self.initializers.append(made)
        return name

    def sizes(self, shape: Shape) -> str:
        """A shape as int64, the batch taken from the model's input."""
        if not any(size < 0 for size in shape):
            return self.constant(list(shape))
        if not self.batch_size:
            whole = self.add("Shape", self.batch)
            self.batch_size = self.add("Slice", whole, self.constant([0]), self.constant([1]))
        parts = [
            self.add("Mul", self.batch_size, self.constant([-size]))
            if size < 0
            else self.constant([size])
            for size in shape
        ]
        return self.add("Concat", *parts, axis=0)


def add_graph(builder: OnnxBuilder, graph: Graph, inputs: Sequence[str]) -> str:
    """The graph's nodes and parameters, on values that the builder has; returns the result's name.

    Args:
        builder: of the model.
        graph: each of its inputs named by one of `inputs`, in order.
        inputs: see `graph`.
    """
    shapes = graph.shapes()
    names = dict(zip(graph.inputs, inputs, strict=True))
    for name, array in graph.parameters.items():
        names[name] = builder.constant(array, name)
    for node in graph.nodes:
        taken = ["" if name is None else names[name] for name in node.inputs]
        known: list[Any] = [None if name is None else shapes[name] for name in node.inputs]
        names[node.name] = OPS[node.op].onnx(builder, node.attributes, taken, known, node.shape)
    return names[graph.output]


def onnx_model(
    onnx: Any,
    graph: Graph,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    pixels: bool = False,
) -> Any:
    """A checked ONNX model: `images` to `logits`, both with a symbolic batch.

    Args:
        onnx: the package.
        graph: with one input.
        mean: of each channel of uint8 `images`, pixels being 0..1; without it `images` are what
            the graph takes.
        std: likewise.
        pixels: whether the graph takes pixels, 0..255, so that `images` are uint8 as they are.
    """
    ((_, value),) = graph.inputs.items()
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    kind = onnx.TensorProto.UINT8 if mean or pixels else kinds[value.dtype]
    builder = OnnxBuilder(onnx, "images")
    images = "images"
    if mean or pixels:
        images = builder.add("Cast", images, to=onnx.TensorProto.FLOAT)
    if mean:
        wide = (-1, *(1,) * (len(value.shape) - 2))
        means, stds = (np.reshape(numbers, wide) for numbers in (mean, std))
        images = builder.add("Mul", images, builder.constant(1 / (255 * stds)))
        images = builder.add("Add", images, builder.constant(-means / stds))
    result = add_graph(builder, graph, [images])
    builder.nodes.append(onnx.helper.make_node("Identity", [result], ["logits"], "logits"))
    info = onnx.helper.make_tensor_value_info
    output = graph.shapes()[graph.output]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            builder.nodes,
            "tritbench",
            [info("images", kind, _dims(value.shape))],
            [info("logits", onnx.TensorProto.FLOAT, _dims(output))],
            builder.initializers,
        ),
        producer_name="tritbench",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _dims(shape: Shape) -> list[Any]:
    return ["batch" if n == -1 else f"{-n} batch" if n < 0 else n for n in shape]
