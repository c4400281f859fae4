"""How often a model is right, with its uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.measure.statistics import Flips, mcnemar, wilson

# Images at once: small enough to stay in the caches, and a size that is timed as well, since
# torch.compile takes seconds for each.
BATCH = 128
BINS = 15


@dataclass(frozen=True)
class Score:
    """Accuracy as a share of 1 with its Wilson 95% interval, and the mean cross-entropy."""

    correct: int
    total: int
    accuracy: float
    low: float
    high: float
    loss: float


def predict(model: Callable[[Tensor], Tensor], pixels: Tensor, name: str = "model") -> Tensor:
    """float32 logits [n, classes] of uint8 images [n, c, h, w].

    Raises:
        TritbenchError: naming the model, where a logit is NaN or infinite.
    """
    count = len(pixels)
    rest = -count % BATCH if count > BATCH else 0
    whole = torch.cat([pixels, pixels[:rest]]) if rest else pixels
    logits = torch.cat([model(batch) for batch in whole.split(BATCH)])[:count]
    wrong = int((~torch.isfinite(logits)).any(1).sum())
    if wrong:
        raise TritbenchError(f"{name}: NaN or infinite logits for {wrong} of {len(logits)} images")
    return logits


def score(logits: Tensor, labels: Tensor) -> Score:
    """Compare logits [n, classes] with labels [n]."""
    correct, total = int((logits.argmax(1) == labels).sum()), len(labels)
    loss = float(F.cross_entropy(logits.double(), labels))
    return Score(correct, total, correct / total, *wilson(correct, total), loss)


def score_classes(logits: Tensor, labels: Tensor) -> list[Score | None]:
    """The score on the images of each class, by its number; none for a class without images."""
    of_class = [labels == number for number in range(logits.shape[1])]
    return [score(logits[own], labels[own]) if own.any() else None for own in of_class]


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error, a share of 1, over 15 bins of equal width.

    The mean distance between a bin's confidence (the largest softmax probability) and its accuracy,
    weighted by its images (Guo et al., ICML 2017).
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (0, 1/15], (1/15, 2/15], …
    surplus = confidence - (predicted == labels).double()
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, surplus)
    return float(sums.abs().sum()) / len(labels)


def flips(logits: Tensor, reference: Tensor, labels: Tensor) -> Flips:
    """McNemar's exact test of logits [n, classes] against a reference's on the same images."""
    before, after = reference.argmax(1) == labels, logits.argmax(1) == labels
    return mcnemar(before.numpy(), after.numpy())


def agreement(first: Tensor, second: Tensor) -> float:
    """Share of images for which two sets of logits [n, classes] name the same class."""
    return float((first.argmax(1) == second.argmax(1)).double().mean())


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """int64 counts [actual, predicted]."""
    counts = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)
