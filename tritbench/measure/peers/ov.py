"""OpenVINO: FP32, and 8 bits by NNCF's quantization after training."""

import contextlib
import functools
import io
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tritbench.measure.peers.peer import FloatNetwork, Peer, need


def fp32(network: FloatNetwork, _: Tensor) -> Peer:
    """The network as ONNX."""
    need("onnx", "openvino")
    return _peer(_read(network))


def int8(network: FloatNetwork, images: Tensor) -> Peer:
    """Weights and activations in 8 bits with fixed scales, calibrated on `images`."""
    need("onnx", "openvino", "nncf")
    os.environ.setdefault("NNCF_CI", "1")  # else it reports each use to its vendor
    import nncf

    nncf.set_log_level(logging.ERROR)
    calibration = nncf.Dataset([{"images": image.numpy()} for image in images.split(1)])
    # Without VNNI two products are summed in 16 bits, which hold them if weights take half their
    # range: so the same network gives the same on every processor.
    half_range = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    with contextlib.redirect_stdout(io.StringIO()):  # of progress bars
        model = nncf.quantize(
            _read(network),
            calibration,
            subset_size=len(images),
            advanced_parameters=half_range,
        )
    return _peer(model)


PEERS = {"openvino fp32": fp32, "openvino int8": int8}


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _read(network: FloatNetwork) -> Any:
    return _core().read_model(network.onnx().SerializeToString())


def _peer(model: Any) -> Peer:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor multiplies it
        "ENABLE_CPU_PINNING": False,  # the threads may be anyone's in the process
    }

    @functools.cache  # a model of one batch size is faster than one of any
    def request(shape: torch.Size) -> Any:
        own = model.clone()
        own.reshape({"images": list(shape)})
        return _core().compile_model(own, "CPU", settings).create_infer_request()

    def call(images: Tensor) -> Tensor:
        found = request(images.shape).infer({"images": images.numpy()}, share_inputs=True)
        return torch.from_numpy(found[0])

    stored, overhead = _file_sizes(model)
    return Peer(call, stored, stored + overhead)


def _file_sizes(model: Any) -> tuple[int, int]:
    """Bytes of the weights, and of what describes the model."""
    import openvino

    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        description = Path(folder) / "model.xml"
        openvino.save_model(model, description, compress_to_fp16=False)
        return description.with_suffix(".bin").stat().st_size, description.stat().st_size
