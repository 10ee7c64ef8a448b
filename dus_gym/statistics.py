"""Means, deviations and paired tests over seeds."""

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


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The confidence interval of a mean difference, by Student's t; None for fewer than two differences.

    Args:
        differences: one a seed.
        level: of the interval.
    """
    spread = mean_std(differences) if len(differences) > 1 else None
    if spread is None or spread["mean"] is None or spread["std"] is None:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, len(differences) - 1)) * spread["std"] / math.sqrt(len(differences))
    return spread["mean"] - half, spread["mean"] + half
