"""Where an artifact comes from: what stands in the metadata of every model file."""

from typing import Any

import numpy as np
import torch

from tritbench import __version__
from tritbench.data import Dataset
from tritbench.params import Params


def provenance(dataset: Dataset, params: Params, model: str, *sections: str) -> dict[str, Any]:
    """Data set, parameters and versions that made an artifact, in plain JSON.

    Only what the artifact depends on: no time, no revision, no other model's settings, so that
    the same parameters give the same bytes.
    """
    used: dict[str, Any] = {"seed": params.seed, "data": {"validation": params.data.validation}}
    used["model"] = params.model[model]
    for section in sections:
        values = getattr(params, section).model_dump()
        used[section] = {
            key: value[model] if isinstance(value, dict) else value for key, value in values.items()
        }
    return {
        "model": model,
        "dataset": {"name": dataset.name, "sha256": dataset.sha256},
        "params": used,
        "versions": {
            "tritbench": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
