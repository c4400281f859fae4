"""Networks by name or by a factory: a function or class, given what its signature asks for."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tritbench.data.sources._torchvision import declare_operators
from tritbench.errors import TritbenchError
from tritbench.models.built_in import BUILT_IN
from tritbench.models.check import check_network
from tritbench.params import SECTIONS

Shape = tuple[int, ...]
Factory = Callable[..., nn.Module]

# The names that factories have for what the data decide; the first that is there is taken.
NAMES = {
    "$classes": ("num_classes", "classes", "n_classes", "num_labels"),
    "$channels": ("in_chans", "channels", "in_channels", "num_channels"),
    "$size": ("image_size", "img_size", "input_size"),
    "$shape": ("shape", "input_shape"),
}
NOT_ARGUMENTS = ("factory", "weights", "normalize", *SECTIONS)


def build(
    name: str, settings: Mapping[str, Any], shape: Shape, classes: int, seed: int
) -> nn.Module:
    """`make` the network and check that it can become ternary: see `check_network`.

    Raises:
        TritbenchError: as `make` and `check_network`.
    """
    model = make(name, settings, shape, classes, seed)
    check_network(model, f"model.{name}", shape, classes)
    return model


def make(
    name: str, settings: Mapping[str, Any], shape: Shape, classes: int, seed: int
) -> nn.Module:
    """The network `name` of params.yaml, initialized by `seed`.

    Args:
        name: a built-in one, unless there is a `factory`.
        settings: its entry under `model`: keyword arguments, in which `$classes`, `$channels` and
            `$size` stand for what the data have; `factory: package.module:name` is called with
            them, and with what it has a name of `NAMES` for.
        shape: of an image, [channels, height, width].
        classes: how many logits the network should give.
        seed: of PyTorch's random numbers.

    Raises:
        TritbenchError: where it cannot be made, naming the key.
    """
    key, reference = f"model.{name}", settings.get("factory")
    factory = BUILT_IN[name] if reference is None else _import(f"{key}.factory", reference)
    arguments = {k: v for k, v in settings.items() if k not in NOT_ARGUMENTS}
    torch.manual_seed(seed)
    try:
        model = factory(**_filled(factory, arguments, shape, classes))
    except Exception as error:  # a user's function may raise anything
        reason = " ".join(str(error).split())
        if not isinstance(error, TritbenchError):
            reason = f"{type(error).__name__}: {reason}"
        raise TritbenchError(f"{key} = {dict(settings)}: {reason}") from None
    if not isinstance(model, nn.Module):
        raise TritbenchError(f"{key} is {type(model).__name__}, expected a torch.nn.Module")
    return model


def _filled(
    factory: Factory, arguments: Mapping[str, Any], shape: Shape, classes: int
) -> dict[str, Any]:
    """The arguments, and what else the factory takes by one of `NAMES`."""
    sides = shape[1:]
    known = {
        "$classes": classes,
        "$channels": shape[0],
        "$size": sides[0] if len(set(sides)) == 1 else sides,
        "$shape": shape,
    }
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some written in C have none
        parameters = {}  # type: ignore[assignment]
    filled = {
        argument: known.get(value, value) if isinstance(value, str) else value
        for argument, value in arguments.items()
    }
    for variable, names in NAMES.items():
        if variable in arguments.values():
            continue
        there = [name for name in names if name in parameters]
        if there and there[0] not in filled:
            filled[there[0]] = known[variable]
    takes_more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {*NAMES["$classes"]} & filled.keys() or "$classes" in arguments.values()
    if takes_more and not named:
        filled["num_classes"] = classes  # as torchvision's and timm's pass it on
    return filled


def _import(key: str, reference: str) -> Factory:
    module, _, name = reference.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's module lies in the repository, where stages run
    try:
        declare_operators()  # of torchvision, which it or timm may import
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except Exception as error:  # whatever a user's module does when it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TritbenchError(f"{key} = {reference!r}: {reason}") from None
