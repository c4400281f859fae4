"""Networks as ONNX models of any batch size, from input `x` to logits."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tritbench.graph.graph import Node
from tritbench.graph.onnx import OnnxBuilder
from tritbench.measure.peers.peer import AbsentError, Normalize, need
from tritbench.packing.weights import PackedGraph, TernaryArray

BLOCK = 128  # weights that share a scale: of 32, 64 and 128, which have kernels, the fastest
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators


def float_onnx(network: nn.Sequential, x: Tensor) -> Any:
    """A float network, BatchNorm folded into the weights before it; `x` is like its input.

    Raises:
        AbsentError: naming a layer that has no form here, or a package that is missing.
    """
    graph, value = _start(), "x"
    for index, module in enumerate(_folded(network.eval())):
        value = _add_module(graph, index, module, value)
    return _model(graph, x, value)


def two_bit_onnx(network: PackedGraph, x: Tensor) -> Any:
    """A chain of ternary linear layers as MatMulNBits with 2-bit weights; `x` is like its input.

    Weights are (code - 1) × scale with codes of 0, 1 and 2, and so exactly the ternary ones.
    accuracy_level 4 allows activations of 8 bits, which all fast kernels need.
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits

    Raises:
        AbsentError: naming an operation that has no form here, or a package that is missing.
    """
    graph, value = _start(), "x"
    for node in network.graph.nodes:
        match node.op:
            case "reshape" if node.shape[0] == -1 and len(node.shape) == 2:
                value = graph.add("Flatten", value)
            case "relu":
                value = graph.add("Relu", value)
            case "linear" if isinstance(network.weights.get(str(node.inputs[1])), TernaryArray):
                value = _add_two_bit(graph, node, network, value)
            case operation:
                raise AbsentError(f"{operation} has no 2-bit form")
    return _model(graph, x, value)


def _start() -> OnnxBuilder:
    need("onnx")
    import onnx

    return OnnxBuilder(onnx, "x")


def _model(graph: OnnxBuilder, x: Tensor, output: str) -> Any:
    helper, types = graph.onnx.helper, graph.onnx.TensorProto
    element = types.UINT8 if x.dtype == torch.uint8 else types.FLOAT
    inputs = [helper.make_tensor_value_info("x", element, ["n", *x.shape[1:]])]
    outputs = [helper.make_tensor_value_info(output, types.FLOAT, None)]
    whole = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(whole, opset_imports=opsets, ir_version=9)


def _folded(network: nn.Sequential) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for module in network:
        before = modules[-1] if modules else None
        if isinstance(module, nn.BatchNorm1d) and isinstance(before, nn.Linear):
            modules[-1] = fuse_linear_bn_eval(before, module)
        elif isinstance(module, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            modules[-1] = fuse_conv_bn_eval(before, module)
        else:
            modules.append(module)
    return modules


def _add_module(graph: OnnxBuilder, index: int, module: nn.Module, value: str) -> str:
    def constants(*names: str) -> list[str]:
        arrays = {name: getattr(module, name) for name in names}
        return [
            graph.constant(array.detach().numpy(), f"{index}.{name}")
            for name, array in arrays.items()
            if array is not None
        ]

    match module:
        case Normalize():
            spec = module.spec
            mean, std = (np.array(values).reshape(-1, 1, 1) for values in (spec.mean, spec.std))
            scale, shift = (graph.constant(v) for v in (1 / (255 * std), -mean / std))
            value = graph.add("Cast", value, to=graph.onnx.TensorProto.FLOAT)
            return graph.add("Add", graph.add("Mul", value, scale), shift)
        case nn.Linear():
            return graph.add("Gemm", value, *constants("weight", "bias"), transB=1)
        case nn.Conv2d():
            pads = [int(p) for p in module.padding] * 2  # begin and end of each axis
            strides = list(module.stride)
            weight = constants("weight", "bias")
            return graph.add("Conv", value, *weight, strides=strides, pads=pads)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            norm = constants("weight", "bias", "running_mean", "running_var")
            return graph.add("BatchNormalization", value, *norm, epsilon=module.eps)
        case nn.ReLU():
            return graph.add("Relu", value)
        case nn.MaxPool2d() | nn.AvgPool2d():
            operator = "MaxPool" if isinstance(module, nn.MaxPool2d) else "AveragePool"
            kernel, strides = (
                np.broadcast_to(size, 2).tolist() for size in (module.kernel_size, module.stride)
            )
            return graph.add(operator, value, kernel_shape=kernel, strides=strides)
        case nn.Dropout():
            return value
        case nn.Flatten():
            return graph.add("Flatten", value)
    raise AbsentError(f"{type(module).__name__} has no ONNX form here")


def _add_two_bit(graph: OnnxBuilder, node: Node, network: PackedGraph, value: str) -> str:
    _, name, bias = node.inputs
    weight = network.weights[str(name)]
    assert isinstance(weight, TernaryArray)
    if weight.negative_scale is not None:
        raise AbsentError("scales of their own for trits of -1 have no 2-bit form")
    trits, scale, group = weight.trits, weight.scales(), weight.group_size
    outputs, inputs = trits.shape
    if scale.shape[1] > 1 and group % BLOCK:
        raise AbsentError(f"groups of {group} weights: a 2-bit scale is of {BLOCK}")
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
