"""Images of two classes that a small network tells apart within a few epochs."""

import torch
from torch import nn

from tritbench.data import Images


def toy_images(count=256):
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 128, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    pixels[labels == 1, :, :2] += 100
    return Images(pixels.to(torch.uint8), labels)


def toy_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 2),
    )
