"""The FP32 checkpoint: a network's state, its graph, what it takes and where it came from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.files import open_regular, write_atomic
from tritbench.graph import Graph, capture, from_json, to_json
from tritbench.models.factory import make
from tritbench.models.state import load_state
from tritbench.shapes import InputSpec

CONSTANT = "graph:"  # before the name of an array that the graph has and the state has not


@dataclass(frozen=True)
class Checkpoint:
    """An FP32 network with all that is needed to run it and to know where it came from.

    Attributes:
        graph: what it computes in evaluation mode, which runs without the user's code.
        state: the state dict of the module.
        input: what it takes.
        classes: one name for each logit.
        provenance: of the run that made it, plain JSON.
    """

    graph: Graph
    state: Mapping[str, Tensor]
    input: InputSpec
    classes: list[str]
    provenance: dict[str, Any]

    @classmethod
    def of(
        cls, module: nn.Module, spec: InputSpec, classes: list[str], provenance: dict[str, Any]
    ) -> "Checkpoint":
        """Of a module; captures its graph."""
        graph = capture(module, torch.zeros(2, *spec.shape))
        return cls(graph, module.state_dict(), spec, classes, provenance)

    def module(self, name: str, settings: Mapping[str, Any]) -> nn.Module:
        """The network that params.yaml makes, with this state and in evaluation mode.

        Args:
            name: of the network.
            settings: its entry under `model`.

        Raises:
            TritbenchError: where it cannot be made; naming every name, shape and dtype of the state
                that does not fit it.
        """
        made = make(name, settings, self.input.shape, len(self.classes), seed=0)
        load_state(made, self.state, f"the checkpoint of model.{name}")
        return made.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write safetensors: state and constants of the graph; the rest is JSON in the metadata."""
    about = {
        "graph": to_json(checkpoint.graph),
        "input": asdict(checkpoint.input),
        "classes": checkpoint.classes,
        "provenance": checkpoint.provenance,
    }
    # Copies, since tied weights share their memory, which the format has no words for.
    tensors = {name: tensor.detach().clone() for name, tensor in checkpoint.state.items()}
    for name, array in checkpoint.graph.parameters.items():
        held = _as_parameter(tensors[name]) if name in tensors else None
        if held is None or held.shape != array.shape or held.tobytes() != array.tobytes():
            tensors[CONSTANT + name] = torch.from_numpy(array.copy())
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One key only: safetensors writes several in an order that changes from run to run.
    write_atomic(path, save(tensors, metadata={"tritbench": json.dumps(about)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote; nothing that the file names is imported.

    Raises:
        TritbenchError: where the file is missing, truncated or something else.
    """
    open_regular(path).close()  # safetensors itself would wait for a pipe
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["tritbench"])
            # Copies, since the file is mapped, and may be written anew.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        taken = about["input"]
        spec = InputSpec(*(tuple(taken[key]) for key in ("shape", "mean", "std")))
        graph = from_json(about["graph"], _parameters(about["graph"], tensors))
        classes, provenance = about["classes"], about["provenance"]
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TritbenchError(f"{path}: not a tritbench checkpoint: {reason}") from None
    state = {name: t for name, t in tensors.items() if not name.startswith(CONSTANT)}
    return Checkpoint(graph, state, spec, classes, provenance)


def _parameters(graph: Any, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The arrays that nodes name, by name."""
    names = {part for node in graph["nodes"] for part in node[1:] if isinstance(part, str)}
    names -= set(graph["inputs"])
    return {
        name: _as_parameter(tensors.get(CONSTANT + name, tensors.get(name)))
        for name in sorted(names)
        if name in tensors or CONSTANT + name in tensors
    }


def _as_parameter(tensor: Tensor | None) -> NDArray[Any]:
    """As a graph holds it: float32 or int64, of one dimension at least."""
    assert tensor is not None
    stored = tensor if tensor.is_floating_point() else tensor.long()
    return np.atleast_1d(np.ascontiguousarray(stored.numpy()))
