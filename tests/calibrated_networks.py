"""Networks with static ranges of activations."""

import dataclasses

import torch

from tritbench.packing import Network
from tritbench.packing.calibration import calibrated as with_ranges


def normalized(net: Network, images):
    """Images as the graph takes them, in PyTorch."""
    x = torch.as_tensor(images)
    if net.normalization is None:
        return x
    x = x / 255 if x.dtype == torch.uint8 else x.float()
    wide = (-1, *(1,) * (x.dim() - 2))
    mean, std = (torch.tensor(v).view(wide) for v in vars(net.normalization).values())
    return (x - mean) / std


def calibrated(net: Network, images) -> Network:
    """With ranges of about half of these images, so that others may be clamped to them."""
    some = normalized(net, images[: len(images) // 2 + 1])
    packed = with_ranges(net.packed, [some], net.normalization is not None)
    return dataclasses.replace(net, packed=packed)
