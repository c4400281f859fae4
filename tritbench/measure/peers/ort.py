"""ONNX Runtime: FP32, dynamic quantization to 8 bits, and the same trits in 2 bits."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tritbench.measure.peers.peer import Call, FloatNetwork, Peer, need
from tritbench.measure.peers.two_bit import two_bit_onnx
from tritbench.packing.weights import PackedGraph


def fp32(network: FloatNetwork, _: Tensor) -> Peer:
    """The network as ONNX."""
    need("onnx", "onnxruntime")
    return _peer(network.onnx())


def int8_dynamic(network: FloatNetwork, _: Tensor) -> Peer:
    """Weights in 8 bits, activations in 8 bits with scales of each batch."""
    need("onnx", "onnxruntime")
    return _peer(quantized(network.onnx()))


def two_bit(network: PackedGraph, x: Tensor) -> tuple[str, Call]:
    """Ternary linear layers by the 2-bit product, which quantizes activations to 8 bits."""
    need("onnx", "onnxruntime")
    peer = _peer(two_bit_onnx(network, x))
    return "", lambda _: peer.call(x)


PEERS = {"onnxruntime fp32": fp32, "onnxruntime int8": int8_dynamic}


def _peer(model: Any) -> Peer:
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
    # Threads that spin after a call would take the processor from whatever is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    content = model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    stored = sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    return Peer(call, stored, len(content))


def quantized(model: Any) -> Any:
    """An ONNX model with its weights in 8 bits."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        fp32_file, int8_file = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, fp32_file)
        logging.disable(logging.WARNING)  # advice on pre-processing, at every call
        try:
            # Weights of 7 bits: without VNNI two products are added in int16, which 255 × 127 × 2
            # exceeds.
            quantize_dynamic(fp32_file, int8_file, reduce_range=True)
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(int8_file)
