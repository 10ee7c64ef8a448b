"""Means, deviations, paired tests over seeds and their correction for being many."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_std(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; the deviation of one value is None."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return {"mean": mean, "std": None}
    return {"mean": mean, "std": math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))}


def paired(values: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
    """Mean paired difference in percentage points and the two-sided p of a paired t-test.

    Args:
        values: one figure a seed, as a fraction.
        reference: the reference's figures on the same seeds, in the same order.

    Returns:
        ``points`` and ``p``. With one seed p is None; with differences that are all the same, p is 1 if
        they are 0 and 0 otherwise.
    """
    differences = [v - r for v, r in zip(values, reference, strict=True)]
    points = 100.0 * math.fsum(differences) / len(differences)
    if len(differences) < 2:
        return {"points": points, "p": None}
    if max(differences) - min(differences) < 1e-12:
        return {"points": points, "p": 1.0 if abs(differences[0]) < 1e-12 else 0.0}
    from scipy.stats import ttest_rel

    return {"points": points, "p": float(ttest_rel(values, reference).pvalue)}


def confidence_interval(
    values: Sequence[float], reference: Sequence[float], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the mean paired difference in percentage points, by Student's t.

    Args:
        values: one figure a seed, as a fraction.
        reference: the reference's figures on the same seeds, in the same order.
        level: how often such intervals hold the true difference.

    Returns:
        Its ends; None with one seed.
    """
    differences = [100.0 * (v - r) for v, r in zip(values, reference, strict=True)]
    spread = mean_std(differences)
    mean, std = spread["mean"], spread["std"]
    if std is None or mean is None:
        return None
    from scipy.stats import t

    n = len(differences)
    half = float(t.ppf(0.5 + level / 2.0, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979): the chance of even one false find stays below the level.

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
