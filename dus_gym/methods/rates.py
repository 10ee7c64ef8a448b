"""A modality's learning rate from those of the others, and from its accuracies (MSLR)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def smoothed(rates: Sequence[float], smoothing: float, mean: str) -> tuple[float, ...]:
    """Rates drawn to their mean.

    Args:
        rates: positive, one a modality.
        smoothing: λ.
        mean: ``"geometric"`` or ``"linear"``.
    """
    if mean == "linear":
        common = math.fsum(rates) / len(rates)
        return tuple((1.0 - smoothing) * rate + smoothing * common for rate in rates)
    common = math.exp(math.fsum(map(math.log, rates)) / len(rates))
    return tuple(rate ** (1.0 - smoothing) * common**smoothing for rate in rates)


def accuracy_ratio(history: Sequence[float], accuracy: float, window: int) -> float:
    """Accuracy now over the mean of the last ``window`` before it; 1 with fewer than that, or if all were 0."""
    before = history[-window:]
    total = math.fsum(before)
    return accuracy * window / total if len(before) == window and total > 0.0 else 1.0
