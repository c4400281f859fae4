"""The .trit file: a ternary network in safetensors, checked in full before it is used."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.models import InputSpec
from tritbench.packing.codecs import CODECS
from tritbench.packing.fold import PackedLayer, fold
from tritbench.quantize import Quantized

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Network:
    """What a .trit file holds.

    Attributes:
        layers: what inference executes, trits unpacked.
        input: what the network takes.
        classes: one name for each logit.
        codec: how trits are stored.
        provenance: data set, parameters and versions of the run that made it.
        stored: the file's arrays as they are stored, by name.
    """

    layers: list[PackedLayer]
    input: InputSpec
    classes: list[str]
    codec: str
    provenance: dict[str, Any]
    stored: dict[str, NDArray[Any]]


def save_trit(
    path: Path,
    quantized: Quantized,
    spec: InputSpec,
    classes: list[str],
    provenance: Mapping[str, Any],
    codec: str = "base3",
) -> None:
    """Fold and pack a quantized network into `path`; the same network gives the same bytes.

    Raises:
        TritbenchError: naming an array with a value that is not finite.
    """
    layers = fold(quantized)
    arrays: dict[str, NDArray[Any]] = {}
    for index, layer in enumerate(layers):
        for key, array in layer.arrays.items():
            if not np.isfinite(array).all():
                raise TritbenchError(f"{path}: layers.{index}.{key} holds NaN or infinity")
            stored = CODECS[codec].pack(array) if key == "trits" else array
            arrays[f"layers.{index}.{key}"] = stored
    about = {
        "format_version": FORMAT_VERSION,
        "codec": codec,
        "layers": [layer.about for layer in layers],
        "input": asdict(spec),
        "classes": classes,
        "provenance": provenance,
    }
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"tritbench": json.dumps(about, separators=(",", ":"))}
    write_atomic(path, save(arrays, metadata=metadata))


def load_trit(path: Path) -> Network:
    """Read a .trit file and check every shape, code and range.

    Raises:
        TritbenchError: one line naming the file and what is wrong with it.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["tritbench"])
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if about["format_version"] != FORMAT_VERSION:
            raise TritbenchError(
                f"format version {about['format_version']}, expected {FORMAT_VERSION}"
            )
        layers = [
            _unpack(index, layer, stored, about["codec"])
            for index, layer in enumerate(about["layers"])
        ]
        expected = {f"layers.{i}.{k}" for i, layer in enumerate(layers) for k in layer.arrays}
        if extra := sorted(set(stored) - expected):
            raise TritbenchError(f"unexpected tensors {', '.join(extra)}")
        shape, mean, std = (about["input"][key] for key in ("shape", "mean", "std"))
        return Network(
            layers,
            InputSpec(tuple(shape), float(mean), float(std)),
            [str(name) for name in about["classes"]],
            about["codec"],
            about["provenance"],
            stored,
        )
    except FileNotFoundError:
        raise TritbenchError(f"{path}: no such file") from None
    except KeyError as error:
        raise TritbenchError(f"{path}: not a .trit file: {error.args[0]} is missing") from None
    except (safetensors.SafetensorError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TritbenchError(f"{path}: not a valid .trit file: {reason}") from None


def _unpack(
    index: int, about: dict[str, Any], stored: Mapping[str, NDArray[Any]], codec: str
) -> PackedLayer:
    match about["type"]:
        case "linear" | "conv2d":
            kernel = about.get("kernel", [1, 1])
            inputs = about["in"] * kernel[0] * kernel[1]
            outputs, groups = about["out"], -(-inputs // about["group_size"])
            packed = stored[f"layers.{index}.trits"]
            if codec not in CODECS:
                raise TritbenchError(f"codec {codec!r}, expected one of {', '.join(CODECS)}")
            try:
                trits = CODECS[codec].unpack(packed, outputs, inputs)
            except TritbenchError as error:
                raise TritbenchError(f"layers.{index}.trits: {error}") from None
            rows = 1 if stored[f"layers.{index}.scale"].shape[:1] == (1,) else outputs
            scale = _floats(stored, f"layers.{index}.scale", (rows, groups))
            bias = _floats(stored, f"layers.{index}.bias", (outputs,))
            return PackedLayer(about, {"trits": trits, "scale": scale, "bias": bias})
        case "affine":
            keys = ("scale", "bias")
            shape = (about["features"],)
            return PackedLayer(
                about, {k: _floats(stored, f"layers.{index}.{k}", shape) for k in keys}
            )
        case "relu" | "flatten" | "maxpool2d" | "avgpool2d":
            return PackedLayer(about)
    raise TritbenchError(f"layer {index} has the unknown type {about['type']!r}")


def _floats(
    stored: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    array = stored[name]
    if array.dtype != np.float32 or array.shape != shape:
        found = f"{array.dtype} {list(array.shape)}"
        raise TritbenchError(f"{name} is {found}, expected float32 {list(shape)}")
    if not np.isfinite(array).all():
        raise TritbenchError(f"{name} holds NaN or infinity")
    return array
