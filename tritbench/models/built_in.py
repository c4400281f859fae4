"""The built-in networks, and those that a function of one's own makes."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.models.check import check_network


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
                f"model.cnn.channels = {channels}: images of {shape[1]}×{shape[2]} allow fewer "
                "2×2 poolings"
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


BUILT_IN: dict[str, Callable[..., nn.Sequential]] = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
}


def build(
    name: str, settings: Mapping[str, Any], shape: tuple[int, ...], classes: int, seed: int
) -> nn.Sequential:
    """Make the network `name` of params.yaml, initialized by `seed`.

    `settings` are its keyword arguments; with a `factory: package.module:function` among them,
    that function makes it from `(shape, classes, **the other settings)`.

    Raises:
        TritbenchError: where it cannot be made or packed, naming the key or the layers.
    """
    arguments = dict(settings)
    factory = arguments.pop("factory", None)
    make = BUILT_IN[name] if factory is None else _import(f"model.{name}.factory", factory)
    torch.manual_seed(seed)
    try:
        model = make(shape, classes, **arguments)
    except TritbenchError:
        raise
    except Exception as error:  # a user's function may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TritbenchError(f"model.{name} = {dict(settings)}: {reason}") from None
    return check_network(model, f"model.{name}", shape, classes)


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _import(key: str, reference: str) -> Callable[..., nn.Sequential]:
    module, _, function = reference.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's module lies in the repository, where stages run
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except Exception as error:  # whatever a user's module does when it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TritbenchError(f"{key} = {reference!r}: {reason}") from None
