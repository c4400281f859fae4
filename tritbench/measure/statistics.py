"""The intervals and tests behind the columns, without PyTorch; docs/measuring.md explains them.

SciPy's statistics are imported where they are used: the import takes longer than printing a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
SIGNIFICANT = 1 - CONFIDENCE  # a difference with a smaller p-value than this is called significant
RESAMPLES = 1000
# Points of accuracy: two networks are called level where their difference is shown to be smaller.
# Fixed before the seeds were run that it is applied to.
MARGIN = 0.2


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


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with Student's 95% interval, all of them in the unit of the values."""

    mean: float
    low: float
    high: float


def t_interval(values: Sequence[float]) -> Mean:
    """The mean of independent values and its 95% interval by Student's t, n - 1 degrees of freedom.

    Raises:
        ValueError: of fewer than two, whose spread is not known.

    >>> t_interval([1.0, 2.0, 3.0]).mean, round(t_interval([1.0, 2.0, 3.0]).high, 3)
    (2.0, 4.484)
    """
    from scipy.stats import t

    mean, error = _mean_and_error(values)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Mean(mean, mean - reach, mean + reach)


def paired_t(differences: Sequence[float]) -> float:
    """p-value of Student's paired t test: that the mean of the differences is 0.

    Args:
        differences: one for each seed, of two networks that share it.
    """
    return min(1.0, 2 * min(_not_above(differences, 0.0), _not_below(differences, 0.0)))


def equivalence(differences: Sequence[float], margin: float = MARGIN) -> float:
    """p-value of two one-sided t tests (TOST): that the mean difference is `margin` or more.

    Where it is small, the difference is shown to lie between -margin and margin: the two are level.
    A difference that is merely not significant shows nothing of the kind (Schuirmann, J.
    Pharmacokinet. Biopharm. 15, 1987).

    Args:
        differences: one for each seed, of two networks that share it.
        margin: in their unit; chosen before they were looked at.
    """
    return max(_not_above(differences, -margin), _not_below(differences, margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's method (Scand. J. Statist. 6, 1979).

    Calling those below α significant is wrong, even once, with probability α at most.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def _not_above(values: Sequence[float], limit: float) -> float:
    """p-value of a one-sided t test: that the mean of the values is `limit` or less."""
    from scipy.stats import t

    mean, error = _mean_and_error(values)
    if error == 0:  # all the same
        return float(mean <= limit)
    return float(t.sf((mean - limit) / error, len(values) - 1))


def _not_below(values: Sequence[float], limit: float) -> float:
    """p-value of the other: that it is `limit` or more."""
    return _not_above([-value for value in values], -limit)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} values: expected at least two")
    return float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(len(values))


def median_interval(values: Floats) -> tuple[float, float] | None:
    """95% bootstrap interval of the median; none of fewer than two values."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    found = bootstrap(
        (values,),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


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
