"""Augmentation of training images by name: what is drawn by seed, and what it does to a batch."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_PADDING = 8  # a crop moves an image by up to an eighth of its side: 4 pixels of 32


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch.

    Attributes:
        flipped: bool [n], mirrored from left to right.
        moved: float64 [n, 2], down and right, each in [0, 1) of where a crop may begin.
    """

    flipped: Tensor
    moved: Tensor | None

    def __getitem__(self, own: slice) -> "Draws":
        return Draws(self.flipped[own], None if self.moved is None else self.moved[own])


def draw(names: Collection[str], count: int, generator: torch.Generator) -> Draws:
    """Draw for a whole batch, so that every process has the same and takes its part.

    Args:
        names: of augmentations, `flip` and `crop`.
        count: images of the batch.
        generator: of this training's random numbers.
    """
    flipped = torch.zeros(count, dtype=torch.bool)
    if "flip" in names:
        flipped = torch.rand(count, generator=generator) < 0.5
    moved = None
    if "crop" in names:
        moved = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return Draws(flipped, moved)


def augment(pixels: Tensor, draws: Draws) -> Tensor:
    """The images [n, channels, height, width] as drawn; a crop sees black beyond the border.

    Crops are of the image's size, out of the image with a border of an eighth of its side on each
    (He et al., arXiv 1512.03385, section 4.2: 4 pixels around 32×32).
    """
    if draws.flipped.any():
        mirrored = draws.flipped.to(pixels.device).view(-1, 1, 1, 1)
        pixels = torch.where(mirrored, pixels.flip(3), pixels)
    return pixels if draws.moved is None else _crop(pixels, draws.moved.to(pixels.device))


def _crop(pixels: Tensor, moved: Tensor) -> Tensor:
    count, channels, height, width = pixels.shape
    borders = torch.tensor([-(-height // _PADDING), -(-width // _PADDING)], device=moved.device)
    top, left = (moved * (2 * borders + 1)).long().unbind(1)
    down, right = borders.tolist()
    padded = F.pad(pixels, (right, right, down, down))
    rows = top[:, None] + torch.arange(height, device=moved.device)
    columns = left[:, None] + torch.arange(width, device=moved.device)
    image = torch.arange(count, device=moved.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=moved.device).view(1, -1, 1, 1)
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
