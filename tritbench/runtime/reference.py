"""The PyTorch reference: ternary weights dequantized once, then the graph node by node."""

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph
from tritbench.graph.interpret import run
from tritbench.models import Checkpoint, InputSpec
from tritbench.packing import Network, Normalization

ENGINE = "PyTorch reference (weights dequantized to float32)"


@dataclass(frozen=True)
class EagerModel:
    """A user's module. Calling it with images [n, ...] gives float32 logits [n, classes].

    Attributes:
        network: in evaluation mode.
        input: the images it takes.
        engine: what executes it, in words.
    """

    network: nn.Module
    input: InputSpec
    engine: str = "PyTorch eager (float32)"

    @overload
    def __call__(self, images: Tensor) -> Tensor: ...
    @overload
    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]: ...
    @torch.inference_mode()
    def __call__(self, images: Tensor | NDArray[Any]) -> Tensor | NDArray[np.float32]:
        """float32 logits [n, classes] of uint8 images, or of floats in 0..1, of the same kind."""
        if isinstance(images, np.ndarray):
            return self(torch.from_numpy(images)).numpy()
        logits: Tensor = self.network(self.input.normalize(images))
        return logits


@dataclass(frozen=True)
class GraphModel:
    """Calling it with a batch gives float32 logits [n, classes].

    Attributes:
        graph: with float weights.
        normalization: of uint8 images; none where the graph takes its input as it is.
        classes: one name for each logit.
        engine: what executes it, in words.
    """

    graph: Graph
    normalization: Normalization | None
    classes: list[str]
    engine: str = ENGINE

    @property
    def input(self) -> InputSpec:
        """The images it takes.

        Raises:
            TritbenchError: where it takes something else.
        """
        shapes = [value.shape for value in self.graph.inputs.values()]
        if self.normalization is None or len(shapes) != 1 or len(shapes[0]) != 4:
            texts = ", ".join(str(list(shape)) for shape in shapes)
            raise TritbenchError(f"the network takes {texts} as it is, expected pixels of images")
        _, channels, height, width = shapes[0]
        return InputSpec((channels, height, width), self.normalization.mean, self.normalization.std)

    @overload
    def __call__(self, batch: Tensor) -> Tensor: ...
    @overload
    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]: ...
    def __call__(self, batch: Tensor | NDArray[Any]) -> Tensor | NDArray[np.float32]:
        """Logits of the same kind as what comes in.

        Args:
            batch: as the graph takes it; where there is a normalization, uint8 images, or floats
                in 0..1, [n, channels, ...].

        Raises:
            TritbenchError: for another shape or dtype, naming both.
        """
        if isinstance(batch, np.ndarray):
            return self(torch.from_numpy(batch)).numpy()
        if self.normalization is not None:
            pixels = batch / 255 if batch.dtype == torch.uint8 else batch
            wide = (-1, *(1,) * (batch.dim() - 2))
            mean, std = (torch.tensor(v).view(wide) for v in vars(self.normalization).values())
            batch = (pixels - mean) / std
        return run(self.graph, batch)


def from_checkpoint(checkpoint: Checkpoint) -> GraphModel:
    """An FP32 checkpoint, which needs none of the user's code."""
    spec = checkpoint.input
    normalization = Normalization(spec.mean, spec.std)
    engine = "PyTorch, the graph node by node (float32)"
    return GraphModel(checkpoint.graph, normalization, checkpoint.classes, engine)


def from_network(network: Network) -> GraphModel:
    """A packed network, dequantized."""
    return GraphModel(network.packed.dequantized(), network.normalization, network.classes)
