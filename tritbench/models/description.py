"""A network as a list of layers in plain JSON, and back."""

from torch import nn
from torch.nn.utils import parametrize

from tritbench.errors import TritbenchError
from tritbench.shapes import Layer

TYPES = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Flatten,
)
ALLOWED = "Linear, Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, Dropout or Flatten"


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


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else [value[0], value[-1]]


def _describe_layer(module: nn.Module) -> Layer:
    _check_type(module)
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
            return {
                "type": kind,
                "features": module.num_features,
                "eps": module.eps,
                "momentum": module.momentum,
            }
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
    raise AssertionError(f"{type(module)} stands in TYPES")


def _check_type(module: nn.Module) -> None:
    """Only the types themselves: what a subclass or a hook adds, a description would drop."""
    found = type(module).__name__
    if parametrize.is_parametrized(module):
        raise TritbenchError(f"{found}: expected no parametrization (weight_norm or the like)")
    if type(module) not in TYPES:
        base = next((t.__name__ for t in TYPES if isinstance(module, t)), None)
        expected = ALLOWED if base is None else f"{base} itself, not a subclass of it"
        raise TritbenchError(f"{found}: expected {expected}")
    if "forward" in vars(module):
        raise TritbenchError(f"{found} has a forward of its own: expected that of nn.{found}")
    if has_hooks(module):
        raise TritbenchError(f"{found} has hooks (weight_norm or the like): expected none")


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after the module, or for its parameters' gradients."""
    hooks = [module._forward_pre_hooks, module._forward_hooks]
    hooks += [module._backward_pre_hooks, module._backward_hooks]
    gradients = [p._backward_hooks for p in module.parameters(recurse=False)]
    return any(hooks) or any(gradients)


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
            return nn.BatchNorm1d(layer["features"], layer["eps"], layer["momentum"])
        case "batchnorm2d":
            return nn.BatchNorm2d(layer["features"], layer["eps"], layer["momentum"])
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
