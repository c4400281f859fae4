"""NumPy archives with t81lib's limbs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.files import write_atomic
from tritbench.graph.graph import to_json
from tritbench.packing.graph_file import describe_weights
from tritbench.packing.network import Network
from tritbench.packing.t81 import pack_limbs
from tritbench.packing.weights import IntegerArray, TernaryArray


def export_t81(network: Network, path: Path) -> None:
    """Write an .npz file: limbs and scales by the weights' names, all else, and the graph as JSON.

    `NAME.limbs` is uint8 [out, ceil(columns / 48), 16], as `t81lib.pack_dense_matrix` makes;
    `NAME.columns` the number of trits in a row; `NAME.scale` and `NAME.negative_scale` are as in
    `TernaryArray`; `about` is a JSON string with graph, weights, normalization, classes and
    provenance. Nothing is pickled.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in network.packed.graph.parameters.items():
        match network.packed.weights.get(name):
            case TernaryArray() as weight:
                arrays[f"{name}.limbs"] = pack_limbs(weight.trits)
                arrays[f"{name}.columns"] = np.array(weight.trits.shape[1])
                arrays[f"{name}.scale"] = weight.scale
                if weight.negative_scale is not None:
                    arrays[f"{name}.negative_scale"] = weight.negative_scale
            case IntegerArray() as weight:
                arrays |= {f"{name}.int8": weight.values, f"{name}.scale": weight.scale}
            case _:
                arrays[name] = array
    about = {
        "graph": to_json(network.packed.graph),
        "weights": describe_weights(network.packed),
        "normalization": network.normalization and vars(network.normalization),
        "classes": network.classes,
        "provenance": network.provenance,
    }
    archive = io.BytesIO()
    np.savez(archive, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    write_atomic(path, archive.getvalue())
