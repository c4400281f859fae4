"""Networks as lists of layers: the built-in ones, a user's own, and their FP32 checkpoints."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_model, save
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic

Layer = dict[str, Any]  # {"type": "linear", ...}: plain JSON


@dataclass(frozen=True)
class InputSpec:
    """What a network takes: images [n, *shape] with pixels of 0..1 normalized by mean and std."""

    shape: tuple[int, int, int]
    mean: float
    std: float

    def normalize(self, images: Tensor) -> Tensor:
        """float32 [n, *shape] of uint8 images, or of float images in 0..1, of any batch shape."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return (pixels.reshape(-1, *self.shape) - self.mean) / self.std


@dataclass(frozen=True)
class Checkpoint:
    """An FP32 network with all that is needed to run it and to know where it came from."""

    model: nn.Sequential
    input: InputSpec
    classes: list[str]
    provenance: dict[str, Any]


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
    name: str, settings: Mapping[str, Any], shape: tuple[int, int, int], classes: int, seed: int
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
    except (TypeError, ValueError, RuntimeError) as error:
        raise TritbenchError(f"model.{name} = {dict(settings)}: {error}") from None
    _check(model, name, shape, classes)
    return model


def describe(model: nn.Sequential) -> list[Layer]:
    """The network as a list of layers in plain JSON; `from_layers` is its inverse.

    Raises:
        TritbenchError: naming every layer that cannot be packed.
    """
    layers, problems = [], []
    for index, module in enumerate(model):
        try:
            layers.append(_describe_layer(module))
        except TritbenchError as error:
            problems.append(f"layer {index} {error}")
    if problems:
        raise TritbenchError("cannot be packed: " + "; ".join(problems))
    return layers


def from_layers(layers: list[Layer]) -> nn.Sequential:
    """The network that `describe` described, with fresh weights."""
    return nn.Sequential(*(_make_layer(layer) for layer in layers))


def weight_layers(model: nn.Sequential) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers whose weights become ternary, by their name in the network, in order."""
    return {
        name: module
        for name, module in model.named_children()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


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
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["tritbench"])
        shape = tuple(about["input"].pop("shape"))
        spec = InputSpec(shape=shape, **about["input"])
        model = from_layers(about["layers"])
        load_model(model, path)
    except FileNotFoundError:
        raise TritbenchError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise TritbenchError(f"{path}: not a tritbench checkpoint: {reason}") from None
    return Checkpoint(model.eval(), spec, about["classes"], about["provenance"])


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _import(key: str, reference: str) -> Callable[..., nn.Sequential]:
    module, _, function = reference.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's module lies in the repository, where stages run
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise TritbenchError(f"{key} = {reference!r}: {error}") from None


def _check(model: object, name: str, shape: tuple[int, int, int], classes: int) -> None:
    if not isinstance(model, nn.Sequential):
        found = type(model).__name__
        raise TritbenchError(f"model.{name}: the factory made {found}, expected nn.Sequential")
    try:
        describe(model)
    except TritbenchError as error:
        raise TritbenchError(f"model.{name}: {error}") from None
    if not weight_layers(model):
        raise TritbenchError(f"model.{name}: has no Linear or Conv2d layer to make ternary")
    training = model.training
    try:
        with torch.no_grad():
            output = tuple(model.eval()(torch.zeros(1, *shape)).shape)
    except RuntimeError as error:
        raise TritbenchError(f"model.{name}: does not take images {shape}: {error}") from None
    model.train(training)
    if output != (1, classes):
        raise TritbenchError(f"model.{name}: gives {output}, expected (1, {classes}) for one image")


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _describe_layer(module: nn.Module) -> Layer:
    match module:
        case nn.Linear():
            return {
                "type": "linear",
                "in": module.in_features,
                "out": module.out_features,
                "bias": module.bias is not None,
            }
        case nn.Conv2d():
            return _describe_conv(module)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if not module.track_running_stats or not module.affine:
                raise TritbenchError(f"{module}: expected running statistics and affine")
            kind = "batchnorm2d" if isinstance(module, nn.BatchNorm2d) else "batchnorm1d"
            return {"type": kind, "features": module.num_features, "eps": module.eps}
        case nn.ReLU():
            return {"type": "relu"}
        case nn.MaxPool2d():
            plain = _pair(module.padding) == [0, 0] == [n - 1 for n in _pair(module.dilation)]
            if not plain or module.ceil_mode or module.return_indices:
                raise TritbenchError(f"{module}: expected no padding, dilation or ceil_mode")
            return _describe_pool("maxpool2d", module)
        case nn.AvgPool2d():
            if _pair(module.padding) != [0, 0] or module.ceil_mode or module.divisor_override:
                raise TritbenchError(f"{module}: expected no padding, ceil_mode or divisor")
            return _describe_pool("avgpool2d", module)
        case nn.Dropout():
            return {"type": "dropout", "p": module.p}
        case nn.Flatten():
            if (module.start_dim, module.end_dim) != (1, -1):
                raise TritbenchError(f"{module}: expected start_dim=1, end_dim=-1")
            return {"type": "flatten"}
    allowed = "Linear, Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, Dropout or Flatten"
    raise TritbenchError(f"{type(module).__name__}: expected {allowed}")


def _describe_conv(module: nn.Conv2d) -> Layer:
    plain = module.groups == 1 and _pair(module.dilation) == [1, 1]
    if not plain or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise TritbenchError(f"{module}: expected groups=1, dilation=1 and numeric zero padding")
    return {
        "type": "conv2d",
        "in": module.in_channels,
        "out": module.out_channels,
        "kernel": _pair(module.kernel_size),
        "stride": _pair(module.stride),
        "padding": _pair(module.padding),
        "bias": module.bias is not None,
    }


def _describe_pool(kind: str, module: nn.MaxPool2d | nn.AvgPool2d) -> Layer:
    return {"type": kind, "kernel": _pair(module.kernel_size), "stride": _pair(module.stride)}


def _make_layer(layer: Layer) -> nn.Module:
    match layer["type"]:
        case "linear":
            return nn.Linear(layer["in"], layer["out"], bias=layer["bias"])
        case "conv2d":
            kernel, stride, padding = (tuple(layer[k]) for k in ("kernel", "stride", "padding"))
            return nn.Conv2d(layer["in"], layer["out"], kernel, stride, padding, bias=layer["bias"])
        case "batchnorm1d":
            return nn.BatchNorm1d(layer["features"], eps=layer["eps"])
        case "batchnorm2d":
            return nn.BatchNorm2d(layer["features"], eps=layer["eps"])
        case "relu":
            return nn.ReLU()
        case "maxpool2d":
            return nn.MaxPool2d(tuple(layer["kernel"]), tuple(layer["stride"]))
        case "avgpool2d":
            return nn.AvgPool2d(tuple(layer["kernel"]), tuple(layer["stride"]))
        case "dropout":
            return nn.Dropout(layer["p"])
        case "flatten":
            return nn.Flatten()
    raise TritbenchError(f"unknown layer type {layer['type']!r}")
