"""ONNX: a network in float32, from images to logits, by the forms of `OPS`."""

import json
from pathlib import Path

from tritbench import __version__
from tritbench.files import write_atomic
from tritbench.graph.onnx import onnx_model
from tritbench.optional import require
from tritbench.packing.network import Network


def export_onnx(network: Network, path: Path) -> None:
    """Write the dequantized `network` as ONNX: `images` [batch, ...] to `logits` float32.

    Images are uint8 where the network has a normalization, else what its graph takes.

    Raises:
        TritbenchError: without the package onnx.
    """
    onnx = require("onnx")
    of_pixels = vars(network.normalization) if network.normalization else {}
    model = onnx_model(onnx, network.packed.dequantized(), **of_pixels)
    model.producer_version = __version__
    about = {"classes": network.classes, "provenance": network.provenance}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    write_atomic(path, model.SerializeToString(deterministic=True))
