"""Ternary networks as ONNX models of ONNX Runtime's product with 2-bit weights."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tritbench.graph.graph import Node
from tritbench.graph.onnx import IR_VERSION, OnnxBuilder
from tritbench.measure.peers.peer import UnavailableError, need
from tritbench.packing.weights import PackedGraph, TernaryArray

BLOCK = 128  # weights that share a scale: of 32, 64 and 128, which have kernels, the fastest
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
OPSET = 17


def two_bit_onnx(network: PackedGraph, x: Tensor) -> Any:
    """A chain of ternary linear layers as MatMulNBits with 2-bit weights; `x` is like its input.

    Weights are (code - 1) × scale with codes of 0, 1 and 2, and so exactly the ternary ones.
    accuracy_level 4 allows activations of 8 bits, which all fast kernels need.
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits

    Raises:
        UnavailableError: naming an operation that has no form here, or a package that is missing.
    """
    need("onnx")
    import onnx

    graph, value = OnnxBuilder(onnx, "images"), "images"
    for node in network.graph.nodes:
        match node.op:
            case "reshape" if node.shape[0] == -1 and len(node.shape) == 2:
                value = graph.add("Flatten", value)
            case "relu":
                value = graph.add("Relu", value)
            case "linear" if isinstance(network.weights.get(str(node.inputs[1])), TernaryArray):
                value = _add_two_bit(graph, node, network, value)
            case operation:
                raise UnavailableError(f"{operation} has no 2-bit form")
    return _model(graph, x, value)


def _model(graph: OnnxBuilder, x: Tensor, output: str) -> Any:
    helper, types = graph.onnx.helper, graph.onnx.TensorProto
    element = types.UINT8 if x.dtype == torch.uint8 else types.FLOAT
    inputs = [helper.make_tensor_value_info("images", element, ["n", *x.shape[1:]])]
    outputs = [helper.make_tensor_value_info(output, types.FLOAT, None)]
    whole = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(whole, opset_imports=opsets, ir_version=IR_VERSION)


def _add_two_bit(graph: OnnxBuilder, node: Node, network: PackedGraph, value: str) -> str:
    _, name, bias = node.inputs
    weight = network.weights[str(name)]
    assert isinstance(weight, TernaryArray)
    if weight.negative_scale is not None:
        raise UnavailableError("scales of their own for trits of -1 have no 2-bit form")
    trits, scale, group = weight.trits, weight.scales(), weight.group_size
    outputs, inputs = trits.shape
    if scale.shape[1] > 1 and group % BLOCK:
        raise UnavailableError(f"groups of {group} weights: a 2-bit scale is of {BLOCK}")
    blocks = -(-inputs // BLOCK)
    codes = np.ones((outputs, blocks * BLOCK), np.uint8)
    codes[:, :inputs] = trits + 1
    codes = codes.reshape(outputs, blocks, BLOCK // 4, 4) << np.array([0, 2, 4, 6], np.uint8)
    of_group = np.arange(blocks) * BLOCK // group
    zero_points = np.full((outputs, -(-blocks // 4)), 0b01_01_01_01, np.uint8)
    parameters = [
        _bytes(graph, np.bitwise_or.reduce(codes, 3), f"{name}.codes"),
        graph.constant(scale[:, of_group], f"{name}.scale"),
        _bytes(graph, zero_points, f"{name}.zero_points"),
        "",  # no order of inputs of its own
        "" if bias is None else graph.constant(network.graph.parameters[bias], bias),
    ]
    settings = {"bits": 2, "block_size": BLOCK, "accuracy_level": 4}
    return graph.add(
        "MatMulNBits", value, *parameters, domain=MICROSOFT, K=inputs, N=outputs, **settings
    )


def _bytes(graph: OnnxBuilder, array: NDArray[np.uint8], name: str) -> str:
    graph.initializers.append(graph.onnx.numpy_helper.from_array(array, name))
    return name
