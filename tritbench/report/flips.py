"""Test images for which FP32 and a ternary mode name different classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.report.table import missing

SHOWN = 8


@dataclass(frozen=True)
class Flip:
    """One image; classes by number, probabilities (softmax) of the class that each names."""

    index: int
    actual: int
    before: int
    before_probability: float
    after: int
    after_probability: float


@dataclass(frozen=True)
class Flips:
    """Of one model and ternary mode: images lost (FP32 right, ternary wrong) and won."""

    model: str
    mode: str
    lost: int
    won: int
    worst: tuple[Flip, ...]


def read_flips(path: Path, pairs: Sequence[tuple[str, str]]) -> list[Flips]:
    """Compare the logits in predictions.npz: `labels` int [n], `MODEL.MODE` float [n, classes].

    Args:
        path: of predictions.npz.
        pairs: of model and ternary mode.

    Raises:
        TritbenchError: where the file is missing, damaged or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = {"labels"} | {f"{model}.{mode}" for model, mode in pairs}
            wanted |= {f"{model}.fp32" for model, _ in pairs}
            arrays = {name: archive[name] for name in sorted(wanted)}
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, KeyError) as error:
        raise TritbenchError(f"{path}: not the predictions of this run: {error}") from None
    return [_flips(arrays, model, mode) for model, mode in pairs]


def _flips(arrays: Mapping[str, NDArray[np.float32]], model: str, mode: str) -> Flips:
    labels = arrays["labels"].astype(np.int64)
    before, after = (_softmax(arrays[f"{model}.{key}"]) for key in ("fp32", mode))
    images = np.arange(len(labels))
    was_right, is_right = (p.argmax(1) == labels for p in (before, after))
    lost = np.flatnonzero(was_right & ~is_right)
    # Worst: the right class lost most of its probability.
    fall = (before - after)[images, labels]
    worst = lost[np.argsort(-fall[lost], kind="stable")][:SHOWN]
    return Flips(
        model,
        mode,
        len(lost),
        int((~was_right & is_right).sum()),
        tuple(
            Flip(
                int(i),
                int(labels[i]),
                int(before[i].argmax()),
                float(before[i].max()),
                int(after[i].argmax()),
                float(after[i].max()),
            )
            for i in worst
        ),
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))
