"""Means, deviations, paired tests over seeds, their correction for being many, and how many seeds a test needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
"""The chance of a false find that tests allow, all tests of a family together."""
POWER = 0.8
"""The chance with which a test should find a difference that is there."""
MOST_SEEDS = 1000
"""Beyond this many, :func:`seeds_needed` does not count."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of one figure over seeds."""

    mean: float
    std: float | None
    """None for one value."""


@dataclass(frozen=True)
class PairedTest:
    """The mean paired difference in percentage points and the p of its test."""

    points: float
    p: float | None
    """Two-sided, not corrected; None with one seed."""


def mean_std(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation; the deviation of one value is None."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Spread(mean, None)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)))


def paired(values: Sequence[float], reference: Sequence[float]) -> PairedTest:
    """Return the mean paired difference in percentage points and the two-sided p of a paired t-test.

    Args:
        values: one figure per seed, as a fraction.
        reference: the reference's figures on the same seeds, in the same order.

    Returns:
        The test. With one seed p is None; with differences that are all the same, p is 1 if they are 0 and 0
        otherwise.
    """
    differences = [v - r for v, r in zip(values, reference, strict=True)]
    points = 100.0 * math.fsum(differences) / len(differences)
    if len(differences) < 2:
        return PairedTest(points, None)
    if _all_the_same(differences):
        return PairedTest(points, 1.0 if abs(differences[0]) < 1e-12 else 0.0)
    import numpy as np
    from scipy.special import stdtr

    # To the bit scipy.stats.ttest_rel, without the second that importing scipy.stats takes.
    found, n = np.asarray(differences), len(differences)
    mean = np.mean(found)
    variance = np.mean((found - mean) ** 2) * (n / (n - 1))
    return PairedTest(points, float(2.0 * stdtr(n - 1.0, -abs(mean / np.sqrt(variance / n)))))


def _all_the_same(differences: Sequence[float]) -> bool:
    """Return whether differences (as fractions) are one number but for rounding, so that no t-test can be made."""
    return max(differences) - min(differences) < 1e-12


def confidence_interval(
    values: Sequence[float], reference: Sequence[float], level: float = 1.0 - LEVEL
) -> tuple[float, float] | None:
    """Return the interval of the mean paired difference in percentage points, by Student's t.

    Args:
        values: one figure per seed, as a fraction.
        reference: the reference's figures on the same seeds, in the same order.
        level: how often such intervals hold the true difference.

    Returns:
        Its ends; None with one seed. It excludes 0 exactly where the p of :func:`paired` is below 1 - ``level``.
    """
    differences = [v - r for v, r in zip(values, reference, strict=True)]
    spread = mean_std([100.0 * d for d in differences])
    if spread.std is None:
        return None
    if _all_the_same(differences) and abs(differences[0]) < 1e-12:
        return 0.0, 0.0
    from scipy.special import stdtrit

    n = len(differences)
    half = float(stdtrit(n - 1.0, 0.5 + level / 2.0)) * spread.std / math.sqrt(n)
    return spread.mean - half, spread.mean + half


def ratio_interval(
    values: Sequence[float], reference: Sequence[float], level: float = 1.0 - LEVEL
) -> tuple[float, float] | None:
    """Return the interval of the ratio of two paired means by Fieller's theorem (1954).

    It holds every r at which the mean of ``values - r * reference`` does not differ from 0 by Student's t.

    Args:
        values: one figure per seed.
        reference: on the same seeds, in the same order.
        level: how often such intervals hold the true ratio.

    Returns:
        Its ends; None with one seed, and where the reference's mean itself does not differ from 0, so that no ratio is
        excluded.
    """
    n = len(values)
    if n < 2:
        return None
    import numpy as np
    from scipy.special import stdtrit

    a, b = np.asarray(values, float), np.asarray(reference, float)
    edge = float(stdtrit(n - 1.0, 0.5 + level / 2.0)) ** 2 / n
    # mean(a - r b)² <= edge * var(a - r b), a quadratic in r.
    square = b.mean() ** 2 - edge * b.var(ddof=1)
    middle = a.mean() * b.mean() - edge * float(np.cov(a, b)[0, 1])
    rest = a.mean() ** 2 - edge * a.var(ddof=1)
    if square <= 0.0 or b.mean() <= 0.0:
        return None
    half = math.sqrt(max(0.0, middle**2 - square * rest))
    return float((middle - half) / square), float((middle + half) / square)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979): the chance of even one false find stays below the level.

    Args:
        values: p-values of one family, in any order.

    Returns:
        The corrected ones in the same order: sorted, the k-th smallest of n is multiplied by n - k + 1, and none is
        smaller than the one before it or larger than 1.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected


def holm_levels(values: Sequence[float], level: float = LEVEL) -> list[float]:
    """Return the confidence level at which each interval says the same as its p-value corrected by :func:`holm`.

    Holm goes down the sorted p-values and stops at the first that is not below its share of the level. The k-th of n is
    tested at level / (n - k + 1), and all that come after the stop at the stop's share. An interval with one minus
    that as its confidence excludes 0 exactly where the corrected p is below ``level``.

    Args:
        values: p-values of one family, in any order.
        level: of the whole family.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected = holm(values)
    levels = [0.0] * len(values)
    tested = 0
    for rank, i in enumerate(order):
        if rank == 0 or corrected[order[rank - 1]] < level:
            tested = rank
        levels[i] = 1.0 - level / (len(values) - tested)
    return levels


def seeds_needed(
    values: Sequence[float], reference: Sequence[float], *, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Return how many seeds a paired t-test needs to show a difference of the size and spread that was seen.

    Args:
        values: one figure per seed, two or more.
        reference: the reference's figures on the same seeds, in the same order.
        power: how often the two-sided test should come out below ``level``.
        level: of the test, not corrected.

    Returns:
        The smallest number of seeds by the noncentral t distribution; None where it is above :data:`MOST_SEEDS`.
    """
    spread = mean_std([v - r for v, r in zip(values, reference, strict=True)])
    if spread.std is None or abs(spread.mean) < 1e-12:
        return None
    if spread.std < 1e-12:
        return 2
    effect = abs(spread.mean) / spread.std
    if _power(MOST_SEEDS, effect, level) < power:
        return None
    low, high = 1, MOST_SEEDS  # never enough, always enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, effect, level) >= power else (middle, high)
    return high


def _power(n: int, effect: float, level: float) -> float:
    """Return how often a two-sided paired t-test on n seeds shows an effect of so many standard deviations."""
    from scipy.special import nctdtr, stdtrit

    shift = effect * math.sqrt(n)
    edge = float(stdtrit(n - 1.0, 1.0 - level / 2.0))
    if shift > edge + 25.0:
        return 1.0  # within a hundredth; SciPy's series gives NaN from about 39 on
    # Beyond six standard deviations the wrong tail holds less than 1e-9, and SciPy's series has no digits left.
    wrong = float(nctdtr(n - 1.0, shift, -edge)) if shift < 6.0 else 0.0
    return 1.0 - float(nctdtr(n - 1.0, shift, edge)) + wrong
