"""State dicts: from files that others trained, and into a module."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.files import open_regular

WITHIN = ("state_dict", "model")  # keys under which training scripts keep the state
PREFIX = "module."  # of what DataParallel wrapped
NOT_NEEDED = "num_batches_tracked"  # which old files lack
_UNREADABLE = (RuntimeError, EOFError, ValueError, LookupError, TypeError)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pt or .pth file; no code in it is run.

    It may lie under `state_dict` or `model`, and its names may all begin with `module.`.

    Raises:
        TritbenchError: where the file is missing, or holds something else.
    """
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise TritbenchError(f"{path}: expected a file .safetensors, .pt or .pth")
    open_regular(path).close()
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (safetensors.SafetensorError, pickle.UnpicklingError, *_UNREADABLE) as error:
        reason = " ".join(str(error).split())[:300]
        raise TritbenchError(f"{path}: no state dict: {reason}") from None
    for key in WITHIN:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise TritbenchError(f"{path}: {type(content).__name__}, expected a state dict")
    if wrong := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise TritbenchError(f"{path}: {wrong[0]} is no tensor, expected a state dict")
    if all(name.startswith(PREFIX) for name in content):
        content = {name.removeprefix(PREFIX): value for name, value in content.items()}
    return dict(content)


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copy a state into a module.

    Raises:
        TritbenchError: naming `origin` and every name, shape and dtype that does not fit.
    """
    own = module.state_dict()
    problems = [
        f"{name} is missing" for name in own if name not in state and not name.endswith(NOT_NEEDED)
    ]
    for name, value in state.items():
        expected = own.get(name)
        if expected is None:
            problems.append(f"{name} is no parameter of the network")
        elif (value.dtype, value.shape) != (expected.dtype, expected.shape):
            problems.append(f"{name} is {_kind(value)}, expected {_kind(expected)}")
    if problems:
        raise TritbenchError(f"{origin} does not fit the network: {'; '.join(problems)}")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
