"""Writing the .trit file: what `artifact.py` reads."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.packing.container import Arrays, write_container
from tritbench.packing.graph_file import graph_arrays, half_weights, pack
from tritbench.packing.network import Normalization, check_classes
from tritbench.packing.schema import DEFAULT_CODEC, GRAPH_VERSION, KEY
from tritbench.packing.weights import PackedGraph
from tritbench.shapes import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

    from tritbench.quantize import Quantized

PROVENANCE_SHARE = 0.005  # of a file; where provenance would take more, it is shortened to digests


def save_trit(
    path: Path,
    quantized: "Quantized",
    spec: InputSpec | None,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
    calibration: Sequence["Tensor"] = (),
) -> None:
    """Fold and pack a quantized network into `path`; the same network gives the same bytes.

    Args:
        path: of the file.
        quantized: the network.
        spec: how it takes uint8 images; none where it takes its input as it is.
        classes: one name for each logit.
        provenance: plain JSON; objects in it become digests where the file is small.
        codec: a key of CODECS.
        half: names of arrays to store as float16, as `half_arrays` gives them.
        calibration: batches of inputs, normalized, for static ranges of activations; a file without
            them runs with activations that are scaled for each image alone.

    Raises:
        TritbenchError: naming an array with a value that is not finite, or what the network gives
            instead of a logit for each class.
    """
    try:
        data = trit_bytes(quantized, spec, classes, provenance, codec, half, calibration)
        write_atomic(path, data)
    except TritbenchError as error:
        raise TritbenchError(f"{path}: {error}") from None


def trit_bytes(
    quantized: "Quantized",
    spec: InputSpec | None,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
    calibration: Sequence["Tensor"] = (),
) -> bytes:
    """What `save_trit` writes."""
    packed = pack(quantized)
    if calibration:
        from tritbench.packing.calibration import calibrated  # here, for others need no PyTorch

        packed = calibrated(packed, calibration, spec is not None)
    half = {*half, *half_weights(quantized)}
    normalization = None
    if spec is not None:
        normalization = Normalization(spec.mean, spec.std)
        normalization.check(packed.graph)
    return graph_trit_bytes(packed, normalization, classes, provenance, codec, half)


def graph_trit_bytes(
    packed: PackedGraph,
    normalization: Normalization | None,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
    half: Collection[str] = (),
) -> bytes:
    """What `trit_bytes` writes, of a packed graph.

    Args:
        packed: what `pack_graph` made.
        normalization: of uint8 images; none where the network takes its input as it is.
        classes: one name for each logit.
        provenance: plain JSON; objects in it become digests where the file is small.
        codec: a key of CODECS.
        half: names of arrays to store as float16.

    Raises:
        TritbenchError: naming an array with a value that is not finite, or what the network gives
            instead of a logit for each class.
    """
    check_classes(packed.graph, classes)
    arrays, described = graph_arrays(packed, codec, half)
    about: dict[str, Any] = {"format_version": GRAPH_VERSION}
    if codec != DEFAULT_CODEC:
        about["codec"] = codec
    about |= described
    if normalization is not None:
        about |= {k: [_float32(n) for n in v] for k, v in vars(normalization).items()}
    about["classes"] = classes
    return _file(arrays, about, provenance)


def _file(arrays: Arrays, about: dict[str, Any], provenance: Mapping[str, Any]) -> bytes:
    budget = PROVENANCE_SHARE * sum(array.nbytes for array in arrays.values())
    whole = len(_json(_json(provenance))) <= budget
    about["provenance"] = provenance if whole else {k: _digest(v) for k, v in provenance.items()}
    return write_container(arrays, {KEY: _json(about)})


def _float32(value: float) -> float:
    """The shortest decimal that float32 rounds to the same number."""
    return float(str(np.float32(value)))


def _digest(value: Any) -> Any:
    if isinstance(value, dict):
        canonical = json.dumps(value, separators=(",", ":"), sort_keys=True)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()[:16]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
