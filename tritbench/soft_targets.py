"""Targets of distillation: a teacher's predictions mixed with labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tritbench.augment import Draws
from tritbench.parallel import Group
from tritbench.shapes import InputSpec

BATCH = 1000  # of images whose predictions are taken at once


class SoftTargets:
    """Probabilities that follow a teacher (Hinton et al., arXiv 1503.02531, at temperature 1).

    The predictions for every image and, with `flip`, its mirror image are taken once: in each step
    anew they would be a third of the training's time. What other augmentations give is too much
    for that.

    Args:
        teacher: on the device of the pixels.
        pixels: uint8 [n, ...] of the training images.
        labels: [n].
        spec: how pixels are normalized.
        share: of the targets that follows the teacher; labels are the rest.
        smoothing: of the labels.
        augmentations: that training images go through, by name.
        autocast: the precision of the teacher.
        memory_format: of the images.
        here: this process, of those that train together.
    """

    def __init__(
        self,
        teacher: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        spec: InputSpec,
        share: float,
        smoothing: float,
        augmentations: tuple[str, ...],
        autocast: torch.autocast,
        memory_format: torch.memory_format,
        here: Group,
    ) -> None:
        self.model, self.labels, self.share, self.smoothing = teacher, labels, share, smoothing
        self.spec, self.autocast, self.memory_format = spec, autocast, memory_format
        self.table: Tensor | None = None  # targets [1 or 2, n, classes]
        if set(augmentations) <= {"flip"}:
            sides = (False, True) if "flip" in augmentations else (False,)
            predictions = torch.stack([self._predictions(pixels, side, here) for side in sides])
            self.table = self._mixed(labels.cpu(), predictions)

    def known(self, chosen: Tensor, draws: Draws) -> Tensor | None:
        """Probabilities [m, classes] for images by their indices and draws, where they are taken
        once."""
        if self.table is None:
            return None
        return self.table[draws.flipped.long(), chosen].to(self.labels.device)

    def of(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Probabilities [m, classes] for a batch [m, ...] as it was drawn, and its labels."""
        with torch.no_grad():
            predictions = self.model(batch).float().softmax(1)
        return self._mixed(labels, predictions)

    def _mixed(self, labels: Tensor, predictions: Tensor) -> Tensor:
        classes = predictions.shape[-1]
        hard = F.one_hot(labels, classes) * (1 - self.smoothing) + self.smoothing / classes
        return torch.lerp(hard, predictions, self.share)

    @torch.no_grad()
    def _predictions(self, pixels: Tensor, mirrored: bool, here: Group) -> Tensor:
        logits = []
        with self.autocast:
            shard = here.shard(len(pixels))
            for start in range(shard.start, shard.stop, BATCH):
                part = pixels[start : min(start + BATCH, shard.stop)]
                batch = self.spec.normalize(part.flip(3) if mirrored else part)
                batch = batch.contiguous(memory_format=self.memory_format)
                logits.append(self.model(batch).float())
        return here.gather(torch.cat(logits).softmax(1), len(pixels)).cpu()
