"""Where an artifact comes from: what stands in the metadata of every model file."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tritbench import __version__
from tritbench.data import Dataset
from tritbench.params import Params
from tritbench.precision import Precision


def provenance(
    dataset: Dataset, params: Params, model: str, precision: Precision, *sections: str
) -> dict[str, Any]:
    """Data set, parameters and versions that made an artifact, in plain JSON.

    Only what the artifact depends on: no time, no revision, no other model's settings, so that
    the same parameters give the same bytes. `params` are those of the network alone, as
    `Params.of` gives them. `precision` is what training multiplied in; float32
    is not written down, since the smallest files have no room.
    """
    used: dict[str, Any] = {"seed": params.seed, "data": {"validation": params.data.validation}}
    used["model"] = params.model[model]
    for section in sections:
        values = getattr(params, section).model_dump(exclude_none=True)
        used[section] = {key: value for key, value in values.items() if value != {}}
    versions = {
        "tritbench": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return {
        "dataset": dataset.name,
        "sha256": _digest(dataset.sha256),
        **({} if precision == "float32" else {"precision": precision}),
        "recipe": {"model": model, "params": used, "versions": versions},
    }


def precision_of(provenance: Mapping[str, Any]) -> Precision:
    """What training multiplied in, of an artifact with this provenance."""
    return "bfloat16" if provenance.get("precision") == "bfloat16" else "float32"


def _digest(sha256: Mapping[str, str]) -> str:
    """One SHA-256 of all files: what `sha256sum * | sha256sum` prints in their folder."""
    lines = "".join(f"{sha256[name]}  {name}\n" for name in sorted(sha256))
    return hashlib.sha256(lines.encode()).hexdigest()
