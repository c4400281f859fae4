"""ONNX: the dequantized network in float32, from uint8 images to logits."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tritbench import __version__
from tritbench.files import write_atomic
from tritbench.optional import require
from tritbench.packing.dequantize import weights
from tritbench.packing.network import Network, PackedLayer
from tritbench.shapes import check_chain

OPSET = 17
IR_VERSION = 8  # what came with this opset, for older runtimes


def export_onnx(network: Network, path: Path) -> None:
    """Write `network` as ONNX: `images` uint8 [batch, *shape] to `logits` float32 [batch, classes].

    Raises:
        TritbenchError: without the package onnx.
    """
    onnx = require("onnx")
    graph = _Graph(onnx)
    value = graph.add("Cast", "images", to=onnx.TensorProto.FLOAT)
    value = graph.add("Div", value, graph.constant("white", np.float32(255)))
    for operator, name in (("Sub", "mean"), ("Div", "std")):
        values = np.float32(getattr(network.input, name)).reshape(-1, 1, 1)
        value = graph.add(operator, value, graph.constant(name, values))
    abouts = [layer.about for layer in network.layers]
    shapes = check_chain(abouts, network.input.shape, len(network.classes))
    for index, (layer, shape) in enumerate(zip(network.layers, shapes, strict=True)):
        value = _add_layer(graph, f"layers.{index}", layer, value, len(shape))
    graph.nodes[-1].output[0] = "logits"
    info = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "tritbench",
            [info("images", onnx.TensorProto.UINT8, ["batch", *network.input.shape])],
            [info("logits", onnx.TensorProto.FLOAT, ["batch", len(network.classes)])],
            graph.constants,
        ),
        producer_name="tritbench",
        producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    about = {"classes": network.classes, "provenance": network.provenance}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(model, full_check=True)
    write_atomic(path, model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants so far; values are named after what makes them."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        array = np.ascontiguousarray(array, dtype=np.float32)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{len(self.nodes)}.{operator}"
        node = self.onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
        self.nodes.append(node)
        return name


def _add_layer(graph: _Graph, name: str, layer: PackedLayer, value: str, dimensions: int) -> str:
    about, arrays = layer.about, layer.arrays
    match about["type"]:
        case "linear" | "conv2d":
            parameters = (
                graph.constant(f"{name}.weight", weights(layer)),
                graph.constant(f"{name}.bias", arrays["bias"]),
            )
            if about["type"] == "linear":
                return graph.add("Gemm", value, *parameters, transB=1)
            pads = about["padding"] * 2  # begin and end of each axis
            strides = about["stride"]
            return graph.add("Conv", value, *parameters, strides=strides, pads=pads)
        case "affine":
            per_channel = (-1,) + (1,) * (dimensions - 1)
            scale, bias = (
                graph.constant(f"{name}.{key}", arrays[key].reshape(per_channel))
                for key in ("scale", "bias")
            )
            return graph.add("Add", graph.add("Mul", value, scale), bias)
        case "maxpool2d" | "avgpool2d":
            operator = "MaxPool" if about["type"] == "maxpool2d" else "AveragePool"
            kernel, strides = about["kernel"], about["stride"]
            return graph.add(operator, value, kernel_shape=kernel, strides=strides)
        case "relu":
            return graph.add("Relu", value)
    return graph.add("Flatten", value)
