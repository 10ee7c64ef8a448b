"""What figures are drawn from: averages over a run's steps and over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Steps = Sequence[dict[str, Any]]

MARKERS = ("o", "s", "^", "D", "v", "P")


def average_sizes(runs: Sequence[dict[str, Any]], modalities: Sequence[str]) -> Array:
    """Mean batch size of every modality over whole runs and seeds, ``(m,)``."""
    each = [[run["modalities"][name]["samples"] / run["iterations"] for name in modalities] for run in runs]
    return np.asarray(np.mean(each, axis=0))


def over_seeds(runs: Sequence[Steps], key: str) -> tuple[Array, Array]:
    """Mean and standard deviation over seeds of one figure at every step, each ``(steps,)``.

    Runs of differing length (one that diverged) are cut to the shortest.
    """
    length = min(len(steps) for steps in runs)
    values = np.array([[step[key] for step in steps[:length]] for steps in runs], dtype=np.float64)
    return values.mean(axis=0), values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(length)


def scores(runs: Sequence[Steps], modality: int) -> tuple[Array, Array]:
    """As :func:`over_seeds`, of the cumulative score of one modality."""
    length = min(len(steps) for steps in runs)
    values = np.array([[step["observation"][modality] for step in steps[:length]] for steps in runs])
    return values.mean(axis=0), values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(length)


def iterations(runs: Sequence[Steps]) -> list[int]:
    """Iterations done at every step, of the shortest run."""
    return [step["iterations"] for step in min(runs, key=len)]


def fused(runs: Sequence[dict[str, Any]]) -> Array:
    """Test accuracy in per cent by the method's own predictor, one a seed."""
    return np.array([100.0 * run["fused"]["method"]["accuracy"] for run in runs])
