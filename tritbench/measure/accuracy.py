"""How often a model is right, with its uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

from tritbench.errors import TritbenchError

BATCH = 1000


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
    logits = torch.cat([model(batch) for batch in pixels.split(BATCH)])
    wrong = int((~torch.isfinite(logits)).any(1).sum())
    if wrong:
        raise TritbenchError(f"{name}: NaN or infinite logits for {wrong} of {len(logits)} images")
    return logits


def score(logits: Tensor, labels: Tensor) -> Score:
    """Compare logits [n, classes] with labels [n]; the interval is Wilson's (JASA 22, 1927)."""
    correct, total = int((logits.argmax(1) == labels).sum()), len(labels)
    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    loss = float(F.cross_entropy(logits.double(), labels))
    return Score(correct, total, correct / total, float(interval.low), float(interval.high), loss)


def agreement(first: Tensor, second: Tensor) -> float:
    """Share of images for which two sets of logits [n, classes] name the same class."""
    return float((first.argmax(1) == second.argmax(1)).double().mean())


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """int64 counts [actual, predicted]."""
    counts = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)
