"""What a network must be so that it can become ternary, seen before it is trained."""

import copy

import torch
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.graph import Graph, capture

IMAGES = 4  # random ones, that a network is tried on


def check_network(
    model: object, key: str, shape: tuple[int, ...], classes: int | None = None
) -> Graph:
    """The graph of a network that can become ternary.

    Tied weights stay tied, and parameters that do not train stay as they are.

    Args:
        model: what should be one; it and the random numbers stay as they are.
        key: what errors call it, such as `model.mlp`.
        shape: of an image.
        classes: logits that it should give; None is any number.

    Raises:
        TritbenchError: naming `key` and all that is wrong, each operation that is not in `OPS` with
            its module and line of code.
    """
    if not isinstance(model, nn.Module):
        raise TritbenchError(f"{key} is {type(model).__name__}, expected a torch.nn.Module")
    try:
        with torch.random.fork_rng(devices=[]):
            return _checked(model, shape, classes)
    except TritbenchError as error:
        raise TritbenchError(f"{key}: {error}") from None


def _checked(model: nn.Module, shape: tuple[int, ...], classes: int | None) -> Graph:
    state = model.state_dict()
    if elsewhere := [name for name, value in state.items() if value.device.type != "cpu"]:
        found = state[elsewhere[0]].device
        raise TritbenchError(f"{elsewhere[0]} is on {found}, expected the CPU")
    wrong = [n for n, v in state.items() if v.is_floating_point() and v.dtype != torch.float32]
    if wrong:
        found = (f"{name} is {state[name].dtype}, expected torch.float32" for name in wrong)
        raise TritbenchError("; ".join(found))
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    _require_the_same_twice(model, images)
    graph = capture(model, images)
    given = graph.shapes()[graph.output]
    if len(given) != 2 or given[0] != -1 or classes not in (None, given[1]):
        sizes = ", ".join("n" if size < 0 else str(size) for size in given)
        wanted = "classes" if classes is None else classes
        raise TritbenchError(f"the network gives [{sizes}], expected [n, {wanted}], its classes")
    if not graph.weights():
        raise TritbenchError("the network has no linear layer or convolution to make ternary")
    return graph


@torch.no_grad()
def _require_the_same_twice(model: nn.Module, images: torch.Tensor) -> None:
    """Refuse a network that gives other outputs in a second call, or that cannot be run."""
    copied = copy.deepcopy(model).eval()
    try:
        first, second = copied(images), copied(images)
    except Exception as error:  # a user's code may raise anything
        reason = " ".join(str(error).split())
        raise TritbenchError(
            f"it cannot run on images {list(images.shape[1:])}: {type(error).__name__}: {reason}"
        ) from None
    if isinstance(first, torch.Tensor) and not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise TritbenchError("it gives other outputs in a second call, expected the same")
