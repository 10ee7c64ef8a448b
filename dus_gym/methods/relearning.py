"""Diagnosing and re-learning (Wei et al., ECCV 2024): θ_j ← (1 - a_j) θ_j + a_j θ_j⁰, a_j = tanh(λ |purity gap|)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import tanh
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import ConfigError, check_at_least, check_fraction
from dus_gym.methods.base import MethodOptions
from dus_gym.methods.joint import Joint


@dataclass(frozen=True)
class RelearningOptions(MethodOptions):
    """Options of the diagnosis and of the return to the start."""

    strength: float = 3.0
    """λ in a = tanh(λ times the purity gap); 3 is the authors' for CREMA-D. 0: nothing returns."""
    period: float = 0.22
    """Epochs between two diagnoses, as a fraction of the run's; the authors' 20 of 90."""
    times: int = 3
    """Diagnoses in a run, at most; the authors' 3."""
    restarts: int = 1
    """Starts of k-means, of which the best counts: scikit-learn's default, which was 10 before its 1.4; the authors
    name no number."""

    def __post_init__(self) -> None:
        check_at_least("strength", self.strength, 0)
        check_fraction("period", self.period, "(0, 1]")
        check_at_least("times", self.times, 1)
        check_at_least("restarts", self.restarts, 1)


def purity(clusters: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    """Return the fraction of samples whose label is the commonest of their cluster.

    Args:
        clusters: of every sample, ``(n,)``, from 0.
        labels: of every sample, ``(n,)``, from 0.
    """
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts.max(axis=1).sum() / len(labels))


def cluster_purity(
    features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], classes: int, restarts: int, seed: int
) -> float:
    """Return :func:`purity` of k-means with as many clusters as classes, each dimension scaled to [-1, 1] before.

    Args:
        features: shape ``(n, d)``, n at least the number of classes.
        labels: shape ``(n,)``.
        classes: c.
        restarts: of k-means.
        seed: of k-means.
    """
    # Not for whoever trains with another method.
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import MinMaxScaler
    from threadpoolctl import threadpool_limits

    # Several threads add up in any order, and so to other last bits.
    with threadpool_limits(1):
        scaled = MinMaxScaler((-1.0, 1.0)).fit_transform(features)
        found = KMeans(classes, n_init=restarts, random_state=seed).fit_predict(scaled)
    return purity(found.astype(np.int64), labels)


class Relearning(Joint):
    """Diagnosing and re-learning (Wei, Li, Feng and Hu, ECCV 2024).

    The loss is ``joint``'s, ``L = CE(z, y)``. Every ``period`` the features of all training and of all validation
    samples are clustered by k-means, modality by modality, and the gap g_j of the two purities is the diagnosis: wide
    where an encoder over-fits. The encoder's parameters then return part of the way to where they began,
    ``θ_j ← (1 - a_j) θ_j + a_j θ_j⁰`` with ``a_j = tanh(λ g_j)``. Running statistics, momentum and head stay, as
    released. Nothing returns after the last epoch.

    Every sample must be in all modalities: the one loss is of complete samples.
    """

    name: ClassVar[str] = "relearning"
    paper: ClassVar[str] = (
        "Wei, Li, Feng and Hu, Diagnosing and Re-learning for Balanced Multimodal Learning, ECCV 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "takes each encoder part of the way back to its start, the further the more it over-fits"
    needs_validation: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("train_purity/*", "val_purity/*", "returned/*")
    options_type: ClassVar[type[MethodOptions]] = RelearningOptions
    options: RelearningOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._start: list[list[Tensor]] = []

    def on_fit_start(self, ctx: Context) -> None:
        """Keep every encoder as it begins."""
        self._start = [[p.detach().clone() for p in encoder.parameters()] for encoder in ctx.model.encoders]
        for name, split in (("training", ctx.train_split), ("validation", ctx.validation_split)):
            assert split is not None, "needs_validation is checked when the run is made"
            if split.labels.shape[-1] < ctx.model.num_classes:
                raise ConfigError(
                    f"method={self.name!r} puts the {name} samples into as many clusters as there are classes, and "
                    f"this task has {split.labels.shape[-1]} of them for {ctx.model.num_classes} classes; choose a "
                    "task with more, or another method."
                )

    def on_epoch_start(self, ctx: Context) -> None:
        """Diagnose and take the encoders back, where a period is over."""
        period = max(1, round(self.options.period * ctx.epochs))
        if ctx.epoch == 0 or ctx.epoch % period or ctx.epoch > self.options.times * period:
            return
        assert ctx.validation_split is not None, "needs_validation is checked when the run is made"
        train = self._purities(ctx, ctx.train_features(), ctx.train_split.labels)
        held_out = self._purities(ctx, ctx.validation_features(), ctx.validation_split.labels)
        for j, name in enumerate(ctx.modalities):
            shares = [
                # Features that are not finite have no clusters; such a run ends here anyway.
                0.0 if np.isnan(one - other) else tanh(self.options.strength * abs(one - other))
                for one, other in zip(train[j], held_out[j], strict=True)
            ]
            figures = {"returned": shares, "train_purity": train[j], "val_purity": held_out[j]}
            ctx.log({f"{figure}/{name}": ctx.by_run(values) for figure, values in figures.items()})
            with torch.no_grad():
                for p, start in zip(ctx.model.encoders[j].parameters(), self._start[j], strict=True):
                    part = ctx.by_run(shares, p)
                    p.copy_((1.0 - part) * p + part * start.to(p))
        ctx.restart_plateau()

    def _purities(self, ctx: Context, features: Sequence[Tensor], labels: Tensor) -> list[list[float]]:
        """Return the purity of every modality's features, by modality and run; NaN where they are not finite."""
        by_run = [labels] if ctx.runs is None else labels.unbind(0)
        of_labels = [of.cpu().numpy() for of in by_run]
        found: list[list[float]] = []
        for h in features:
            rows = h.double().cpu().numpy()
            blocks = [rows] if ctx.runs is None else list(rows)
            found.append([])
            for block, of, rng in zip(blocks, of_labels, ctx.rngs, strict=True):
                seed, finite = int(rng.integers(2**31)), bool(np.isfinite(block).all())
                classes, restarts = ctx.model.num_classes, self.options.restarts
                found[-1].append(cluster_purity(block, of, classes, restarts, seed) if finite else float("nan"))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return every encoder as it began."""
        return {"start": [[p.clone() for p in of] for of in self._start]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self._start = [[torch.as_tensor(p).clone() for p in of] for of in state["start"]]
