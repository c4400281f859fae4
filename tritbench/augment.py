"""Augmentation of training images by name: what is drawn by seed, and what it does to a batch."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_PADDING = 8  # a crop moves an image by up to an eighth of its side: 4 pixels of 32
_CUT = 4  # a cutout's side is about a quarter of the image's: 8 pixels of 32


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch.

    Attributes:
        flipped: bool [n], mirrored from left to right.
        moved: float64 [n, 2], down and right, each in [0, 1) of where a crop may begin.
        cut: float64 [n, 2], down and right, each in [0, 1) of where a cutout's centre may be.
    """

    flipped: Tensor
    moved: Tensor | None
    cut: Tensor | None

    def __getitem__(self, own: slice) -> "Draws":
        moved, cut = (None if part is None else part[own] for part in (self.moved, self.cut))
        return Draws(self.flipped[own], moved, cut)


def draw(names: Collection[str], count: int, generator: torch.Generator) -> Draws:
    """Draw for a whole batch, so that every process has the same and takes its part.

    Args:
        names: of augmentations, `flip`, `crop` and `cutout`.
        count: images of the batch.
        generator: of this training's random numbers.
    """
    flipped = torch.zeros(count, dtype=torch.bool)
    if "flip" in names:
        flipped = torch.rand(count, generator=generator) < 0.5
    moved, cut = (
        torch.rand(count, 2, generator=generator, dtype=torch.float64) if name in names else None
        for name in ("crop", "cutout")
    )
    return Draws(flipped, moved, cut)


def augment(pixels: Tensor, draws: Draws) -> Tensor:
    """The images [n, channels, height, width] as drawn; a crop sees black beyond the border.

    Crops are of the image's size, out of the image with a border of an eighth of its side on each
    (He et al., arXiv 1512.03385, section 4.2: 4 pixels around 32×32). A cutout is a black square of
    a quarter of the image's side, less where it reaches beyond the image (arXiv 1708.04552).
    """
    if draws.flipped.any():
        mirrored = draws.flipped.to(pixels.device).view(-1, 1, 1, 1)
        pixels = torch.where(mirrored, pixels.flip(3), pixels)
    if draws.moved is not None:
        pixels = _crop(pixels, draws.moved.to(pixels.device))
    return pixels if draws.cut is None else _cutout(pixels, draws.cut.to(pixels.device))


def _cutout(pixels: Tensor, centre: Tensor) -> Tensor:
    within = []
    for axis, side in enumerate(pixels.shape[2:]):
        length = max(1, side // _CUT)
        begin = (centre[:, axis : axis + 1] * side).long() - length // 2
        offset = torch.arange(side, device=pixels.device) - begin
        within.append((offset >= 0) & (offset < length))
    cut = within[0][:, None, :, None] & within[1][:, None, None, :]
    return pixels.masked_fill(cut, 0)


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
