"""The records a training run hands to the environment, and the interface of the real and the fake trainer."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dus_gym.data.dataset import DataOverview

FUSED_PREDICTORS = ("method", "concat", "sum", "entropy")
"""``method`` is the method's own; the others are defined the same way for every method."""


@dataclass(slots=True)
class Interval:
    """Record of one call of ``train``; every list has one entry per modality."""

    iteration_scores: list[tuple[list[float], int]]
    """The discrepancy scores s_t in order, each with the number of iterations it stands for."""
    sizes: list[int]
    """a_j of the interval's last iteration."""
    scores: list[float]
    """Mean true-class probability over all samples drawn."""
    accuracies: list[float]
    """Training accuracy of each modality's logits over the same samples."""
    fused_accuracy: float | None
    """Training accuracy of the fused logits over the paired samples; None if nothing fused was trained."""
    loss: float
    """Mean training loss per iteration, over the iterations where it was finite."""
    diverged: bool
    """True if a loss was not finite."""
    rates: list[float] | None = None
    """Factors on each modality's learning rates in the interval's last iteration; None where there were none."""


@dataclass(slots=True)
class Figures:
    """Quick figures of one split, for agents and curves."""

    scores: list[float]
    """Mean true-class probability of each modality."""
    accuracies: list[float]
    """Accuracy of each modality."""
    losses: list[float]
    """Mean cross entropy of each modality, nats; the largest float32 where it is not finite."""
    fused: dict[str, float | None]
    """Accuracy by fused predictor; None where the method has no such head."""
    fused_losses: dict[str, float | None] = field(default_factory=dict)
    """Mean cross entropy by fused predictor, nats; empty where it is not known (the fake trainer)."""


@dataclass(slots=True)
class Probe:
    """Forward-only figures on one batch of a run that has not begun."""

    train: Figures
    """On B training samples."""
    validation: Figures | None
    """On B validation samples; None without a validation split."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy, mean average precision and macro-F1, as fractions."""

    accuracy: float
    map: float
    macro_f1: float


@dataclass(slots=True)
class Evaluation:
    """A finished run on its test split."""

    modalities: dict[str, Scores]
    """By modality."""
    fused: dict[str, Scores | None]
    """By predictor; None where the method has no such head."""


@dataclass(slots=True)
class GraphsUsed:
    """CUDA graphs of a run since its process began."""

    captured: int = 0
    """Captures."""
    replays: int = 0
    """Iterations that were launched as one."""
    iterations: int = 0
    """All iterations, copies that a method trains for itself not included."""
    seconds: float = 0.0
    """Spent on captures."""
    why_not: str | None = None
    """Reasons for which iterations were launched operation by operation, other than that it would not pay."""


@dataclass(slots=True)
class Progress:
    """State of a run so far: epochs, iterations, samples seen."""

    epoch: int = 0
    """Finished epochs."""
    iterations: int = 0
    """Finished iterations."""
    samples: list[int] = field(default_factory=list)
    """Samples drawn so far by modality."""
    coverage: list[float] = field(default_factory=list)
    """Fraction of the training split drawn at least once, by modality."""
    gaps: list[float] = field(default_factory=list)
    """Largest minus smallest score of every finished epoch."""
    scores: list[float] = field(default_factory=list)
    """Scores of the last finished epoch, by modality; empty before the first."""
    rate_falls: list[int] = field(default_factory=list)
    """Finished epochs at every fall of the learning-rate schedule, each to a tenth."""


class TrainingRun(Protocol):
    """A run that can be trained one interval at a time. The environment knows no more than this."""

    modalities: tuple[str, ...]
    epochs: int
    iterations_per_epoch: int
    kind: str
    """``"real"`` or ``"fake"``."""
    data_kind: str
    dropped: Mapping[str, int]
    """By split, samples left out because a file of theirs is bad; every figure of a split is of the others."""
    has_validation: bool
    trains_fused: bool
    """True if intervals carry ``fused_accuracy``."""

    @property
    def precision(self) -> str | None:
        """The number format of forward passes; None where nothing is computed."""
        ...

    @property
    def graphs(self) -> GraphsUsed | None:
        """CUDA graphs so far; None where they are off."""
        ...

    @property
    def overview(self) -> DataOverview | None:
        """What the run trains and tests on; None where nothing real is trained on."""
        ...

    @property
    def progress(self) -> Progress:
        """State of the run so far."""
        ...

    @property
    def validation(self) -> Figures | None:
        """Validation figures of the last evaluation; None before the first."""
        ...

    @property
    def logged(self) -> Mapping[str, float]:
        """The method's own figures by name; always the same names."""
        ...

    def probe(self) -> Probe:
        """Return forward-only figures; changes nothing."""
        ...

    def train(self, sizes: list[int], iterations: int, rates: Sequence[float] | None = None) -> Interval:
        """Train with modality j at ``sizes[j]`` samples per iteration, its learning rates times ``rates[j]``."""
        ...

    def validate(self) -> Figures | None:
        """Return figures of the validation split now; None without one. Changes nothing."""
        ...

    def fork(self) -> TrainingRun:
        """Return a second run that has come the same way: given the same sizes, both end in the same bits."""
        ...

    def evaluate(self) -> Evaluation:
        """Evaluate the test split once, in evaluation mode, every sample once."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return everything that a continuation depends on, as nested dicts of tensors, arrays and JSON values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back, bit for bit."""
        ...


def numeric(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of an ``info`` that are finite numbers; True counts as 1.

    What Gymnasium and stable-baselines3 add to an ``info`` is left out.
    """
    return {
        key: float(value)
        for key, value in info.items()
        if key != "TimeLimit.truncated" and isinstance(value, numbers.Real) and math.isfinite(value)
    }
