"""The intervals and tests behind the columns, without PyTorch; docs/measuring.md explains them.

SciPy's statistics are imported where they are used: the import takes longer than printing a table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
SIGNIFICANT = 1 - CONFIDENCE  # a difference with a smaller p-value than this is called significant
RESAMPLES = 1000


@dataclass(frozen=True)
class Flips:
    """Images right before and wrong after, the other way round, and McNemar's p-value."""

    lost: int
    won: int
    p: float


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (JASA 22, 1927).

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(before: Bools, after: Bools) -> Flips:
    """McNemar's exact test of two models on the same images.

    Under the null hypothesis an image that only one of them gets right is either's with
    probability 1/2; the others say nothing.

    Args:
        before: bool [n], whether the first model is right.
        after: bool [n], whether the second is, on the same images.
    """
    from scipy.stats import binomtest

    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    p = float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0
    return Flips(lost, won, p)


def two_proportions(first: tuple[int, int], second: tuple[int, int]) -> float:
    """p-value of Fisher's exact test that two shares, each (correct, total), are equal.

    It takes the images for different ones; on the same images it is less sharp than `mcnemar`.
    """
    from scipy.stats import fisher_exact

    table = [[correct, total - correct] for correct, total in (first, second)]
    return float(fisher_exact(table).pvalue)


def ratio_interval(first: Floats, second: Floats) -> tuple[float, float] | None:
    """95% bootstrap interval of median(first) / median(second); none of fewer than two pairs.

    Pairs are drawn together, so what slowed both down does not widen the interval.

    Args:
        first: seconds [rounds].
        second: seconds [rounds], taken in the same rounds.
    """
    from scipy.stats import bootstrap

    if len(first) < 2:
        return None
    found = bootstrap(
        (first, second),
        _ratio_of_medians,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ratio_of_medians(first: Floats, second: Floats, axis: int) -> Any:
    return np.median(first, axis=axis) / np.median(second, axis=axis)
