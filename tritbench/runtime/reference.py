"""The PyTorch reference: ternary weights dequantized once, then plain float32 inference."""

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tritbench.models import Checkpoint, InputSpec, from_layers
from tritbench.packing import Network, PackedLayer
from tritbench.packing.dequantize import weights

ENGINE = "PyTorch reference (weights dequantized to float32)"


@dataclass(frozen=True)
class Model:
    """Calling it with images [n, ...] gives float32 logits [n, classes].

    Attributes:
        network: the float network that runs.
        input: the images it takes.
        classes: one name for each logit.
        engine: what executes it, in words.
    """

    network: nn.Sequential
    input: InputSpec
    classes: list[str]
    engine: str

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


class Affine(nn.Module):
    """x × scale + bias for each channel."""

    def __init__(self, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.scale, self.bias = scale, bias

    def forward(self, x: Tensor) -> Tensor:
        """float32 in the shape of x, [n, features, ...]."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * self.scale.view(shape) + self.bias.view(shape)


def from_checkpoint(checkpoint: Checkpoint) -> Model:
    """An FP32 checkpoint as it is."""
    return Model(checkpoint.model, checkpoint.input, checkpoint.classes, "PyTorch eager (float32)")


def from_network(network: Network) -> Model:
    """A packed network, dequantized."""
    layers = nn.Sequential(*(_layer(layer) for layer in network.layers)).eval()
    return Model(layers, network.input, network.classes, ENGINE)


@torch.no_grad()
def _layer(layer: PackedLayer) -> nn.Module:
    arrays = {key: torch.from_numpy(np.array(array)) for key, array in layer.arrays.items()}
    if layer.about["type"] == "affine":
        return Affine(arrays["scale"], arrays["bias"])
    module = from_layers([{**layer.about, "bias": True}])[0]
    if isinstance(module, nn.Linear | nn.Conv2d):
        module.weight.copy_(torch.from_numpy(weights(layer)).reshape(module.weight.shape))
        assert module.bias is not None
        module.bias.copy_(arrays["bias"])
    return module
