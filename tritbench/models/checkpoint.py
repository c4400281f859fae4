"""The FP32 checkpoint: a network, what it takes and where it came from, in one safetensors file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_model, save
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.files import open_regular, write_atomic
from tritbench.models.description import describe, from_layers
from tritbench.shapes import InputSpec


@dataclass(frozen=True)
class Checkpoint:
    """An FP32 network with all that is needed to run it and to know where it came from."""

    model: nn.Sequential
    input: InputSpec
    classes: list[str]
    provenance: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write safetensors: the state dict, and the rest as JSON in the metadata."""
    about = {
        "layers": describe(checkpoint.model),
        "input": asdict(checkpoint.input),
        "classes": checkpoint.classes,
        "provenance": checkpoint.provenance,
    }
    state = {key: value.contiguous() for key, value in checkpoint.model.state_dict().items()}
    # One key only: safetensors writes several in an order that changes from run to run.
    write_atomic(path, save(state, metadata={"tritbench": json.dumps(about)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote; the model is in evaluation mode.

    Raises:
        TritbenchError: where the file is missing, truncated or something else.
    """
    open_regular(path).close()  # safetensors itself would wait for a pipe
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["tritbench"])
        spec = InputSpec(**{key: tuple(value) for key, value in about["input"].items()})
        model = from_layers(about["layers"])
        load_model(model, path)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise TritbenchError(f"{path}: not a tritbench checkpoint: {reason}") from None
    return Checkpoint(model.eval(), spec, about["classes"], about["provenance"])
