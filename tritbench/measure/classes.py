"""What the test images say of each class, as rows: its accuracy, and what it is taken for."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tritbench.measure.accuracy import confusion, score_classes
from tritbench.measure.rows import Row


def class_rows(
    model: str, logits: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str]
) -> list[Row]:
    """For each mode and each class that has images: model, mode, class, accuracy, low, high.

    Args:
        model: its name.
        logits: [n, classes], by mode.
        labels: [n].
        classes: their names.
    """
    return [
        {"model": model, "mode": mode, "class": name}
        | {"accuracy": found.accuracy, "low": found.low, "high": found.high}
        for mode, of_mode in logits.items()
        for name, found in zip(classes, score_classes(of_mode, labels), strict=True)
        if found is not None
    ]


def confusion_rows(
    model: str, logits: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str]
) -> list[Row]:
    """For each mode and pair of classes: model, mode, actual, predicted, count; as `class_rows`."""
    return [
        {"model": model, "mode": mode, "actual": actual, "predicted": predicted, "count": count}
        for mode, of_mode in logits.items()
        for actual, counts in zip(
            classes, confusion(of_mode.argmax(1), labels, len(classes)).tolist(), strict=True
        )
        for predicted, count in zip(classes, counts, strict=True)
    ]


def classes_without_images(labels: Tensor, classes: Sequence[str]) -> list[str]:
    """The names of the classes that no label [n] has: no accuracy says anything of them."""
    counts = torch.bincount(labels, minlength=len(classes))
    return [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
