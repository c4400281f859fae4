"""A training on disk, after each epoch: what is stopped goes on as if it had never been."""

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tritbench import __version__
from tritbench.data import Images
from tritbench.files import write_atomic

FOLDER = Path(".training")  # in the working folder; nothing else looks into it
_SAMPLE = 256  # images whose pixels are compared; all labels are


def state_file(label: str) -> Path:
    """Where the training of this name is kept while it lasts."""
    return FOLDER / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', label)}.safetensors"


def identity(
    model: nn.Module, train: Images, teacher: nn.Module | None, settings: Sequence[object]
) -> str:
    """A digest of all that a training depends on: another one is not gone on with.

    Args:
        model: with the weights that training starts from.
        train: images and labels.
        teacher: that it follows, if it does.
        settings: all else, with a repr that tells them apart.
    """
    about = [__version__, torch.__version__, torch.get_num_threads(), repr(model), *settings]
    digest = hashlib.sha256(repr(about).encode())
    every = max(1, len(train) // _SAMPLE)
    modules = [model] if teacher is None else [model, teacher]
    states = [tensor for module in modules for tensor in _tensors(module).values()]
    for tensor in (train.labels, train.pixels[::every], *states):
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


class TrainingState:
    """What changes from step to step: a model, its optimizer and the generators of random numbers.

    Args:
        file: where it is kept.
        key: of `identity`.
        model: on its device, with its optimizer.
        optimizer: whose state is a tensor or more for each parameter.
        generator: of the order of images.
    """

    def __init__(
        self,
        file: Path,
        key: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        self.file, self.key, self.model = file, key, model
        self.optimizer, self.generator = optimizer, generator
        self.cuda = next(model.parameters()).is_cuda

    def save(self, rows: Iterable[Any]) -> None:
        """Write all of it, with the dataclasses that describe the epochs so far."""
        tensors = {f"model.{name}": t for name, t in _tensors(self.model).items()}
        for index, parameter in enumerate(self._parameters()):
            for name, tensor in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = tensor
        tensors |= {f"random.{name}": state for name, state in self._random().items()}
        ready = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        curve = json.dumps([dataclasses.asdict(row) for row in rows])
        write_atomic(self.file, save(ready, {"key": self.key, "curve": curve}))

    def load(self) -> list[dict[str, Any]]:
        """Go back to what was saved; the epochs until then, none where nothing fits.

        A file that cannot be read is named on stderr, and nothing is taken from it.
        """
        if not self.file.exists():
            return []
        try:
            with safe_open(self.file, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return []
                saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                curve: list[dict[str, Any]] = json.loads(metadata["curve"])
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            print(f"{self.file}: not a training: {reason}; it starts anew", file=sys.stderr)
            return []
        self._restore(saved)
        return curve

    def remove(self) -> None:
        """The training is over."""
        self.file.unlink(missing_ok=True)

    @torch.no_grad()
    def _restore(self, saved: dict[str, Tensor]) -> None:
        parameters = self._parameters()
        present = _tensors(self.model)
        for full, tensor in saved.items():
            kind, _, name = full.partition(".")
            if kind == "model" and name in present:
                present[name].copy_(tensor)
            elif kind == "model":  # a buffer that came to be in training: trits that are frozen
                path, _, attribute = name.rpartition(".")
                device = parameters[0].device
                setattr(self.model.get_submodule(path), attribute, tensor.to(device))
            elif kind == "optimizer":
                index, _, attribute = name.partition(".")
                parameter = parameters[int(index)]
                # In the parameter's memory format: fused optimizers go through both in one order.
                alike = torch.empty_like(parameter) if tensor.dim() else tensor.to(parameter.device)
                self.optimizer.state[parameter][attribute] = alike.copy_(tensor)
        self.generator.set_state(saved["random.order"])
        torch.set_rng_state(saved["random.cpu"])
        if self.cuda:
            torch.cuda.set_rng_state(saved["random.cuda"])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _random(self) -> dict[str, Tensor]:
        states = {"order": self.generator.get_state(), "cpu": torch.get_rng_state()}
        return states | ({"cuda": torch.cuda.get_rng_state()} if self.cuda else {})


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that `state_dict` leaves out included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
