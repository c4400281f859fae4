"""What a network must be so that its checkpoint and its .trit file are the network itself."""

import torch
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.models.description import describe, weight_layers


def check_network(model: object, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network that cannot be trained, saved and packed.

    Raises:
        TritbenchError: naming the model, the layers and what was expected.
    """
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
