"""The same network by others: what one would pick instead, and what the engine is compared with.

PyTorch is always there; ONNX Runtime and ggml where `pip install .[peers]` put them.
"""

import copy
import ctypes
import importlib
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tritbench.models import InputSpec
from tritbench.packing import Network
from tritbench.packing.dequantize import weights
from tritbench.params import PeerName

GGML_BLOCK = 256  # weights of TQ2_0 that share a scale; a row has no other length than multiples
EAGER = "torch fp32"  # what runs the FP32 checkpoints as they are
PEERS: tuple[PeerName, ...] = get_args(PeerName)

Call = Callable[[Any], Any]


class AbsentError(Exception):
    """Why a peer cannot run a network here, in words."""


@dataclass(frozen=True)
class Peer:
    """A network ready to run: Tensor [n, ...] to logits [n, classes], and what it stores."""

    call: Callable[[Tensor], Tensor]
    bytes: int
    file_bytes: int


class Normalize(nn.Module):
    """The first layer of a network that takes uint8 images."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """float32 of uint8 [n, ...]."""
        return self.spec.normalize(images)


def build_peer(name: PeerName, network: nn.Sequential, x: Tensor) -> Peer:
    """A float network, run by a peer.

    Args:
        name: the peer's.
        network: of Linear, Conv2d, BatchNorm, ReLU, pooling, Flatten; Normalize may come first.
        x: an example of its input.

    Raises:
        AbsentError: where it cannot be had here.
    """
    match name:
        case "torch compile":
            return _torch_compile(network, x)
        case "torch int8 dynamic":
            return _torch_int8(network)
        case "onnxruntime fp32" | "onnxruntime int8":
            return _onnxruntime(network, x, int8=name.endswith("int8"))


def kernel_peers(model: nn.Sequential, network: Network, x: Tensor) -> dict[str, Call]:
    """Callables that run a network on float32 x, whatever they are called with.

    The peers run the float `model`. ggml multiplies by the trits of `network`, the same in ternary,
    where that is one linear layer.
    """
    found: dict[str, Call] = {EAGER: lambda _: model(x)}
    for name in PEERS:
        if name != "torch compile":
            try:
                found[name] = _fixed(build_peer(name, model, x).call, x)
            except AbsentError:
                continue
    linear = [layer.about["type"] for layer in network.layers] == ["flatten", "linear"]
    if linear and x.shape[1] >= GGML_BLOCK and importlib.util.find_spec("ggml"):
        weight = weights(network.layers[1])
        inputs = x.shape[1] // GGML_BLOCK * GGML_BLOCK
        name_ggml = "ggml tq2_0" if inputs == x.shape[1] else f"ggml tq2_0 (K={inputs})"
        found[name_ggml] = ggml_tq2_0(weight[:, :inputs], x.numpy()[:, :inputs])
    return found


def _fixed(call: Call, x: Tensor) -> Call:
    return lambda _: call(x)


def _torch(call: Any, network: nn.Module) -> Peer:
    # As safetensors, which knows no quantized types: their integers stand for them.
    arrays = [t.int_repr() if t.is_quantized else t for t in _tensors(network.state_dict())]
    file = save({str(n): array.detach().contiguous() for n, array in enumerate(arrays)})
    return Peer(torch.inference_mode()(call), sum(array.nbytes for array in arrays), len(file))


def _torch_compile(network: nn.Sequential, x: Tensor) -> Peer:
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise AbsentError("torch.compile needs a C++ compiler")
    # It would compile a program to see whether the compiler knows the processor's vectors: seconds,
    # and where it does not, the network's own program says so.
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    torch.compiler.reset()  # after eight shapes, of all networks together, it would give up
    compiled = _torch(torch.compile(network, dynamic=False), network)
    try:
        compiled.call(x)
    except Exception as error:  # whatever the compilers below it raise
        why, _, _ = str(error).partition("\n")
        raise AbsentError(f"torch.compile failed: {why}") from error
    return compiled


def _torch_int8(network: nn.Sequential) -> Peer:
    if not any(isinstance(module, nn.Linear) for module in network):
        raise AbsentError("it has no linear layer, which is all that PyTorch quantizes dynamically")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls it deprecated, without a successor here
        int8 = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(network), {nn.Linear}, torch.qint8
        )
        return _torch(int8, int8)


def _tensors(value: object) -> Iterator[Tensor]:
    """Those of a state dict; a quantized layer keeps its weight and bias in a tuple."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)


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


def _onnxruntime(network: nn.Sequential, x: Tensor, int8: bool) -> Peer:
    if not (importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx")):
        raise AbsentError(
            "onnx and onnxruntime are not installed; `pip install .[peers]` brings them"
        )
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    model = to_onnx(network, x)
    if int8:
        model = _onnx_int8(model)
    content = model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    stored = sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"x": images.numpy()})[0])

    return Peer(call, stored, len(content))


def _onnx_int8(model: Any) -> Any:
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, fp32)
        logging.disable(logging.WARNING)  # advice on pre-processing, at every call
        try:
            # Weights of 7 bits: without VNNI two products are added in int16, which 255 × 127 × 2
            # exceeds.
            quantize_dynamic(fp32, int8, reduce_range=True)
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(int8)


def to_onnx(network: nn.Sequential, x: Tensor) -> Any:
    """A network as an ONNX model of any batch size.

    Raises:
        AbsentError: naming a layer that has no form here.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers = [], []

    def constant(name: str, value: Tensor) -> str:
        initializers.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    for index, module in enumerate(network.eval()):
        source, target = f"v{index}" if index else "x", f"v{index + 1}"
        kind: str
        inputs, settings = [source], dict[str, Any]()
        match module:
            case Normalize():
                scale = torch.tensor(1 / (255 * module.spec.std))
                shift = torch.tensor(-module.spec.mean / module.spec.std)
                nodes.append(helper.make_node("Cast", [source], ["pixels"], to=TensorProto.FLOAT))
                inputs = ["pixels", constant("scale", scale)]
                nodes.append(helper.make_node("Mul", inputs, ["scaled"]))
                kind, inputs = "Add", ["scaled", constant("shift", shift)]
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
            case nn.MaxPool2d() | nn.AvgPool2d():
                kind = "MaxPool" if isinstance(module, nn.MaxPool2d) else "AveragePool"
                shapes = {"kernel_shape": module.kernel_size, "strides": module.stride}
                settings = {
                    key: np.broadcast_to(value, 2).tolist() for key, value in shapes.items()
                }
            case nn.Dropout():
                kind = "Identity"
            case nn.Flatten():
                kind = "Flatten"
            case _:
                raise AbsentError(f"{type(module).__name__} has no ONNX form here")
        nodes.append(helper.make_node(kind, inputs, [target], **settings))
    element = TensorProto.UINT8 if x.dtype == torch.uint8 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", element, ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info(f"v{len(network)}", TensorProto.FLOAT, None)],
        initializers,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)
