"""The same network or layer by others: what the engine's speed is compared with.

PyTorch is always there; ONNX Runtime and ggml where `pip install .[peers]` put them.
"""

import ctypes
import importlib
import importlib.util
import logging
import tempfile
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tritbench.packing import Network
from tritbench.packing.dequantize import weights

GGML_BLOCK = 256  # weights of TQ2_0 that share a scale; a row has no other length than multiples

Call = Callable[[Any], Any]  # takes an argument that it ignores: its input is fixed


def peers(model: nn.Sequential, network: Network, x: Tensor) -> dict[str, Call]:
    """Callables that run a network on float32 x, one row an image.

    PyTorch and ONNX Runtime run the float `model` and its dynamic int8 version. ggml multiplies by
    the trits of `network`, the same in ternary, where that is one linear layer.
    """
    found: dict[str, Call] = {"torch fp32": lambda _: model(x)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls it deprecated, without a successor here
        int8 = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    if any(isinstance(module, nn.Linear) for module in model):
        found["torch int8 dynamic"] = lambda _: int8(x)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found |= _onnxruntime(model, x.numpy())
    linear = [layer.about["type"] for layer in network.layers] == ["flatten", "linear"]
    if linear and x.shape[1] >= GGML_BLOCK and importlib.util.find_spec("ggml"):
        weight = weights(network.layers[1])
        inputs = x.shape[1] // GGML_BLOCK * GGML_BLOCK
        name = "ggml tq2_0" if inputs == x.shape[1] else f"ggml tq2_0 (K={inputs})"
        found[name] = ggml_tq2_0(weight[:, :inputs], x.numpy()[:, :inputs])
    return found


def ggml_tq2_0(weight: np.ndarray, x: np.ndarray) -> Call:
    """What multiplies x float32 [n, in] by ternary weights with ggml, on the calling thread.

    The graph, its plan and the weights in TQ2_0 are made here. A call computes the graph: it
    quantizes x to 8 bits (Q8_K) and multiplies, as every call of ggml does.

    Args:
        weight: float32 [out, in], `in` a multiple of 256, with one magnitude besides 0 in each row.
        x: float32 [n, in].

    Returns:
        a callable that gives float32 [n, out], the same array at each call.
    """
    ggml = importlib.import_module("ggml")
    x, weight = (np.ascontiguousarray(array, np.float32) for array in (x, weight))
    (images, inputs), outputs = x.shape, len(weight)
    kind = ggml.GGML_TYPE_TQ2_0
    packed = np.empty(outputs * ggml.ggml_row_size(kind, inputs), np.uint8)
    source = weight.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    ggml.ggml_quantize_chunk(kind, source, packed.ctypes.data, 0, outputs, inputs, None)
    result = np.empty((images, outputs), np.float32)

    # The context holds the graph alone: the tensors' data are the arrays above.
    size = ggml.ggml_graph_overhead() + 8 * ggml.ggml_tensor_overhead()
    context = ggml.ggml_init(ggml.ggml_init_params(size, None, True))
    a = ggml.ggml_new_tensor_2d(context, kind, inputs, outputs)
    b = ggml.ggml_new_tensor_2d(context, ggml.GGML_TYPE_F32, inputs, images)
    product = ggml.ggml_mul_mat(context, a, b)
    for tensor, array in ((a, packed), (b, x), (product, result)):
        tensor.contents.data = array.ctypes.data
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, product)
    # A pool of one is the calling thread: none is started that would spin beside other engines.
    # Without a pool ggml makes one at each call.
    settings = ggml.ggml_threadpool_params_default(1)
    pool = ggml.ggml_threadpool_new(ctypes.byref(settings))
    plan = ggml.ggml_graph_plan(graph, 1, pool)
    plan.work_data = (ctypes.c_uint8 * plan.work_size)()
    compute, reference = ggml.ggml_graph_compute, ctypes.byref(plan)
    arrays = packed, x, result  # kept alive with the call

    def call(_: Any) -> np.ndarray:
        if compute(graph, reference) != ggml.GGML_STATUS_SUCCESS:
            raise RuntimeError("ggml could not compute the product")
        return arrays[-1]

    weakref.finalize(call, ggml.ggml_free, context)
    weakref.finalize(call, ggml.ggml_threadpool_free, pool)
    return call


def _onnxruntime(model: nn.Sequential, x: np.ndarray) -> dict[str, Call]:
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import quantize_dynamic

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    found: dict[str, Call] = {}
    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(to_onnx(model, list(x.shape)), fp32)
        logging.disable(logging.WARNING)  # advice on pre-processing, at every call
        quantize_dynamic(fp32, int8)
        logging.disable(logging.NOTSET)
        for name, path in (("onnxruntime fp32", fp32), ("onnxruntime int8", int8)):
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[name] = _session_call(session, x)
    return found


def _session_call(session: Any, x: np.ndarray) -> Call:
    return lambda _: session.run(None, {"x": x})


def to_onnx(model: nn.Sequential, shape: list[int]) -> Any:
    """A network of Linear, Conv2d, BatchNorm, ReLU, MaxPool2d and Flatten as an ONNX model.

    Raises:
        TypeError: naming another layer.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers = [], []

    def constant(name: str, value: Tensor) -> str:
        initializers.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    for index, module in enumerate(model.eval()):
        source, target = f"v{index}" if index else "x", f"v{index + 1}"
        kind: str
        inputs, settings = [source], dict[str, Any]()
        match module:
            case nn.Linear() | nn.Conv2d():
                inputs.append(constant(f"w{index}", module.weight))
                if module.bias is not None:
                    inputs.append(constant(f"b{index}", module.bias))
                if isinstance(module, nn.Linear):
                    kind, settings = "Gemm", {"transB": 1}
                else:
                    kind = "Conv"
                    pads = [int(p) for p in module.padding]
                    settings = {
                        "kernel_shape": list(module.kernel_size),
                        "strides": list(module.stride),
                        "pads": pads + pads,
                    }
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                kind, settings = "BatchNormalization", {"epsilon": module.eps}
                for key in ("weight", "bias", "running_mean", "running_var"):
                    inputs.append(constant(f"{key}{index}", getattr(module, key)))
            case nn.ReLU():
                kind = "Relu"
            case nn.MaxPool2d():
                size = [int(module.kernel_size)] * 2  # type: ignore[arg-type]
                kind, settings = "MaxPool", {"kernel_shape": size, "strides": size}
            case nn.Flatten():
                kind = "Flatten"
            case _:
                raise TypeError(f"{type(module).__name__} has no ONNX form here")
        nodes.append(helper.make_node(kind, inputs, [target], **settings))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"v{len(model)}", TensorProto.FLOAT, None)],
        initializers,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)
