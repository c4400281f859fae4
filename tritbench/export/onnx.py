"""ONNX: a network in float32, from images to logits, by the forms of `OPS`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tritbench import __version__
from tritbench.files import write_atomic
from tritbench.graph.graph import Graph
from tritbench.graph.onnx import OnnxBuilder, onnx_model
from tritbench.optional import require
from tritbench.packing.network import Network, Normalization


def export_onnx(network: Network, path: Path) -> None:
    """Write the dequantized `network` as ONNX: `images` [batch, ...] to `logits` float32.

    Images are uint8 where the network has a normalization, else what its graph takes.

    Raises:
        TritbenchError: without the package onnx.
    """
    onnx = require("onnx")
    model = float_onnx(onnx, network.packed.dequantized(), network.normalization)
    model.producer_version = __version__
    about = {"classes": network.classes, "provenance": network.provenance}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    write_atomic(path, model.SerializeToString(deterministic=True))


def float_onnx(onnx: Any, graph: Graph, normalization: Normalization | None) -> Any:
    """A float graph as an ONNX model of any batch size, of uint8 images if they are normalized."""
    if normalization is None:
        return onnx_model(onnx, graph)
    ((_, value),) = graph.inputs.items()
    wide = (-1, *(1,) * (len(value.shape) - 2))
    mean, std = (np.reshape(v, wide) for v in vars(normalization).values())

    def prepare(builder: OnnxBuilder, images: str) -> str:
        pixels = builder.add("Cast", images, to=onnx.TensorProto.FLOAT)
        pixels = builder.add("Div", pixels, builder.constant(255.0))
        centred = builder.add("Sub", pixels, builder.constant(mean, "mean"))
        return builder.add("Div", centred, builder.constant(std, "std"))

    return onnx_model(onnx, graph, prepare, pixels=True)
