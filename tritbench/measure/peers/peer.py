"""What every peer is, whatever runs it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tritbench.graph.graph import Graph
from tritbench.graph.onnx import onnx_model
from tritbench.graph.passes import fold_batch_norm
from tritbench.graph.pixels import fold_normalization
from tritbench.shapes import InputSpec

Call = Callable[[Any], Any]


class UnavailableError(Exception):
    """Why a peer cannot run a network here, in words."""


@dataclass(frozen=True)
class Peer:
    """A network ready to run: Tensor [n, ...] to logits [n, classes], and what it stores."""

    call: Callable[[Tensor], Tensor]
    bytes: int
    file_bytes: int


class FloatNetwork:
    """A float network as peers take it.

    Attributes:
        module: of uint8 images where there is a `spec`, else of what the graph takes.
        captured: the graph as it was captured.
        graph: BatchNorm folded, and the normalization of pixels where there is a `spec`: what one
            deploys. It takes float32, pixels as 0..255.
        spec: how uint8 images become what the network takes.
    """

    def __init__(self, module: nn.Module, graph: Graph, spec: InputSpec | None = None) -> None:
        self.module = nn.Sequential(*([_Normalize(spec)] if spec else []), module).eval()
        self.captured = graph
        folded = fold_batch_norm(graph).scaled()
        self.graph = fold_normalization(folded, spec.mean, spec.std) if spec else folded
        self.spec = spec

    def onnx(self) -> Any:
        """From `images` to `logits`.

        Raises:
            UnavailableError: without the package onnx.
        """
        need("onnx")
        import onnx

        return onnx_model(onnx, self.graph, pixels=self.spec is not None)


class _Normalize(nn.Module):
    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """float32 of uint8 [n, ...]."""
        return self.spec.normalize(images)


def need(*packages: str) -> None:
    """Look for packages without importing them.

    Raises:
        UnavailableError: naming those that are not installed.
    """
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise UnavailableError(
            f"not installed: {', '.join(missing)}; `pip install .[peers]` brings {them}"
        )
