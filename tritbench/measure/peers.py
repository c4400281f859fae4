"""The same network or layer by others: what the engine's speed is compared with.

PyTorch is always there; ONNX Runtime where `pip install .[peers]` put it.
"""

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Call = Callable[[Any], Any]  # takes an argument that it ignores: its input is fixed


def peers(model: nn.Sequential, x: Tensor) -> dict[str, Call]:
    """Callables that run an FP32 network, and its dynamic int8 versions, on float32 x."""
    found: dict[str, Call] = {"torch fp32": lambda _: model(x)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls it deprecated, without a successor here
        int8 = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    if any(isinstance(module, nn.Linear) for module in model):
        found["torch int8 dynamic"] = lambda _: int8(x)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found |= _onnxruntime(model, x.numpy())
    return found


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
