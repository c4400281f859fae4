"""NumPy archives with t81lib's limbs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.files import write_atomic
from tritbench.packing.network import Network
from tritbench.packing.t81 import pack_limbs


def export_t81(network: Network, path: Path) -> None:
    """Write an .npz file: limbs, scales and biases by layer, and the network as JSON.

    `layers.I.limbs` is uint8 [out, ceil(columns / 48), 16], as `t81lib.pack_dense_matrix` makes;
    `layers.I.columns` the number of trits in a row; scale and bias are as in `PackedLayer`; `about`
    is a JSON string with layers, input, classes and provenance. Nothing is pickled.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for index, layer in enumerate(network.layers):
        for key, array in layer.arrays.items():
            if key == "trits":
                arrays[f"layers.{index}.limbs"] = pack_limbs(array)
                arrays[f"layers.{index}.columns"] = np.array(array.shape[1])
            else:
                arrays[f"layers.{index}.{key}"] = array
    about = {
        "layers": [layer.about for layer in network.layers],
        "input": vars(network.input),
        "classes": network.classes,
        "provenance": network.provenance,
    }
    archive = io.BytesIO()
    np.savez(archive, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    write_atomic(path, archive.getvalue())
