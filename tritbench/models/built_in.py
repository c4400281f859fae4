"""The built-in networks: chains here, the others in networks.py."""

from collections.abc import Callable

from torch import nn

from tritbench.errors import TritbenchError
from tritbench.models.networks import ResNet, ViT, dscnn
from tritbench.registry import Registry


def linear(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Softmax regression."""
    return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), classes))


def mlp(shape: tuple[int, int, int], classes: int, hidden: list[int]) -> nn.Sequential:
    """Fully connected layers of the `hidden` widths, each with BatchNorm and ReLU."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = _size(shape)
    for units in hidden:
        layers += [nn.Linear(width, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))


def cnn(
    shape: tuple[int, int, int], classes: int, channels: list[int], hidden: int
) -> nn.Sequential:
    """3×3 convolutions with BatchNorm, ReLU and 2×2 max-pooling, then one hidden layer."""
    layers: list[nn.Module] = []
    depth, height, width = shape
    for filters in channels:
        if min(height, width) < 2:
            raise TritbenchError(
                f"channels = {channels}: images of {shape[1]}×{shape[2]} allow fewer 2×2 poolings"
            )
        layers += [
            nn.Conv2d(depth, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        depth, height, width = filters, height // 2, width // 2
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(depth * height * width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


BUILT_IN: Registry[Callable[..., nn.Module]] = Registry(
    "networks",
    Callable,
    {
        "linear": linear,
        "mlp": mlp,
        "cnn": cnn,
        "resnet": ResNet,
        "dscnn": dscnn,
        "vit": ViT,
    },
)


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
