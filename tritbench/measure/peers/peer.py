"""What every peer is, whatever runs it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tritbench.models import InputSpec

Call = Callable[[Any], Any]


class AbsentError(Exception):
    """Why a peer cannot run a network here, in words."""


@dataclass(frozen=True)
class Peer:
    """A network ready to run: Tensor [n, ...] to logits [n, classes], and what it stores."""

    call: Callable[[Tensor], Tensor]
    bytes: int
    file_bytes: int


class Normalize(nn.Module):
    """The first layer of a network that takes uint8 images."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """float32 of uint8 [n, ...]."""
        return self.spec.normalize(images)


def need(*packages: str) -> None:
    """Look for packages without importing them.

    Raises:
        AbsentError: naming those that are not installed.
    """
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise AbsentError(
            f"not installed: {', '.join(missing)}; `pip install .[peers]` brings {them}"
        )
