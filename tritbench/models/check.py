"""What a network must be so that its checkpoint and its .trit file are the network itself."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tritbench.errors import TritbenchError
from tritbench.models.description import describe, from_layers, has_hooks, weight_layers
from tritbench.shapes import follow

IMAGES = 4  # random ones, that a network and its copy are compared on


def check_network(
    model: object, key: str, shape: tuple[int, ...], classes: int | None = None
) -> nn.Sequential:
    """The network, if what is saved and rebuilt of it trains and predicts as it does.

    Args:
        model: what should be one; stays as it is.
        key: what errors call it, such as `model.mlp`.
        shape: of an image.
        classes: logits that it should give; None is any number.

    Raises:
        TritbenchError: naming `key`, the layers and what was expected.
    """
    try:
        chain = check_layers(model)
        shapes = follow(describe(chain), shape)
        if len(shapes[-1]) != 1 or classes not in (None, *shapes[-1]):
            wanted = "one dimension" if classes is None else f"[{classes}], its classes"
            raise TritbenchError(f"the network gives {list(shapes[-1])}, expected {wanted}")
        _check_rebuilt(chain, shape)
    except TritbenchError as error:
        raise TritbenchError(f"{key}: {error}") from None
    return chain


def check_layers(model: object) -> nn.Sequential:
    """The network, if it is a plain chain of float32 layers that share nothing.

    Raises:
        TritbenchError: naming the layers and what was expected.
    """
    if type(model) is not nn.Sequential:
        raise TritbenchError(
            f"the network is {type(model).__name__}, expected nn.Sequential itself"
        )
    describe(model)
    if problems := [*_structure(model), *_tensors(model)]:
        raise TritbenchError("; ".join(problems))
    if not weight_layers(model):
        raise TritbenchError("the network has no Linear or Conv2d layer to make ternary")
    return model


def _structure(model: nn.Sequential) -> Iterator[str]:
    if "forward" in vars(model) or has_hooks(model):
        yield "the network has a forward or hooks of its own, expected those of nn.Sequential"
    seen: dict[int, int] = {}
    for index, (name, module) in enumerate(model._modules.items()):
        kind = type(module).__name__
        if name != str(index):
            yield f"layer {index} ({kind}) is named {name!r}, expected no names (OrderedDict)"
        if (first := seen.setdefault(id(module), index)) != index:
            yield f"layer {index} ({kind}) is layer {first} again, expected one of its own"


def _tensors(model: nn.Sequential) -> Iterator[str]:
    owners: dict[int, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if value.device.type != "cpu":
            yield f"{name} is on {value.device}, expected the CPU"
            continue
        if value.is_floating_point() and value.dtype != torch.float32:
            yield f"{name} is {value.dtype}, expected torch.float32"
        if isinstance(value, nn.Parameter) and not value.requires_grad:
            yield f"{name} has requires_grad=False, expected a parameter that trains"
        memory = value.untyped_storage().data_ptr() if value.numel() else id(value)
        if (owner := owners.setdefault(memory, name)) != name:
            yield f"{name} shares its memory with {owner} (tied weights), expected its own"


def _check_rebuilt(model: nn.Sequential, shape: tuple[int, ...]) -> None:
    """Compare one step in training, what it leaves in BatchNorm, and the predictions after it."""
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        again = from_layers(describe(model))
        try:
            again.load_state_dict(model.state_dict())
            found, expected = (_behaviour(m, images) for m in (again, copy.deepcopy(model)))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise TritbenchError(f"the network cannot be rebuilt and run: {reason}") from None
    for what, value in expected.items():
        scale = float(value.abs().max()) if value.numel() else 0.0
        if not torch.allclose(found[what], value, 1e-4, 1e-5 * scale, equal_nan=True):
            raise TritbenchError(f"a network rebuilt from its layers has other {what}")


@torch.no_grad()
def _behaviour(model: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)  # dropout
    outputs = {"outputs in training": model.train()(images)}
    buffers = {f"statistics {name}": b.float() for name, b in model.named_buffers()}
    return outputs | buffers | {"outputs": model.eval()(images)}
